"""The life of a replica: every line of the picture is lived through, so that the picture cannot lie."""

from typing import Any

import pytest

from reconciler.core.buckets import LIFE, Bucket, bucket_of, seat_of
from support import worlds

NOW = 100.0
Words = dict[str, Any]

OLD = {"runs": "r1", "since": 50}
YOUNG = {"runs": "r1", "since": 99.5}
DRAINS = {"runs": "r1", "since": 50, "stopping": "ScaledDown", "kill_at": 130}
FAILED = {"exited": "Failed", "failures": 5, "at": 99.9, "since": 99}
SUCCEEDED = {"exited": "Succeeded", "at": 99, "since": 50}
STOPPED = {"exited": "Stopped", "at": 99, "since": 50}
DONE = {**SUCCEEDED, "done": True}
NEVER_AGAIN = {"restart_policy": "Never"}
NOT_NOW = {"replicas": 0, "kept": 1}

# bucket and event -> what is before, what is after: words of tests/support/worlds.py for the replica and for the wish
LIVES: dict[tuple[Bucket, str, Bucket], tuple[tuple[Words, Words], tuple[Words, Words]]] = {
    (Bucket.DUE, "start", Bucket.FRESH): (({}, {}), (YOUNG, {})),
    (Bucket.FRESH, "minReady is over", Bucket.STEADY): ((YOUNG, {}), (OLD, {})),
    (Bucket.FRESH, "fails again", Bucket.WAITING): ((YOUNG, {}), (FAILED, {})),
    (Bucket.STEADY, "exits", Bucket.DUE): ((OLD, {}), (SUCCEEDED, {})),
    (Bucket.STEADY, "exits, and is done", Bucket.DONE): ((OLD, NEVER_AGAIN), (DONE, NEVER_AGAIN)),
    (Bucket.STEADY, "exits, and leaves others behind", Bucket.LEFTOVERS): (
        (OLD, {}),
        ({**OLD, "ended": True, "exited": "Failed", "failures": 1}, {}),
    ),
    (Bucket.WAITING, "the delay is over", Bucket.DUE): ((FAILED, {}), ({**FAILED, "at": 80, "since": 79}, {})),
    (Bucket.DONE, "another revision", Bucket.DUE): ((DONE, NEVER_AGAIN), (DONE, {**NEVER_AGAIN, "revision": "r2"})),
    (Bucket.STEADY, "another revision", Bucket.OUTDATED): ((OLD, {}), (OLD, {"revision": "r2"})),
    (Bucket.STEADY, "not wanted any more", Bucket.SURPLUS): ((OLD, {}), (OLD, NOT_NOW)),
    (Bucket.OUTDATED, "stop", Bucket.DRAINING): ((OLD, {"revision": "r2"}), (DRAINS, {"revision": "r2"})),
    (Bucket.SURPLUS, "stop", Bucket.DRAINING): ((OLD, NOT_NOW), (DRAINS, NOT_NOW)),
    (Bucket.LEFTOVERS, "stop", Bucket.DRAINING): (
        ({**OLD, "ended": True, "exited": "Failed", "failures": 1}, {}),
        ({**DRAINS, "stopping": "Leftovers", "ended": True, "exited": "Failed", "failures": 1}, {}),
    ),
    (Bucket.DRAINING, "ends, still wanted", Bucket.DUE): ((DRAINS, {}), (STOPPED, {})),
    (Bucket.DRAINING, "ends, not wanted for now", Bucket.RESTING): ((DRAINS, NOT_NOW), (STOPPED, NOT_NOW)),
    (Bucket.DRAINING, "ends, beyond the count", Bucket.ABANDONED): (
        (DRAINS, {"replicas": 0}),
        (STOPPED, {"replicas": 0}),
    ),
    (Bucket.DRAINING, "the grace period is over", Bucket.OVERDUE): ((DRAINS, {}), ({**DRAINS, "kill_at": 99}, {})),
    (Bucket.OVERDUE, "kill", Bucket.KILLED): (
        ({**DRAINS, "kill_at": 99}, {}),
        ({**DRAINS, "kill_at": 99, "killed": True}, {}),
    ),
    (Bucket.KILLED, "ends, still wanted", Bucket.DUE): (({**DRAINS, "killed": True}, {}), (STOPPED, {})),
    (Bucket.RESTING, "wanted again", Bucket.DUE): ((STOPPED, NOT_NOW), (STOPPED, {})),
    (Bucket.STEADY, "exits, and no work waits", Bucket.IDLE): ((OLD, {}), (SUCCEEDED, {"work": 0})),
    (Bucket.IDLE, "work comes", Bucket.DUE): ((SUCCEEDED, {"work": 0}), (SUCCEEDED, {"work": 1})),
}


def bucket(replica: Words, wish: Words) -> Bucket:
    words = {"replicas": 1, **wish}
    observed, memory = worlds.world({0: replica} if replica else {}, work=words.pop("work", None))
    wanted = worlds.desired(**words)
    return bucket_of(seat_of(wanted, 0, observed, memory, NOW))


@pytest.mark.parametrize("line", LIFE, ids=lambda line: f"{line[0]}: {line[1]}")
def test_every_line_of_the_picture_is_lived_through(line: tuple[Bucket, str, Bucket]) -> None:
    before, after = LIVES[line]
    assert (bucket(*before), bucket(*after)) == (line[0], line[2])


def test_every_bucket_is_in_the_picture() -> None:
    assert {name for before, _, after in LIFE for name in (before, after)} == set(Bucket)
