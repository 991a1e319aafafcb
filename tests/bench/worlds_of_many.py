"""The engine as app.py puts it together, over a kernel that exists in memory only and costs next to nothing.

What is left is the Python part of the real thing: core, engine and (the real) journal.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from reconciler.adapters.clock import BootClock
from reconciler.adapters.journal import SegmentJournal
from reconciler.core.homes import Accept
from reconciler.core.launching import Account, Environment, Facts
from reconciler.engine.building import Builder
from reconciler.engine.choosing import Choosing
from reconciler.engine.chores import Chores
from reconciler.engine.conditions import Conditions
from reconciler.engine.loop import Loop, Ports
from reconciler.engine.programs import Programs
from reconciler.engine.publish import Publisher
from reconciler.model.identity import ProcessId
from reconciler.model.launch import Launch
from reconciler.model.objects import Accepted
from reconciler.model.program import ProgramSpec
from reconciler.ports import ExitReport, Scheduling, Stream

SEGMENT_BYTES = 16 << 20  # as app.py has it
PROMPT = {
    "command": ["/bin/true"],
    "workingDir": "/",
    "minRestartInterval": 0,
    "minReady": 0,
    "restartBackoff": {"initial": 0},
    "logs": {"path": "none"},
}
"""The canonical spec of a Program that is started again as fast as the machine allows, and writes no log."""


class Alarms:
    """Timers that never go off: what the once-a-second work costs is measured by itself."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> "Alarms":
        return self

    def cancel(self) -> None:
        """Nothing was going to happen."""

    def run(self) -> None:
        """Make all calls that were asked for, and those that they ask for."""
        while self.ready:
            self.ready.pop()()


class Kernel:
    """A ProcessTable whose processes end when they are told to."""

    def __init__(self) -> None:
        self.running: dict[ProcessId, None] = {}
        self._numbers = count(1000)
        self._exited: Callable[[ExitReport], None]

    def end_oldest(self) -> None:
        """The process that runs for the longest time exits 0."""
        process = next(iter(self.running))
        del self.running[process]
        self._exited(ExitReport(process, 0, None))

    def on_exit(self, exited: Callable[[ExitReport], None]) -> None:
        self._exited = exited

    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        process = ProcessId(next(self._numbers), 4711)
        self.running[process] = None
        return process

    def leftovers(self, process: ProcessId, spawn_id: str) -> Sequence[ProcessId]:
        return ()

    def adopt(self, process: ProcessId) -> bool:
        return True

    def find(self, spawn_id: str) -> ProcessId | None:
        return None

    def signal(self, process: ProcessId, signal: int, scope: str) -> bool:
        return True

    def kill_tree(self, process: ProcessId, spawn_id: str) -> None:
        """Nobody is killed here."""

    def report(self, process: ProcessId, code: int | None, signal: int | None) -> None:
        """Nobody reports."""

    def unreported(self) -> Sequence[ProcessId]:
        return ()

    def keep_up(self) -> None:
        """Nobody else starts processes here."""

    def resolve_unreported(self, process: ProcessId) -> ExitReport:
        return ExitReport(process, None, None)


class Quiet:
    """Log sink, store, sources and host in one: they take everything and have nothing to say."""

    def open(self, stream: Stream) -> None: ...
    def close(self, stream_id: str) -> None: ...
    def mark(self, stream_ids: Iterable[str], run: str, done: Callable[[], None]) -> None:
        done()

    def trouble(self, stream_id: str) -> str | None:
        return None

    def conditions(self, accepted: Accepted) -> list[Any]:
        return []

    def kept_revisions(self, program: str) -> list[str]:
        return []

    def load_history(self, program: str) -> tuple[dict[str, Any], list[Any]]:
        return {}, []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None  # write_status, append_event, write_history and the like

    def read(self, name: str, spec: ProgramSpec) -> Facts:
        return Facts(Account("nobody", 65534, "/", "/bin/false"), directory="/", outer=Environment({"PATH": "/bin"}))

    def fingerprint(self, name: str) -> tuple[Any, ...]:
        return ()


class Engineroom:
    """Some Programs with their replicas, all running."""

    def __init__(self, folder: Path, programs: int, replicas: int) -> None:
        self.alarms, self.kernel = Alarms(), Kernel()
        clock, quiet = BootClock(), Quiet()
        self.journal = SegmentJournal(str(folder / "journal"), SEGMENT_BYTES)
        builder = Builder(quiet, "/state", {})
        scheduling = Scheduling(self.alarms.ready.append, self.alarms.later)
        ports = Ports(clock, self.journal, self.kernel, quiet)
        self.loop = Loop(ports, scheduling, builder, "a1b2c3d4-")
        conditions = Conditions(quiet, self.journal, quiet.trouble, running_as_root=False, safe_mode=False, daemon=dict)
        self.chores = Chores(clock, self.alarms.later, self.loop.is_busy)
        self.publisher = Publisher(clock, quiet, builder, conditions.of, self.alarms.later, self.chores)
        self.loop.publisher = self.publisher
        choosing = Choosing(scheduling, builder, quiet)
        self.programs = Programs(clock, quiet, builder, self.loop, self.publisher, choosing)
        self.programs.settled([Accept("created", _accepted(number, replicas), None) for number in range(programs)])
        self.loop.release()
        self.alarms.run()

    def look_at_all(self) -> None:
        """Every Program is reconciled as a whole, and everything is as it should be."""
        for controlled in self.loop.programs.values():
            self.loop.mark(controlled)
        self.alarms.run()

    def respawn(self) -> None:
        """One process exits 0 and its replacement is started, as one wake-up of the event loop does it."""
        self.loop.after(self.kernel.end_oldest)
        self.alarms.run()


def _accepted(number: int, replicas: int) -> Accepted:
    name = f"p{number}"
    spec = {"replicas": replicas, **PROMPT}
    return Accepted("Program", name, f"0123456789ab{number:04x}", 1, spec, {}, {}, "dir:/m", f"/m/{name}.yaml")
