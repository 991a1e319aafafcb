"""Arrival rate and service time, from what readings count."""

from itertools import pairwise

import pytest

from reconciler.core.metering import ENOUGH_SAMPLES, is_metered, metered
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Meter


def after(readings, elapsed=1.0, meter=None):
    """The meter after these readings, so many seconds apart."""
    meter = meter or Meter()
    for before, reading in pairwise(readings):
        meter = metered(meter, before, reading, elapsed)
    return meter


def steady(rate, service, looks=200, elapsed=0.5, **kinds):
    """A queue in which `rate` pieces arrive and end each second, `service` seconds long each."""
    busy = rate * service
    for number in range(looks):
        moved = rate * elapsed * number
        counters = {"arrived": 100 + moved, "completed": 50 + moved, "reserved": busy}
        yield QueueReading(3, **{name: counters[name] for name in kinds.get("told", counters)})


@pytest.mark.parametrize(
    "told", [("arrived", "completed", "reserved"), ("completed", "reserved"), ("arrived", "reserved")]
)
@pytest.mark.parametrize(("rate", "service"), [(4.0, 1.0), (100.0, 0.01), (0.5, 60.0), (0.05, 600.0)])
def test_a_steady_queue_is_measured_exactly_from_any_two_of_its_numbers(told, rate, service):
    meter = after(list(steady(rate, service, told=told)), 0.5)
    assert meter.arrival_rate == pytest.approx(rate)
    assert meter.service_seconds == pytest.approx(service, rel=0.02)


def test_long_pieces_are_measured_when_they_end_and_not_cut_to_the_half_life():
    look = QueueReading(0, 1, completed=0)
    meter = after([look] * 1200, 1.0)  # one piece, twenty minutes long
    assert meter.service_seconds is None
    meter = metered(meter, look, QueueReading(0, 0, completed=1), 1.0)
    assert meter.service_seconds == pytest.approx(1200, rel=0.01)


def test_the_rate_follows_a_change_with_a_half_life_of_ten_seconds():
    meter = after(list(steady(4.0, 1.0, looks=400)), 0.5)
    slower = [QueueReading(3, 4, arrived=0, completed=0)] * 21
    meter = after(slower, 0.5, meter)
    assert meter.arrival_rate == pytest.approx(2.0, rel=0.01)


def test_a_driver_that_times_the_pieces_itself_is_believed():
    readings = [QueueReading(0, 1, completed=float(n), service_seconds=2.5 if n else None) for n in range(30)]
    meter = after(readings)
    assert meter.service_seconds == pytest.approx(2.5)
    assert is_metered(meter)


def test_pieces_that_are_timed_but_not_counted_are_at_least_one():
    meter = after([QueueReading(0), QueueReading(0, service_seconds=3.0), QueueReading(0, service_seconds=-1.0)])
    assert meter.samples == 2
    assert 0 < meter.service_seconds < 3
    assert meter.arrival_rate is None
    assert not is_metered(meter)


def test_what_ended_is_what_came_and_is_not_there_any_more():
    before = QueueReading(3, 1, delayed=0, arrived=10)
    meter = metered(Meter(), before, QueueReading(5, 2, delayed=1, arrived=16), 1.0)
    assert meter.samples == 6 - 2 - 1 - 1
    assert meter.service_seconds == pytest.approx(1.5 / 2)


def test_short_pieces_are_timed_as_well_as_long_ones():
    meter = after([QueueReading(0), *[QueueReading(0, service_seconds=0.02)] * 30])
    assert meter.service_seconds == pytest.approx(0.02)
    assert meter.open_elapsed == 0


def test_the_service_time_fades_by_the_time_since_the_last_piece_ended():
    meter = Meter(finished=1.0, work_seconds=4.0, samples=1, open_elapsed=6.0)
    meter = metered(meter, QueueReading(0, 1, completed=0), QueueReading(0, 1, completed=1), 4.0)
    assert meter.finished == pytest.approx(1.5)
    assert meter.work_seconds == pytest.approx(4.0 / 2 + 4.0)


def test_a_counter_that_starts_anew_is_no_arrival_and_no_departure():
    before = QueueReading(5, 1, arrived=1000, completed=990)
    meter = metered(Meter(), before, QueueReading(0, 0, arrived=3, completed=3), 1.0)
    assert (meter.arrival_rate, meter.samples) == (None, 0)


@pytest.mark.parametrize(
    ("before", "reading"),
    [
        (QueueReading(1), QueueReading(2)),
        (QueueReading(1, 1), QueueReading(2, 1)),
        (QueueReading(1, completed=1), QueueReading(2, completed=2)),
        (QueueReading(1, arrived=1, reserved=1), QueueReading(1, arrived=2)),
        (QueueReading(1, arrived=9, reserved=1), QueueReading(1, arrived=2, reserved=1)),
    ],
)
def test_what_is_not_told_is_not_guessed(before, reading):
    meter = metered(Meter(), before, reading, 1.0)
    assert meter.service_seconds is None
    assert not is_metered(meter)


@pytest.mark.parametrize(
    ("before", "reading"),
    [
        (QueueReading(500, 1, completed=1, at_least=True), QueueReading(100, 1, completed=3)),
        (QueueReading(100, 1, completed=1), QueueReading(500, 1, completed=3, at_least=True)),
        (QueueReading(100, 1, arrived=1), QueueReading(500, 1, arrived=900, at_least=True)),
    ],
)
def test_what_was_not_counted_to_the_end_is_no_base_for_differences(before, reading):
    meter = metered(Meter(), before, reading, 1.0)
    assert not is_metered(meter)
    assert meter.arrival_rate is None or reading.arrived is not None
    assert meter.samples == 0 or reading.completed is not None


def test_arrivals_alone_are_counted_although_nobody_knows_how_long_a_piece_takes():
    meter = metered(Meter(), QueueReading(1, arrived=1), QueueReading(1, arrived=3), 1.0)
    assert meter.arrival_rate == 2.0


def test_what_leaves_unseen_does_not_make_negative_arrivals():
    meter = metered(Meter(), QueueReading(50, 0, completed=1), QueueReading(0, 0, completed=1), 1.0)
    assert meter.arrival_rate == 0.0


def test_work_that_is_put_back_and_counted_again_is_no_negative_completion():
    before = QueueReading(0, 0, arrived=5)
    meter = metered(Meter(), before, QueueReading(9, 0, arrived=6), 1.0)
    assert meter.samples == 0


def test_samples_are_counted_as_far_as_they_matter():
    meter = after(list(steady(100.0, 0.1)), 0.5)
    assert meter.samples == ENOUGH_SAMPLES


def test_a_long_time_without_a_look_is_no_error():
    look = QueueReading(0, 1, arrived=1, completed=1)
    meter = metered(Meter(), look, QueueReading(0, 1, arrived=11, completed=11), 1e7)
    assert meter.arrival_rate == pytest.approx(1e-6)
