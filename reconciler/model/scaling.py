"""What a scale decision is made from, what it is, and what must be remembered between two of them.

Frozen values only; the rules are in core/scaling.py and the rooms beside it. All times are seconds of CLOCK_BOOTTIME.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.state import NEVER, Condition

Samples = tuple[tuple[float, int], ...]
"""Moments and counts, oldest first."""


class Look(NamedTuple):
    """The latest look at one trigger's queue. Given again, it says nothing new: looks are told apart by `at`."""

    at: float  # when it was taken
    found: QueueReading | QueueReadFailed


class Counts(NamedTuple):
    """How the bound Program stands."""

    written: int  # replicas in its manifest
    running: int  # processes that run and were not asked to end
    ready: int  # of them, those that can take work
    draining: int = 0  # processes that were asked to end and have not yet
    started: int = 0  # processes ever started, a counter


class ScaleReason(StrEnum):
    """Why the count is what it is: a closed set, the same words in conditions, events and `queue test`."""

    FOLLOWS = "FollowsDemand"  # it is what the triggers ask for
    WITHIN_TOLERANCE = "WithinTolerance"  # what they ask for is too near to be worth a change
    NOTHING_TO_DO = "NothingToDo"  # no trigger is active, and the count is at its rest
    COOLING_DOWN = "CoolingDown"  # nothing has been to do for less than cooldownPeriod
    STABILIZED = "Stabilized"  # a window still holds what was asked for before
    RATE_LIMITED = "RateLimited"  # a policy allows only so much per period
    AT_MAXIMUM = "AtMaximum"  # more is asked for than maxReplicaCount
    AT_MINIMUM = "AtMinimum"  # less is asked for than minReplicaCount
    DIRECTION_DISABLED = "DirectionDisabled"  # selectPolicy: Disabled forbids the change
    STALLED = "Stalled"  # work waits, replicas run and take none: more of them would not help
    NOT_READ_YET = "NotReadYet"  # a queue was never read: the count may rise, not fall
    READ_FAILED = "ReadFailed"  # a queue cannot be read at the moment: the count may rise, not fall
    FELL_BACK = "FellBack"  # it could not be read failureThreshold times in a row
    SUSPENDED = "Suspended"  # spec.suspend
    PAUSED = "Paused"  # an operator's `queue pause`


class Meter(NamedTuple):
    """Arrival rate and service time of one queue, from the counters of its readings. Sums fade with time."""

    seconds: float = 0.0  # observed, faded
    arrivals: float = 0.0  # within them
    finished: float = 0.0  # pieces seen to finish, faded
    work_seconds: float = 0.0  # spent on them
    open_seconds: float = 0.0  # spent since the last finished one: not yet part of the mean
    open_elapsed: float = 0.0  # time since then
    samples: float = 0.0  # pieces ever seen to finish, as far as it matters
    arrival_rate: float | None = None  # pieces per second
    service_seconds: float | None = None  # mean


class TriggerMemory(NamedTuple):
    """What is remembered of one trigger."""

    type: str
    metadata: Mapping[str, Any]
    look_at: float = -NEVER  # of the latest look
    failures: int = 0  # consecutive
    failure: str = ""  # reason of the latest look, if it failed
    failure_message: str = ""
    read_at: float = -NEVER  # of the latest look that succeeded
    reading: QueueReading | None = None  # what it told
    meter: Meter = Meter()
    stalled_since: float = NEVER  # from when on nothing was taken although something waits and replicas are there
    stalled_started: int = 0  # Counts.started then


class ScalingMemory(NamedTuple):
    """What must survive from one decision to the next. What is journaled of it comes back through `restored`."""

    replicas: int | None = None  # as decided last; None: nothing was yet
    active_at: float = -NEVER  # when there was something to do for the last time
    triggers: tuple[TriggerMemory, ...] = ()
    highest: Samples = ()  # what was asked for: counts that no later one reached, for the way down
    lowest: Samples = ()  # counts that no later one went below, for the way up
    changes: Samples = ()  # (when, by how many) the count changed
    starts: Samples = ()  # runOnce: (when, Counts.started) as it grew

    @classmethod
    def restored(cls, replicas: int, active_at: float | None, now: float) -> "ScalingMemory":
        """After a restart: the count stands, and stays at least that for a stabilization window."""
        kept = ((now, replicas),)
        return cls(replicas, now if active_at is None else min(active_at, now), highest=kept, lowest=kept)


class TriggerView(NamedTuple):
    """One trigger as `get`, `queue test` and metrics show it."""

    label: str
    reading: QueueReading | None  # the latest that succeeded
    failure: str  # reason; empty: the latest look succeeded, or there was none
    message: str  # what it asks for and why, or what is wrong
    active: bool
    replicas: int | None  # asked for; None: no opinion
    arrival_rate: float | None
    service_seconds: float | None


class Decision(NamedTuple):
    """What the count shall be, and why."""

    replicas: int
    active: bool | None  # whether there is something to do; None: nobody can say
    reason: ScaleReason
    message: str
    conditions: tuple[Condition, ...]
    wake_at: float  # when to decide again although nothing has happened; due work included
    due_at: float  # when the first delayed piece may be taken: look at the queue then
    memory: ScalingMemory
    triggers: tuple[TriggerView, ...]
    starts: int | None = None  # a runOnce Program: how many processes to start now

    def render(self) -> str:
        """As text, for the log and the golden tests."""
        lines = [f"{self.replicas}  {self.reason}  {self.message}"]
        if self.starts is not None:
            lines.append(f"start  {self.starts}")
        # The condition Scaling says what the first line does.
        others = (each for each in self.conditions if each.type != "Scaling")
        lines += [f"{each.type}={each.status} {each.reason}: {each.message}" for each in others]
        lines.append("wake   on events only" if self.wake_at == NEVER else f"wake   at {self.wake_at:.3f}")
        return "\n".join(lines)
