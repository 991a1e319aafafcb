"""From a scale decision to the status of a QueueBinding that users read. Nothing is decided from it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from reconciler.core.status import View, condition_value
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Decision, TriggerView
from reconciler.model.state import Condition


class BindingFacts(NamedTuple):
    """What is known of a binding beside its decision."""

    generation: int
    target: str  # the Program
    written: int | None  # replicas in its manifest; None: there is no such Program
    running: int
    decision: Decision | None  # None: its queues have not answered yet
    extra: Sequence[Condition] = ()


def binding_status(facts: BindingFacts, view: View) -> dict[str, Any]:
    """The status, JSON values in the order in which they are written."""
    decision = facts.decision
    conditions = [*(decision.conditions if decision else ()), *facts.extra]
    status: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "program": facts.target,
        "runningReplicas": facts.running,
    }
    if decision is not None:
        status |= {
            "desiredReplicas": decision.replicas,
            "active": decision.active,
            "reason": str(decision.reason),
            "message": decision.message,
            "lastActiveTime": view.iso(decision.memory.active_at),
            "triggers": [trigger_value(each) for each in decision.triggers],
        }
    status["conditions"] = [condition_value(condition, facts.generation) for condition in conditions]
    return status


def trigger_value(view: TriggerView) -> dict[str, Any]:
    """What one trigger said, as JSON values."""
    shown: dict[str, Any] = {"name": view.label, "active": view.active}
    if view.reading is not None:
        shown |= _reading(view.reading)
    if view.arrival_rate is not None:
        shown["arrivalsPerSecond"] = _rounded(view.arrival_rate)
    if view.service_seconds is not None:
        shown["serviceSeconds"] = _rounded(view.service_seconds)
    shown["asksFor"] = view.replicas
    shown["message"] = view.message
    if view.failure:
        shown["failure"] = view.failure
    return shown


def _reading(reading: QueueReading) -> dict[str, Any]:
    numbers = {
        "waiting": reading.waiting,
        "reserved": reading.reserved,
        "delayed": reading.delayed,
        "oldestSeconds": reading.oldest_seconds,
        "nextDueSeconds": reading.next_due_seconds,
    }
    shown: dict[str, Any] = {name: _rounded(value) for name, value in numbers.items() if value is not None}
    if reading.at_least:
        shown["atLeast"] = True
    if reading.found:
        shown["found"] = reading.found
    return shown


def _rounded(value: float) -> float | int:
    """Short, and whole where it is whole."""
    short = float(f"{value:.4g}") if abs(value) < 1000 else round(value)
    return int(short) if short == int(short) else short
