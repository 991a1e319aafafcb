"""How the benchmarks measure, and how they print it.

By CPU time: on a shared machine the clock on the wall tells more about the neighbours. The best of some rounds counts,
since noise only ever adds. A figure is good for comparing one commit with the next on the same machine, nothing else.

What is shown is also kept for the table at the end of `make bench`: a line of JSON each, in the file that the variable
BENCH_RESULTS names.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

ROUNDS = 5
RESULTS = "BENCH_RESULTS"


class Result(NamedTuple):
    """One line of the table."""

    what: str
    value: float
    goal: float | None = None  # at most; what docs/performance.md promises on the machine that it was measured on
    unit: str = "us"


def cpu_us(do: Callable[[], object], times: int, *, per: int = 1) -> float:
    """Microseconds of CPU time, user and system, for one call; `per`: of one of the so many things that a call does."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(times):
            do()
        best = min(best, time.process_time_ns() - start)
    return best / 1000 / times / per


def show(results: Iterable[Result]) -> None:
    """Print the results as they come, and keep them for the table."""
    for result in results:
        print(line(result), flush=True)
        keep(result)


def keep(result: Result) -> None:
    """For the table at the end."""
    path = os.environ.get(RESULTS)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            print(json.dumps(result), file=file)


def kept(path: str) -> list[Result]:
    """What was kept in this file."""
    with open(path, encoding="utf-8") as file:
        return [Result(*json.loads(text)) for text in file]


def line(result: Result) -> str:
    """A result in words; whether a goal is met stands beside it."""
    verdict = ""
    if result.goal is not None:
        verdict = f"   (goal {result.goal:g}{'' if result.value <= result.goal else ', MISSED'})"
    return f"  {result.value:10.{1 if result.value >= 1 else 3}f} {result.unit:<6} {result.what}{verdict}"
