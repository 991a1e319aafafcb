"""From what a server said to numbers and ages: what every driver has to do with an answer, in one way."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from reconciler.model.queues import QueueReadFailed, QueueReading

_MILLISECONDS_FROM = 1e11  # as seconds that would be the year 5138
_LONGEST_NUMBER = 400


def wall_seconds() -> float:
    """Seconds since the epoch, by the clock that those who put work into queues write down, too."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def number(value: Any, what: str) -> float:
    """A count. Raises QueueReadFailed(NotANumber) for all that is none, NaN, infinite and negative ones included."""
    found = _as_float(value)
    if found is None or not math.isfinite(found):
        raise not_a_number(value, what)
    if found < 0:
        raise QueueReadFailed("NotANumber", f"{what} is {found:g}; less than nothing cannot wait")
    return found


def not_a_number(value: Any, what: str) -> QueueReadFailed:
    """The failure, with a bit of what there was."""
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    return QueueReadFailed("NotANumber", f"{what} is {shown}, which is not a number")


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode(errors="replace")
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and value.isascii():
        try:
            return float(Decimal(value.strip()))
        except (InvalidOperation, OverflowError):
            return None
    return None


_FIELDS = {
    name.replace("_", ""): name
    for name in (
        "waiting", "reserved", "delayed", "oldest_seconds", "next_due_seconds",
        "arrived", "completed", "service_seconds",
    )
}  # fmt: skip


def reading_by_name(values: Mapping[str, Any], what: str) -> QueueReading:
    """A reading out of named numbers: `waiting`, and what else QueueReading has, in any way of writing. Null: unknown.

    Raises QueueReadFailed for a name that means nothing, and when there is no `waiting`.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        field = _FIELDS.get(name.replace("_", "").lower())
        if field is None:
            raise QueueReadFailed("BadMetadata", f"{what} has {name!r}; known are {', '.join(_FIELDS.values())}")
        if value is not None:
            found[field] = number(value, f"{name} of {what}")
        elif field == "waiting":
            found[field] = 0.0  # the sum or the largest of nothing
    if "waiting" not in found:
        raise QueueReadFailed("BadMetadata", f"{what} has no 'waiting'")
    shown = ", ".join(f"{count:g} {field.replace('_', ' ')}" for field, count in found.items())
    return QueueReading(**found, found=f"{what}: {shown}")  # type: ignore[arg-type]


def moment(value: Any) -> float | None:
    """A time as queues write it, in seconds since the epoch: seconds, milliseconds or ISO 8601; None for all else."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        try:
            written = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    seconds = _as_float(value)
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None
    return seconds / 1000 if seconds >= _MILLISECONDS_FROM else seconds


def age(value: Any, now: float) -> float | None:
    """How long ago that was; a clock that is ahead of ours makes nothing younger than 0."""
    at = moment(value)
    return None if at is None else max(now - at, 0.0)


def oldest(*ages: float | None) -> float | None:
    """The largest of the ages that are known."""
    return max((each for each in ages if each is not None), default=None)


def soonest(*waits: float | None) -> float | None:
    """The smallest of the times that are known."""
    return min((each for each in waits if each is not None), default=None)


def total(*parts: float | None) -> float | None:
    """The sum of what is known; None when nothing is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def combined(readings: Sequence[QueueReading]) -> QueueReading:
    """Several parts as one queue."""
    if len(readings) == 1:
        return readings[0]
    return QueueReading(
        waiting=sum(each.waiting for each in readings),
        reserved=total(*(each.reserved for each in readings)),
        delayed=total(*(each.delayed for each in readings)),
        oldest_seconds=oldest(*(each.oldest_seconds for each in readings)),
        next_due_seconds=soonest(*(each.next_due_seconds for each in readings)),
        arrived=total(*(each.arrived for each in readings)),
        completed=total(*(each.completed for each in readings)),
        at_least=any(each.at_least for each in readings),
        found="; ".join(each.found for each in readings),
    )
