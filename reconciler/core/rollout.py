"""Rollouts: which replicas may be carried over to the desired revision now.

`unavailable` is the one currency: a replica that is not available costs one, whatever the reason, and at most
`maxUnavailable` may be spent. What is broken already is replaced freely, since that costs nothing.
"""

from collections.abc import Iterable
from typing import NamedTuple

from reconciler.core.buckets import Bucket, is_outdated, next_revision
from reconciler.core.health import available_at
from reconciler.core.records import Progressed
from reconciler.model.state import NEVER, NO_HISTORY, Desired, Memory, Observed

NEEDS_NOTHING = frozenset({Bucket.DONE, Bucket.IDLE})


class Steps(NamedTuple):
    """One step of a rollout."""

    stop: frozenset[int]  # outdated processes whose turn it is
    carry_over: frozenset[int]  # free ordinals of an old revision that start at the new one
    start: bool  # whether anything may be started (Recreate waits until all that is old is gone)


def steps(
    desired: Desired,
    observed: Observed,
    memory: Memory,
    buckets: dict[int, Bucket],
    returning: Iterable[int],
    now: float,
) -> Steps:
    """Decide the next step. `returning` are free, due ordinals whose last run was of an old revision."""
    outdated = [ordinal for ordinal, bucket in buckets.items() if bucket is Bucket.OUTDATED]
    at_once = frozenset(o for o in outdated if _now_requested(desired, observed, o))
    if desired.recreate:
        old = any(is_outdated(desired, o, p) for o, p in observed.processes.items())
        return Steps(frozenset(outdated), frozenset(returning), start=not old)
    needed = [o for o, bucket in buckets.items() if desired.wants(o) and bucket not in NEEDS_NOTHING]
    available = {o for o in needed if is_available(desired, observed, memory, o, now)}
    budget = desired.max_unavailable - (len(needed) - len(available))
    # So is one that runs and is not available, unless it was just brought back as it was because too many are away.
    free = [
        o
        for o in outdated
        if o not in available and (budget >= 0 or not _was_brought_back(desired, observed, memory, o))
    ]
    # Free ordinals first: carrying one over ends no process.
    spent = [o for o in (*sorted(returning), *sorted(outdated)) if o in available][: max(0, budget)]
    # One that is unavailable anyway is carried over while that keeps the bound, else it comes back as it was.
    carried = frozenset(o for o in returning if o in spent or (o not in available and budget >= 0))
    stops = frozenset(o for o in outdated if o in spent or o in free) | at_once
    return Steps(stops, carried, start=True)


def is_available(desired: Desired, observed: Observed, memory: Memory, ordinal: int, now: float) -> bool:
    """Whether this replica is available, at whatever revision."""
    history = memory.histories.get(ordinal, NO_HISTORY)
    return now >= available_at(desired, observed.processes.get(ordinal), history)


def _was_brought_back(desired: Desired, observed: Observed, memory: Memory, ordinal: int) -> bool:
    """Whether this process is the old revision's second chance: if it were free now, it would come back the same."""
    history = memory.histories.get(ordinal, NO_HISTORY)
    return history.last_exit is not None and observed.processes[ordinal].revision == next_revision(desired, history)


def _now_requested(desired: Desired, observed: Observed, ordinal: int) -> bool:
    return desired.restart_now and observed.processes[ordinal].epoch < desired.epoch_of(ordinal)


def is_current(desired: Desired, observed: Observed, memory: Memory, ordinal: int) -> bool:
    """Whether this replica was last started at the desired revision and epoch, and not asked to end."""
    process = observed.processes.get(ordinal)
    if process is not None:
        return process.stopping is None and not is_outdated(desired, ordinal, process)
    last = memory.histories.get(ordinal, NO_HISTORY).last_exit
    return last is not None and last.revision == desired.revision and last.epoch >= desired.epoch_of(ordinal)


def progress(desired: Desired, observed: Observed, memory: Memory, now: float) -> Progressed | None:
    """What to remember of the rollout: that it began, or came further than ever before. None when neither."""
    idle = observed.work is not None and observed.work <= 0
    wanted = [o for o in desired.ordinals() if desired.wants(o) and not (idle and o not in observed.processes)]
    current = [o for o in wanted if is_current(desired, observed, memory, o)]
    done = [o for o in current if is_settled(desired, observed, memory, o, now)]
    score, complete = len(current) + len(done), len(done) == len(wanted)
    began = (memory.progress_revision, memory.progress_epoch) != (desired.revision, desired.epoch)
    if began:
        return Progressed(desired.uid, desired.revision, desired.epoch, now, score, complete)
    if memory.complete or (score <= memory.progress_score and not complete):
        return None
    return Progressed(desired.uid, desired.revision, desired.epoch, now, score, complete)


def is_settled(desired: Desired, observed: Observed, memory: Memory, ordinal: int, now: float) -> bool:
    """Whether a current replica needs nothing more: available, or done by its restart policy."""
    finished = memory.histories.get(ordinal, NO_HISTORY).done_outcome is not None
    return finished or is_available(desired, observed, memory, ordinal, now)


def deadline_at(desired: Desired, observed: Observed, memory: Memory) -> float:
    """When the rollout will have taken too long without a step; NEVER while there is none, or while one drains."""
    if memory.complete or memory.progress_revision != desired.revision or desired.replicas == 0:
        return NEVER
    if any(process.stopping is not None for process in observed.processes.values()):
        return NEVER  # the clock does not run for a replica within its grace period
    return memory.progress_at + desired.progress_deadline
