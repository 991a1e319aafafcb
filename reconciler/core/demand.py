"""How many replicas the state of one queue asks for.

depth:   what is to do, over the target per replica
latency: what arrives keeps `1.2 * rate * service time` replicas busy (Little's law, and some air), and what waits
         shall be cleared within the target
age:     more than run now, at most twice as many, while the oldest has been waiting for longer than the target; below
         it has no opinion
"""

from math import ceil
from typing import NamedTuple

from reconciler.core.metering import ENOUGH_SAMPLES, is_metered
from reconciler.core.watching import has_stalled
from reconciler.model.binding import QueueBindingSpec, Trigger
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Counts, Meter, TriggerMemory

AIR = 1.2  # arrivals are no clockwork: without some air the queue of a busy Program never gets short
MOST_RAISED = 2.0  # by age, at a time
COUNTED_FURTHER = 2  # times what maxReplicaCount can use
COUNTED_ANYWAY = 1_000
COUNTED_UNKNOWN = 1_000_000
MOST = 1e9  # beyond any maxReplicaCount; keeps an absurd reading a number
_SLACK = 1e-9


class Standing(NamedTuple):
    """What a demand is measured against: the Program as it stands."""

    current: int  # the count that was decided last
    counts: Counts
    young: int  # runOnce: processes that may have had no time to take something yet
    now: float
    run_once: bool

    @property
    def alive(self) -> int:
        """Processes, also those that were asked to end: each may hold a piece of work."""
        return self.counts.running + self.counts.draining


class Demand(NamedTuple):
    """What one trigger says."""

    label: str
    memory: TriggerMemory
    message: str  # what it asks for and why, or what is wrong
    known: bool = False  # the latest look succeeded
    active: bool = False
    stalled: bool = False
    replicas: int | None = None  # None: no opinion
    kept: bool = False  # the count is near enough: within the tolerance


def demand_of(
    spec: QueueBindingSpec, trigger: Trigger, label: str, memory: TriggerMemory, standing: Standing
) -> Demand:
    """What this trigger says now."""
    reading = memory.reading
    if memory.failures or reading is None:
        return Demand(label, memory, memory.failure_message or "was not read yet")
    active = is_active(trigger, reading, standing)
    counts, now, run_once = standing.counts, standing.now, standing.run_once
    if has_stalled(memory, spec.stall_timeout, counts, now, run_once=run_once):
        message = f"{_work(trigger, reading)}, and for {spec.stall_timeout:g}s nobody took any"
        return Demand(label, memory, message, True, active, True, max(1, spec.min_replica_count))
    raw, why = _ASKED[trigger.metric](trigger, reading, memory.meter, standing)
    message = f"{_work(trigger, reading)}; {why}"
    if raw is None:
        return Demand(label, memory, message, True, active)
    raw = min(raw, MOST)
    if not run_once and is_near(raw, standing.current, spec):
        return Demand(label, memory, message, True, active, False, standing.current, True)
    return Demand(label, memory, message, True, active, False, ceil(raw - _SLACK))


def counted_at_most(spec: QueueBindingSpec, trigger: Trigger) -> int:
    """How far a driver has to count: whatever is beyond changes no decision.

    Not below what people like to see exactly. With age and latency, how much work a replica gets done is not known
    here.
    """
    if trigger.metric != "depth":
        return COUNTED_UNKNOWN
    useful = max(spec.max_replica_count * trigger.target * COUNTED_FURTHER, trigger.activation_target)
    return max(COUNTED_ANYWAY, ceil(min(useful, COUNTED_UNKNOWN)) + 1)


def is_active(trigger: Trigger, reading: QueueReading, standing: Standing) -> bool:
    """Whether there is something to do."""
    if trigger.metric == "age" and trigger.activation_target > 0:
        return (reading.oldest_seconds or 0.0) > trigger.activation_target
    return todo(trigger, reading, standing) > trigger.activation_target


def todo(trigger: Trigger, reading: QueueReading, standing: Standing) -> float:
    """Pieces of work that count."""
    if standing.run_once:
        return pieces(reading, standing)
    reserved = (reading.reserved or 0.0) if trigger.include_reserved else 0.0
    delayed = (reading.delayed or 0.0) if trigger.include_delayed else 0.0
    return reading.waiting + reserved + delayed


def pieces(reading: QueueReading, standing: Standing) -> float:
    """runOnce: pieces that each need a process of their own: those that wait, and those that ours are at.

    Where the queue does not tell what is reserved, a process that has lived for a moment is taken to have its piece.
    """
    held = standing.alive - standing.young if reading.reserved is None else reading.reserved
    return reading.waiting + min(held, standing.alive)


def is_near(raw: float, current: int, spec: QueueBindingSpec) -> bool:
    """Whether the count differs from what is asked for by no more than the tolerance of that direction."""
    if current == 0 or raw == 0 or ceil(raw - _SLACK) == current:
        return False
    ratio = raw / current
    rules = spec.behavior.scale_up if ratio > 1 else spec.behavior.scale_down
    return abs(ratio - 1) <= rules.tolerance + _SLACK


def _by_depth(trigger: Trigger, reading: QueueReading, meter: Meter, standing: Standing) -> tuple[float | None, str]:
    return todo(trigger, reading, standing) / trigger.target, f"{trigger.target:g} for each replica"


def _by_latency(trigger: Trigger, reading: QueueReading, meter: Meter, standing: Standing) -> tuple[float | None, str]:
    most = todo(trigger, reading, standing)
    rate, each = meter.arrival_rate, meter.service_seconds
    if not is_metered(meter) or rate is None or each is None:
        # As depth with target 1: rather too many than work that waits while we learn.
        if reading.arrived is None and reading.completed is None and reading.service_seconds is None:
            return most, "one for each replica, since this queue does not tell what arrives and ends"
        return most, f"one for each replica until {ENOUGH_SAMPLES} were seen to end, {int(meter.samples)} so far"
    waiting = reading.waiting + ((reading.delayed or 0.0) if trigger.include_delayed else 0.0)
    # No more replicas than pieces: ten of them finish one piece no sooner than one does.
    raw = AIR * rate * each + min(waiting, waiting * each / trigger.target)
    why = f"{rate:.3g}/s arrive and take {each:.3g}s each, to be cleared within {trigger.target:g}s"
    return (min(raw, most) if standing.run_once else raw), why


def _by_age(trigger: Trigger, reading: QueueReading, meter: Meter, standing: Standing) -> tuple[float | None, str]:
    oldest = reading.oldest_seconds or 0.0
    why = f"the oldest waits for {oldest:.3g}s of {trigger.target:g}s"
    least = max(1, standing.current)
    if oldest <= trigger.target:
        # A process for one piece of work follows what waits, also when it does not wait for too long.
        return (min(float(least), pieces(reading, standing)), why) if standing.run_once else (None, why)
    ready = standing.counts.ready
    raised = max(float(least), ready * min(MOST_RAISED, oldest / trigger.target))
    return (min(raised, pieces(reading, standing)) if standing.run_once else raised), why


_TELL_A_NUMBER = frozenset({"prometheus", "http", "exec", "cron"})
_ASKED = {"depth": _by_depth, "latency": _by_latency, "age": _by_age}


def _work(trigger: Trigger, reading: QueueReading) -> str:
    """`12 waiting, 3 in work`."""
    at_least = "at least " if reading.at_least else ""
    if trigger.type in _TELL_A_NUMBER:
        return f"says {reading.waiting:.10g}"
    words = f"{at_least}{reading.waiting:.10g} waiting"
    if reading.reserved is not None:
        words += f", {reading.reserved:.10g} in work"
    if trigger.include_delayed and reading.delayed is not None:
        words += f", {reading.delayed:.10g} delayed"
    return words
