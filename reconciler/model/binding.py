"""The spec of a QueueBinding: which queues set the count of which Program, within which bounds, and how fast.

Values and what fits together only. What a trigger's metadata may hold is in triggers.py, what follows from a reading is
decided in core/scaling.py. How processes end and whether one takes a single piece of work belongs to the Program.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, PlainValidator

from reconciler.model import quantities, triggers
from reconciler.model.fields import (
    CheckedSpec,
    Duration,
    EndlessDuration,
    Filled,
    Name,
    Reads,
    SomeDuration,
    Spec,
    Whole,
    at_least_one,
)
from reconciler.model.parts import repeated
from reconciler.model.program import MOST_REPLICAS

LEAST_POLLING_SECONDS = 0.05
LONGEST_WINDOW_SECONDS = 3600.0  # samples are kept for as long, so it needs a bound
LONGEST_PERIOD_SECONDS = 1800.0  # the same for what was changed
DEFAULT_DEPTH_TARGET = 1.0


class Target(NamedTuple):
    """What a metric is compared with: a number, or seconds that were written with a unit."""

    value: float
    unit: bool = False

    @classmethod
    def parse(cls, value: Any) -> Self:
        """From its canonical form: a number, or a text such as `30s`."""
        if isinstance(value, tuple):
            return cls(*value)
        if isinstance(value, str):
            return cls(quantities.seconds(value), unit=True)
        return cls(float(value))


SomeTarget = Annotated[Target, Reads("target"), PlainValidator(Target.parse)]
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
Tolerance = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ScaleTargetRef(Spec):
    """Whose count is set."""

    kind: Literal["Program"] = "Program"
    name: Name


class Trigger(CheckedSpec):
    """One queue, and how many replicas its state asks for."""

    type: Filled
    name: Name | None = None
    metadata: Annotated[dict[str, Any], Reads("metadata")] = Field(default_factory=dict)
    metric: Literal["depth", "age", "latency"] = "depth"
    written_target: Annotated[SomeTarget | None, Field(alias="target")] = None
    written_activation: Annotated[SomeTarget, Field(alias="activationTarget")] = Target(0.0)
    include_reserved: bool = True
    include_delayed: bool = False

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from triggers.check(self.type, self.metadata)
        if self.metric == "depth":
            for field, target in (("target", self.written_target), ("activationTarget", self.written_activation)):
                if target is not None and target.unit:
                    yield field, "is a number of pieces of work per replica with metric depth, not a duration"
        elif self.written_target is None:
            yield "target", f"is required with metric {self.metric}: seconds"
        if self.written_target is not None and self.written_target.value <= 0:
            yield "target", "must be more than 0"
        if self.written_activation.value < 0:
            yield "activationTarget", "must be at least 0"

    @property
    def target(self) -> float:
        """depth: pieces of work per replica; age: seconds that the oldest may wait; latency: seconds to clear all."""
        return DEFAULT_DEPTH_TARGET if self.written_target is None else self.written_target.value

    @property
    def activation_target(self) -> float:
        """Above this, in the metric's unit, the trigger is active; for latency in pieces of work."""
        return self.written_activation.value


class Policy(Spec):
    """How much the count may change within a period."""

    type: Annotated[Literal["Percent", "Replicas"], Reads("policy")]
    value: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    period: Annotated[SomeDuration, Field(le=LONGEST_PERIOD_SECONDS)]


Window = Annotated[Duration, Field(le=LONGEST_WINDOW_SECONDS)]
Policies = Annotated[tuple[Policy, ...], Field(max_length=16), AfterValidator(at_least_one)]


class ScaleUp(Spec):
    """How the count rises."""

    stabilization_window: Window = 0.0
    policies: Policies = (
        Policy(type="Percent", value=100, period=1.0),
        Policy(type="Replicas", value=4, period=1.0),
    )
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: Tolerance = 0.1


class ScaleDown(Spec):
    """How it falls."""

    stabilization_window: Window = 30.0
    policies: Policies = (Policy(type="Percent", value=100, period=5.0),)
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: Tolerance = 0.1


class Behavior(Spec):
    """How fast the count follows, each direction by its own rules."""

    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()


class Fallback(CheckedSpec):
    """What the count is while a trigger cannot be read."""

    failure_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 3
    written_behavior: Annotated[
        Literal["currentReplicas", "static", "currentReplicasIfHigher", "currentReplicasIfLower"] | None,
        Field(alias="behavior"),
    ] = None
    replicas: Replicas | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.replicas is None and self.behavior != "currentReplicas":
            yield "replicas", f"is required with behavior {self.behavior}"

    @property
    def behavior(self) -> str:
        """Who writes a number means it; without one the count is kept."""
        if self.written_behavior is not None:
            return self.written_behavior
        return "currentReplicas" if self.replicas is None else "static"


class QueueBindingSpec(CheckedSpec):
    """What sets a Program's count, and how."""

    scale_target_ref: ScaleTargetRef
    max_replica_count: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    triggers: Annotated[tuple[Trigger, ...], Field(max_length=64), AfterValidator(at_least_one)]
    min_replica_count: Replicas = 0
    idle_replica_count: Whole | None = None
    polling_interval: Annotated[Duration, Field(ge=LEAST_POLLING_SECONDS)] | None = None
    cooldown_period: Duration = 60.0
    behavior: Behavior = Behavior()
    fallback: Fallback = Fallback()
    stall_timeout: Annotated[EndlessDuration, Field(gt=0)] = 60.0
    on_delete: Literal["restore", "keep"] = "restore"
    suspend: bool = False

    def faults(self) -> Iterator[tuple[str, str]]:
        """What does not fit together."""
        least, most, idle = self.min_replica_count, self.max_replica_count, self.idle_replica_count
        if least > most:
            yield "minReplicaCount", f"({least}) must not be above maxReplicaCount ({most})"
        if idle is not None and idle >= least:
            yield "idleReplicaCount", f"({idle}) must be below minReplicaCount ({least})"
        if self.fallback.replicas is not None and self.fallback.replicas > most:
            yield "fallback.replicas", f"({self.fallback.replicas}) must not be above maxReplicaCount ({most})"
        named = [(index, trigger.name) for index, trigger in enumerate(self.triggers) if trigger.name is not None]
        for place, name in repeated(name for _, name in named):
            yield f"triggers.{named[place][0]}.name", f"{name} is the name of an earlier trigger"

    @property
    def rest_count(self) -> int:
        """The count when nothing is to do."""
        return self.min_replica_count if self.idle_replica_count is None else self.idle_replica_count

    def trigger_labels(self) -> tuple[str, ...]:
        """What each trigger is called in messages: its name, or its type, numbered where several share it."""
        types = [trigger.type for trigger in self.triggers if trigger.name is None]
        labels: list[str] = []
        for index, trigger in enumerate(self.triggers):
            numbered = f"{trigger.type}[{index}]" if types.count(trigger.type) > 1 else trigger.type
            labels.append(trigger.name or numbered)
        return tuple(labels)
