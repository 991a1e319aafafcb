"""The keeper's post: what a controller is to be told now, and what the next one has to be told again.

Exits are kept until a controller has acknowledged them (it then has them in its journal). Everything else is for the
controller that is up. Pure memory: no clock, no file, no process; decisions.py decides what is posted.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from reconciler import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

EXITS_PER_MESSAGE = 1000  # of at most 60 bytes each: well below the size of a message


class Letters:
    """Waiting messages, in order; then exits nobody was told of; then, once, that there are no more."""

    def __init__(self, kept_exits: int, log: Callable[[str], None]) -> None:
        self._kept_exits = kept_exits
        self._log = log
        self._outbox: deque[wire.Message] = deque()
        self._exits: OrderedDict[tuple[int, int], tuple[int, int]] = OrderedDict()  # status, mark; until acknowledged
        self._untold: deque[tuple[int, int]] = deque()
        self._signals: list[str] = []  # for the next controller
        self._dropped = 0
        self._is_told = True  # this controller has heard that it was told of all that came before it
        self.reaps_since: float | None = None  # since then (since boot) no exit was missed; None: they may be

    def exit(self, pid: int, start_ticks: int, status: int, mark: int, now: float) -> None:
        """A process ended that is none of our two. `mark`: what it carried of the spawn that it descends from."""
        self._exits[pid, start_ticks] = status, mark
        self._untold.append((pid, start_ticks))
        if len(self._exits) > self._kept_exits:
            self._exits.popitem(last=False)  # nobody asked for it in a hundred thousand exits: a stranger's
            self._dropped += 1
            self.reaps_since = None if self.reaps_since is None else now
            if self._dropped % 10_000 == 1:
                self._log(f"too many exits wait for a controller: {self._dropped} of the oldest dropped so far")

    def acknowledge(self, exits: Iterable[Sequence[int]]) -> None:
        """These are in a journal."""
        for pid, start_ticks in exits:
            self._exits.pop((pid, start_ticks), None)

    def signal_later(self, name: str) -> None:
        """For the next controller: there is none that could hear it now."""
        self._signals.append(name)

    def post(self, message: wire.Message) -> None:
        """For the controller that is up; the same twice is once."""
        if message not in self._outbox:
            self._outbox.append(message)

    def begin(self, welcome: wire.Message, stop_asked: str) -> None:
        """A controller said hello: all that it has to know, from the start. `stop_asked`: the signal, or nothing."""
        self._untold, self._is_told = deque(self._exits), False
        self._outbox = deque([welcome])
        for name in filter(None, dict.fromkeys([stop_asked, *self._signals])):
            self.post({"type": "signal", "name": name})
        self._signals.clear()

    @property
    def idle(self) -> bool:
        """No message waits."""
        return not self._outbox

    def next(self) -> wire.Message | None:
        """What to tell next. Call it only when it can be sent: what it returned is not kept."""
        if self._outbox:
            return self._outbox.popleft()
        exits: list[list[int]] = []
        while self._untold and len(exits) < EXITS_PER_MESSAGE:
            process = self._untold.popleft()
            if process in self._exits:
                exits.append([*process, *self._exits[process]])
        if exits:
            return {"type": "exits", "exits": exits}
        if not self._is_told:
            self._is_told = True
            return {"type": "told", "reaps_since": self.reaps_since}
        return None

    # ---- through a replacement of the keeper ----

    def document(self) -> dict[str, Any]:
        """What must not be lost with this program; messages to a controller that has to leave are not of it."""
        exits = [[*process, *how] for process, how in self._exits.items()]
        since = self.reaps_since
        return {"exits": exits, "signals": self._signals, "dropped": self._dropped, "reaps_since": since}

    def restore(self, document: dict[str, Any]) -> None:
        """Go on with what another keeper had."""
        self._exits.update(((pid, start_ticks), (status, mark)) for pid, start_ticks, status, mark in document["exits"])
        self._signals, self._dropped = list(document["signals"]), document["dropped"]
        self.reaps_since = document["reaps_since"]
