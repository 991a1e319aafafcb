"""Restarts: what an exit means, and when the next start may be."""

import pytest

from reconciler.core.restart import backoff_seconds, failures_after, in_backoff, next_start_at, verdict
from reconciler.model.state import Outcome
from support import worlds

NOW = 100.0


def judged(words: dict, code: int | None, signal: int | None = None, **desired: object):  # type: ignore[no-untyped-def]
    observed, memory = worlds.world({0: words})
    return verdict(worlds.desired(**desired), observed.processes[0], memory.histories[0], code, signal, NOW)


@pytest.mark.parametrize(
    ("policy", "code", "signal", "outcome", "failures", "done"),
    [
        ("Always", 0, None, Outcome.SUCCEEDED, 0, False),
        ("Always", 1, None, Outcome.FAILED, 3, False),
        ("Always", None, 9, Outcome.FAILED, 3, False),
        ("Always", None, None, Outcome.UNKNOWN, 2, False),
        ("OnFailure", 0, None, Outcome.SUCCEEDED, 0, True),
        ("OnFailure", 1, None, Outcome.FAILED, 3, False),
        ("OnFailure", None, None, Outcome.UNKNOWN, 2, False),
        ("Never", 0, None, Outcome.SUCCEEDED, 0, True),
        ("Never", 1, None, Outcome.FAILED, 3, True),
        ("Never", None, None, Outcome.UNKNOWN, 2, True),
    ],
)
def test_what_an_exit_means(policy, code, signal, outcome, failures, done) -> None:  # type: ignore[no-untyped-def]
    words = {"runs": "r1", "since": 99, "exited": "Failed", "failures": 2}
    assert judged(words, code, signal, restart_policy=policy) == (outcome, failures, done)


def test_an_exit_that_we_asked_for_is_never_a_failure() -> None:
    words = {"runs": "r1", "stopping": "ScaledDown", "failures": 2}
    assert judged(words, 1) == (Outcome.STOPPED, 2, False)


def test_failures_of_another_revision_are_not_carried_over() -> None:
    words = {"runs": "r2", "revision": "r1", "exited": "Failed", "failures": 7}
    assert judged({**words, "stopping": "ScaledDown"}, 1).failures == 0
    assert judged(words, None).failures == 0


def test_written_codes_and_signals_are_successes() -> None:
    words = {"runs": "r1", "since": 99}
    assert judged(words, 12, success_exit_codes=[0, 12]).outcome is Outcome.SUCCEEDED
    assert judged(words, None, 15, success_signals=[15]).outcome is Outcome.SUCCEEDED
    assert judged(words, None, 0, success_exit_codes=[0]).outcome is Outcome.FAILED


def test_a_run_once_piece_of_work_whose_end_nobody_saw_is_not_repeated_unless_it_always_is() -> None:
    words = {"runs": "r1", "since": 99}
    assert judged(words, None, restart_policy="OnFailure", run_once=True).done
    assert not judged(words, None, restart_policy="Always", run_once=True).done


def test_a_long_run_or_another_revision_sets_the_count_to_zero() -> None:
    _, memory = worlds.world({0: {"exited": "Failed", "failures": 7}})
    history, wanted = memory.histories[0], worlds.desired()
    assert failures_after(wanted, history, "r1", 59.9) == 8
    assert failures_after(wanted, history, "r1", 60.0) == 1
    assert failures_after(wanted, history, "r2", 1.0) == 1


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (11, 300), (10**6, 300)])
def test_the_delay_after_consecutive_failures(failures: int, seconds: float) -> None:
    assert backoff_seconds(worlds.desired(backoff={"jitter": 0}), 0, failures) == seconds


def test_without_an_initial_delay_there_is_none() -> None:
    assert backoff_seconds(worlds.desired(backoff={"initial": 0}), 0, 50) == 0


def test_jitter_adds_at_most_its_share_and_spreads_replicas() -> None:
    wanted = worlds.desired(backoff={"jitter": 0.5})
    delays = [backoff_seconds(wanted, ordinal, 5) for ordinal in range(50)]
    assert all(8 <= delay <= 12 for delay in delays)
    assert max(delays) - min(delays) > 1
    assert delays == [backoff_seconds(wanted, ordinal, 5) for ordinal in range(50)]


def test_a_start_waits_for_the_later_of_floor_and_back_off() -> None:
    wanted = worlds.desired(backoff={"jitter": 0}, min_restart_interval=30)
    _, memory = worlds.world({0: {"exited": "Failed", "failures": 3, "at": 100, "since": 99}})
    assert next_start_at(wanted, 0, memory.histories[0], "r1") == 129
    assert next_start_at(worlds.desired(backoff={"jitter": 0}), 0, memory.histories[0], "r1") == 102


def test_back_off_is_about_one_revision_and_ends_with_a_restart_that_was_asked_for() -> None:
    _, memory = worlds.world({0: {"exited": "Failed", "failures": 3, "epoch": 1}})
    history = memory.histories[0]
    assert in_backoff(history, "r1", 1)
    assert not in_backoff(history, "r2", 1)
    assert not in_backoff(history, "r1", 2)
