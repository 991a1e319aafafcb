"""The seams between the engine and the world: one Protocol per effect.

The engine is given implementations by the composition root and never imports one. Every port has a fake beside the
real adapter's contract tests (tests/adapters), and one suite runs on both.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from reconciler.core.activity import Activity
from reconciler.model.identity import ProcessId
from reconciler.model.launch import Credentials, Launch
from reconciler.model.overrides import Moment
from reconciler.model.queues import QueueReadFailed, QueueReading


class Clock(Protocol):
    """Reads the time."""

    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for display only."""
        ...

    def moment(self) -> Moment:
        """Now by both clocks, and in which boot."""
        ...


class Timer(Protocol):
    """A call that can still be taken back."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Scheduling(NamedTuple):
    """How the engine waits: by the event loop's calls, or by a simulated world's."""

    soon: Callable[[Callable[[], None]], object]
    later: Callable[[float, Callable[[], None]], Timer]


class SpawnFailed(Exception):
    """A command could not be started. The text is the reason as a shell would give it."""


class ExitReport(NamedTuple):
    """The end of a main process. Both `code` and `signal` None: it ended and nobody can say how.

    `mark`: what it carried of the spawn that it descends from, see `ProcessTable.trace`; 0: nothing, or unknown.
    """

    process: ProcessId
    code: int | None
    signal: int | None
    mark: int = 0


class Foundling(NamedTuple):
    """A main process that an earlier controller started and nobody knows any more, as its environment tells of it."""

    process: ProcessId
    spawn_id: str
    started_at: float  # CLOCK_BOOTTIME
    uid: int
    own_uid: bool  # the controller's
    environment: Mapping[str, str]  # what of it begins with RECONCILER_


class Trace(NamedTuple):
    """What became of a spawn whose outcome was not written down."""

    process: ProcessId | None  # its main process: it is there, as a zombie perhaps, or somebody reported its end
    certain: bool  # without one: whether none was ever started, as far as the table can see


class ProcessTable(Protocol):
    """Starts, signals, watches and ends processes. Identities are (pid, start time); a stranger is never signalled.

    Exits are reported in two steps, so that a crash in between loses nothing: `exited` is called while the process is
    still a zombie, and it is reaped after the call returned (by then the exit stands in the journal).
    """

    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        """Start a process as leader of a session of its own and watch it.

        `spawn_id` goes into its environment as RECONCILER_SPAWN_ID. Raises SpawnFailed.
        """
        ...

    def adopt(self, process: ProcessId) -> bool:
        """Watch a process that an earlier controller started. False when it is gone already."""
        ...

    def trace(self, spawn_id: str, since: float, reports: Sequence[ExitReport]) -> Trace:
        """What became of a spawn of which only the intent was written down, at `since` (CLOCK_BOOTTIME).

        `reports`: all that the keeper reaped in our absence.
        """
        ...

    def foundlings(self, known: Container[str]) -> Sequence[Foundling]:
        """Living main processes of earlier controllers that are not watched, with a spawn id that is not `known`."""
        ...

    def signal(self, process: ProcessId, signal: int, scope: str) -> bool:
        """Send a signal to the process, its group or its tree (`scope`). False when there is nobody left."""
        ...

    def kill_tree(self, process: ProcessId, spawn_id: str) -> None:
        """KILL the process and all that belongs to it. Returns at once; `leftovers` tells when all is gone."""
        ...

    def leftovers(self, process: ProcessId, spawn_id: str) -> Sequence[ProcessId]:
        """What of its tree lives although the main process ended. Cheap when there is nothing."""
        ...

    def on_exit(self, exited: Callable[[ExitReport], None]) -> None:
        """Whom to tell when a watched main process ends."""
        ...

    def report(self, process: ProcessId, code: int | None, signal: int | None) -> None:
        """The keeper reaped an adopted process: the end of the wait for how it ended."""
        ...

    def unreported(self) -> Sequence[ProcessId]:
        """Adopted processes that ended and whose report is due."""
        ...

    def keep_up(self) -> None:
        """Called about once a second: do now what would otherwise be done between an end and its restart."""
        ...

    def resolve_unreported(self, process: ProcessId) -> ExitReport:
        """No report is awaited any more: how it ended as far as the kernel still knows. Told here only."""
        ...


class Stream(NamedTuple):
    """One log stream: a FIFO that the pump moves to a file. `id` is `<program uid>/<ordinal>/<out|err>`.

    `path` may also be /dev/stdout or /dev/stderr: those of the daemon. `shared`: other replicas write there, too.
    """

    id: str
    fifo: str
    path: str
    max_size: int
    max_files: int
    compress: str  # gzip or none
    mode: int
    owner: tuple[int, int] | None  # (uid, gid) of the FIFO; None: the controller's
    format: str = "raw"  # raw, prefix or json
    program: str = ""  # what lines are called when they get a frame: these three
    replica: int = 0
    stream: str = "out"
    shared: bool = False


class LogSink(Protocol):
    """Keeps one FIFO per stream alive and moves its bytes to files."""

    def open(self, stream: Stream) -> None:
        """Make sure that FIFO, holder and file exist; a changed path, size or mode takes effect at once."""
        ...

    def close(self, stream_id: str) -> None:
        """Drain, then let the FIFO go. The files stay."""
        ...

    def mark(self, stream_ids: Iterable[str], run: str, done: Callable[[], None]) -> None:
        """Note in the index that `run` ended here. `done` is called when it is noted."""
        ...


class WorkLog(NamedTuple):
    """Where one process prints what it does. `framed`: lines say whose they are."""

    ordinal: int
    path: str
    framed: bool = False
    shared: bool = False  # by several ordinals


class WorkLogs(Protocol):
    """Tells from logs what processes do."""

    def look(self, logs: Sequence[WorkLog], told: Callable[[Mapping[int, Activity]], None]) -> None:
        """Read the ends of these logs beside the event loop; bounded in bytes, not in time: a disk may hang.

        `told` is called in the event loop, later, with what each ordinal does, where its log tells.
        """
        ...


class Journal(Protocol):
    """An append-only record of what was decided and seen. Survives SIGKILL between any two instructions."""

    def append(self, record: Sequence[Any], *, durable: bool = False) -> None:
        """Write one record (JSON values). `durable`: also against power loss."""
        ...

    def replay(self) -> Iterable[list[Any]]:
        """All whole records since the last checkpoint, the checkpoint's own first; a torn tail is left out."""
        ...

    def checkpoint(self, records: Iterable[Sequence[Any]]) -> None:
        """Replace all that was written by these records, atomically."""
        ...

    @property
    def full(self) -> bool:
        """Whether a checkpoint is due."""
        ...

    @property
    def writable(self) -> bool:
        """False when the disk refused the last segment: records are lost until it takes one again."""
        ...


class QueueReader(Protocol):
    """Asks one queue how much waits, without disturbing it. Used by one thread at a time; blocking.

    Every call ends within 2 s whatever the server does (socket time-outs, not hope). A lost connection is opened anew
    by the next call.
    """

    def read(self) -> QueueReading:
        """Look once. Raises QueueReadFailed."""
        ...

    def wait(self, seconds: float) -> bool:
        """Block until there may be something that the last `read` has not seen, `seconds` at most; True: look now.

        Only where the server can be waited on without disturbing (`can_wait`); elsewhere it is never called.
        """
        ...

    @property
    def can_wait(self) -> bool:
        """Whether `wait` is any better than polling. May change when a connection shows what the server can do."""
        ...

    def close(self) -> None:
        """Let the connection go. May be called from another thread to end a `wait`."""
        ...


class QueueAsked(NamedTuple):
    """All that a driver needs to open one trigger."""

    type: str
    metadata: Mapping[str, Any]  # as written; a driver of one kind gets `<key>FromEnv`, `<key>FromFile` as `<key>`
    working_dir: str  # of the bound Program: `laravel` reads its `.env` there
    environment: Mapping[str, str]  # of the bound Program, as far as it is known without an ordinal
    count_at_most: int  # counting further changes no decision
    credentials: Credentials | None = None  # of its processes, on whose behalf files are read; None: the controller's


class QueueDriver(Protocol):
    """One kind of queue: what each module in adapters/queues exports as DRIVER, and what entry points name."""

    @property
    def polling_seconds(self) -> float:
        """How often to look when the binding does not say."""
        ...

    def open(self, asked: QueueAsked) -> QueueReader:
        """Make a reader. Connects late: a server that is away fails the reads. Raises QueueReadFailed(BadMetadata)."""
        ...


QueueAnswer = QueueReading | QueueReadFailed
"""What one trigger's reader said last."""


class QueueMeter(Protocol):
    """Goes on asking the queues of one binding, beside the event loop, until it is closed."""

    @property
    def polling_seconds(self) -> float:
        """How often it asks at least."""
        ...

    def look(self) -> None:
        """Ask now: somebody says that there is something new."""
        ...

    def close(self) -> None:
        """Ask no more. Returns at once; no answer is told afterwards."""
        ...


class QueueMeters(Protocol):
    """Makes meters. One that hangs costs nobody else a moment."""

    def open(
        self,
        name: str,
        asked: Sequence[QueueAsked],
        polling_seconds: float | None,
        told: Callable[[Sequence[QueueAnswer]], None],
    ) -> QueueMeter:
        """Ask at least every `polling_seconds` (None: as often as the drivers propose), and when a server says so.

        `told` is called in the event loop with one answer per trigger, at the first look and at each one after it.
        """
        ...
