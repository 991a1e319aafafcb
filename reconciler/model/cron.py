"""Cron expressions: read, and asked when they come next. Pure: the moment and its time zone are arguments.

Five fields (minute, hour, day of month, month, day of week) with `*`, lists, ranges, steps and names, or `@daily` and
the like. As in cron, a day matches when either of day of month and day of week does, if both are restricted.

Around a change of clocks: what falls into a skipped hour comes when that hour would have ended, and what falls into a
repeated hour comes twice.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"])}


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    names: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)
_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ITEM = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>[0-9]{1,4}))?")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST_DAYS = 8 * 366 + 7  # from one 29 February to the next, over a century's end


class Schedule(NamedTuple):
    """When something comes, in local time."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    any_day: bool  # day of month is not restricted
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read an expression. Raises ValueError with what is wrong."""
        written = _SHORTHANDS.get(text.strip().lower(), text).split()
        if len(written) != len(_FIELDS):
            known = f" or one of {', '.join(_SHORTHANDS)}" if text.startswith("@") else ""
            raise ValueError(f"has {len(written)} fields; write five (minute, hour, day, month, day of week){known}")
        minutes, hours, days, months, weekdays = map(_values, written, _FIELDS)
        schedule = cls(
            minutes=tuple(sorted(minutes)),
            hours=tuple(sorted(hours)),
            days=days,
            months=months,
            weekdays=frozenset(day % 7 for day in weekdays),
            any_day=written[2][0] in "*?",
            any_weekday=written[4][0] in "*?",
        )
        if schedule.any_weekday and min(days) > max(_LONGEST_MONTHS[month - 1] for month in months):
            raise ValueError(f"never comes: none of these months has {min(days)} days")
        return schedule

    def next_after(self, moment: datetime) -> datetime:
        """The first time after this moment (which has a time zone), in that zone."""
        # Backwards by a day: a repeated hour is later in truth than on the clock.
        day = moment.date() - timedelta(days=1)
        for _ in range(_LONGEST_DAYS):
            if self._has(day):
                for found in self._on(day, moment):
                    return found
            day += timedelta(days=1)
        raise AssertionError(self)  # parse() refuses what never comes

    def _has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday

    def _on(self, day: date, after: datetime) -> Iterator[datetime]:
        """The moments of one day, in order, that are later."""
        found = set()
        for hour in self.hours:
            for minute in self.minutes:
                local = datetime.combine(day, time(hour, minute), after.tzinfo)
                found |= {_instant(local), _instant(local.replace(fold=1))}
        for instant in sorted(found):
            if instant > after:
                yield instant.astimezone(after.tzinfo)


def _instant(local: datetime) -> datetime:
    """The moment in UTC; for a time that the clock skips, the end of the gap."""
    instant = local.astimezone(UTC)
    if instant.astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None, fold=0):
        return instant
    # In a gap, fold=0 counts from before it and fold=1 from after it, so that the change lies between the two.
    low, high = (int(local.replace(fold=fold).timestamp()) for fold in (1, 0))
    offset = _offset(high, local)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, local) == offset else (middle, high)
    return datetime.fromtimestamp(high, UTC)


def _offset(timestamp: int, local: datetime) -> timedelta | None:
    return datetime.fromtimestamp(timestamp, local.tzinfo).utcoffset()


def _values(text: str, field: _Field) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not a {field.name}")
        step = int(match["step"]) if match["step"] else 1
        if step == 0:
            raise ValueError(f"{item!r} steps by 0")
        if match["first"] in "*?":
            if match["last"]:
                raise ValueError(f"{item!r} is not a {field.name}")
            first, last = field.lowest, min(field.highest, 6) if field.names is _DAYS else field.highest
        else:
            first = _number(match["first"], field)
            last = _number(match["last"], field) if match["last"] else field.highest if match["step"] else first
        if first > last:
            raise ValueError(f"{item!r} counts backwards; write two ranges")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, field: _Field) -> int:
    number = field.names.get(text.upper())
    if number is None and text.isascii() and text.isdigit() and len(text) <= 2:
        number = int(text)
    if number is None or not field.lowest <= number <= field.highest:
        raise ValueError(f"{text!r} is not a {field.name}, {field.lowest} to {field.highest}")
    return number
