"""What is remembered of one trigger from look to look: failures in a row, the meter, since when nothing was taken.

A look counts once, however often it is handed in. Whether work that waits is being taken can only be told where the
queue says how much is reserved: elsewhere the depth may grow although everybody works.
"""

from math import isfinite
from typing import Any

from reconciler.core.metering import metered
from reconciler.model.binding import Trigger
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.scaling import Counts, Look, TriggerMemory
from reconciler.model.state import NEVER

_MOST = 1e18  # more is a mistake, and products of such numbers are none any more
_NUMBERS = (
    "waiting",
    "reserved",
    "delayed",
    "oldest_seconds",
    "next_due_seconds",
    "arrived",
    "completed",
    "service_seconds",
)


def remembered(trigger: Trigger, memories: tuple[TriggerMemory, ...], index: int) -> TriggerMemory:
    """What is known of the queue that this trigger names, also when triggers were put into another order."""
    at_its_place = memories[index : index + 1]
    for memory in (*at_its_place, *memories):
        if memory.type == trigger.type and memory.metadata == trigger.metadata:
            return memory
    return TriggerMemory(trigger.type, trigger.metadata)


def seen(
    trigger: Trigger, memory: TriggerMemory, look: Look | None, counts: Counts, *, run_once: bool
) -> TriggerMemory:
    """The memory after the latest look, whether it is a new one or not."""
    if look is not None and look.at > memory.look_at:
        found = _believable(trigger, look.found)
        if isinstance(found, QueueReadFailed):
            return memory._replace(
                look_at=look.at,
                failures=memory.failures + 1,
                failure=found.reason,
                failure_message=str(found),
                stalled_since=NEVER,  # nobody knows what happens meanwhile
            )
        memory = _with_reading(memory, found, look.at, counts)
    if not run_once and counts.ready == 0:
        return memory._replace(stalled_since=NEVER)
    return memory


def has_stalled(memory: TriggerMemory, timeout_seconds: float, counts: Counts, now: float, *, run_once: bool) -> bool:
    """Whether work waits, somebody could have taken it for all this time, and nobody did."""
    if now < memory.stalled_since + timeout_seconds:
        return False
    # Run-once processes come and go: it takes one that was there and took nothing.
    return not run_once or counts.started > memory.stalled_started or counts.running > 0


def _believable(trigger: Trigger, found: QueueReading | QueueReadFailed) -> QueueReading | QueueReadFailed:
    """Numbers that are none are an error; so is not to tell what the metric needs. The rest is put within bounds."""
    if isinstance(found, QueueReadFailed):
        return found
    numbers = {name: value for name in _NUMBERS if (value := getattr(found, name)) is not None}
    strange = [name for name, value in numbers.items() if not isfinite(value)]
    if strange:
        return QueueReadFailed("NotANumber", f"{strange[0]} is {numbers[strange[0]]}, which is no count")
    if trigger.metric == "age" and found.waiting > 0 and found.oldest_seconds is None:
        return QueueReadFailed(
            "NotMeasured", "this queue does not tell how old its work is: use metric depth or latency"
        )
    changed: dict[str, Any] = {name: min(max(value, 0.0), _MOST) for name, value in numbers.items()}
    return found if changed == numbers else found._replace(**changed)


def _with_reading(memory: TriggerMemory, reading: QueueReading, at: float, counts: Counts) -> TriggerMemory:
    before = memory.reading
    meter = memory.meter if before is None else metered(memory.meter, before, reading, at - memory.read_at)
    since, started = memory.stalled_since, memory.stalled_started
    if _is_idle_at_work(before, reading):
        if since == NEVER:
            since, started = at, counts.started
    else:
        since = NEVER
    return memory._replace(
        look_at=at,
        failures=0,
        failure="",
        failure_message="",
        read_at=at,
        reading=reading,
        meter=meter,
        stalled_since=since,
        stalled_started=started,
    )


def _is_idle_at_work(before: QueueReading | None, reading: QueueReading) -> bool:
    """Whether something waits, nothing is being done, and nothing was taken since the look before."""
    if before is None or reading.waiting <= 0 or reading.reserved is None or reading.reserved > 0:
        return False
    took = reading.waiting < before.waiting or (before.reserved or 0) > 0
    finished = reading.completed is not None and before.completed is not None and reading.completed != before.completed
    return not took and not finished
