"""All streams of a pump: which one is served when, and what becomes of those that are let go.

Waiting. A line of an idle stream is moved at once. Busy streams are rested for 1 to 4 ms, so that many small lines are
one move, but not for so long that a pipe would fill. A stream that cannot be served is not listened to, for it would
wake us without end: it is looked at each second, or when the console has room again. Standard library only.
"""

from __future__ import annotations

import os
import select
import time

from reconciler.pumping.conduit import CHUNK_BYTES, Conduit
from reconciler.pumping.logfile import RETRY_SECONDS
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.staging import about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

STREAMS_PER_TURN = 64  # then messages and signals are looked at again
REST_AT_MOST_SECONDS = 0.004
IDLE_SECONDS = 0.010  # whoever was quiet for this long is served without delay
_GONE = select.EPOLLHUP | select.EPOLLERR


class Streams:
    """Conduits by the id of their stream. `tell(stream_id, complaint)`: what changed for the worse or the better."""

    def __init__(
        self,
        plumbing: Plumbing,
        tell: Callable[[str, str | None], None],
        owns: Callable[[str], bool] = lambda path: True,
    ) -> None:
        """`owns`: whose logs these are, of what an earlier pump has left; others have the rest."""
        self._owns = owns
        self.epoll = select.epoll()  # of the FIFOs that are listened to
        self.retry_at = 0.0  # 0: nothing is to be tried again
        self.rest_until = 0.0
        self.busy_at = 0.0
        self.conduits: dict[str, Conduit] = {}
        self.by_fifo: dict[int, Conduit] = {}  # those in `epoll`: neither halted nor stalled nor deserted
        self.parted: dict[str, Conduit] = {}  # let go, with lines that could not be written yet
        self._plumbing = plumbing
        self._tell = tell
        self._told: dict[str, str] = {}  # the complaints that are known
        self._consoles = {console.wake_fd: console for console in plumbing.consoles.values()}
        self._take_over()

    def _take_over(self) -> None:
        """Serve what a pump before us served. What it began to write, and staged, is finished before all else.

        Nobody is waited for: where no keeper and no pump has a FIFO open, what is in it is lost when its writer ends.
        """
        for path in self._plumbing.staged():
            self._take(about(path) or {}, staged=True)
        for message in self._plumbing.noted():
            self._take(message, staged=False)
        for conduit in self.conduits.values():
            conduit.open()
            conduit.serve()
            self._heed(conduit)

    def _take(self, message: dict[str, Any], *, staged: bool) -> None:
        try:
            settings = Settings(message)
            if self._owns(settings.path) and (staged or settings.id not in self.conduits):
                self.conduits[settings.id] = conduit = Conduit(settings, self._plumbing)
                conduit.prepare()
        except (OSError, KeyError, TypeError, ValueError):
            pass  # its controller will say, or nobody has it any more

    # ---- what wakes us ----

    @property
    def wake_fds(self) -> Iterable[int]:
        """Descriptors beside `epoll` that become readable when there is something for `settle`."""
        return self._consoles

    def until_retry(self, now: float, timeout_seconds: float) -> float:
        """How long may be waited, at most `timeout_seconds` (below 0: without end)."""
        if not self.retry_at:
            return timeout_seconds
        left = max(self.retry_at - now, 0.0)
        return left if timeout_seconds < 0 else min(left, timeout_seconds)

    def retry_later(self) -> None:
        self.retry_at = self.retry_at or time.monotonic() + RETRY_SECONDS

    def retry(self) -> None:
        """Try again what could not be done."""
        self.retry_at = 0.0
        for conduit in self.conduits.values():
            if conduit.fifo not in self.by_fifo:
                conduit.serve()
                self._heed(conduit)
        for conduit in list(self.parted.values()):
            conduit.serve()
            self._finish(conduit)

    def settle(self, fd: int) -> None:
        """A console took something: those who gave it may have more."""
        for stream_id in self._consoles[fd].settle():
            if conduit := self.conduits.get(stream_id):
                conduit.serve(0)
                self._heed(conduit)
            elif conduit := self.parted.get(stream_id):
                conduit.serve()
                self._finish(conduit)

    @property
    def are_written(self) -> bool:
        """Whether there is a FIFO that somebody may write to, or that has bytes which cannot be moved."""
        return any(c.fifo >= 0 and self._plumbing.has_writer(c.fifo) for c in self.conduits.values())

    def serve(self, now: float) -> None:
        """One bounded portion for each stream that has bytes; then decide how long they rest."""
        fullest = 0.0
        for fd, event in self.epoll.poll(0, STREAMS_PER_TURN):
            conduit = self.by_fifo[fd]
            moved = conduit.serve(CHUNK_BYTES)
            fullest = max(fullest, moved / conduit.capacity)
            deserted = not moved and event & _GONE
            if conduit.halted or conduit.is_stalled or deserted:
                self._ignore(fd)
                self.retry_later()
            self._announce(conduit)
        if fullest:
            rest = rest_seconds(fullest, now - self.busy_at)
            self.busy_at = time.monotonic()
            self.rest_until = self.busy_at + rest

    def drain(self, seconds: float) -> None:
        """Move all that waits, for at most `seconds`."""
        end = time.monotonic() + seconds
        moved = True
        while moved and time.monotonic() < end:
            moved = False
            for conduit in (*self.conduits.values(), *self.parted.values()):
                moved = bool(conduit.serve()) or moved
            moved = self._await_consoles(end) or moved

    def _await_consoles(self, end: float) -> bool:
        busy = [fd for fd, console in self._consoles.items() if console.is_busy]
        ready, _, _ = select.select(busy, [], [], max(end - time.monotonic(), 0.0)) if busy else ([], [], [])
        for fd in ready:
            self.settle(fd)
        return bool(ready)

    def _heed(self, conduit: Conduit) -> None:
        """Be woken by this stream again, or try again later if it cannot be served."""
        self._announce(conduit)
        if conduit.halted or conduit.is_stalled:
            self._ignore(conduit.fifo)
            self.retry_later()
        elif conduit.fifo not in self.by_fifo:
            self.by_fifo[conduit.fifo] = conduit
            self.epoll.register(conduit.fifo, select.EPOLLIN)

    def _ignore(self, fd: int) -> None:
        if self.by_fifo.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    # ---- what the controller wants ----

    def open(self, settings: Settings) -> None:
        """Serve this stream from now on, or as it is wanted now."""
        conduit = self.conduits.get(settings.id) or self.parted.pop(settings.id, None)
        if conduit is None:
            conduit = self.conduits[settings.id] = Conduit(settings, self._plumbing)
            conduit.open()
            conduit.tidy()
        else:
            self.conduits[settings.id] = conduit
            self._ignore(conduit.fifo)  # its descriptor may become another one's
            conduit.adopt(settings)
        conduit.serve(0)  # lines that are staged wait for no event
        self._heed(conduit)

    def mark(self, stream_id: str, run: str) -> None:
        """A run that wrote to this stream has ended."""
        if conduit := self.conduits.get(stream_id):
            conduit.mark(run)
            self._announce(conduit)

    def reopen(self) -> None:
        """Somebody moved the files away."""
        for conduit in self.conduits.values():
            conduit.reopen()
            self._heed(conduit)

    def let_go(self, stream_id: str) -> None:
        """What can still be written is. What a full disk does not take out of the FIFO is lost with it."""
        if conduit := self.conduits.pop(stream_id, None):
            self._ignore(conduit.fifo)
            conduit.part()
            self.parted[stream_id] = conduit
            self._finish(conduit)
            self._told.pop(stream_id, None)

    def sweep(self, wanted: set[str]) -> None:
        """There are no others than these."""
        for stream_id in self.conduits.keys() - wanted:
            self.let_go(stream_id)
        kept = {self._plumbing.staged_path(stream_id) for stream_id in (*self.conduits, *self.parted)}
        for path in self._plumbing.staged():
            if path not in kept and self._owns(str((about(path) or {}).get("path", ""))):
                try:
                    os.unlink(path)
                except OSError:  # no file of ours
                    pass

    def _finish(self, conduit: Conduit) -> None:
        """It was let go. What it has staged is written as soon as that is possible."""
        if conduit.is_done:
            del self.parted[conduit.settings.id]
            conduit.finish()
        else:
            self.retry_later()

    def tell_again(self) -> None:
        """Whoever listens knows nothing yet."""
        self._told.clear()
        for conduit in self.conduits.values():
            self._announce(conduit)

    def _announce(self, conduit: Conduit) -> None:
        stream_id = conduit.settings.id
        if conduit.complaint == self._told.get(stream_id):
            return
        if conduit.complaint is None:
            del self._told[stream_id]
        else:
            self._told[stream_id] = conduit.complaint
        self._tell(stream_id, conduit.complaint)

    def close(self) -> None:
        """Let everything go; what is staged is for the next pump."""
        for conduit in (*self.conduits.values(), *self.parted.values()):
            conduit.close()
        self._plumbing.close()
        self.epoll.close()


def rest_seconds(fullest: float, since_seconds: float) -> float:
    """How long streams rest when, in the time since the round before, the fullest pipe got so full (1.0: to the brim).

    Until it would be half full again; whole milliseconds, since that is what can be waited for.
    """
    if since_seconds >= IDLE_SECONDS:
        return 0.0
    half_full = since_seconds * 0.5 / fullest
    return min(int(half_full * 1000) / 1000, REST_AT_MOST_SECONDS)
