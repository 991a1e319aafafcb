"""What processes print, for `up`: one thread per Program follows its logs, whoever shows them takes the lines.

Only for a person to watch: a line that nobody takes in time is left out, and the log files have them all.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator

from reconciler.cli.text import paint, plain
from reconciler.client import Client, ClientError

WAITING_LINES = 2000
LINES_AT_ONCE = 500
AGAIN_SECONDS = 0.2
COLOURS = ("cyan", "green", "magenta", "blue", "yellow")


class Following:
    """The output of all Programs of one controller, from when they are first seen."""

    def __init__(self, sockets: list[str]) -> None:
        self._sockets = sockets
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue(WAITING_LINES)
        self._threads: dict[str, threading.Thread] = {}
        self._is_over = False

    def programs(self, names: Iterable[str]) -> None:
        """These are there now."""
        for name in names:
            if name not in self._threads:
                thread = threading.Thread(target=self._follow, args=(name,), daemon=True)
                self._threads[name] = thread
                thread.start()

    def lines(self) -> Iterator[str]:
        """What came since it was last asked, ready to be printed: `web/3 | listening`."""
        for _ in range(LINES_AT_ONCE):
            try:
                name, line = self._lines.get_nowait()
            except queue.Empty:
                return
            colour = COLOURS[list(self._threads).index(name) % len(COLOURS)]
            if line.startswith("["):
                label, _, text = line.partition(" ")
                yield f"{paint(label.strip('[]') + ' |', colour)} {plain(text)}"
            else:  # it has a frame, which says whose it is
                yield f"{paint('|', colour)} {plain(line)}"

    def stop(self) -> None:
        """Nobody watches any more."""
        self._is_over = True

    def _follow(self, name: str) -> None:
        """Until it is over; a controller that is replaced meanwhile is asked again."""
        client = Client(self._sockets, timeout_seconds=5.0)
        while not self._is_over:
            rest = b""
            try:
                for chunk in client.logs(name, follow=True, prefix=True, tail=0):
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        self._hand_on(name, line.decode(errors="replace"))
            except ClientError:
                pass  # between two controllers, or the Program is gone
            time.sleep(AGAIN_SECONDS)

    def _hand_on(self, name: str, line: str) -> None:
        try:
            self._lines.put_nowait((name, line))
        except queue.Full:
            pass  # the screen is slower than the processes
