"""The life of a replica as a table: every ordinal falls in exactly one bucket, the first rule that matches.

All that decides in which bucket a replica is stands in this file; what is done about a bucket stands in `reconcile`.
The picture in docs/architecture.md and the states that users see are drawn from these tables.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from reconciler.core.health import available_at
from reconciler.core.restart import in_backoff, is_done, next_start_at
from reconciler.model.state import (
    NEVER,
    NO_HISTORY,
    Desired,
    History,
    Memory,
    Observed,
    Outcome,
    Process,
    RestartPolicy,
)


class Bucket(StrEnum):
    """Where a replica is in its life."""

    KILLED = "killed"
    OVERDUE = "overdue"
    LEFTOVERS = "leftovers"
    DRAINING = "draining"
    SURPLUS = "surplus"
    OUTDATED = "outdated"
    FRESH = "fresh"
    STEADY = "steady"
    ABANDONED = "abandoned"
    RESTING = "resting"
    DONE = "done"
    WAITING = "waiting"
    IDLE = "idle"
    DUE = "due"


class Seat(NamedTuple):
    """One ordinal as the rules see it."""

    desired: Desired
    ordinal: int
    process: Process | None
    history: History
    now: float
    work: int | None = None  # see Observed.work


class Rule(NamedTuple):
    """First match wins."""

    bucket: Bucket
    applies: Callable[[Seat], bool]
    why: str


def _overdue(seat: Seat) -> bool:
    process = seat.process
    return (
        process is not None
        and process.stopping is not None
        and (seat.now >= process.stopping.kill_at or seat.desired.kill_now)
    )


def _without_end(process: Process) -> bool:
    """Whether nothing says when it has to be gone. An endless grace period is for the main process and its work."""
    return process.stopping is None or process.stopping.kill_at == NEVER


def is_outdated(desired: Desired, ordinal: int, process: Process) -> bool:
    """Whether the process was started with another revision, or before a restart was asked for."""
    return process.revision != desired.revision or process.epoch < desired.epoch_of(ordinal)


def _waits(seat: Seat) -> bool:
    # An old revision is never one that is in back-off, so one moment holds for all that may be started here.
    revision = next_revision(seat.desired, seat.history)
    return seat.now < next_start_at(seat.desired, seat.ordinal, seat.history, revision)


def next_revision(desired: Desired, history: History) -> str:
    """The revision a free ordinal would be started at without a step of the rollout.

    That is the old one where its last run was of an old revision, was not one of several failures, and can still be
    started: an exit in the middle of a rollout must not carry a replica over to a revision that nobody has seen
    running yet.
    """
    last = history.last_exit
    if last is None or history.rested or desired.recreate or last.revision not in desired.startable:
        return desired.revision
    if history.done_outcome is not None and desired.restart_policy is not RestartPolicy.ALWAYS:
        return desired.revision  # its work at the old one is done, and is not done twice
    sound = history.failures <= 1 and last.outcome in (Outcome.SUCCEEDED, Outcome.UNKNOWN, Outcome.FAILED)
    return last.revision if sound else desired.revision


RULES: tuple[Rule, ...] = (
    Rule(
        Bucket.KILLED,
        lambda s: s.process is not None and s.process.stopping is not None and s.process.stopping.killed,
        "KILL went to its tree; only the end is awaited, nothing else may be started here before.",
    ),
    Rule(Bucket.OVERDUE, _overdue, "It drains for longer than its grace period, or nobody wants to wait: KILL."),
    Rule(
        Bucket.LEFTOVERS,
        lambda s: s.process is not None and s.process.ended and _without_end(s.process),
        "Its main process ended, and what it left behind has no end set: it shall end before a successor starts.",
    ),
    Rule(
        Bucket.DRAINING,
        lambda s: s.process is not None and s.process.stopping is not None,
        "It was asked to end and is within its grace period.",
    ),
    Rule(
        Bucket.SURPLUS,
        lambda s: s.process is not None and not s.desired.wants(s.ordinal),
        "It runs and is not wanted: scaled down, suspended, stopped, deleted or shutting down.",
    ),
    Rule(
        Bucket.OUTDATED,
        lambda s: s.process is not None and is_outdated(s.desired, s.ordinal, s.process),
        "It runs with an old revision, or a restart was asked for: its turn comes within maxUnavailable.",
    ),
    Rule(
        Bucket.FRESH,
        lambda s: s.process is not None and s.now < available_at(s.desired, s.process, s.history),
        "It runs as wanted, for less than minReady.",
    ),
    Rule(Bucket.STEADY, lambda s: s.process is not None, "It runs as wanted and is available."),
    Rule(
        Bucket.ABANDONED,
        lambda s: s.ordinal >= s.desired.kept and not s.desired.counts(s.ordinal),
        "Nothing runs here and the ordinal is beyond the written count: what is remembered of it may go.",
    ),
    Rule(
        Bucket.RESTING,
        lambda s: not s.desired.wants(s.ordinal),
        "Nothing runs here and nothing shall for now; what is remembered stays.",
    ),
    Rule(
        Bucket.DONE,
        lambda s: is_done(s.desired, s.ordinal, s.history),
        "Its restart policy wants no further run of this revision.",
    ),
    Rule(Bucket.WAITING, _waits, "It shall run, after its back-off or the floor between two starts."),
    Rule(
        Bucket.IDLE,
        lambda s: s.work is not None and s.work <= 0,
        "It takes one piece of work from a queue, and none waits.",
    ),
    Rule(Bucket.DUE, lambda s: True, "It shall run now."),
)


def bucket_of(seat: Seat) -> Bucket:
    """The bucket of a replica: the first rule that applies. The last one always does."""
    for rule in RULES:
        if rule.applies(seat):
            return rule.bucket
    raise AssertionError("the last rule applies to everything")  # pragma: no cover


def seat_of(desired: Desired, ordinal: int, observed: Observed, memory: Memory, now: float) -> Seat:
    """The ordinal with what is known of it."""
    history = memory.histories.get(ordinal, NO_HISTORY)
    return Seat(desired, ordinal, observed.processes.get(ordinal), history, now, observed.work)


class ReplicaState(StrEnum):
    """What users see of a replica; derived from the bucket and never stored."""

    PENDING = "Pending"
    BACK_OFF = "BackOff"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


STATES: dict[Bucket, ReplicaState] = {
    Bucket.KILLED: ReplicaState.STOPPING,
    Bucket.OVERDUE: ReplicaState.STOPPING,
    Bucket.LEFTOVERS: ReplicaState.STOPPING,
    Bucket.DRAINING: ReplicaState.STOPPING,
    Bucket.SURPLUS: ReplicaState.RUNNING,
    Bucket.OUTDATED: ReplicaState.RUNNING,
    Bucket.FRESH: ReplicaState.RUNNING,
    Bucket.STEADY: ReplicaState.RUNNING,
    Bucket.ABANDONED: ReplicaState.PENDING,
    Bucket.RESTING: ReplicaState.PENDING,
    Bucket.DONE: ReplicaState.SUCCEEDED,
    Bucket.WAITING: ReplicaState.PENDING,
    Bucket.IDLE: ReplicaState.PENDING,
    Bucket.DUE: ReplicaState.PENDING,
}

OUTCOME_STATES: dict[Outcome, ReplicaState] = {
    Outcome.SUCCEEDED: ReplicaState.SUCCEEDED,
    Outcome.FAILED: ReplicaState.FAILED,
    Outcome.NOT_STARTED: ReplicaState.FAILED,
    Outcome.STOPPED: ReplicaState.SUCCEEDED,
    Outcome.UNKNOWN: ReplicaState.UNKNOWN,
}


def state_of(seat: Seat) -> ReplicaState:
    """What users see: the bucket's state, refined by how a finished replica ended and by a back-off that runs."""
    bucket = bucket_of(seat)
    if bucket is Bucket.DONE and seat.history.done_outcome is not None:
        return OUTCOME_STATES[seat.history.done_outcome]
    backing_off = in_backoff(seat.history, seat.desired.revision, seat.desired.epoch_of(seat.ordinal))
    if bucket is Bucket.WAITING and backing_off:
        return ReplicaState.BACK_OFF
    return STATES[bucket]


LIFE: tuple[tuple[Bucket, str, Bucket], ...] = (
    (Bucket.DUE, "start", Bucket.FRESH),
    (Bucket.FRESH, "minReady is over", Bucket.STEADY),
    (Bucket.FRESH, "fails again", Bucket.WAITING),
    (Bucket.STEADY, "exits", Bucket.DUE),
    (Bucket.STEADY, "exits, and is done", Bucket.DONE),
    (Bucket.STEADY, "exits, and leaves others behind", Bucket.LEFTOVERS),
    (Bucket.WAITING, "the delay is over", Bucket.DUE),
    (Bucket.DONE, "another revision", Bucket.DUE),
    (Bucket.STEADY, "another revision", Bucket.OUTDATED),
    (Bucket.STEADY, "not wanted any more", Bucket.SURPLUS),
    (Bucket.OUTDATED, "stop", Bucket.DRAINING),
    (Bucket.SURPLUS, "stop", Bucket.DRAINING),
    (Bucket.LEFTOVERS, "stop", Bucket.DRAINING),
    (Bucket.DRAINING, "ends, still wanted", Bucket.DUE),
    (Bucket.DRAINING, "ends, not wanted for now", Bucket.RESTING),
    (Bucket.DRAINING, "ends, beyond the count", Bucket.ABANDONED),
    (Bucket.DRAINING, "the grace period is over", Bucket.OVERDUE),
    (Bucket.OVERDUE, "kill", Bucket.KILLED),
    (Bucket.KILLED, "ends, still wanted", Bucket.DUE),
    (Bucket.RESTING, "wanted again", Bucket.DUE),
    (Bucket.STEADY, "exits, and no work waits", Bucket.IDLE),
    (Bucket.IDLE, "work comes", Bucket.DUE),
)
"""What leads from bucket to bucket; a test lives through every line. Only the picture in the docs is drawn from it."""
