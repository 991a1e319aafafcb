"""Memory is the fold of the journal.

Each record says one thing that was decided or seen. The engine appends a record and folds it; after a crash the next
controller folds what it finds and knows the same. Folding never looks at a spec: what depends on one (was that exit a
failure?) was decided when the record was made, and stands in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler.model.identity import ProcessId
from reconciler.model.state import (
    NO_HISTORY,
    Cause,
    Exit,
    History,
    Memory,
    Observed,
    Outcome,
    Process,
    Stopping,
)


class Intended(NamedTuple):
    """A process is about to be started. Followed by Spawned or Exited, or resolved by the next controller."""

    uid: str
    ordinal: int
    spawn_id: str
    revision: str
    epoch: int
    cause: Cause
    at: float


class Spawned(NamedTuple):
    """The intended process runs."""

    uid: str
    ordinal: int
    spawn_id: str
    pid: int
    start_ticks: int


class Exited(NamedTuple):
    """The main process ended, or could not be started (NOT_STARTED)."""

    uid: str
    ordinal: int
    outcome: Outcome
    code: int | None
    signal: int | None
    at: float
    ran_seconds: float
    failures: int  # consecutive ones, this exit included
    done: bool  # the restart policy does not want this revision again
    empty: bool  # nothing of the tree is left
    message: str


class Emptied(NamedTuple):
    """The last of a tree whose main process had ended is gone: the ordinal is free."""

    uid: str
    ordinal: int


class StopBegan(NamedTuple):
    """A drain begins."""

    uid: str
    ordinal: int
    cause: Cause
    at: float
    kill_at: float


class Killed(NamedTuple):
    """KILL goes to the tree."""

    uid: str
    ordinal: int
    at: float


class Forgotten(NamedTuple):
    """An ordinal that is no longer wanted; -1: the whole object."""

    uid: str
    ordinal: int


class Progressed(NamedTuple):
    """The rollout of (revision, epoch) took a step: it began, or `available` up-to-date replicas are available."""

    uid: str
    revision: str
    epoch: int
    at: float
    available: int
    complete: bool


class Reset(NamedTuple):
    """An operator forgives: failures and recorded successes of an ordinal are forgotten; -1: of all."""

    uid: str
    ordinal: int


class Restored(NamedTuple):
    """A whole replica at a checkpoint: history and process, as nested tuples."""

    uid: str
    ordinal: int
    history: Sequence[Any]
    process: Sequence[Any] | None


Record = Intended | Spawned | Exited | Emptied | StopBegan | Killed | Forgotten | Progressed | Reset | Restored

RECORDS: dict[str, type[Any]] = {
    "intended": Intended,
    "spawned": Spawned,
    "exited": Exited,
    "emptied": Emptied,
    "stop": StopBegan,
    "killed": Killed,
    "forgotten": Forgotten,
    "progressed": Progressed,
    "reset": Reset,
    "restored": Restored,
}
TAGS = {record: tag for tag, record in RECORDS.items()}


@dataclass(slots=True)
class Ledger:
    """What is known of one object (by uid): the processes that run, and what must be remembered."""

    observed: Observed = field(default_factory=Observed)
    memory: Memory = field(default_factory=Memory)
    intent: Intended | None = None  # spawns are serial: at most one is open in all ledgers together
