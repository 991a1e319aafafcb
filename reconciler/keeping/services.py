"""Controller and pump as the keeper sees them: the states they can be in, what can happen to them, and all figures.

What an event makes of a state is the table in decisions.py.
"""

from __future__ import annotations

import os
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOREVER = float("inf")


class State(Enum):
    """Where the controller or the pump stands."""

    DOWN = "does not run; started when due"
    STARTING = "runs, has not said hello yet; killed when due"
    UP = "runs; the controller is pinged when due"
    RETIRING = "asked to make room for the next one; killed when due"
    MUTE = "runs, but its connection is gone; killed when due"
    KILLED = "sent SIGKILL; started again when reaped"
    LEAVING = "asked to end for good; killed when due"
    DOOMED = "sent SIGKILL for good; given up when due"
    GONE = "not there, and not started again"


class Event(Enum):
    """What can happen to it."""

    DUE = "its deadline passed"
    HELLO = "it said hello"
    ENDED = "it was reaped"
    LOST = "its connection ended or carried rubbish"
    REPLACE = "the operator wants another one"
    LEAVE = "the keeper is about to leave"


class Limits:
    """All figures of the keeper in one place; tests set shorter ones on an instance."""

    hello_seconds = 60.0
    ping_seconds = 2.0
    unanswered_pings = 15  # pings are counted, not seconds: a suspended machine or keeper is no reason to kill
    mute_seconds = 1.0
    drain_seconds = 5.0
    kill_seconds = 1.0  # what SIGKILL does not end in this time sits in the kernel, and would hold us for ever
    first_delay_seconds = 0.1
    longest_delay_seconds = 5.0
    steady_seconds = 10.0  # a life this long is forgiven all deaths before it
    safe_mode_deaths = 3
    safe_mode_seconds = 60.0
    stop_seconds = 60.0  # a wish to stop waits so long for a controller that can drain,
    first_stop_seconds = 5.0  # and so long while none has ever been up
    kept_exits = 100_000


def restart_delay(score: int, limits: Limits) -> float:
    """How long to wait after the death that follows `score` others: not at all, then doubling up to a bound."""
    if score == 0:
        return 0.0
    return min(limits.longest_delay_seconds, limits.first_delay_seconds * 2.0 ** min(score - 1, 32))


def how_it_ended(status: int) -> str:
    """A raw wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with {code}" if code >= 0 else f"was killed by signal {-code}"


class Service:
    """The controller or the pump: its state, its pid while it runs, and when to look at it again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.DOWN
        self.pid = 0
        self.due = 0.0
        self.started_at = 0.0
        self.score = 0  # deaths in a row, none of which followed a steady life
        self.excused = False  # we want it to end: that is no death to count

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"

    def document(self) -> dict[str, Any]:
        """All of it but the name."""
        return {field: value for field, value in vars(self).items() if field != "name"} | {"state": self.state.name}

    def restore(self, document: dict[str, Any]) -> None:
        """Go on with what another keeper started."""
        vars(self).update(document, state=State[document["state"]])
