"""The status of a QueueBinding: what its queues said, what follows, and what is wrong."""

from typing import Any

from reconciler.core.binding_status import BindingFacts, binding_status, trigger_value
from reconciler.core.status import View
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Decision, ScaleReason, ScalingMemory, TriggerView
from reconciler.model.state import NEVER, Condition, ConditionStatus

READY = Condition("Ready", ConditionStatus.TRUE, "TriggersRead", "all queues can be read")
PAUSED = Condition("Overridden", ConditionStatus.TRUE, "OperatorOverride", "paused by ann")


def trigger(reading: QueueReading | None, **more: Any) -> TriggerView:
    fields: dict[str, Any] = {"failure": "", "message": "3 waiting", "active": True, "replicas": 3}
    fields |= {"arrival_rate": None, "service_seconds": None, **more}
    return TriggerView(label="redis", reading=reading, **fields)


def decision(*triggers: TriggerView) -> Decision:
    memory = ScalingMemory(replicas=3, active_at=90.0)
    return Decision(3, True, ScaleReason.FOLLOWS, "redis: 3 waiting -> 3", (READY,), NEVER, NEVER, memory, triggers)


def status(made: Decision | None, *extra: Condition) -> dict[str, Any]:
    facts = BindingFacts(generation=2, target="mail", written=1, running=2, decision=made, extra=extra)
    return binding_status(facts, View(100.0, 1_000_000.0))


def test_what_was_decided_and_why() -> None:
    found = status(decision(trigger(QueueReading(3, 1))), PAUSED)
    assert (found["program"], found["desiredReplicas"], found["runningReplicas"]) == ("mail", 3, 2)
    assert (found["active"], found["reason"], found["message"]) == (True, "FollowsDemand", "redis: 3 waiting -> 3")
    assert found["lastActiveTime"] == "1970-01-12T13:48:10.000Z"
    assert [(c["type"], c["observedGeneration"]) for c in found["conditions"]] == [("Ready", 2), ("Overridden", 2)]


def test_before_its_queues_have_answered_nothing_is_made_up() -> None:
    found = status(None, PAUSED)
    assert "desiredReplicas" not in found
    assert "triggers" not in found
    assert [c["type"] for c in found["conditions"]] == ["Overridden"]


def test_a_reading_shows_what_is_known_and_nothing_else() -> None:
    all_of_it = QueueReading(1234.4, 2, 7, 0.01234, 61.5, at_least=True, found="list mails: 1234 waiting")
    assert trigger_value(trigger(all_of_it, arrival_rate=2.34567, service_seconds=1.0)) == {
        "name": "redis",
        "active": True,
        "waiting": 1234,
        "reserved": 2,
        "delayed": 7,
        "oldestSeconds": 0.01234,
        "nextDueSeconds": 61.5,
        "atLeast": True,
        "found": "list mails: 1234 waiting",
        "arrivalsPerSecond": 2.346,
        "serviceSeconds": 1,
        "asksFor": 3,
        "message": "3 waiting",
    }
    assert trigger_value(trigger(QueueReading(3))) == {
        "name": "redis",
        "active": True,
        "waiting": 3,
        "asksFor": 3,
        "message": "3 waiting",
    }


def test_what_could_not_be_read_says_why() -> None:
    found = trigger_value(trigger(None, failure="TimedOut", message="no answer", active=False, replicas=None))
    assert (found["failure"], found["message"], found["asksFor"]) == ("TimedOut", "no answer", None)
    assert "waiting" not in found
