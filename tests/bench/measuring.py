"""How the benchmarks measure, and how they print it.

By CPU time: on a shared machine the clock on the wall tells more about the neighbours. The best of some rounds counts,
since noise only ever adds. A figure is good for comparing one commit with the next on the same machine, nothing else.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

ROUNDS = 5


class Result(NamedTuple):
    """One line of the table."""

    what: str
    us: float
    goal_us: float | None = None  # what docs/performance.md promises on the machine that it was measured on


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
    """Print the table."""
    for what, us, goal_us in results:
        goal = "" if goal_us is None else f"   (goal {goal_us:g})"
        print(f"  {us:10.1f} us  {what}{goal}")
