"""How fast work arrives at a queue and how long a piece takes: from what readings count, the application is not asked.

Arrivals are a sum over the time that was watched, both fading with a half-life of 10 s. The service time is what was
spent by replicas on a piece until it was finished, over the pieces that finished: it is settled when one finishes, and
fades only then, so that pieces of an hour are measured as well as those of a millisecond.
"""

from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Meter

HALF_LIFE_SECONDS = 10.0
ENOUGH_SAMPLES = 20


def metered(meter: Meter, before: QueueReading, reading: QueueReading, elapsed: float) -> Meter:
    """The meter after another reading, so many seconds after the one before."""
    completed = _completed(before, reading)
    arrived = _arrived(before, reading, completed)
    if arrived is not None:
        meter = _with_arrivals(meter, arrived, elapsed)
    since_finished = meter.open_elapsed + elapsed
    if reading.service_seconds is not None:
        count = max(1.0, completed or 0.0)
        return _with_finished(meter, count, count * max(0.0, reading.service_seconds), since_finished)
    if completed is None or before.reserved is None or reading.reserved is None:
        return meter._replace(open_elapsed=since_finished)
    spent = meter.open_seconds + (before.reserved + reading.reserved) / 2 * elapsed
    if completed <= 0:
        return meter._replace(open_seconds=spent, open_elapsed=since_finished)
    return _with_finished(meter, completed, spent, since_finished)


def is_metered(meter: Meter) -> bool:
    """Whether enough was seen to decide from it."""
    return meter.samples >= ENOUGH_SAMPLES and meter.arrival_rate is not None and meter.service_seconds is not None


def _completed(before: QueueReading, reading: QueueReading) -> float | None:
    """Pieces finished in between; None when nobody can say, also when a counter started anew or counting stopped."""
    if before.completed is not None and reading.completed is not None:
        return _grown(before.completed, reading.completed)
    if before.arrived is None or reading.arrived is None or before.reserved is None or reading.reserved is None:
        return None
    if before.at_least or reading.at_least:
        return None
    arrived = _grown(before.arrived, reading.arrived)
    return None if arrived is None else max(0.0, arrived - (_inside(reading) - _inside(before)))


def _arrived(before: QueueReading, reading: QueueReading, completed: float | None) -> float | None:
    """Pieces that came to be done in between."""
    if before.arrived is not None and reading.arrived is not None:
        return _grown(before.arrived, reading.arrived)
    if completed is None or before.reserved is None or reading.reserved is None:
        return None
    if before.at_least or reading.at_least:
        return None
    return max(0.0, reading.waiting + reading.reserved - before.waiting - before.reserved + completed)


def _inside(reading: QueueReading) -> float:
    return reading.waiting + (reading.reserved or 0.0) + (reading.delayed or 0.0)


def _grown(before: float, now: float) -> float | None:
    return now - before if now >= before else None


def _with_arrivals(meter: Meter, arrived: float, elapsed: float) -> Meter:
    fade = _fade(elapsed)
    seconds = meter.seconds * fade + elapsed
    arrivals = meter.arrivals * fade + arrived
    return meter._replace(seconds=seconds, arrivals=arrivals, arrival_rate=arrivals / seconds)


def _with_finished(meter: Meter, count: float, spent: float, elapsed: float) -> Meter:
    fade = _fade(elapsed)
    finished = meter.finished * fade + count
    work_seconds = meter.work_seconds * fade + spent
    return meter._replace(
        finished=finished,
        work_seconds=work_seconds,
        open_seconds=0.0,
        open_elapsed=0.0,
        samples=min(ENOUGH_SAMPLES, meter.samples + count),
        service_seconds=work_seconds / finished,
    )


def _fade(elapsed: float) -> float:
    return float(0.5 ** (elapsed / HALF_LIFE_SECONDS))
