"""The journal's records: each says one thing that was decided or seen, and how it is written down.

A record never speaks of a spec: what depends on one (was that exit a failure?) was decided when the record was made,
and stands in it. What records mean together is told in memory.py.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from reconciler.model.identity import ProcessId
from reconciler.model.state import Cause, Exit, History, Outcome, Process, Stopping


class Intended(NamedTuple):
    """A process is about to be started. Followed by Spawned, Exited or Withdrawn, if need be of the next controller."""

    uid: str
    ordinal: int
    spawn_id: str
    revision: str
    epoch: int
    cause: Cause
    at: float
    run_once: bool = False


class Spawned(NamedTuple):
    """The intended process runs."""

    uid: str
    ordinal: int
    spawn_id: str
    pid: int
    start_ticks: int


class Withdrawn(NamedTuple):
    """The intended process was never started: the controller died before."""

    uid: str
    ordinal: int
    spawn_id: str


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
    silent: bool = False  # it gets no stop signal


class Signalled(NamedTuple):
    """The stop signal was sent. Without this record the next controller sends it: it must not get lost."""

    uid: str
    ordinal: int


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
    """The rollout of (revision, epoch) began, or came further than ever before."""

    uid: str
    revision: str
    epoch: int
    at: float
    score: int
    complete: bool


class Reset(NamedTuple):
    """An operator forgives: failures and recorded successes of an ordinal are forgotten; -1: of all."""

    uid: str
    ordinal: int


class Rested(NamedTuple):
    """A free ordinal is not wanted for now."""

    uid: str
    ordinal: int


class Restored(NamedTuple):
    """A whole replica, at a checkpoint or taken over from a deleted namesake: plain nested tuples."""

    uid: str
    ordinal: int
    history: Sequence[Any]
    process: Sequence[Any] | None


class Departed(NamedTuple):
    """The last process of a deleted object is gone. Until then a namesake takes over what was remembered of it."""

    uid: str
    name: str
    until: float


class ScaledTo(NamedTuple):
    """The binding of this Program asks for a count; -1: there is no binding any more."""

    uid: str
    replicas: int
    at: float
    active_at: float


Record = (
    Intended
    | Spawned
    | Withdrawn
    | Exited
    | Emptied
    | StopBegan
    | Signalled
    | Killed
    | Forgotten
    | Progressed
    | Reset
    | Rested
    | Restored
    | Departed
    | ScaledTo
)


TAGS: dict[type[Any], str] = {
    Intended: "intended",
    Spawned: "spawned",
    Withdrawn: "withdrawn",
    Exited: "exited",
    Emptied: "emptied",
    StopBegan: "stop",
    Signalled: "signalled",
    Killed: "killed",
    Forgotten: "forgotten",
    Progressed: "progressed",
    Reset: "reset",
    Rested: "rested",
    Restored: "restored",
    Departed: "departed",
    ScaledTo: "scaled",
}
RECORDS = {tag: record for record, tag in TAGS.items()}
ENUMS: dict[str, type[Cause] | type[Outcome]] = {"cause": Cause, "outcome": Outcome}


def encode(record: Record) -> tuple[Any, ...]:
    """The record as JSON values, its tag first."""
    return (TAGS[type(record)], *record)


def decode(values: Sequence[Any]) -> Record | None:
    """The record that was encoded; None for a tag that a newer release has written."""
    kind = RECORDS.get(values[0])
    if kind is None:
        return None
    fields = dict(zip(kind._fields, values[1:], strict=False))
    for name, enum in ENUMS.items():
        if name in fields:
            fields[name] = enum(fields[name])
    record: Record = kind(**fields)
    return record


def history_from(values: Sequence[Any]) -> History:
    """A History from its plain nested values (JSON knows no enums and no named tuples)."""
    fields = dict(zip(History._fields, values, strict=False))
    if fields.get("last_exit") is not None:
        ended = dict(zip(Exit._fields, fields["last_exit"], strict=False))
        fields["last_exit"] = Exit(**{**ended, "outcome": Outcome(ended["outcome"])})
    if fields.get("done_outcome") is not None:
        fields["done_outcome"] = Outcome(fields["done_outcome"])
    return History(**fields)


def process_from(values: Sequence[Any]) -> Process:
    """A Process from its plain nested values."""
    fields = dict(zip(Process._fields, values, strict=False))
    fields["id"] = ProcessId(*fields["id"])
    fields["cause"] = Cause(fields["cause"])
    if fields.get("stopping") is not None:
        cause, *rest = fields["stopping"]
        fields["stopping"] = Stopping(Cause(cause), *rest)
    return Process(**fields)
