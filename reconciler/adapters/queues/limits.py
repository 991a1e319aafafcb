"""The hard end of a call: whatever a server does or fails to do, a thread that asks it gets its answer in time.

Time-outs of sockets begin anew with each byte, so a server that sends one byte a second is never late for them. Here
one thread for all calls watches the clock; what is late has its connection cut, and the call ends with TimedOut.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reconciler.model.queues import QueueReadFailed

CALL_SECONDS = 1.8
"""For one call, connecting included: what it cuts off needs a moment to end, and all shall be over within 2 s."""

SOCKET_SECONDS = CALL_SECONDS + 1
"""Of sockets: the second safety. Longer, so that it is always the first that speaks."""


class Call:
    """One call in progress."""

    __slots__ = ("cut", "deadline", "expired")

    def __init__(self, deadline: float, cut: Callable[[], None]) -> None:
        self.deadline = deadline
        self.cut = cut
        self.expired = False


class _Watch:
    """The calls in progress, and the thread that cuts the late ones. The thread is started by the first call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[Call] = set()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    def add(self, call: Call) -> None:
        with self._changed:
            self._calls.add(call)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="queue-limits", daemon=True)
                self._thread.start()
            elif call.deadline < self._wakes_at:  # else it wakes early enough by itself: no wake-up per call
                self._changed.notify()

    def remove(self, call: Call) -> None:
        with self._changed:
            self._calls.discard(call)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                late = [call for call in self._calls if call.deadline <= now]
                self._calls.difference_update(late)
                if not late:
                    self._wakes_at = min((call.deadline for call in self._calls), default=float("inf"))
                    self._changed.wait(self._wakes_at - now if self._calls else None)
                    continue
                for call in late:
                    call.expired = True
            for call in late:
                call.cut()


_watch = _Watch()


@contextmanager
def within(seconds: float, cut: Callable[[], None], what: str) -> Iterator[Call]:
    """Do the block within this time. Later, `cut` is called from another thread, and what the block then raises
    becomes QueueReadFailed(TimedOut). `what` names the server for the message.
    """
    call = Call(time.monotonic() + seconds, cut)
    _watch.add(call)
    try:
        yield call
    except Exception as error:
        if call.expired or isinstance(error, TimeoutError):
            raise timed_out(what, seconds) from None
        raise
    finally:
        _watch.remove(call)


def timed_out(what: str, seconds: float = CALL_SECONDS) -> QueueReadFailed:
    """What to say of a server that is there and does not answer."""
    return QueueReadFailed("TimedOut", f"{what} did not answer within {seconds:g} s; it hangs, or is overloaded")
