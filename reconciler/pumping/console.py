"""The standard output or error of `run`, as a place for lines: /dev/stdout, /dev/stderr.

Whoever reads there may be slow, or stuck for good, and what is behind the descriptor is not ours to make non-blocking:
the keeper and the shell that started it share it. So a thread of its own waits in its place, with one portion at a time
and the others behind it; the pump goes on, and hears of what is done through `wake_fd`.

A portion is small enough for a pipe to take as a whole, unless it is a single longer line: it does not mix with what
others write there, and a pump that is killed has written it or not. Standard library only.
"""

from __future__ import annotations

import os
import queue
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STDOUT, STDERR = "/dev/stdout", "/dev/stderr"
PORTION_BYTES = 4096  # PIPE_BUF
STUCK_SECONDS = 5.0

_Handed = tuple[str, bytes, "Callable[[bytes, OSError | None], None]"]


class Console:
    """One of the two. `hand_over` never waits; `step` does the work, in the thread."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fd = fd
        self._handed: queue.SimpleQueue[_Handed] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, Callable[[], None]]] = queue.SimpleQueue()
        self._waiting = 0  # portions that are handed over and not settled
        self._began_at = 0.0  # when the thread began to write; 0: it does not
        self._thread: threading.Thread | None = None

    def hand_over(self, stream_id: str, portion: bytes, settled: Callable[[bytes, OSError | None], None]) -> None:
        """Have a portion written. `settle` will call `settled` with what could not be, and why.

        RuntimeError when no thread is to be had; nothing is handed over then.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self.path, daemon=True)
            thread.start()
            self._thread = thread
        self._waiting += 1
        self._handed.put((stream_id, portion, settled))

    def settle(self) -> Iterator[str]:
        """Tell how portions ended; the ids of the streams that they were of."""
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            pass
        while not self._done.empty():
            stream_id, tell = self._done.get()
            self._waiting -= 1
            tell()
            yield stream_id

    @property
    def is_busy(self) -> bool:
        """Whether portions are handed over that were not settled."""
        return self._waiting > 0

    @property
    def is_stuck(self) -> bool:
        """Whether nobody has taken anything for a while."""
        began_at = self._began_at
        return began_at > 0 and time.monotonic() - began_at > STUCK_SECONDS

    def step(self) -> None:
        """Write one portion, however long that takes."""
        stream_id, portion, settled = self._handed.get()
        rest = memoryview(portion)
        failure: OSError | None = None
        try:
            while rest:
                self._began_at = time.monotonic()
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            failure = error
        self._began_at = 0.0
        left = bytes(rest)
        self._done.put((stream_id, lambda: settled(left, failure)))
        os.eventfd_write(self.wake_fd, 1)

    def _run(self) -> None:  # pragma: no cover - endless; its step is what is tested
        while True:
            self.step()

    def close(self) -> None:
        """Without waiting: what is being written is, if somebody reads it in time."""
        if self._thread is None:  # else it may still want to wake us
            os.close(self.wake_fd)
