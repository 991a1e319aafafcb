"""A world in memory: clock, processes, journal and log sink, under the same contracts as the real ones.

Time moves only when a test moves it, and what processes do is said beforehand, so a run is the same each time. The
table keeps two things apart as the kernel does: the processes, which outlive a controller, and who watches them.
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any, NamedTuple
from zlib import crc32

from reconciler.model.identity import ProcessId
from reconciler.model.launch import Launch
from reconciler.model.overrides import Moment
from reconciler.model.state import NEVER
from reconciler.ports import ExitReport, Foundling, SpawnFailed, Stream, Trace

ENDING_SIGNALS = frozenset({1, 2, 3, 9, 10, 12, 15})  # the ones whose default is to end a process
FIRST_PID = 300
TICKS_PER_SECOND = 100


class FakeClock:
    """A clock that is turned by hand."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0, boot: str = "boot-1") -> None:
        self.boot = boot
        self._now = now
        self._wall_offset = wall - now

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    def moment(self) -> Moment:
        return Moment(self.wall(), self._now, self.boot)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.advance_to(self._now + seconds)

    def advance_to(self, moment: float) -> None:
        """Let time pass until then. It never goes back."""
        assert moment >= self._now, f"time would go back from {self._now} to {moment}"
        self._now = moment

    def jump_wall(self, seconds: float) -> None:
        """Somebody set the clock on the wall."""
        self._wall_offset += seconds


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a process does with its life. The default runs until it is asked to end, and then ends at once."""

    exits_after: float = NEVER
    code: int | None = 0
    signal: int | None = None  # ends like this instead of with `code`
    term_after: float = 0.0  # from the stop signal to the end; NEVER: does not heed it
    term_code: int | None = None  # ends with this code then; None: by the signal
    leaves: int = 0  # descendants that outlive it
    leaves_for: float = NEVER  # and for how long
    leaves_heed: bool = True  # whether they heed a stop signal
    fails: str | None = None  # it cannot be started, and this is why
    report_lost: bool = False  # when it is the keeper's to reap: the keeper died too, nobody knows how it ended


RUNS = Behaviour()


@dataclass(eq=False, slots=True)
class FakeProcess:
    """One process of the fake kernel, from its start until it is reaped."""

    id: ProcessId
    launch: Launch
    spawn_id: str
    behaviour: Behaviour
    main: bool
    ends_at: float
    code: int | None
    signal: int | None
    started_at: float = 0.0
    own: bool = True  # of the present controller, not of one before it
    ended: bool = False  # a zombie


class Sent(NamedTuple):
    """A signal that reached a process."""

    at: float
    process: ProcessId
    signal: int
    scope: str


class FakeProcessTable:
    """The ProcessTable of a kernel that exists in memory only.

    `behave` says what a launch will do. A test lets time pass to `next_event()` at most and then calls `drain()`.
    """

    def __init__(
        self,
        clock: FakeClock,
        behave: Callable[[Launch, str], Behaviour] = lambda _launch, _spawn_id: RUNS,
        pid_max: int = 32768,
    ) -> None:
        self.clock = clock
        self.behave = behave
        self.pid_max = pid_max
        self.signals: list[Sent] = []
        self.spawned: list[FakeProcess] = []  # all main processes ever
        self.reports: list[ExitReport] = []  # what the keeper reaped and a controller has not been told yet
        self._kernel: dict[int, FakeProcess] = {}
        self._watched: set[ProcessId] = set()
        self._unreported: set[ProcessId] = set()
        self._exited: Callable[[ExitReport], None] = lambda _: None
        self._last_pid = FIRST_PID - 1
        self._used: set[ProcessId] = set()

    # ---- the port ----

    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        behaviour = self.behave(launch, spawn_id)
        if behaviour.fails is not None:
            raise SpawnFailed(behaviour.fails)
        process = self._start(launch, spawn_id, behaviour, main=True, ends_after=behaviour.exits_after)
        self.spawned.append(process)
        self._watched.add(process.id)
        return process.id

    def adopt(self, process: ProcessId) -> bool:
        if self._present(process) is None:
            return False
        self._watched.add(process)
        return True

    def trace(self, spawn_id: str, since: float, reports: Sequence[ExitReport]) -> Trace:
        found = [one.id for one in self.alive() if one.spawn_id == spawn_id]
        found += [report.process for report in reports if report.mark == self.mark(spawn_id)]
        found = [one for one in found if one.start_ticks >= int(since * TICKS_PER_SECOND)]
        first = min(found, key=lambda one: (one.start_ticks, one.pid), default=None)
        return Trace(first, all(report.mark for report in reports))

    def mark(self, spawn_id: str) -> int:
        return 1 + crc32(spawn_id.encode())

    def foundlings(self, known: Container[str]) -> Sequence[Foundling]:
        return [
            Foundling(one.id, one.spawn_id, one.started_at, 0, True, one.launch.env)
            for one in self.alive()
            if one.id not in self._watched and one.spawn_id not in known
        ]

    def signal(self, process: ProcessId, signal: int, scope: str) -> bool:
        main = self._living(process)
        reached = [main] if main is not None else []
        if scope != "process":
            reached += self._descendants(process)
        for one in reached:
            self._send(one, signal, scope)
        return bool(reached)

    def kill_tree(self, process: ProcessId, spawn_id: str) -> None:
        self.signal(process, SIGKILL, "tree")

    def leftovers(self, process: ProcessId, spawn_id: str) -> Sequence[ProcessId]:
        return [one.id for one in self._descendants(process) if one.spawn_id == spawn_id]

    def on_exit(self, exited: Callable[[ExitReport], None]) -> None:
        self._exited = exited

    def report(self, process: ProcessId, code: int | None, signal: int | None) -> None:
        if process not in self._watched | self._unreported:
            return
        if (present := self._present(process)) is not None and present.own:
            return
        self._watched.discard(process)
        self._unreported.discard(process)
        self._exited(ExitReport(process, code, signal))

    # ---- what LinuxProcessTable has besides ----

    def drain(self) -> int:
        """Let end what is due by now, in the order of time, and tell of it."""
        count = 0
        while (process := self._next_due()) is not None:
            count += 1
            self._end(process)
        for process in [one for one in self._kernel.values() if one.ended]:
            self._deliver(process)
        return count

    def unreported(self) -> tuple[ProcessId, ...]:
        return tuple(sorted(self._unreported))

    def keep_up(self) -> None:
        """Nobody else starts processes here."""

    def resolve_unreported(self, process: ProcessId) -> ExitReport:
        self._unreported.discard(process)
        return ExitReport(process, None, None)

    def close(self) -> None:
        self._watched.clear()
        self._unreported.clear()

    # ---- for tests ----

    def next_event(self) -> float:
        """When the next process ends by itself; NEVER when all wait for us."""
        return min((one.ends_at for one in self._kernel.values() if not one.ended), default=NEVER)

    def alive(self) -> list[FakeProcess]:
        """The main processes that run."""
        return [one for one in self._kernel.values() if one.main and not one.ended]

    def everything(self) -> list[FakeProcess]:
        """All processes that run, descendants too."""
        return [one for one in self._kernel.values() if not one.ended]

    def end(self, process: ProcessId, code: int | None = 0, signal: int | None = None) -> None:
        """The process ends now, by itself. `drain` tells of it."""
        found = self._living(process)
        assert found is not None, f"{process} does not run"
        found.ends_at, found.code, found.signal = self.clock.now(), None if signal is not None else code, signal

    def crash(self) -> None:
        """The controller is gone. Its processes are the keeper's now, and so are its zombies."""
        self.close()
        self._exited = lambda _: None
        for process in list(self._kernel.values()):
            process.own = False
            if process.ended:
                self._deliver(process)

    def take_reports(self) -> list[ExitReport]:
        """What the keeper has to say since the last time."""
        reports, self.reports = self.reports, []
        return reports

    # ---- inside ----

    def _start(
        self, launch: Launch, spawn_id: str, behaviour: Behaviour, *, main: bool, ends_after: float
    ) -> FakeProcess:
        now = self.clock.now()
        while True:
            self._last_pid = self._last_pid + 1 if self._last_pid + 1 < self.pid_max else FIRST_PID
            identity = ProcessId(self._last_pid, int(now * TICKS_PER_SECOND))
            if identity.pid not in self._kernel and identity not in self._used:
                break
        self._used.add(identity)
        by_signal = behaviour.signal is not None
        code = None if by_signal else behaviour.code
        ends_at = now + ends_after
        process = FakeProcess(identity, launch, spawn_id, behaviour, main, ends_at, code, behaviour.signal, now)
        self._kernel[identity.pid] = process
        return process

    def _next_due(self) -> FakeProcess | None:
        due = [one for one in self._kernel.values() if not one.ended and one.ends_at <= self.clock.now()]
        return min(due, key=lambda one: (one.ends_at, one.id.pid), default=None)

    def _end(self, process: FakeProcess) -> None:
        process.ended = True
        if not process.main:
            del self._kernel[process.id.pid]  # an orphan: the keeper reaps it and tells of it, as of all
            self.reports.append(ExitReport(process.id, 0, None, self.mark(process.spawn_id)))
            return
        ended = process.behaviour
        heed = Behaviour(term_after=0.0 if ended.leaves_heed else NEVER)
        for _ in range(ended.leaves):
            self._start(process.launch, process.spawn_id, heed, main=False, ends_after=ended.leaves_for)

    def _deliver(self, process: FakeProcess) -> None:
        """Ours: told, then reaped; a callback that raises leaves the zombie. Not ours: the keeper's to tell."""
        report = ExitReport(process.id, process.code, process.signal)
        if process.own:
            self._exited(report)
            self._watched.discard(process.id)
        else:
            if process.id in self._watched:
                self._watched.discard(process.id)
                self._unreported.add(process.id)
            if not process.behaviour.report_lost:
                self.reports.append(report._replace(mark=self.mark(process.spawn_id)))
        self._kernel.pop(process.id.pid, None)

    def _send(self, process: FakeProcess, signal: int, scope: str) -> None:
        now = self.clock.now()
        self.signals.append(Sent(now, process.id, signal, scope))
        behaviour = process.behaviour
        ends = signal in ENDING_SIGNALS or signal == process.launch.stop_signal
        after = 0.0 if signal == SIGKILL else behaviour.term_after if ends else NEVER
        if now + after < process.ends_at:
            told = behaviour.term_code if signal != SIGKILL else None
            process.ends_at, process.code = now + after, told
            process.signal = signal if told is None else None

    def _present(self, process: ProcessId) -> FakeProcess | None:
        found = self._kernel.get(process.pid)
        return found if found is not None and found.id == process else None

    def _living(self, process: ProcessId) -> FakeProcess | None:
        found = self._present(process)
        return found if found is not None and not found.ended else None

    def _descendants(self, process: ProcessId) -> list[FakeProcess]:
        spawn_ids = {one.spawn_id for one in self.spawned if one.id == process}
        return [one for one in self.everything() if not one.main and one.spawn_id in spawn_ids]


class MemoryJournal:
    """A Journal that outlives a controller as long as the test holds it. What comes out is what JSON made of it."""

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self.refuse = False  # the disk is full
        self.records: list[str] = []
        self.checkpoints = 0
        self.damage: str | None = None
        self.boot_changed = False
        self._writable = True

    def append(self, record: Sequence[Any], *, durable: bool = False) -> None:
        if self.refuse:
            self._writable = False
        if self._writable:
            self.records.append(json.dumps(record))

    def replay(self) -> Iterator[list[Any]]:
        return iter([json.loads(record) for record in self.records])

    def checkpoint(self, records: Iterable[Sequence[Any]]) -> None:
        kept = [json.dumps(record) for record in records]
        if not self.refuse:
            self.records = kept
            self.limit = max(self.limit, 4 * len(kept))
            self.checkpoints += 1
            self.boot_changed = False
            self._writable = True

    @property
    def full(self) -> bool:
        return not self._writable or 2 * len(self.records) > self.limit

    @property
    def writable(self) -> bool:
        return self._writable

    def reopen(self) -> None:
        """The next controller has it. What was there can be read, and whether the disk takes more is yet to be seen."""
        self._writable = True

    def close(self) -> None:
        """Nothing to let go of."""


class FakeLogSink:
    """A LogSink that remembers what it was asked. `hold` keeps the answers to marks back until `release`."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.closed: list[str] = []
        self.marks: list[tuple[tuple[str, ...], str]] = []
        self.hold = False
        self._waiting: list[Callable[[], None]] = []

    def open(self, stream: Stream) -> None:
        self.streams[stream.id] = stream

    def close(self, stream_id: str) -> None:
        if self.streams.pop(stream_id, None) is not None:
            self.closed.append(stream_id)

    def mark(self, stream_ids: Iterable[str], run: str, done: Callable[[], None]) -> None:
        self.marks.append((tuple(stream_ids), run))
        if self.hold:
            self._waiting.append(done)
        else:
            done()

    def release(self) -> None:
        """Answer all marks that were held back."""
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done()
