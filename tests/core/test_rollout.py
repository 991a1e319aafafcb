"""Rollouts: what counts as a step, when one is complete, when it has taken too long."""

from typing import Any

import pytest

from reconciler.core.reconcile import reconcile
from reconciler.core.rollout import deadline_at, progress
from reconciler.model.state import NEVER
from support import worlds

NOW = 100.0
NEW = {"runs": "r2", "since": 50}
OLD = {"runs": "r1", "since": 50}
GOING = {"progress_revision": "r2", "progress_at": 90}


def step(seats: dict[int, Any], memory: dict[str, Any], **words: Any) -> tuple[int, bool] | None:
    observed, remembered = worlds.world(seats, **memory)
    found = progress(worlds.desired(**{"revision": "r2", **words}), observed, remembered, NOW)
    return None if found is None else (found.score, found.complete)


def test_a_rollout_begins_when_revision_or_epoch_differ() -> None:
    replicas = {0: OLD, 1: OLD, 2: OLD}
    assert step(replicas, {}) == (0, False)
    assert step({0: NEW, 1: NEW, 2: NEW}, {"progress_revision": "r2", "complete": True}, epoch=1) == (0, False)


def test_each_replica_that_is_carried_over_and_each_that_becomes_available_is_a_step() -> None:
    assert step({0: NEW, 1: OLD, 2: OLD}, GOING) == (2, False)
    assert step({0: NEW, 1: {"runs": "r2", "since": 99.9}, 2: OLD}, {**GOING, "progress_score": 2}) == (3, False)


def test_what_was_reached_before_is_no_step() -> None:
    assert step({0: NEW, 1: OLD, 2: OLD}, {**GOING, "progress_score": 2}) is None


def test_all_available_is_complete_and_then_there_are_no_more_steps() -> None:
    assert step({0: NEW, 1: NEW, 2: NEW}, {**GOING, "progress_score": 5}) == (6, True)
    assert step({0: NEW, 1: NEW, 2: NEW}, {**GOING, "complete": True}) is None


def test_nothing_wanted_is_complete() -> None:
    assert step({}, {}, replicas=0) == (0, True)


def test_a_replica_that_is_done_by_its_policy_needs_no_process() -> None:
    done = {"exited": "Succeeded", "done": True, "revision": "r2"}
    assert step({0: done}, GOING, replicas=1, restart_policy="Never") == (2, True)


def test_a_process_that_is_asked_to_end_is_not_carried_over() -> None:
    assert step({0: {**NEW, "stopping": "ScaledDown"}}, GOING, replicas=1) is None


@pytest.mark.parametrize(
    ("memory", "replicas", "words", "at"),
    [
        (GOING, {0: OLD}, {}, 690),
        ({**GOING, "complete": True}, {0: NEW}, {}, NEVER),
        (GOING, {0: OLD}, {"replicas": 0}, NEVER),
        ({"progress_revision": "r1"}, {0: OLD}, {}, NEVER),
        (GOING, {0: {**OLD, "stopping": "RevisionChanged", "kill_at": 1000}}, {}, NEVER),
    ],
    ids=["running", "complete", "nothing wanted", "not begun", "within a grace period"],
)
def test_the_deadline(memory: dict[str, Any], replicas: dict[int, Any], words: dict[str, Any], at: float) -> None:
    observed, remembered = worlds.world(replicas, **memory)
    wanted = worlds.desired(**{"revision": "r2", "replicas": 1, **words})
    assert deadline_at(wanted, observed, remembered) == at


def test_a_deadline_that_is_over_wakes_nobody() -> None:
    observed, remembered = worlds.world({0: NEW}, progress_revision="r2", progress_at=-1000)
    wanted = worlds.desired(revision="r2", replicas=1)
    assert reconcile(wanted, observed, remembered, NOW).plan.wake_at == NEVER
