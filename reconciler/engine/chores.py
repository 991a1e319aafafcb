"""What can wait: files that nobody reads back in a hurry. Done in small portions, after the passes that wait.

Ten thousand objects that appear at once are ten thousand status files, and a disk may be slow: neither a start nor an
answer shall stand in line behind them. What somebody waits for at last is done at once by `finish`.
"""

from collections import deque
from collections.abc import Callable

from reconciler.model.state import NEVER
from reconciler.ports import Clock

PORTION_SECONDS = 0.005
PAUSE_SECONDS = 0.005
BUSY_SECONDS = 5.0  # so long passes go first
RETRY_SECONDS = 0.1  # while they do


class Chores:
    """A queue of calls; `is_busy`: whether a pass is waited for."""

    def __init__(
        self, clock: Clock, later: Callable[[float, Callable[[], None]], object], is_busy: Callable[[], bool]
    ) -> None:
        self._clock, self._later, self._is_busy = clock, later, is_busy
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()  # since when

    def add(self, chore: Callable[[], None]) -> None:
        """Do this soon, in its turn. It raises nothing."""
        self._waiting.append((self._clock.now(), chore))
        if len(self._waiting) == 1:
            self._later(0.0, self._do_some)

    def must_wait(self, since: float, at_most: float) -> bool:
        """Whether passes go first before what waits since then: they do so for some seconds at most."""
        return self._is_busy() and self._clock.now() - since < at_most

    def finish(self, until: float = NEVER) -> int:
        """Do all of it now, or as much as there is time for. How many are left."""
        while self._waiting and self._clock.now() < until:
            self._waiting.popleft()[1]()
        return len(self._waiting)

    def _do_some(self) -> None:
        until = self._clock.now() + PORTION_SECONDS
        while self._waiting:
            since, chore = self._waiting[0]
            if self.must_wait(since, BUSY_SECONDS):
                self._later(RETRY_SECONDS, self._do_some)
                return
            if self._clock.now() >= until:
                self._later(PAUSE_SECONDS, self._do_some)
                return
            self._waiting.popleft()
            chore()
