"""Scale decisions for tests: a binding in a few words, a queue that says what it is told to, a Program that follows."""

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.core.scaling import decide
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.manifest import binding_from_canonical
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.scaling import Counts, Decision, Look, ScalingMemory

Found = QueueReading | QueueReadFailed | None

REFUSED = QueueReadFailed("ConnectionRefused", "127.0.0.1:6379 refuses connections: is the server up?")


def spec_of(**fields: Any) -> QueueBindingSpec:
    """A binding; what is not given is as short as it gets. `trigger` is its only one."""
    trigger = {"type": "rq", "name": "mails", **fields.pop("trigger", {})}
    basic = {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 10, "triggers": [trigger]}
    return binding_from_canonical({**basic, **fields})


class Bound:
    """A binding and its Program over time: the Program does at once what was decided, unless a test says otherwise."""

    def __init__(
        self, spec: QueueBindingSpec, *, written: int = 0, run_once: bool = False, memory: ScalingMemory | None = None
    ) -> None:
        self.spec = spec
        self.run_once = run_once
        self.memory = memory or ScalingMemory()
        self.counts = Counts(written, written, written)
        self.now = 0.0

    def at(self, now: float, *found: Found, follow: bool = True, paused: bool = False, **counts: int) -> Decision:
        """The decision at this moment, after a look that found this in each queue."""
        self.now = now
        self.counts = self.counts._replace(**counts)
        looks = [None if each is None else Look(now, each) for each in found]
        return self.decide(looks, follow=follow, paused=paused)

    def decide(self, looks: Sequence[Look | None], *, follow: bool = True, paused: bool = False) -> Decision:
        """The decision on these looks, now."""
        decision = decide(self.spec, looks, self.counts, self.memory, self.now, run_once=self.run_once, paused=paused)
        self.memory = decision.memory
        if follow and not self.run_once:
            self.counts = self.counts._replace(running=decision.replicas, ready=decision.replicas)
        return decision


def waiting(number: float, reserved: float | None = None, **more: Any) -> QueueReading:
    """A reading in a few words."""
    return QueueReading(number, reserved, **more)


def found_from(told: Any) -> Found:
    """A reading as test files write it: null, an error's reason, a number, or the fields."""
    if told is None:
        return None
    if isinstance(told, str):
        return QueueReadFailed(told, f"it says {told}")
    if isinstance(told, Mapping):
        return QueueReading(**told)
    return QueueReading(float(told))
