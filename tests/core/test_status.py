"""Status: what users read of a Program, from what is wanted, observed and remembered."""

from typing import Any

import pytest

from reconciler.core.buckets import OUTCOME_STATES, RULES, STATES, Bucket
from reconciler.core.status import REASONS, View, exit_text, program_status, seconds_text, with_transitions
from reconciler.model.state import NEVER, Condition, ConditionStatus, Exit, Outcome
from support import worlds

NOW = 100.0
STEADY = {0: {"runs": "r1", "since": 50}, 1: {"runs": "r1", "since": 50}, 2: {"runs": "r1", "since": 50}}


def status(seats: dict[int, Any], *extra: Condition, memory: dict[str, Any] | None = None, **words: Any) -> Any:
    observed, remembered = worlds.world(seats, **(memory or {"complete": True}))
    view = View(NOW, 1_000_000.0, lambda ordinal: f"web-{ordinal}")
    return program_status(worlds.desired(**words), observed, remembered, view, extra)


def condition(found: Any, kind: str) -> tuple[str, str]:
    return next(((c["status"], c["reason"]) for c in found["conditions"] if c["type"] == kind), ("absent", ""))


def states(found: Any) -> list[str]:
    return [row["state"] for row in found["processes"]]


def test_all_is_well() -> None:
    found = status(STEADY)
    counts = [found[f"{name}Replicas"] for name in ("running", "ready", "available", "updated")]
    assert counts == [3, 3, 3, 3]
    assert condition(found, "Available") == ("True", "MinimumReplicasAvailable")
    assert condition(found, "Progressing") == ("True", "NewRevisionAvailable")
    assert condition(found, "CrashLoop") == ("absent", "")


def test_a_fresh_process_is_ready_and_not_yet_available() -> None:
    found = status({0: {"runs": "r1", "since": 99.5}}, replicas=1)
    assert (found["readyReplicas"], found["availableReplicas"]) == (1, 0)
    assert condition(found, "Available") == ("False", "MinimumReplicasUnavailable")


def test_in_the_middle_of_a_rollout_the_old_ones_are_available_too() -> None:
    found = status({**STEADY, 0: {"runs": "r2", "since": 99.5}}, revision="r2", max_unavailable=1)
    assert (found["updatedReplicas"], found["availableReplicas"]) == (1, 2)
    assert condition(found, "Available") == ("True", "MinimumReplicasAvailable")


def test_run_once_workers_between_two_runs_are_available() -> None:
    found = status({0: {"exited": "Succeeded", "at": 99.9, "since": 99.89}}, replicas=1, run_once=True)
    assert (found["runningReplicas"], found["availableReplicas"]) == (0, 1)
    assert condition(found, "Available")[0] == "True"


def test_replicas_for_which_no_work_waits_are_not_missed() -> None:
    found = status({0: {"runs": "r1", "since": 50}}, memory={"complete": True, "work": 0}, replicas=3, run_once=True)
    assert (found["replicas"], found["availableReplicas"], states(found)) == (1, 1, ["Running", "Pending", "Pending"])
    assert condition(found, "Available") == ("True", "MinimumReplicasAvailable")


def test_a_replica_in_back_off_says_so_with_its_reason_and_the_next_start() -> None:
    replicas = {0: {"exited": "Failed", "failures": 5, "at": 99, "since": 98}}
    found = status(replicas, replicas=1, backoff={"jitter": 0})
    row = found["processes"][0]
    assert states(found) == ["BackOff"]
    assert condition(found, "CrashLoop") == ("True", "BackOff")
    assert condition(found, "Available") == ("False", "MinimumReplicasUnavailable")
    assert (row["failures"], row["lastExit"]["code"]) == (5, 1)
    assert row["nextStartAt"] == "1970-01-12T13:48:27.000Z"


def test_one_replica_is_always_asked_for() -> None:
    found = status({0: {"exited": "Failed", "failures": 5, "at": 99}}, replicas=1, max_unavailable=1)
    assert condition(found, "Available")[0] == "False"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"runs": "r1", "since": 90}, "True"),  # it was started again, and has to prove itself
        ({"runs": "r1", "since": 40}, "absent"),  # it has run for resetAfter
        ({"runs": "r2", "since": 99, "revision": "r1"}, "absent"),  # the failures were of another revision
        ({"runs": "r1", "since": 99, "failures": 1}, "absent"),  # one failure is no loop
    ],
)
def test_a_crash_loop_ends_with_a_long_run_or_another_revision(words: dict[str, Any], expected: str) -> None:
    found = status({0: {"exited": "Failed", "failures": 4, **words}}, replicas=1, revision=words["runs"])
    assert condition(found, "CrashLoop")[0] == expected


def test_a_replica_that_an_operator_stopped_is_not_counted_among_those_that_shall_run() -> None:
    found = status({**STEADY, 1: {"exited": "Stopped", "at": 90}}, stopped_ordinals={1})
    assert (found["replicas"], found["updatedReplicas"], len(found["processes"])) == (2, 2, 3)


def test_a_program_at_zero_is_available() -> None:
    assert condition(status({}, replicas=0), "Available") == ("True", "NoReplicasWanted")


def test_a_program_that_has_done_its_work_is_complete() -> None:
    found = status({0: {"exited": "Succeeded", "done": True}}, replicas=1, restart_policy="Never")
    assert states(found) == ["Succeeded"]
    assert condition(found, "Available") == ("True", "Completed")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ({"exited": "Failed", "done": True}, "Failed"),
        ({"exited": "Unknown", "done": True}, "Unknown"),
        ({"runs": "r1", "stopping": "ScaledDown", "kill_at": 130}, "Stopping"),
        ({"runs": "r0", "since": 50}, "Running"),
        ({"exited": "Stopped", "at": 99.99, "since": 99.95}, "Pending"),
    ],
)
def test_the_state_of_one_replica(words: dict[str, Any], state: str) -> None:
    assert states(status({0: words}, replicas=1, restart_policy="Never")) == [state]


def test_a_drain_shows_since_when_and_until_when_and_why() -> None:
    found = status({0: {"runs": "r1", "stopping": "ScaledDown", "asked": 90, "kill_at": 130}}, replicas=0)
    row = found["processes"][0]
    assert (row["cause"], row["stoppingSince"][-13:], row["killAt"][-13:]) == (
        "ScaledDown",
        "13:48:10.000Z",
        "13:48:50.000Z",
    )


def test_a_drain_without_end_has_no_kill() -> None:
    found = status({0: {"runs": "r1", "stopping": "ScaledDown", "kill_at": NEVER}}, replicas=0)
    assert found["processes"][0]["killAt"] is None


def test_while_only_its_leftovers_run_there_is_no_pid() -> None:
    found = status({0: {"runs": "r1", "ended": True, "exited": "Failed"}}, replicas=1)
    assert (found["processes"][0]["pid"], found["runningReplicas"]) == (None, 0)


def test_a_rollout_is_progress_until_its_deadline() -> None:
    memory = {"progress_revision": "r2", "progress_at": 95}
    running = {"memory": memory, "revision": "r2", "progress_deadline": 60}
    assert condition(status(STEADY, **running), "Progressing") == ("True", "RollingOut")
    late = {**running, "memory": {**memory, "progress_at": 10}}
    assert condition(status(STEADY, **late), "Progressing") == ("False", "ProgressDeadlineExceeded")
    draining = {**STEADY, 0: {"runs": "r1", "stopping": "RevisionChanged"}}
    assert condition(status(draining, **late), "Progressing") == ("True", "RollingOut")


def test_conditions_of_others_are_shown_with_the_generation_they_are_about() -> None:
    found = status(STEADY, Condition("Conflict", ConditionStatus.TRUE, "TwoFiles", "a and b"), generation=4)
    assert next(c for c in found["conditions"] if c["type"] == "Conflict")["observedGeneration"] == 4


def test_a_transition_is_dated_when_the_status_changes_not_when_the_message_does() -> None:
    before = [{"type": "Available", "status": "True", "lastTransitionTime": "then"}]
    same, changed = ({"type": "Available", "status": s, "lastTransitionTime": None} for s in ("True", "False"))
    assert with_transitions([same], before, "now")[0]["lastTransitionTime"] == "then"
    assert with_transitions([changed], before, "now")[0]["lastTransitionTime"] == "now"
    assert with_transitions([same], [], "now")[0]["lastTransitionTime"] == "now"


@pytest.mark.parametrize(
    ("code", "signal", "message", "text"),
    [
        (1, None, "", "exit code 1 after 3.2s"),
        (None, 9, "", "signal KILL after 3.2s"),
        (None, None, "", "end unknown after 3.2s"),
        (None, None, "php: command not found", "php: command not found"),
    ],
)
def test_how_a_run_ended_in_words(code: int | None, signal: int | None, message: str, text: str) -> None:
    assert exit_text(Exit(Outcome.FAILED, code, signal, 0, 3.2, "r1", 0, message)) == text


def test_a_death_by_signal_is_shown_by_its_name() -> None:
    observed, memory = worlds.world({0: {"exited": "Failed", "at": 90, "since": 1}})
    last = memory.histories[0].last_exit
    assert last is not None
    memory.histories[0] = memory.histories[0]._replace(last_exit=last._replace(code=None, signal=9, message="x"))
    view = View(NOW, 0.0, str)
    row = program_status(worlds.desired(replicas=1), observed, memory, view)["processes"][0]
    assert (row["lastExit"]["signal"], row["lastExit"]["message"]) == ("KILL", "x")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.012, "12ms"), (3.24, "3.2s"), (250, "4m10s"), (7500, "2h5m"), (3600 * 76, "3d4h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_the_tables_are_total() -> None:
    assert [rule.bucket for rule in RULES] == list(Bucket), "one rule per bucket, in the order of the buckets"
    assert set(STATES) == set(Bucket)
    assert set(OUTCOME_STATES) == set(Outcome)
    assert all(rule.why.endswith(".") for rule in RULES)
    assert all(REASONS.values())
