"""Recorded arrivals as text: CSV or JSON lines, by seconds or by the clock.

CSV:   `at` or `at,service` per line, a header if one likes; JSON: `{"at": 12.5, "service": 0.8, "count": 3}`.
`at` is a number of seconds or a moment such as `2026-11-25T09:00:00Z`; the first arrival is at 0. What is missing in
`service` is drawn as for a synthetic load.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from math import isfinite
from random import Random
from typing import Any, NamedTuple

from reconciler.model.quantities import seconds
from reconciler.simulation.loads import MOST_PIECES, Piece, service_times


class _Arrival(NamedTuple):
    at: float
    service_seconds: float | None
    pieces: int = 1


def trace(text: str, service: str, seed: int) -> list[Piece]:
    """The pieces of a trace, oldest first. Raises ValueError with the line and what is wrong with it."""
    arrivals = sorted(_arrivals(text), key=lambda arrival: arrival.at)
    if not arrivals:
        raise ValueError("has no arrivals")
    if sum(arrival.pieces for arrival in arrivals) > MOST_PIECES:
        raise ValueError(f"has more than {MOST_PIECES:,} arrivals")
    service_of, random = service_times(service), Random(seed)  # noqa: S311  repeatable, not secret
    begin = arrivals[0].at
    return [
        Piece(arrival.at - begin, service_of(random) if arrival.service_seconds is None else arrival.service_seconds)
        for arrival in arrivals
        for _ in range(arrival.pieces)
    ]


def _arrivals(text: str) -> Iterator[_Arrival]:
    first = True
    for number, line in enumerate(text.splitlines(), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        try:
            arrival = _from_json(written) if written.startswith("{") else _from_csv(written, is_first=first)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        first = False
        if arrival is not None:
            yield arrival


def _from_json(line: str) -> _Arrival:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    strange = fields.keys() - {"at", "service", "count"}
    if strange:
        raise ValueError(f"{min(strange)!r} is not a field here; there are at, service and count")
    if "at" not in fields:
        raise ValueError("needs at")
    count = fields.get("count", 1)
    if type(count) is not int or not 0 <= count <= MOST_PIECES:
        raise ValueError(f"count must be a number of pieces, not {count!r}")
    return _Arrival(_moment(fields["at"]), _service(fields.get("service")), count)


def _from_csv(line: str, *, is_first: bool) -> _Arrival | None:
    cells = [cell.strip().strip('"') for cell in line.split(",")]
    if is_first and cells[0].lower() in {"at", "time", "timestamp"}:
        return None  # the header
    if len(cells) > 2:
        raise ValueError(f"has {len(cells)} columns; there are at and service")
    return _Arrival(_moment(cells[0]), _service(cells[1] if len(cells) == 2 and cells[1] else None))


def _moment(value: Any) -> float:
    """Seconds, from whatever beginning."""
    try:
        at = float(value)
    except (TypeError, ValueError):
        try:
            at = datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError):
            raise ValueError(f"{value!r} is neither a number of seconds nor a moment") from None
    if isinstance(value, bool) or not isfinite(at):
        raise ValueError(f"{value!r} is neither a number of seconds nor a moment")
    return at


def _service(value: Any) -> float | None:
    if value is None:
        return None
    try:
        length = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else seconds(str(value))
    except ValueError:
        length = -1.0
    if not 0 <= length <= 1e9:
        raise ValueError(f"service must be a duration, not {value!r}")
    return length
