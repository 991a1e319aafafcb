"""A modelled host: a queue in order of arrival, and processes that boot, take pieces and are drained; event by event.

What is known of the world is handed to a scaler as a View, at the moments that it asks for; the count it answers is
carried out at once. A process that is asked to end finishes its piece first.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from reconciler.simulation.loads import Piece


class View(NamedTuple):
    """What a scaler may know."""

    now: float
    waiting: int
    reserved: int
    oldest_seconds: float
    arrived: int
    completed: int
    running: int  # not asked to end
    ready: int  # of them, booted
    draining: int
    started: int


class Answer(NamedTuple):
    """What a scaler wants: a count, or, of run-once processes, how many to start now; and when to be asked again."""

    replicas: int
    next_at: float
    starts: int | None = None


class Scaler(Protocol):
    """Decides how many processes there are."""

    name: str
    oldest_first: bool  # whom a smaller count ends: the oldest, busy or not

    def look(self, view: View) -> Answer:
        """Called at 0 and whenever it asked for."""
        ...


class Sample(NamedTuple):
    """The world at one moment, for pictures."""

    at: float
    waiting: int
    processes: int


class History(NamedTuple):
    """What happened."""

    waits: list[float]  # of each piece until it was taken; of those never taken, until the end
    untaken: int
    process_seconds: float
    changes: int  # of the wanted count
    most: int  # processes at a time
    samples: list[Sample]


class _Process:
    """One process."""

    __slots__ = ("busy", "draining", "ended", "ready", "started_at")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.ready = self.busy = self.draining = self.ended = False


class Machine:
    """One run of one scaler on one load."""

    def __init__(self, load: Iterable[Piece], scaler: Scaler, *, boot_seconds: float, run_once: bool) -> None:
        self._scaler = scaler
        self._boot_seconds = boot_seconds
        self._run_once = run_once
        self._load = iter(load)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._now = 0.0
        self._queue: deque[Piece] = deque()
        self._alive: list[_Process] = []  # in the order of their start
        self._idle: list[_Process] = []
        self._arrived = self._completed = self._reserved = self._started = self._changes = self._most = 0
        self._wanted: int | None = None
        self._process_seconds = 0.0
        self._waits: list[float] = []
        self._samples: list[Sample] = [Sample(0.0, 0, 0)]

    def run(self, duration: float) -> History:
        """Everything until then."""
        self._next_arrival()
        self._at(0.0, self._look)
        while self._events and self._events[0][0] <= duration:
            at, _, act = heappop(self._events)
            self._pass_to(at)
            act()
            self._sample()
        self._pass_to(duration)
        waits = self._waits + [duration - piece.at for piece in self._queue]
        return History(waits, len(self._queue), self._process_seconds, self._changes, self._most, self._samples)

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        self._serial += 1
        heappush(self._events, (moment, self._serial, act))

    def _pass_to(self, moment: float) -> None:
        self._process_seconds += len(self._alive) * (moment - self._now)
        self._now = moment

    def _sample(self) -> None:
        sample = Sample(self._now, len(self._queue), len(self._alive))
        if sample[1:] != self._samples[-1][1:]:
            self._samples.append(sample)

    # ---- the queue ----

    def _next_arrival(self) -> None:
        piece = next(self._load, None)
        if piece is not None:
            self._at(piece.at, partial(self._arrive, piece))

    def _arrive(self, piece: Piece) -> None:
        self._arrived += 1
        self._queue.append(piece)
        self._hand_out()
        self._next_arrival()

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            process, piece = self._idle.pop(), self._queue.popleft()
            process.busy = True
            self._reserved += 1
            self._waits.append(self._now - piece.at)
            self._at(self._now + piece.service_seconds, partial(self._finish, process))

    def _finish(self, process: _Process) -> None:
        process.busy = False
        self._reserved -= 1
        self._completed += 1
        if process.draining or self._run_once:
            self._end(process)
        else:
            self._idle.append(process)
            self._hand_out()

    # ---- the processes ----

    def _look(self) -> None:
        running = [process for process in self._alive if not process.draining]
        view = View(
            self._now,
            len(self._queue),
            self._reserved,
            self._now - self._queue[0].at if self._queue else 0.0,
            self._arrived,
            self._completed,
            len(running),
            sum(process.ready for process in running),
            len(self._alive) - len(running),
            self._started,
        )
        answer = self._scaler.look(view)
        self._changes += self._wanted is not None and answer.replicas != self._wanted
        self._wanted = answer.replicas
        missing = answer.replicas - len(running) if answer.starts is None else answer.starts
        for _ in range(missing):
            self._start()
        if answer.starts is None and missing < 0:
            for process in self._victims(running, -missing):
                self._drain(process)
        self._at(answer.next_at, self._look)

    def _victims(self, running: list[_Process], number: int) -> list[_Process]:
        """Who ends first: those that have not begun, then the idle, then the busy; of each the youngest."""
        if self._scaler.oldest_first:
            return running[:number]
        return sorted(running, key=lambda process: (process.ready, process.busy, -process.started_at))[:number]

    def _start(self) -> None:
        process = _Process(self._now)
        self._started += 1
        self._alive.append(process)
        self._most = max(self._most, len(self._alive))
        self._at(self._now + self._boot_seconds, partial(self._become_ready, process))

    def _become_ready(self, process: _Process) -> None:
        if not process.ended:
            process.ready = True
            if self._run_once and not self._queue:
                self._end(process)  # nothing to take
            else:
                self._idle.append(process)
                self._hand_out()

    def _drain(self, process: _Process) -> None:
        process.draining = True
        if not process.busy:
            if process.ready:
                self._idle.remove(process)
            self._end(process)

    def _end(self, process: _Process) -> None:
        process.ended = True
        self._alive.remove(process)
