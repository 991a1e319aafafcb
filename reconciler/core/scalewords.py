"""A scale decision in words: one line of why, the conditions, and one row per trigger. Decides nothing."""

from collections.abc import Callable, Sequence

from reconciler.core.demand import Demand
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.scaling import ScaleReason, TriggerView
from reconciler.model.state import Condition, ConditionStatus

CONDITIONS: dict[str, str] = {
    "Ready": "every trigger of the binding was read when it was looked at last",
    "Active": "there is something to do",
    "Scaling": "the binding sets the count; its reason is that of the latest decision",
    "Fallback": "a trigger could not be read `fallback.failureThreshold` times in a row",
    "Stalled": "work waits and replicas run, but for `stallTimeout` nothing was taken",
    "Limited": "more replicas are asked for than `maxReplicaCount`",
}
"""Every condition of a QueueBinding that is made here, with what it means; the docs list them from here."""

REASONS: dict[ScaleReason, str] = {
    ScaleReason.FOLLOWS: "The count is what the triggers ask for.",
    ScaleReason.WITHIN_TOLERANCE: "What they ask for differs too little to be worth a change.",
    ScaleReason.NOTHING_TO_DO: "No trigger is active, and the count is at its rest.",
    ScaleReason.COOLING_DOWN: "Nothing has been to do for less than `cooldownPeriod`.",
    ScaleReason.STABILIZED: "A `stabilizationWindow` still holds what was asked for before.",
    ScaleReason.RATE_LIMITED: "A policy allows only so much within its period.",
    ScaleReason.AT_MAXIMUM: "More is asked for than `maxReplicaCount`.",
    ScaleReason.AT_MINIMUM: "Less is asked for than `minReplicaCount`.",
    ScaleReason.DIRECTION_DISABLED: "`selectPolicy: Disabled` forbids the change.",
    ScaleReason.STALLED: "Work waits, replicas run, and nothing is taken: more of them would not help.",
    ScaleReason.NOT_READ_YET: "A queue was never read. Until it is, the count may rise but not fall.",
    ScaleReason.READ_FAILED: "A queue cannot be read. Until it can, the count may rise but not fall.",
    ScaleReason.FELL_BACK: "It could not be read `failureThreshold` times in a row: `fallback` says what the count is.",
    ScaleReason.SUSPENDED: "`spec.suspend` freezes the count.",
    ScaleReason.PAUSED: "An operator's `queue pause` freezes it.",
}
"""Every reason of a decision, with what it means."""

_TAILS: dict[ScaleReason, Callable[[QueueBindingSpec, int], str]] = {
    ScaleReason.WITHIN_TOLERANCE: lambda spec, count: f"near enough to {count}",
    ScaleReason.NOTHING_TO_DO: lambda spec, count: "nothing to do",
    ScaleReason.COOLING_DOWN: lambda spec, count: f"{spec.rest_count} after cooldownPeriod {spec.cooldown_period:g}s",
    ScaleReason.STABILIZED: lambda spec, count: f"held at {count} by a stabilizationWindow",
    ScaleReason.RATE_LIMITED: lambda spec, count: f"policies allow {count} now",
    ScaleReason.AT_MAXIMUM: lambda spec, count: f"maxReplicaCount is {count}",
    ScaleReason.AT_MINIMUM: lambda spec, count: f"minReplicaCount is {count}",
    ScaleReason.DIRECTION_DISABLED: lambda spec, count: f"selectPolicy: Disabled holds {count}",
    ScaleReason.NOT_READ_YET: lambda spec, count: f"at least {count} until then",
    ScaleReason.READ_FAILED: lambda spec, count: f"at least {count} until it can be read again",
    ScaleReason.FELL_BACK: lambda spec, count: f"fallback {spec.fallback.behavior}: {count}",
    ScaleReason.SUSPENDED: lambda spec, count: f"suspended at {count}",
    ScaleReason.PAUSED: lambda spec, count: f"paused at {count}",
}

_ABOUT_ERRORS = frozenset({ScaleReason.NOT_READ_YET, ScaleReason.READ_FAILED, ScaleReason.FELL_BACK})


def explained(spec: QueueBindingSpec, demands: Sequence[Demand], reason: ScaleReason, count: int) -> str:
    """Why the count is what it is, in one line: what the deciding trigger says, and what came in between."""
    said = _deciding(demands, reason)
    asked = "" if said.replicas is None or reason in _ABOUT_ERRORS else f" -> {said.replicas}"
    tail = _TAILS.get(reason)
    return f"{said.label}: {said.message}{asked}" + (f"; {tail(spec, count)}" if tail else "")


def conditions_of(
    spec: QueueBindingSpec, demands: Sequence[Demand], active: bool | None, reason: ScaleReason, count: int
) -> tuple[Condition, ...]:
    """What holds. Fallback, Stalled and Limited are there only when they do."""
    found = [_ready(demands), _active(demands, active), _scaling(spec, demands, reason, count)]
    fallen = [each for each in demands if each.memory.failures >= spec.fallback.failure_threshold]
    if fallen:
        message = f"{_listed(fallen)}; {spec.fallback.behavior}"
        found.append(Condition("Fallback", ConditionStatus.TRUE, "FailureThresholdReached", message))
    stalled = [each for each in demands if each.stalled]
    if stalled:
        message = f"{_listed(stalled)}: look whether they are paused, down for maintenance, or cannot reach the queue"
        found.append(Condition("Stalled", ConditionStatus.TRUE, "NothingTaken", message))
    above = [each for each in demands if each.replicas is not None and each.replicas > spec.max_replica_count]
    if above:
        asked = max(each.replicas or 0 for each in above)
        message = f"{_listed(above)} -> {asked}, maxReplicaCount is {spec.max_replica_count}"
        found.append(Condition("Limited", ConditionStatus.TRUE, "TooManyReplicas", message))
    return tuple(found)


def view_of(demand: Demand) -> TriggerView:
    """One trigger as it is shown."""
    memory = demand.memory
    return TriggerView(
        demand.label,
        memory.reading,
        memory.failure,
        demand.message,
        demand.active,
        demand.replicas,
        memory.meter.arrival_rate,
        memory.meter.service_seconds,
    )


def _ready(demands: Sequence[Demand]) -> Condition:
    failing = [demand for demand in demands if demand.memory.failures]
    if failing:
        return Condition("Ready", ConditionStatus.FALSE, _first(failing).memory.failure, _listed(failing))
    unread = [demand for demand in demands if not demand.known]
    if unread:
        return Condition("Ready", ConditionStatus.UNKNOWN, "NotReadYet", _listed(unread))
    return Condition("Ready", ConditionStatus.TRUE, "TriggersRead", "all queues can be read")


def _active(demands: Sequence[Demand], active: bool | None) -> Condition:
    if active is None:
        return Condition("Active", ConditionStatus.UNKNOWN, "NotRead", "nobody can say before all queues can be read")
    if not active:
        return Condition("Active", ConditionStatus.FALSE, "NothingToDo", "no trigger is above its activationTarget")
    labels = ", ".join(sorted(demand.label for demand in demands if demand.active))
    return Condition("Active", ConditionStatus.TRUE, "TriggerActive", f"there is something to do for {labels}")


def _scaling(spec: QueueBindingSpec, demands: Sequence[Demand], reason: ScaleReason, count: int) -> Condition:
    frozen = reason in {ScaleReason.SUSPENDED, ScaleReason.PAUSED}
    status = ConditionStatus.FALSE if frozen else ConditionStatus.TRUE
    return Condition("Scaling", status, reason, explained(spec, demands, reason, count))


def _deciding(demands: Sequence[Demand], reason: ScaleReason) -> Demand:
    """The trigger to tell about: one that cannot be read where that is the reason, else the one that asks for most."""
    unknown = [demand for demand in demands if not demand.known]
    if reason in _ABOUT_ERRORS and unknown:
        return min(unknown, key=lambda demand: (-demand.memory.failures, demand.label))
    return min(demands, key=lambda demand: (-(demand.replicas or 0), not demand.active, demand.label))


def _first(demands: Sequence[Demand]) -> Demand:
    return min(demands, key=lambda demand: demand.label)


def _listed(demands: Sequence[Demand]) -> str:
    return ", ".join(sorted(f"{demand.label}: {demand.message}" for demand in demands))
