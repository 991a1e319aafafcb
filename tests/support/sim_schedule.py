"""The event loop of one simulated controller: what it was asked to call soon, and at which moments.

Polls are kept apart from timers. They run when their time has come, but time does not move for their sake.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.engine.observe import Observer
from reconciler.model.state import NEVER
from support.fakes import FakeClock


@dataclass(order=True)
class Alarm:
    """A call that was asked for at a moment."""

    at: float
    number: int
    call: Callable[[], None] = field(compare=False)
    poll: bool = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Schedule:
    """The event loop of one controller; it dies with it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.ready: deque[Callable[[], None]] = deque()
        self._alarms: list[Alarm] = []
        self._asked = 0

    def soon(self, call: Callable[[], None]) -> None:
        self.ready.append(call)

    def later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        return self._ask(seconds, call, poll=getattr(call, "__func__", None) is Observer._look_at_rests)

    def poll_later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """What may be late: nothing that a Program needs may hang on it."""
        return self._ask(seconds, call, poll=True)

    def _ask(self, seconds: float, call: Callable[[], None], *, poll: bool) -> Alarm:
        self._asked += 1
        alarm = Alarm(self._clock.now() + seconds, self._asked, call, poll)
        heapq.heappush(self._alarms, alarm)
        return alarm

    def due(self) -> Callable[[], None] | None:
        """The next call whose time has come."""
        while self._alarms and (self._alarms[0].cancelled or self._alarms[0].at <= self._clock.now()):
            alarm = heapq.heappop(self._alarms)
            if not alarm.cancelled:
                return alarm.call
        return None

    def next_alarm(self, *, polls: bool = False) -> float:
        """When the next timer goes off."""
        return min((a.at for a in self._alarms if not a.cancelled and (polls or not a.poll)), default=NEVER)
