"""The witness's own books: what is known of a seat and of a drain, from what was seen and not from what was decided."""

from dataclasses import dataclass
from typing import NamedTuple

from reconciler.model.launch import Launch
from reconciler.model.program import ProgramSpec
from reconciler.model.state import NEVER


class Seat(NamedTuple):
    """Where a process belongs, by name: a re-created Program has the same seats."""

    program: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.program}/{self.ordinal}"


@dataclass
class Book:
    """What is known of a seat from what was seen."""

    failures: int = 0  # consecutive ones of `revision`
    revision: str = ""  # of the last run
    epoch: int = 0
    exited_at: float = -NEVER
    started_at: float = -NEVER
    succeeded: bool = False  # the last run did
    finished: bool = False  # it succeeded, or may not be tried twice, under a policy that wants no further run
    gone_until: float = NEVER  # of a deleted Program: how long it is remembered


@dataclass
class Drain:
    """The end of a process, as it was promised when it began."""

    kill_from: float
    silent: bool
    signals: int = 0
    deaths: int = 0  # of controllers, when it began


def seat_of(launch: Launch) -> Seat:
    """Where a process belongs, as its environment says."""
    return Seat(launch.env["RECONCILER_PROGRAM"], int(launch.env["RECONCILER_REPLICA"]))


def least_backoff(spec: ProgramSpec, failures: int) -> float:
    """The delay that so many failures in a row bring at least: written down here anew, on purpose."""
    backoff = spec.restart_backoff
    delay = backoff.initial
    for _ in range(failures - 2):
        delay = min(backoff.max, delay * backoff.factor)
    return min(backoff.max, delay)
