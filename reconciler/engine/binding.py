"""One QueueBinding under control: its spec, what its queues said last, what was decided, and what is to be asked."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.core.demand import counted_at_most
from reconciler.engine.controlled import Controlled
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.launch import Credentials
from reconciler.model.objects import Accepted
from reconciler.model.overrides import Wish
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Counts, Decision, Look, ScalingMemory
from reconciler.ports import QueueAsked, QueueMeter, Timer

HISTORY_LENGTH = 3600


class Sample(NamedTuple):
    """One point of the history: what waited, and how many replicas there were for it."""

    at: float  # wall clock
    waiting: float | None  # None: not known
    reserved: float | None
    desired: int
    running: int


@dataclass(slots=True, eq=False)
class Binding:
    """The engine's record of one QueueBinding. `eq=False`: it is an identity, and a key of sets."""

    accepted: Accepted
    spec: QueueBindingSpec
    memory: ScalingMemory
    pause: Wish | None = None
    looks: Sequence[Look | None] = ()  # one per trigger; None: not read yet
    decision: Decision | None = None
    meter: QueueMeter | None = None
    asked: tuple[QueueAsked, ...] = ()  # what the meter was opened with
    rival: str = ""  # the binding that has this Program already
    overdue: Timer | None = None
    timer: Timer | None = None
    listeners: list[Callable[[], object]] = field(default_factory=list)  # told once, when the next answers are in
    history: deque[Sample] = field(default_factory=lambda: deque(maxlen=HISTORY_LENGTH))

    @property
    def name(self) -> str:
        """The binding's name."""
        return self.accepted.name

    @property
    def target(self) -> str:
        """The Program whose count it sets."""
        return self.spec.scale_target_ref.name


def questions(
    spec: QueueBindingSpec, directory: str, environment: Mapping[str, str], credentials: Credentials | None
) -> Iterable[QueueAsked]:
    """What to ask for each trigger, of a Program that starts here with these variables and ids."""
    for trigger in spec.triggers:
        most = counted_at_most(spec, trigger)
        yield QueueAsked(trigger.type, trigger.metadata, directory, environment, most, credentials)


def work_in(looks: Iterable[Look | None]) -> tuple[float | None, float | None]:
    """What waits and what is in work over all triggers; None where nobody can say."""
    readings = [look.found for look in looks if look is not None and isinstance(look.found, QueueReading)]
    if not readings:
        return None, None
    reserved = [reading.reserved for reading in readings if reading.reserved is not None]
    return sum(reading.waiting for reading in readings), sum(reserved) if reserved else None


def staying(controlled: Controlled) -> int:
    """Processes that run and were not asked to end."""
    processes = controlled.ledger.observed.processes.values()
    return sum(process.stopping is None and not process.ended for process in processes)


def counts_of(controlled: Controlled) -> Counts:
    """How the Program stands."""
    ledger, running = controlled.ledger, staying(controlled)
    started = sum(history.runs for history in ledger.memory.histories.values())
    draining = len(ledger.observed.processes) - running
    return Counts(controlled.built.spec.replicas, running, running, draining, started)
