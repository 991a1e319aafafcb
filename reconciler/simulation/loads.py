"""When work arrives and how long each piece takes: synthetic loads by a few words, the same for the same seed.

A load is a list of pieces, oldest first. Traces of real arrivals are read in traces.py.
"""

from collections.abc import Callable, Iterator
from math import cos, log, pi
from random import Random
from typing import NamedTuple

from reconciler.model.quantities import seconds

MOST_PIECES = 500_000
BURST_AT_SECONDS = 10.0  # a moment of rest before it
_SIGMA = 1.0  # of lognormal service times: a tail as real work has it


class Piece(NamedTuple):
    """One piece of work."""

    at: float  # when it arrives, seconds from the start
    service_seconds: float


Service = Callable[[Random], float]
Arrivals = Callable[[Random, float], Iterator[float]]

LOADS = {
    "burst": "burst:300 (all at once after 10s), burst:300@60s",
    "steady": "steady:4 (per second, at random)",
    "step": "step:2,12,2 (per second, each for an equal part of the time)",
    "wave": "wave:1,9,5m (per second from the one to the other and back, in this time)",
    "every": "every:1m (one at a time)",
    "trace": "trace:FILE (CSV or JSON lines of arrivals)",
}
"""Every kind of load, with examples; `trace` is read by who may open files."""


def pieces(load: str, service: str, duration: float, seed: int) -> list[Piece]:
    """A synthetic load. Raises ValueError with a sentence."""
    arrivals, service_of = _arrivals(load), service_times(service)
    random = Random(seed)  # noqa: S311  repeatable, not secret
    found: list[Piece] = []
    for at in arrivals(random, duration):
        if len(found) == MOST_PIECES:
            raise ValueError(f"--load {load} is more than {MOST_PIECES:,} pieces of work in this time")
        found.append(Piece(at, service_of(random)))
    return found


def service_times(text: str) -> Service:
    """How long pieces take: `1s` (exponential, of this mean), `fixed:1s`, `lognormal:1s`."""
    kind, _, length = text.rpartition(":")
    try:
        mean = seconds(length)
    except ValueError as error:
        raise ValueError(f"--service {text}: {length!r} {error}") from None
    if mean <= 0:
        raise ValueError(f"--service {text}: must be more than 0")
    match kind:
        case "" | "exponential":
            return lambda random: random.expovariate(1 / mean)
        case "fixed":
            return lambda random: mean
        case "lognormal":
            return lambda random: random.lognormvariate(log(mean) - _SIGMA**2 / 2, _SIGMA)
    raise ValueError(f"--service {text}: {kind!r} is none of exponential, fixed, lognormal")


def _arrivals(load: str) -> Arrivals:
    kind, _, rest = load.partition(":")
    makers: dict[str, Callable[[str], Arrivals]] = {
        "burst": _burst,
        "steady": _step,
        "step": _step,
        "wave": _wave,
        "every": _every,
    }
    if kind not in makers:
        raise ValueError(f"--load {load}: {kind!r} is no kind of load; there are {'; '.join(LOADS.values())}")
    try:
        return makers[kind](rest)
    except ValueError as error:
        raise ValueError(f"--load {load}: {error}; write {LOADS[kind]}") from None


def _burst(text: str) -> Arrivals:
    number, _, when = text.partition("@")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:9]) <= MOST_PIECES:
        raise ValueError(f"{number!r} is no number of pieces, 1 to {MOST_PIECES:,}")
    at = seconds(when) if when else BURST_AT_SECONDS
    return lambda random, duration: (at for _ in range(int(number)))


def _step(text: str) -> Arrivals:
    rates = [_rate(part) for part in text.split(",")]

    def arrivals(random: Random, duration: float) -> Iterator[float]:
        length = duration / len(rates)
        for index, rate in enumerate(rates):
            yield from _at_random(random, index * length, (index + 1) * length, rate, None)

    return arrivals


def _wave(text: str) -> Arrivals:
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError("needs two rates and a time")
    low, high, period = _rate(parts[0]), _rate(parts[1]), _some_seconds(parts[2])
    most = max(low, high)

    def rate_at(at: float) -> float:
        return low + (high - low) * (1 - cos(2 * pi * at / period)) / 2

    return lambda random, duration: _at_random(random, 0.0, duration, most, rate_at)


def _every(text: str) -> Arrivals:
    period = _some_seconds(text)

    def arrivals(random: Random, duration: float) -> Iterator[float]:
        at = random.random() * period  # else it would meet every clock that ticks in whole minutes
        while at < duration:
            yield at
            at += period

    return arrivals


def _at_random(
    random: Random, start: float, end: float, most: float, rate_at: Callable[[float], float] | None
) -> Iterator[float]:
    """Arrivals that know nothing of each other (Poisson), at a rate that may change: those of `most`, thinned."""
    if most * (end - start) > MOST_PIECES:
        raise ValueError(f"{most:g} per second are more than {MOST_PIECES:,} pieces of work in this time")
    at = start
    while most > 0:
        at += random.expovariate(most)
        if at >= end:
            return
        if rate_at is None or random.random() * most < rate_at(at):
            yield at


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1e6:
        raise ValueError(f"{text!r} is no rate per second")
    return rate


def _some_seconds(text: str) -> float:
    try:
        length = seconds(text)
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from None
    if length <= 0:
        raise ValueError("must be more than 0")
    return length
