"""Memory is the fold of the journal.

Each record says one thing that was decided or seen. The engine appends a record and folds it; after a crash the next
controller folds what it finds and knows the same. Folding never looks at a spec: what depends on one (was that exit a
failure?) was decided when the record was made, and stands in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from reconciler.core.records import (
    Departed,
    Emptied,
    Exited,
    Forgotten,
    Intended,
    Killed,
    Progressed,
    Record,
    Reset,
    Rested,
    Restored,
    ScaledTo,
    Signalled,
    Spawned,
    StopBegan,
    Withdrawn,
    history_from,
    process_from,
)
from reconciler.model.identity import ProcessId
from reconciler.model.state import NO_HISTORY, Cause, Exit, History, Memory, Observed, Process, Scaled, Stopping


@dataclass(slots=True)
class Ledger:
    """What is known of one object (by uid): the processes that run, and what must be remembered."""

    observed: Observed = field(default_factory=Observed)
    memory: Memory = field(default_factory=Memory)
    intent: Intended | None = None  # spawns are serial: at most one is open in all ledgers together
    departed: Departed | None = None


def fold(ledger: Ledger, record: Record) -> None:
    """Change the ledger as the record says. A record that does not fit what is known changes nothing."""
    FOLDS[type(record)](ledger, record)


def _intended(ledger: Ledger, record: Intended) -> None:
    ledger.intent = record
    if ledger.observed.work is not None:
        ledger.observed.work -= 1


def _spawned(ledger: Ledger, record: Spawned) -> None:
    intent = ledger.intent
    if intent is None or intent.spawn_id != record.spawn_id:
        return
    ledger.intent = None
    ledger.observed.processes[record.ordinal] = Process(
        ProcessId(record.pid, record.start_ticks),
        record.spawn_id,
        intent.revision,
        intent.epoch,
        intent.at,
        intent.cause,
        run_once=intent.run_once,
    )
    history = ledger.memory.histories.get(record.ordinal, NO_HISTORY)
    ledger.memory.histories[record.ordinal] = History(
        failures=history.failures,
        last_exit=history.last_exit,
        last_started_at=intent.at,
        runs=history.runs + 1,
        restarts=history.restarts + (intent.cause is Cause.PROCESS_EXITED),
    )


def _withdrawn(ledger: Ledger, record: Withdrawn) -> None:
    if ledger.intent is not None and ledger.intent.spawn_id == record.spawn_id:
        ledger.intent = None


def _exited(ledger: Ledger, record: Exited) -> None:
    process = ledger.observed.processes.get(record.ordinal)
    history = ledger.memory.histories.get(record.ordinal, NO_HISTORY)
    if process is not None and not process.ended:
        revision, epoch, started_at = process.revision, process.epoch, process.started_at
        if record.empty:
            del ledger.observed.processes[record.ordinal]
        else:
            ledger.observed.processes[record.ordinal] = process._replace(ended=True)
    elif ledger.intent is not None and ledger.intent.ordinal == record.ordinal:
        revision, epoch, started_at = ledger.intent.revision, ledger.intent.epoch, ledger.intent.at
        ledger.intent = None
    else:
        return
    ended = Exit(
        record.outcome, record.code, record.signal, record.at, record.ran_seconds, revision, epoch, record.message
    )
    ledger.memory.histories[record.ordinal] = History(
        failures=record.failures,
        last_exit=ended,
        last_started_at=started_at,
        done_revision=revision if record.done else "",
        done_epoch=epoch if record.done else 0,
        done_outcome=record.outcome if record.done else None,
        runs=history.runs,
        restarts=history.restarts,
    )


def _emptied(ledger: Ledger, record: Emptied) -> None:
    process = ledger.observed.processes.get(record.ordinal)
    if process is not None and process.ended:
        del ledger.observed.processes[record.ordinal]


def _stop_began(ledger: Ledger, record: StopBegan) -> None:
    process = ledger.observed.processes.get(record.ordinal)
    if process is not None:
        stopping = Stopping(record.cause, record.at, record.kill_at, signalled=record.silent)
        ledger.observed.processes[record.ordinal] = process._replace(stopping=stopping)


def _signalled(ledger: Ledger, record: Signalled) -> None:
    process = ledger.observed.processes.get(record.ordinal)
    if process is not None and process.stopping is not None:
        stopping = process.stopping._replace(signalled=True)
        ledger.observed.processes[record.ordinal] = process._replace(stopping=stopping)


def _killed(ledger: Ledger, record: Killed) -> None:
    process = ledger.observed.processes.get(record.ordinal)
    if process is not None and process.stopping is not None:
        stopping = process.stopping._replace(killed=True)
        ledger.observed.processes[record.ordinal] = process._replace(stopping=stopping)


def _forgotten(ledger: Ledger, record: Forgotten) -> None:
    if record.ordinal in ledger.observed.processes:
        return
    ledger.memory.histories.pop(record.ordinal, None)


def _progressed(ledger: Ledger, record: Progressed) -> None:
    memory = ledger.memory
    memory.progress_revision, memory.progress_epoch = record.revision, record.epoch
    memory.progress_at, memory.progress_score, memory.complete = record.at, record.score, record.complete
    if record.complete and record.score:
        memory.available_revision = record.revision


def _rested(ledger: Ledger, record: Rested) -> None:
    history = ledger.memory.histories.get(record.ordinal)
    if history is not None:
        ledger.memory.histories[record.ordinal] = history._replace(rested=True)


def _reset(ledger: Ledger, record: Reset) -> None:
    for ordinal, history in ledger.memory.histories.items():
        if record.ordinal in (-1, ordinal):
            ledger.memory.histories[ordinal] = history._replace(
                failures=0, done_revision="", done_epoch=0, done_outcome=None
            )


def _restored(ledger: Ledger, record: Restored) -> None:
    ledger.memory.histories[record.ordinal] = history_from(record.history)
    if record.process is not None:
        ledger.observed.processes[record.ordinal] = process_from(record.process)


def _departed(ledger: Ledger, record: Departed) -> None:
    ledger.departed = record


def _scaled_to(ledger: Ledger, record: ScaledTo) -> None:
    known = Scaled(record.replicas, record.at, record.active_at)
    ledger.memory.scaled = None if record.replicas < 0 else known


FOLDS: dict[type[Any], Callable[[Ledger, Any], None]] = {
    Intended: _intended,
    Spawned: _spawned,
    Withdrawn: _withdrawn,
    Exited: _exited,
    Emptied: _emptied,
    StopBegan: _stop_began,
    Signalled: _signalled,
    Killed: _killed,
    Forgotten: _forgotten,
    Progressed: _progressed,
    Reset: _reset,
    Rested: _rested,
    Restored: _restored,
    Departed: _departed,
    ScaledTo: _scaled_to,
}
"""Total over Record; a test says so."""


def snapshot(uid: str, ledger: Ledger) -> Iterator[Record]:
    """Records that fold to the same ledger: the checkpoint of one object."""
    memory = ledger.memory
    ordinals = sorted(memory.histories.keys() | ledger.observed.processes.keys())
    for ordinal in ordinals:
        process = ledger.observed.processes.get(ordinal)
        yield Restored(uid, ordinal, memory.histories.get(ordinal, NO_HISTORY), process)
    if memory.available_revision:
        yield Progressed(uid, memory.available_revision, 0, memory.progress_at, 1, True)
    if memory.progress_revision:
        yield Progressed(
            uid,
            memory.progress_revision,
            memory.progress_epoch,
            memory.progress_at,
            memory.progress_score,
            memory.complete,
        )
    if memory.scaled is not None:
        yield ScaledTo(uid, *memory.scaled)
    if ledger.intent is not None:
        yield ledger.intent
    if ledger.departed is not None:
        yield ledger.departed
