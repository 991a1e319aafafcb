"""Kills the pump at a chosen system call: before it, after it, or in the middle of it.

A real SIGKILL strikes between two of these, or while one moves bytes. So the calls that change something are counted,
and at the chosen one `Killed` is raised, which nothing catches. What a dead process would still do (close, unlink in a
`finally`) is forbidden from then on; only its descriptors are closed, as the kernel does it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHANGING = ("splice", "write", "pwrite", "ftruncate", "rename", "unlink", "fchmod")
MOMENTS = ("before", "after", "within")


class Killed(BaseException):
    """What SIGKILL is to the code: the end, wherever it is."""


class Fate:
    """Counts calls; strikes at the `at`-th."""

    def __init__(self, at: int, moment: str) -> None:
        self.at = at
        self.moment = moment
        self.calls = 0
        self.struck = False

    def meet(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self.struck:
            raise Killed
        self.calls += 1
        if self.calls != self.at:
            return call(*arguments, **named)
        self.struck = True
        if self.moment == "after":
            call(*arguments, **named)
        elif self.moment == "within" and name == "splice":
            source, target, count = arguments
            call(source, target, max(count // 2, 1), **named)
        elif self.moment == "within" and name == "write":
            call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        raise Killed


@contextmanager
def fated(at: int, moment: str) -> Iterator[Fate]:
    """Within the block, the `at`-th changing call is the last one. Reads as usual when it never comes."""
    fate = Fate(at, moment)
    real = {name: getattr(os, name) for name in (*CHANGING, "open", "pipe2", "close")}
    held: set[int] = set()

    def opening(*arguments: Any, **named: Any) -> int:
        fd: int = real["open"](*arguments, **named)
        held.add(fd)
        return fd

    def piping(flags: int) -> tuple[int, int]:
        ends: tuple[int, int] = real["pipe2"](flags)
        held.update(ends)
        return ends

    def closing(fd: int) -> None:
        held.discard(fd)
        real["close"](fd)

    def mortal(name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: fate.meet(name, real[name], arguments, named)

    changed = {name: mortal(name) for name in CHANGING}
    for name, function in {**changed, "open": opening, "pipe2": piping, "close": closing}.items():
        setattr(os, name, function)
    try:
        yield fate
    except Killed:
        pass
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        for fd in held if fate.struck else ():
            os.close(fd)
