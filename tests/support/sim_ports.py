"""The simulated world's side of every port: what the engine calls, with a place to die before and after each call.

`Fate` counts effects. The one that it was told to strike at raises ControllerDied, which no `except Exception` of the
engine can swallow: half of what was going on has happened, the other half never will. What an effect changed stays,
as it would on a real machine.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from reconciler.core import memory, records
from reconciler.core.launching import Account, Environment, Facts
from reconciler.core.memory import Ledger
from reconciler.core.records import Record
from reconciler.model.identity import Key, ProcessId
from reconciler.model.launch import Launch
from reconciler.model.objects import Accepted
from reconciler.model.program import ProgramSpec
from reconciler.ports import ExitReport, Stream
from support.fakes import FakeLogSink, FakeProcessTable, MemoryJournal

NOBODY = Account("nobody", 65534, "/nonexistent", "/usr/sbin/nologin")
T = TypeVar("T")


class ControllerDied(BaseException):
    """SIGKILL, between two instructions."""


class Fate:
    """Whether the controller dies at one of its next effects."""

    def __init__(self) -> None:
        self.effects = 0  # so far, for failure messages
        self._left: int | None = None
        self._before = False
        self._kind = ""

    def strike(self, effects: int, *, before: bool, kind: str = "") -> None:
        """The controller dies at this effect (of this kind) from now on: just before it is done, or just after."""
        self._left, self._before, self._kind = effects, before, kind

    def relent(self) -> None:
        """It does not die after all."""
        self._left = None

    @property
    def sealed(self) -> bool:
        """Whether its end is decided."""
        return self._left is not None

    def around(self, what: str, effect: Callable[[], T]) -> T:
        """Have an effect, and perhaps die of it."""
        self.effects += 1
        now = False
        if self._left is not None and what.startswith(self._kind):
            self._left -= 1
            now = self._left <= 0
        if now:
            self._left = None
            if self._before:
                raise ControllerDied(f"before {what}")
        result = effect()
        if now:
            raise ControllerDied(f"after {what}")
        return result


class Witness(Protocol):
    """Sees what the engine does, at the moment it does it, and objects by raising AssertionError."""

    def recorded(self, record: Record, *, on_disk: bool) -> None: ...
    def checkpointed(self) -> None: ...
    def spawning(self, launch: Launch, spawn_id: str) -> None: ...
    def spawned(self, process: ProcessId, launch: Launch, spawn_id: str) -> None: ...
    def signalling(self, process: ProcessId, number: int) -> None: ...
    def killing(self, process: ProcessId) -> None: ...


class MortalJournal:
    """The journal, and beside it `ledgers`: what a controller would know that took over at this very moment."""

    def __init__(self, journal: MemoryJournal, fate: Fate, witness: Witness) -> None:
        self._journal, self._fate, self._witness = journal, fate, witness
        self.ledgers = folded(journal.replay())

    def append(self, record: Sequence[Any], *, durable: bool = False) -> None:
        self._fate.around(f"journal {record[0]}", lambda: self._append(record, durable))

    def _append(self, values: Sequence[Any], durable: bool) -> None:
        self._journal.append(values, durable=durable)
        record = records.decode(json.loads(json.dumps(values)))
        assert record is not None
        self._witness.recorded(record, on_disk=self._journal.writable)
        if self._journal.writable:
            memory.fold(self.ledgers.setdefault(record.uid, Ledger()), record)

    def replay(self) -> Iterator[list[Any]]:
        return self._journal.replay()

    def checkpoint(self, records: Iterable[Sequence[Any]]) -> None:
        self._fate.around("checkpoint", lambda: self._checkpoint(list(records)))

    def _checkpoint(self, records: list[Sequence[Any]]) -> None:
        self._journal.checkpoint(records)
        self.ledgers = folded(self._journal.replay())
        if self._journal.writable:
            self._witness.checkpointed()

    @property
    def full(self) -> bool:
        return self._journal.full

    @property
    def writable(self) -> bool:
        return self._journal.writable

    @property
    def boot_changed(self) -> bool:
        return self._journal.boot_changed


def folded(written: Iterable[list[Any]]) -> dict[str, Ledger]:
    """What the journal says, by uid."""
    ledgers: dict[str, Ledger] = {}
    for values in written:
        record = records.decode(values)
        assert record is not None
        memory.fold(ledgers.setdefault(record.uid, Ledger()), record)
    return ledgers


class MortalTable:
    """The process table as one controller has it. Reading is no effect; nobody dies of it."""

    def __init__(self, table: FakeProcessTable, fate: Fate, witness: Witness) -> None:
        self._table, self._fate, self._witness = table, fate, witness
        self.adopt, self.trace, self.leftovers = table.adopt, table.trace, table.leftovers
        self.on_exit, self.report = table.on_exit, table.report
        self.unreported, self.foundlings = table.unreported, table.foundlings

    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        self._witness.spawning(launch, spawn_id)
        return self._fate.around("spawn", lambda: self._spawn(launch, spawn_id))

    def _spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        process = self._table.spawn(launch, spawn_id)
        self._witness.spawned(process, launch, spawn_id)
        return process

    def signal(self, process: ProcessId, signal: int, scope: str) -> bool:
        return self._fate.around("signal", lambda: self._signal(process, signal, scope))

    def _signal(self, process: ProcessId, number: int, scope: str) -> bool:
        self._witness.signalling(process, number)
        return self._table.signal(process, number, scope)

    def kill_tree(self, process: ProcessId, spawn_id: str) -> None:
        self._fate.around("kill", lambda: self._kill(process, spawn_id))

    def _kill(self, process: ProcessId, spawn_id: str) -> None:
        self._witness.killing(process)
        self._table.kill_tree(process, spawn_id)

    def keep_up(self) -> None:
        self._table.keep_up()

    def resolve_unreported(self, process: ProcessId) -> ExitReport:
        return self._table.resolve_unreported(process)


class MortalSink:
    """The log sink."""

    def __init__(self, sink: FakeLogSink, fate: Fate) -> None:
        self._sink, self._fate = sink, fate

    def open(self, stream: Stream) -> None:
        self._fate.around("open log", lambda: self._sink.open(stream))

    def close(self, stream_id: str) -> None:
        self._fate.around("close log", lambda: self._sink.close(stream_id))

    def mark(self, stream_ids: Iterable[str], run: str, done: Callable[[], None]) -> None:
        self._fate.around("mark log", lambda: self._sink.mark(list(stream_ids), run, done))


class MemoryStore:
    """The state directory: what is accepted, what is leaving, overrides and history. It outlives every controller."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self.accepted: dict[Key, Accepted] = {}
        self.leaving: dict[Key, Accepted] = {}
        self.overrides: dict[Key, str] = {}
        self.history: dict[tuple[str, str], str] = {}

    def write_accepted(self, items: Sequence[Accepted]) -> None:
        self._fate.around("accept", lambda: self.accepted.update({item.key: item for item in items}))

    def retire_accepted(self, keys: Collection[Key]) -> None:
        self._fate.around("retire", lambda: self._retire(keys))

    def _retire(self, keys: Collection[Key]) -> None:
        for key in keys:
            # A namesake that still leaves comes first: while it does, its successor has never run.
            self.leaving.setdefault(key, self.accepted.pop(key))

    def forget_accepted(self, key: Key) -> None:
        self._fate.around("forget accepted", lambda: self.leaving.pop(key, None))

    def write_override(self, key: Key, document: Mapping[str, Any]) -> None:
        self._fate.around("write override", lambda: self._write_override(key, document))

    def _write_override(self, key: Key, document: Mapping[str, Any]) -> None:
        if document:
            self.overrides[key] = json.dumps(document)
        else:
            self.overrides.pop(key, None)

    def write_history(self, program: str, revision: str, document: Mapping[str, Any]) -> None:
        text = json.dumps(document)
        self._fate.around("write history", lambda: self.history.update({(program, revision): text}))

    def kept_revisions(self, program: str) -> list[str]:
        return [revision for name, revision in self.history if name == program]

    def load_history(self, program: str) -> tuple[dict[str, dict[str, Any]], list[Any]]:
        return {revision: json.loads(text) for (name, revision), text in self.history.items() if name == program}, []

    def remove_history(self, program: str, revision: str) -> None:
        self._fate.around("remove history", lambda: self.history.pop((program, revision), None))

    def write_status(self, key: Key, document: Mapping[str, Any]) -> str | None:
        json.dumps(document)  # it has to be possible
        return None

    def remove_status(self, key: Key) -> str | None:
        return None

    def append_event(self, event: Mapping[str, Any]) -> str | None:
        return None


class MemorySurroundings:
    """The host's facts. `lacking`: Programs that name something the host does not have."""

    def __init__(self) -> None:
        self.lacking: set[str] = set()
        self._missed: set[str] = set()  # Programs whose last reading found it lacking: where it should be is watched

    def read(self, name: str, spec: ProgramSpec) -> Facts:
        lacks = name in self.lacking
        (self._missed.add if lacks else self._missed.discard)(name)
        return Facts(
            NOBODY,
            directory=spec.working_dir,
            outer=Environment({"PATH": "/bin"}),
            problems=("user www-data does not exist",) if lacks else (),
            startable=not lacks,
            fingerprint=("/etc/passwd without it",) if lacks else (),
        )

    def fingerprint(self, name: str) -> tuple[Any, ...]:
        if name not in self._missed:
            return ()
        return ("/etc/passwd without it",) if name in self.lacking else ("/etc/passwd with it",)

    def news(self) -> bool:
        """Whether the host has something again, and nobody has looked."""
        return bool(self._missed - self.lacking)

    def forget(self, name: str) -> None:
        self._missed.discard(name)
