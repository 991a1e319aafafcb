"""Simulated queues: loads that repeat, a machine that loses nothing, other policies as they are documented."""

from contextlib import suppress
from itertools import pairwise
from random import Random
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.simulation.loads import Piece, pieces, service_times
from reconciler.simulation.machine import Answer, History, Machine, Sample, View
from reconciler.simulation.picture import nice_step, svg, thinned
from reconciler.simulation.results import Result, percentile, simulate
from reconciler.simulation.scalers import Bound, Fixed, Horizon, Keda, KedaOnce
from reconciler.simulation.traces import trace
from support.scales import spec_of

HOUR = 3600.0


# ---- loads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", ["burst:30", "steady:4", "step:2,12,2", "wave:1,9,5m", "every:1m"])
def test_the_same_seed_gives_the_same_load_and_another_one_another(load):
    once = pieces(load, "1s", 900, 1)
    assert once == pieces(load, "1s", 900, 1)
    assert once != pieces(load, "1s", 900, 2)
    assert all(one.at <= other.at for one, other in pairwise(once))
    assert all(0 <= piece.at < 900 for piece in once)


@pytest.mark.parametrize(
    ("load", "each_second"), [("steady:4", 4.0), ("step:2,12,2", 16 / 3), ("wave:1,9,5m", 5.0), ("every:500ms", 2.0)]
)
def test_a_rate_is_what_comes_of_it(load, each_second):
    assert len(pieces(load, "1s", HOUR, 1)) == pytest.approx(each_second * HOUR, rel=0.03)


def test_steps_have_equal_parts_and_a_rate_of_nothing_is_nothing():
    found = pieces("step:0,10,0", "1s", 900, 1)
    assert found[0].at >= 300
    assert found[-1].at < 600


def test_a_burst_comes_all_at_once():
    assert {piece.at for piece in pieces("burst:7", "1s", 900, 1)} == {10.0}
    assert [piece.at for piece in pieces("burst:2@1m", "1s", 900, 1)] == [60.0, 60.0]


@pytest.mark.parametrize("service", ["2s", "exponential:2s", "fixed:2s", "lognormal:2s"])
def test_service_times_have_their_mean(service):
    random, draw = Random(1), service_times(service)
    times = [draw(random) for _ in range(50_000)]
    assert sum(times) / len(times) == pytest.approx(2.0, rel=0.05)
    assert min(times) > 0


@pytest.mark.parametrize(
    ("load", "service", "told"),
    [
        ("flood:3", "1s", "--load flood:3: 'flood' is no kind of load; there are burst:300"),
        ("burst:x", "1s", "--load burst:x: 'x' is no number of pieces, 1 to 500,000; write burst:300"),
        ("burst:0", "1s", "is no number of pieces"),
        ("burst:99999999999999", "1s", "is no number of pieces"),
        ("burst:3@noon", "1s", "--load burst:3@noon: is not a duration"),
        ("steady:-1", "1s", "'-1' is no rate per second; write steady:4 (per second, at random)"),
        ("steady:nan", "1s", "'nan' is no rate per second"),
        ("step:2,,2", "1s", "'' is no rate per second; write step:2,12,2"),
        ("wave:1,2", "1s", "needs two rates and a time; write wave:1,9,5m"),
        ("wave:1,2,0s", "1s", "must be more than 0"),
        ("every:often", "1s", "'often' is not a duration"),
        ("steady:900000", "1s", "900000 per second are more than 500,000 pieces of work in this time"),
        ("every:1ms", "1s", "--load every:1ms is more than 500,000 pieces of work in this time"),
        ("steady:1", "long", "--service long: 'long' is not a duration"),
        ("steady:1", "0s", "--service 0s: must be more than 0"),
        ("steady:1", "pareto:1s", "'pareto' is none of exponential, fixed, lognormal"),
    ],
)
def test_a_load_that_is_none_is_refused_with_what_to_write(load, service, told):
    with pytest.raises(ValueError, match=r".") as refused:
        pieces(load, service, 900, 1)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "at,service\n10,0.5\n12,1.5\n",
        '# recorded\n10, 500ms\n"12",1.5\n\n',
        '{"at": 10, "service": 0.5}\n{"at": 12, "service": "1.5s", "count": 1}\n{"at": 11, "count": 0}',
        "2026-11-25T09:00:00Z,0.5\n2026-11-25T09:00:02Z,1.5\n",
        "12,1.5\n10,0.5\n",
    ],
)
def test_a_trace_is_read_in_each_of_its_notations(text):
    assert trace(text, "1s", 1) == [Piece(0.0, 0.5), Piece(2.0, 1.5)]


def test_what_a_trace_leaves_open_is_drawn():
    found = trace('{"at": 5, "count": 3}\n7', "fixed:2s", 1)
    assert found == [Piece(0, 2), Piece(0, 2), Piece(0, 2), Piece(2, 2)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no arrivals"),
        ("at,service\n", "has no arrivals"),
        ("1\nsoon\n", "line 2: 'soon' is neither a number of seconds nor a moment"),
        ("1\ninf\n", "line 2: 'inf' is neither"),
        ("1,2,3", "line 1: has 3 columns"),
        ("1,-2", "line 1: service must be a duration, not '-2'"),
        ("1\nat,service", "line 2: 'at' is neither"),
        ('{"at": 1', "line 1: is not JSON"),
        ("{" * 100_000, "line 1: is not JSON"),
        ('{"at":' + "[" * 100_000, "line 1: is nested too deeply"),
        ('{"when": 1}', "line 1: 'when' is not a field here"),
        ('{"count": 1}', "line 1: needs at"),
        ('{"at": true}', "line 1: True is neither"),
        ('{"at": []}', "line 1: [] is neither"),
        ('{"at": 1, "count": 1.5}', "line 1: count must be a number of pieces, not 1.5"),
        ('{"at": 1, "service": true}', "line 1: service must be a duration, not True"),
        ('{"at": 1, "service": [1]}', "line 1: service must be a duration, not [1]"),
        ('{"at": 1, "count": 500000}\n{"at": 1}', "has more than 500,000 arrivals"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(text, told):
    with pytest.raises(ValueError, match=r".") as refused:
        trace(text, "1s", 1)
    assert told in str(refused.value)


@given(st.text())
def test_no_text_breaks_the_reader_of_traces(text):
    with suppress(ValueError):
        assert all(piece.at >= 0 and piece.service_seconds >= 0 for piece in trace(text, "1s", 1))


# ---- the machine ----------------------------------------------------------------------------------------------------


class Scripted:
    """A scaler that does what it is told, second by second."""

    name = "scripted"

    def __init__(self, *counts: int, oldest_first: bool = False) -> None:
        self.oldest_first = oldest_first
        self.counts = list(counts)
        self.views: list[View] = []

    def look(self, view: View) -> Answer:
        self.views.append(view)
        count = self.counts[min(int(view.now), len(self.counts) - 1)]
        return Answer(count, view.now + 1.0)


def ran(load: list[Piece], scaler, duration: float = 100.0, boot: float = 0.0, *, run_once: bool = False) -> History:
    return Machine(load, scaler, boot_seconds=boot, run_once=run_once).run(duration)


def test_one_process_takes_one_piece_after_the_other():
    found = ran([Piece(0.5, 2), Piece(0.5, 3), Piece(1, 1)], Fixed(1))
    assert found.waits == [0.0, 2.0, 4.5]
    assert (found.untaken, found.process_seconds, found.most) == (0, 100.0, 1)


def test_a_process_takes_nothing_before_it_has_booted():
    assert ran([Piece(0, 1), Piece(0, 1)], Fixed(2), boot=0.25).waits == [0.25, 0.25]


def test_what_still_waits_at_the_end_has_waited_until_then():
    found = ran([Piece(0, 50), Piece(0, 50), Piece(10, 1)], Fixed(1), duration=40)
    assert found.waits == [0.0, 40.0, 30.0]
    assert found.untaken == 2


def test_a_piece_that_is_begun_is_finished_whatever_the_count_is():
    scaler = Scripted(2, 0)
    ran([Piece(0, 5.5), Piece(0, 5.5)], scaler, duration=10)
    assert [view.draining for view in scaler.views[:8]] == [0, 0, 2, 2, 2, 2, 0, 0]
    assert scaler.views[7].completed == 2


def test_the_idle_go_before_the_busy_and_the_young_before_the_old():
    scaler = Scripted(1, 3, 1)
    found = ran([Piece(0.1, 4.4), Piece(1.1, 0.5)], scaler, duration=10)
    assert [(view.running, view.draining) for view in scaler.views[1:5]] == [(1, 0), (3, 0), (1, 0), (1, 0)]
    assert found.process_seconds == pytest.approx(10 + 1 + 1)


def test_who_has_not_booted_goes_first():
    scaler = Scripted(1, 3, 2)
    found = ran([], scaler, boot=1.5, duration=10)
    assert [view.ready for view in scaler.views[:5]] == [0, 0, 1, 2, 2]
    assert found.changes == 2


def test_the_oldest_go_first_where_a_scaler_is_like_that():
    scaler = Scripted(1, 2, 1, oldest_first=True)
    ran([Piece(0, 5.5)], scaler, duration=10)
    assert [view.running for view in scaler.views[1:7]] == [1, 2, 1, 1, 1, 1]
    assert [view.draining for view in scaler.views[1:7]] == [0, 0, 1, 1, 1, 0]


def test_run_once_processes_end_with_their_piece_or_without_one():
    load = [Piece(0.5, 2)]
    scaler = KedaOnce(5)
    found = ran(load, scaler, duration=100, run_once=True)
    assert found.waits == [29.5]
    assert (found.process_seconds, found.most) == (2.0, 1)
    twice = ran([Piece(0.5, 2), Piece(29.9, 1)], _TwoAt30(), boot=0.5, duration=100, run_once=True)
    assert twice.process_seconds == pytest.approx(2 * 0.5 + 2 + 1 + 0.5)  # and one that found nothing


class _TwoAt30:
    """Starts three processes for two pieces."""

    name = "three"
    oldest_first = False

    def look(self, view: View) -> Answer:
        return Answer(3, 200.0 if view.now else 30.0, 3 if view.now else 0)


PIECES = st.lists(st.builds(Piece, st.floats(0, 50), st.floats(0.01, 9)), max_size=30)


@given(PIECES, st.lists(st.integers(0, 4), min_size=1, max_size=30), st.sampled_from([0.0, 0.3]), st.booleans())
def test_nothing_is_lost_and_nobody_works_for_free(load, counts, boot, oldest_first):
    load = sorted(load)
    scaler = Scripted(*counts, oldest_first=oldest_first)
    found = ran(load, scaler, duration=60, boot=boot)
    last = scaler.views[-1]
    assert len(found.waits) == len(load)
    assert all(wait >= 0 for wait in found.waits)
    assert last.arrived == last.waiting + last.reserved + last.completed
    assert last.reserved <= last.running + last.draining
    assert found.most <= last.started
    assert found.process_seconds <= 60 * found.most + 1e-6


# ---- scalers --------------------------------------------------------------------------------------------------------


def counts_of(scaler, load: list[Piece], duration: float, boot: float = 0.0) -> list[tuple[float, int]]:
    """When the number of processes changed, and to what."""
    samples = ran(load, scaler, duration, boot).samples
    return [(new.at, new.processes) for old, new in pairwise(samples) if old.processes != new.processes]


def backlog(number: int, at: float = 1.0, service: float = 1e6) -> list[Piece]:
    """Work that never ends."""
    return [Piece(at, service)] * number


def test_keda_polls_every_30_seconds_for_the_first_and_the_hpa_every_15_for_the_rest():
    assert counts_of(Keda(20, 5), backlog(1000), 100) == [(30.0, 5), (45.0, 10), (60.0, 20)]


def test_keda_leaves_after_300_seconds_without_work_from_whatever_count():
    assert counts_of(Keda(20, 5), [Piece(1.0, 0.1)] * 26, 500) == [(30.0, 5), (330.0, 0)]


def test_the_hpa_keeps_the_highest_count_of_300_seconds_and_a_difference_within_its_tolerance():
    keda = Keda(20, 10, least=1)
    view = View(0, 100, 0, 0, 0, 0, 1, 1, 0, 1)
    assert keda.look(view).replicas == 5
    assert keda.look(view._replace(now=15.0)).replicas == 10
    assert keda.look(view._replace(now=30.0, waiting=109)).replicas == 10
    assert keda.look(view._replace(now=45.0, waiting=15)).replicas == 10
    assert keda.look(view._replace(now=315.0, waiting=15)).replicas == 10
    assert keda.look(view._replace(now=330.0, waiting=15)).replicas == 2


def test_a_scaled_job_starts_one_process_for_each_piece_that_waits_up_to_its_maximum():
    assert counts_of(KedaOnce(20), backlog(3), 100) == [(30.0, 3)]


def test_horizon_goes_one_step_every_3_seconds_to_its_maximum_and_back():
    up = counts_of(Horizon(4), backlog(99, service=20), 16)
    assert up == [(0.0, 1), (3.0, 2), (6.0, 3), (9.0, 4)]
    down = counts_of(Horizon(9), [Piece(1, 4)] * 4, 40)
    assert down[-1][1] == 1
    assert max(count for _, count in down) == 3


def test_a_binding_is_what_the_core_decides():
    spec = spec_of(maxReplicaCount=20, trigger={"target": 5}, pollingInterval=0.1)
    changes = counts_of(Bound("mails", spec), backlog(300, at=0.95), 5)
    assert [count for _, count in changes] == [4, 8, 16, 20]
    assert [at for at, _ in changes] == pytest.approx([1.0, 2.0, 3.0, 4.0], abs=0.11)


def test_a_binding_of_several_queues_sees_the_load_in_one_of_them():
    triggers = [{"type": "redis", "name": name, "metadata": {"key": name}} for name in ("empty", "mails")]
    scaler = Bound("mails", spec_of(triggers=triggers), index=1)
    assert counts_of(scaler, backlog(2), 3)[-1][1] == 2


def test_run_once_work_has_a_process_for_each_piece_and_none_without():
    load = pieces("every:1m", "1s", 900, 1)
    found = simulate(load, Bound("mails", spec_of(), run_once=True), boot_seconds=0.15, duration=900, run_once=True)
    assert found.process_seconds == pytest.approx(sum(piece.service_seconds + 0.15 for piece in load), rel=0.05)
    assert found.wait_max <= 0.2 + 0.15 + 0.01


TUNED = {"trigger": {"target": 3}, "behavior": {"scaleDown": {"stabilizationWindow": 10}}}


@pytest.mark.parametrize("load", ["burst:300", "steady:4", "step:2,12,2"])
def test_a_binding_makes_work_wait_less_for_less_than_keda_and_horizon(load):
    """The table of docs/scaling.md. Boot, drains and bounds are the same for all."""
    work = pieces(load, "1s", 900, 1)
    ours, keda, horizon = (
        simulate(work, scaler, boot_seconds=0.15, duration=900)
        for scaler in (Bound("mails", spec_of(maxReplicaCount=20, **TUNED)), Keda(20, 5), Horizon(20))
    )
    for other in (keda, horizon):
        assert ours.wait_p95 <= other.wait_p95
        assert ours.process_seconds < other.process_seconds
    assert ours.changes < horizon.changes


# ---- results --------------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_occurred():
    assert [percentile([1, 2, 3, 4], share) for share in (0.5, 0.75, 0.95, 1.0)] == [2, 3, 4, 4]
    assert percentile([], 0.95) == 0.0


def result(name: str, samples: list[Sample]) -> Result:
    return Result(name, 3, 0, 1.0, 2.0, 3.0, 4.0, 50.0, 6, 7, samples)


def test_a_result_is_plain_for_scripts():
    assert result("a", []).as_dict() == {
        "name": "a",
        "pieces": 3,
        "untaken": 0,
        "wait_median": 1.0,
        "wait_p95": 2.0,
        "wait_p99": 3.0,
        "wait_max": 4.0,
        "process_seconds": 50.0,
        "changes": 6,
        "most": 7,
    }


def test_the_picture_is_svg_with_a_line_and_a_legend_for_each():
    results = [result("<mails> & more", [Sample(0, 0, 0), Sample(2, 9, 4)]), result("other", [Sample(0, 1, 1)])]
    root = ElementTree.fromstring(svg("burst <1>", results, 10.0))
    kinds = [element.tag.rpartition("}")[2] for element in root]
    texts = [element.text for element in root.iter() if element.text and element.text.strip()]
    assert kinds.count("path") == 4
    assert "burst <1>" in texts
    assert "<mails> & more: p95 2s, longest 4s, 50 process seconds, 6 changes" in texts


def test_a_picture_of_very_much_keeps_its_extremes():
    samples = [Sample(at / 100, 500 if at == 4321 else at % 7, 0) for at in range(10_000)]
    points = thinned(samples, 100.0, lambda sample: sample.waiting)
    assert len(points) <= 4 * 600
    assert max(points, key=lambda point: point[1]) == (43.21, 500)
    assert points == sorted(points)


@pytest.mark.parametrize(("most", "step"), [(1, 0.5), (9, 5), (20, 5), (37, 10), (1900, 500)])
def test_marks_are_round_numbers(most, step):
    assert nice_step(most) == step
