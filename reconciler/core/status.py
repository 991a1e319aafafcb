"""From what is wanted, observed and remembered to the status that users read: counts, conditions, one row per replica.

Nothing is decided from a status, and it is never read back. The values are JSON values in the order in which they are
written.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from reconciler.core.buckets import Bucket, ReplicaState, Seat, bucket_of, seat_of, state_of
from reconciler.core.health import available_at
from reconciler.core.restart import fails_until, in_backoff, next_start_at
from reconciler.core.rollout import deadline_at
from reconciler.model.quantities import signal_name
from reconciler.model.state import (
    NEVER,
    Condition,
    ConditionStatus,
    Desired,
    Exit,
    Memory,
    Observed,
)

REASONS: dict[str, str] = {
    "MinimumReplicasAvailable": "enough replicas are available",
    "MinimumReplicasUnavailable": "too few replicas are available",
    "NoReplicasWanted": "the count is 0",
    "Completed": "every replica has done what its restart policy asks for",
    "NewRevisionAvailable": "every replica runs the desired revision and is available",
    "RollingOut": "replicas are being carried over to the desired revision",
    "ProgressDeadlineExceeded": "the rollout took no step for longer than progressDeadline",
    "BackOff": "replicas fail again and again and are started with growing delays",
}
"""Every reason that this module gives, with what it means; the docs list them from here."""


class View(NamedTuple):
    """How times and names are shown."""

    now: float  # CLOCK_BOOTTIME
    wall_offset: float  # wall clock = CLOCK_BOOTTIME + this
    process_name: Callable[[int], str] = str

    def iso(self, at: float) -> str | None:
        """A moment as users read it; None for one that does not come, or was not."""
        if abs(at) == NEVER:
            return None
        return iso_text(at + self.wall_offset)


def iso_text(wall: float) -> str:
    """A moment of the wall clock as users read it."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Row(NamedTuple):
    """What is counted of one replica."""

    seat: Seat
    state: ReplicaState
    available: bool
    ready: bool
    updated: bool


def program_status(
    desired: Desired, observed: Observed, memory: Memory, view: View, extra: Sequence[Condition] = ()
) -> dict[str, Any]:
    """The status of one Program. `extra` are conditions that others found (sources, logs, overrides)."""
    rows = [_row(desired, observed, memory, ordinal, view.now) for ordinal in _ordinals(desired, observed)]
    wanted = [row for row in rows if desired.wants(row.seat.ordinal) and bucket_of(row.seat) is not Bucket.IDLE]
    conditions = [
        _available(desired, wanted),
        _progressing(desired, observed, memory, wanted, view.now),
        *_crash_loop(desired, wanted, view.now),
        *extra,
    ]
    return {
        "observedGeneration": desired.generation,
        "replicas": len(wanted),
        "runningReplicas": sum(_runs(row) for row in rows),
        "readyReplicas": sum(row.ready for row in wanted),
        "availableReplicas": sum(row.available for row in wanted),
        "updatedReplicas": sum(row.updated for row in wanted),
        "revision": desired.revision,
        "conditions": [condition_value(condition, desired.generation) for condition in conditions],
        "processes": [_process(row, view) for row in rows],
    }


def with_transitions(
    conditions: Iterable[dict[str, Any]], before: Iterable[dict[str, Any]], now_text: str | None
) -> list[dict[str, Any]]:
    """Conditions with `lastTransitionTime`: the old one as long as the status (True, False, Unknown) stays."""
    times = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in before}
    dated = []
    for condition in conditions:
        status, since = times.get(condition["type"], (None, None))
        dated.append({**condition, "lastTransitionTime": since if status == condition["status"] else now_text})
    return dated


def _ordinals(desired: Desired, observed: Observed) -> list[int]:
    return sorted({*observed.processes, *desired.ordinals()})


def _row(desired: Desired, observed: Observed, memory: Memory, ordinal: int, now: float) -> Row:
    seat = seat_of(desired, ordinal, observed, memory, now)
    process, history = seat.process, seat.history
    last = history.last_exit
    revision = process.revision if process else last.revision if last else ""
    current = revision == desired.revision
    # Of whatever revision: in the middle of a rollout the old ones serve. Between two runs only the current one counts.
    available = (current or process is not None) and now >= available_at(desired, process, history)
    ready = available or (process is not None and process.stopping is None and not process.ended)
    return Row(seat, state_of(seat), available, ready, updated=current)


def _runs(row: Row) -> bool:
    process = row.seat.process
    return process is not None and not process.ended


def _available(desired: Desired, wanted: Sequence[Row]) -> Condition:
    if not wanted:
        return Condition("Available", ConditionStatus.TRUE, "NoReplicasWanted", "No replicas are wanted.")
    available = sum(row.available for row in wanted)
    done = sum(row.state is ReplicaState.SUCCEEDED for row in wanted)
    if done == len(wanted):
        return Condition("Available", ConditionStatus.TRUE, "Completed", f"{done} of {done} replicas have succeeded.")
    # One replica is always asked for: with maxUnavailable 1 of 1 a Program that never runs would count as available.
    minimum = max(1, len(wanted) - desired.max_unavailable)
    message = f"{available + done} of {len(wanted)} replicas are available, {minimum} are needed."
    if available + done >= minimum:
        return Condition("Available", ConditionStatus.TRUE, "MinimumReplicasAvailable", message)
    return Condition("Available", ConditionStatus.FALSE, "MinimumReplicasUnavailable", message)


def _progressing(desired: Desired, observed: Observed, memory: Memory, wanted: Sequence[Row], now: float) -> Condition:
    updated = sum(row.updated for row in wanted)
    message = f"{updated} of {len(wanted)} replicas have revision {desired.revision}."
    if memory.complete or not wanted:
        return Condition("Progressing", ConditionStatus.TRUE, "NewRevisionAvailable", message)
    if now >= deadline_at(desired, observed, memory):
        message += f" No step for more than {desired.progress_deadline:g} s."
        return Condition("Progressing", ConditionStatus.FALSE, "ProgressDeadlineExceeded", message)
    return Condition("Progressing", ConditionStatus.TRUE, "RollingOut", message)


def _crash_loop(desired: Desired, wanted: Sequence[Row], now: float) -> list[Condition]:
    seats = [row.seat for row in wanted]
    failing = [s for s in seats if now < fails_until(desired, s.ordinal, s.process, s.history)]
    if not failing:
        return []
    worst = max(failing, key=lambda seat: seat.history.failures)
    last = worst.history.last_exit
    how = f", the last one: {exit_text(last)}" if last else ""
    message = (
        f"{len(failing)} of {len(wanted)} replicas fail; replica {worst.ordinal} failed "
        f"{worst.history.failures} times in a row{how}."
    )
    return [Condition("CrashLoop", ConditionStatus.TRUE, "BackOff", message)]


def exit_text(ended: Exit) -> str:
    """How a run ended, in a few words: `exit code 1 after 3.2s`, `signal KILL after 10s`, `php: command not found`."""
    if ended.message:
        return ended.message
    how = "end unknown"
    if ended.code is not None:
        how = f"exit code {ended.code}"
    elif ended.signal is not None:
        how = f"signal {signal_name(ended.signal)}"
    return f"{how} after {seconds_text(ended.ran_seconds)}"


def seconds_text(seconds: float) -> str:
    """A length of time, short: `12ms`, `3.2s`, `4m10s`, `2h5m`, `3d4h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if hours < 24 else f"{hours // 24}d{hours % 24}h"


def condition_value(condition: Condition, generation: int) -> dict[str, Any]:
    """A condition as JSON values, without its transition time."""
    return {
        "type": condition.type,
        "status": str(condition.status),
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": None,
        "observedGeneration": generation,
    }


def _process(row: Row, view: View) -> dict[str, Any]:
    desired, ordinal, process, history, now, _ = row.seat
    last = history.last_exit
    shown: dict[str, Any] = {
        "replica": ordinal,
        "name": view.process_name(ordinal),
        "pid": process.id.pid if process and not process.ended else None,
        "state": str(row.state),
        "ready": row.ready,
        "available": row.available,
        "revision": process.revision if process else last.revision if last else "",
        "startedAt": view.iso(history.last_started_at),
        "restarts": history.restarts,
        "runs": history.runs,
    }
    if process is not None:
        shown["cause"] = str(process.stopping.cause if process.stopping else process.cause)
    if history.failures:
        shown["failures"] = history.failures
    if last is not None:
        shown["lastExit"] = _last_exit(last, view)
    if process is not None and process.stopping is not None:
        shown["stoppingSince"] = view.iso(process.stopping.since)
        shown["killAt"] = view.iso(process.stopping.kill_at)
    elif process is None and row.state in (ReplicaState.BACK_OFF, ReplicaState.PENDING) and desired.wants(ordinal):
        at = next_start_at(desired, ordinal, history, desired.revision)
        if at > now and in_backoff(history, desired.revision, desired.epoch_of(ordinal)):
            shown["nextStartAt"] = view.iso(at)
    return shown


def _last_exit(last: Exit, view: View) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "outcome": str(last.outcome),
        "code": last.code,
        "signal": signal_name(last.signal) if last.signal is not None else None,
        "at": view.iso(last.at),
        "ran": seconds_text(last.ran_seconds),
    }
    if last.message:
        shown["message"] = last.message
    return shown
