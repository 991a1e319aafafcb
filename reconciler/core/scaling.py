"""How many replicas a bound Program shall have: from what its queues tell, through bounds in time, to one number.

    looks -> demand of each trigger -> the highest -> activation and cool-down -> windows -> policies -> bounds

An error is never an empty queue: while something cannot be read the count may rise, not fall. Pure: the same arguments
give the same decision, and a decision may be asked for as often as one likes. How it is put into words is in
core/scalewords.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.core.demand import Demand, Standing, demand_of
from reconciler.core.scalewords import conditions_of, explained, view_of
from reconciler.core.watching import remembered, seen
from reconciler.core.windows import (
    freed_at,
    least_allowed,
    most_allowed,
    stabilized,
    with_change,
    with_highest,
    with_lowest,
)
from reconciler.model.binding import Policy, QueueBindingSpec
from reconciler.model.scaling import Counts, Decision, Look, Samples, ScaleReason, ScalingMemory, TriggerMemory
from reconciler.model.state import NEVER

BOOT_SECONDS = 1.0
"""runOnce, where a queue does not tell what is reserved: how long a process is taken to be on its way to its piece."""

DUE_SECONDS = 0.1
"""For how long after a piece has fallen due one is told to look, whatever else is decided just then."""

STALL_PROBE_SECONDS = 5.0
"""runOnce and stalled: how often one process is started all the same, to see whether it gets something to do."""


class _Wish(NamedTuple):
    """What is asked for, before time has a say."""

    replicas: int
    reason: ScaleReason
    active: bool | None
    cooling: bool = False


class _Step(NamedTuple):
    """What comes of it."""

    replicas: int
    reason: ScaleReason
    wake_at: float
    memory: ScalingMemory
    starts: int | None = None


def decide(
    spec: QueueBindingSpec,
    looks: Sequence[Look | None],
    counts: Counts,
    memory: ScalingMemory,
    now: float,
    *,
    run_once: bool = False,
    paused: bool = False,
) -> Decision:
    """The count that the binding asks for. `looks`: the latest of each trigger, None before the first one.

    `run_once`: of the bound Program. `paused`: by an operator; the count is frozen as by `suspend`.
    """
    current = _current(spec, counts, memory)
    memory = _begun(memory, current, counts, now)
    triggers = tuple(
        seen(trigger, remembered(trigger, memory.triggers, index), look, counts, run_once=run_once)
        for index, (trigger, look) in enumerate(zip(spec.triggers, looks, strict=True))
    )
    memory = memory._replace(triggers=triggers)
    standing = Standing(current, counts, _young(memory.starts, counts, now), now, run_once)
    demands = tuple(
        demand_of(spec, trigger, label, kept, standing)
        for trigger, label, kept in zip(spec.triggers, spec.trigger_labels(), triggers, strict=True)
    )
    wish = _wish(spec, demands, memory, standing)
    memory = memory._replace(active_at=memory.active_at if wish.active is False else now)
    if paused or spec.suspend:
        step = _frozen(spec, memory, standing, ScaleReason.PAUSED if paused else ScaleReason.SUSPENDED)
    elif run_once:
        step = _started(spec, wish, memory, standing)
    else:
        step = _followed(spec, wish, memory, standing)
    due_at = _due_at(triggers, now)
    wakes = (step.wake_at, due_at, *(memory.stalled_since + spec.stall_timeout for memory in triggers))
    return Decision(
        step.replicas,
        wish.active,
        step.reason,
        explained(spec, demands, step.reason, step.replicas),
        conditions_of(spec, demands, wish.active, step.reason, step.replicas),
        min((at for at in wakes if at > now), default=NEVER),
        due_at,
        step.memory._replace(replicas=step.replicas),
        tuple(view_of(demand) for demand in demands),
        step.starts,
    )


# ---- what is there --------------------------------------------------------------------------------------------------


def _current(spec: QueueBindingSpec, counts: Counts, memory: ScalingMemory) -> int:
    """The count as it stands; before the first decision, whatever the Program has or is said to have."""
    if memory.replicas is not None:
        return min(memory.replicas, spec.max_replica_count)
    return min(max(spec.min_replica_count, counts.written, counts.running), spec.max_replica_count)


def _begun(memory: ScalingMemory, current: int, counts: Counts, now: float) -> ScalingMemory:
    """The memory with what a first decision adds: the count it finds was asked for, too."""
    if memory.replicas is None:
        memory = memory._replace(active_at=now, highest=((now, current),), lowest=((now, current),))
    return memory._replace(starts=_with_started(memory.starts, counts.started, now))


def _with_started(starts: Samples, started: int, now: float) -> Samples:
    """How the number of started processes grew in the last moment, and what it was before."""
    if not starts or started < starts[-1][1]:
        return ((now, started),)
    if started > starts[-1][1]:
        starts = (*starts, (now, started))
    older = [sample for sample in starts if sample[0] <= now - BOOT_SECONDS]
    return (*older[-1:], *starts[len(older) :])


def _young(starts: Samples, counts: Counts, now: float) -> int:
    """Processes that were started in the last moment."""
    return min(counts.running + counts.draining, counts.started - starts[0][1])


# ---- what is asked for ----------------------------------------------------------------------------------------------


def _wish(spec: QueueBindingSpec, demands: Sequence[Demand], memory: ScalingMemory, standing: Standing) -> _Wish:
    """The highest demand, and whether there is anything to do at all."""
    opinions = [demand.replicas for demand in demands if demand.replicas is not None]
    active = True if any(demand.active for demand in demands) else None
    if all(demand.known for demand in demands):
        active = active or False
        return _sighted(spec, demands, opinions, active, memory, standing)
    return _blind(spec, demands, opinions, active, standing)


def _sighted(
    spec: QueueBindingSpec,
    demands: Sequence[Demand],
    opinions: Sequence[int],
    active: bool,
    memory: ScalingMemory,
    standing: Standing,
) -> _Wish:
    """Everything could be read."""
    current, rest, least = standing.current, spec.rest_count, max(1, spec.min_replica_count)
    if active:
        asked = max(opinions, default=current)
        if asked < spec.min_replica_count:
            return _Wish(least, ScaleReason.AT_MINIMUM, True)
        return _Wish(max(asked, least), _followed_reason(demands, asked), True)
    cooling = standing.now < memory.active_at + spec.cooldown_period and current > rest and not standing.run_once
    if cooling:
        return _Wish(max(least, max(opinions, default=current)), ScaleReason.COOLING_DOWN, False, True)
    # Who never goes below what activity asks for has no activation: the count follows the demand all the time.
    asked = max(opinions, default=rest) if rest >= least else rest
    return _Wish(max(asked, rest), ScaleReason.NOTHING_TO_DO if asked <= rest else ScaleReason.FOLLOWS, False)


def _followed_reason(demands: Sequence[Demand], asked: int) -> ScaleReason:
    deciding = [demand for demand in demands if demand.replicas == asked]
    if deciding and all(demand.stalled for demand in deciding):
        return ScaleReason.STALLED
    if deciding and all(demand.kept for demand in deciding):
        return ScaleReason.WITHIN_TOLERANCE
    return ScaleReason.FOLLOWS


def _blind(
    spec: QueueBindingSpec, demands: Sequence[Demand], opinions: Sequence[int], active: bool | None, standing: Standing
) -> _Wish:
    """Something could not be read: the rest may raise the count, nothing but a written fallback may lower it."""
    kept, fallback = standing.current, spec.fallback
    reason = ScaleReason.READ_FAILED if any(d.memory.failures for d in demands) else ScaleReason.NOT_READ_YET
    if any(demand.memory.failures >= fallback.failure_threshold for demand in demands):
        reason = ScaleReason.FELL_BACK
        if fallback.replicas is not None and fallback.behavior in {"static", "currentReplicasIfHigher"}:
            kept = max(kept, fallback.replicas)
        elif fallback.replicas is not None and fallback.behavior == "currentReplicasIfLower":
            kept = min(kept, fallback.replicas)
    asked = max(opinions, default=0)
    if active:
        asked = max(asked, 1, spec.min_replica_count)
    return _Wish(max(asked, kept), _followed_reason(demands, asked) if asked > kept else reason, active)


# ---- what comes of it -----------------------------------------------------------------------------------------------


def _bounds(spec: QueueBindingSpec, wish: _Wish) -> tuple[int, int]:
    """Between which counts the result lies, whatever anybody asks for."""
    return (spec.min_replica_count if wish.active else spec.rest_count), spec.max_replica_count


def _frozen(spec: QueueBindingSpec, memory: ScalingMemory, standing: Standing, reason: ScaleReason) -> _Step:
    """The count stays, and what was asked for meanwhile is not held against it later."""
    count = standing.current
    starts = max(0, count - standing.alive) if standing.run_once else None
    return _Step(count, reason, NEVER, _sampled(spec, memory, count, standing.now), starts)


def _started(spec: QueueBindingSpec, wish: _Wish, memory: ScalingMemory, standing: Standing) -> _Step:
    """runOnce: a process for each piece that has none. Each ends by itself, so there is nothing to smooth."""
    lowest, highest = _bounds(spec, wish)
    count = min(max(wish.replicas, lowest), highest)
    reason = ScaleReason.AT_MAXIMUM if wish.replicas > highest else wish.reason
    starts, now = max(0, count - standing.alive), standing.now
    wake_at = min((at + BOOT_SECONDS for at, _ in memory.starts if at + BOOT_SECONDS > now), default=NEVER)
    if reason is ScaleReason.STALLED and starts:
        probe_at = memory.starts[-1][0] + STALL_PROBE_SECONDS
        starts, wake_at = (1, wake_at) if now >= probe_at else (0, min(wake_at, probe_at))
    return _Step(count, reason, wake_at, _sampled(spec, memory, count, now), starts)


def _followed(spec: QueueBindingSpec, wish: _Wish, memory: ScalingMemory, standing: Standing) -> _Step:
    """Windows, then policies, then bounds."""
    current, now = standing.current, standing.now
    lowest, highest = _bounds(spec, wish)
    asked = min(max(wish.replicas, lowest), highest)
    reason = ScaleReason.AT_MAXIMUM if wish.replicas > highest else wish.reason
    memory = _sampled(spec, memory, asked, now)
    wakes = [memory.active_at + spec.cooldown_period if wish.cooling else NEVER]
    least = max(1, spec.min_replica_count)
    count = stabilized(current, memory.lowest, memory.highest)
    # To rest and from it is not a matter of windows: the cool-down has waited, and work does not wait.
    if wish.active is False and not wish.cooling and current <= least:
        count = asked
    elif wish.active and current < least:
        count = max(count, least)
    if count != asked:
        reason = ScaleReason.STABILIZED
        wakes.append(_window_end(spec, memory, falling=asked < count))
    allowed = _allowed(spec, count, standing, memory.changes)
    rules = spec.behavior.scale_up if count > current else spec.behavior.scale_down
    if allowed != count:
        disabled = rules.select_policy == "Disabled"
        reason = ScaleReason.DIRECTION_DISABLED if disabled else ScaleReason.RATE_LIMITED
    count = min(max(allowed, lowest), highest)
    changes = with_change(memory.changes, now, count - current, _policies(spec))
    if reason is ScaleReason.RATE_LIMITED:
        wakes.append(freed_at(rules.policies, changes, now))
    return _Step(count, reason, min(wakes), memory._replace(changes=changes))


def _sampled(spec: QueueBindingSpec, memory: ScalingMemory, asked: int, now: float) -> ScalingMemory:
    up, down = spec.behavior.scale_up, spec.behavior.scale_down
    return memory._replace(
        highest=with_highest(memory.highest, now, asked, down.stabilization_window),
        lowest=with_lowest(memory.lowest, now, asked, up.stabilization_window),
    )


def _window_end(spec: QueueBindingSpec, memory: ScalingMemory, *, falling: bool) -> float:
    """When the sample that holds the count leaves its window."""
    if falling:
        return memory.highest[0][0] + spec.behavior.scale_down.stabilization_window
    return memory.lowest[0][0] + spec.behavior.scale_up.stabilization_window


def _allowed(spec: QueueBindingSpec, count: int, standing: Standing, changes: Samples) -> int:
    """What the policies let through. A rise from rest is never stopped half-way: a percentage of nothing is nothing."""
    current, rules = standing.current, spec.behavior
    if count < current:
        return max(count, least_allowed(rules.scale_down, current, changes, standing.now))
    most = most_allowed(rules.scale_up, current, changes, standing.now)
    if rules.scale_up.select_policy != "Disabled":
        most = max(most, 1, spec.min_replica_count)
    return min(count, most)


def _policies(spec: QueueBindingSpec) -> tuple[Policy, ...]:
    return (*spec.behavior.scale_up.policies, *spec.behavior.scale_down.policies)


def _due_at(triggers: Sequence[TriggerMemory], now: float) -> float:
    """When the first piece that is not due yet will be. What has been due for a moment is being looked at by now."""
    moments = (
        memory.read_at + memory.reading.next_due_seconds
        for memory in triggers
        if memory.reading is not None and memory.reading.next_due_seconds is not None and not memory.failures
    )
    return min((at for at in moments if at > now - DUE_SECONDS), default=NEVER)
