"""Says what is: status files, events, watchers, for objects of every kind. Reads only; nothing here changes what runs.

A status file is written at most once a second per object, only when something in it changed, and as a chore: a start is
worth more than the news of it. Questions over the API are answered from memory at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from sys import intern
from typing import Any, Protocol

from reconciler.core.plan import Action, Forget, Kill, Rest, Start, Stop
from reconciler.core.restart import next_start_at
from reconciler.core.status import View, exit_text, iso_text, program_status, seconds_text, with_transitions
from reconciler.engine.building import Builder
from reconciler.engine.chores import Chores
from reconciler.engine.controlled import Controlled
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted
from reconciler.model.state import NEVER, Cause, Condition, ConditionStatus, Desired, History
from reconciler.ports import Clock

FIRST_FLUSH_SECONDS = 0.1
FLUSH_SECONDS = 1.0
REFUSED_SECONDS = 5.0
TELL_SECONDS = 0.01
TELL_BUSY_SECONDS = 1.0  # so long passes go first
TELL_RETRY_SECONDS = 0.05  # while they do
TOLD_AT_ONCE = 50  # whatever happened at once, other work has its turn in between
EVENTS_KEPT = 5000
EVENTS_AT_ONCE = 20
EVENTS_PER_SECOND = 0.5
WATCH_QUEUE_LENGTH = 10_000
LONGEST_WORD = 63  # of a name or a reason; what is longer was said once
_UNTOLD = (Forget, Rest)

log = logging.getLogger("reconciler")

Message = tuple[str, dict[str, Any]]


class Shown(Protocol):
    """An object under control, of whatever kind."""

    @property
    def accepted(self) -> Accepted: ...


class StatusStore(Protocol):
    """Where status and events go."""

    def write_status(self, key: Key, document: Mapping[str, Any]) -> str | None: ...
    def remove_status(self, key: Key) -> str | None: ...
    def append_event(self, event: Mapping[str, Any]) -> str | None: ...


class Budget:
    """How many events of one Program are worth telling: a burst, then a few a second; the rest is counted."""

    __slots__ = ("_at", "_burst", "_left", "_left_out")

    def __init__(self, burst: int) -> None:
        self._burst, self._left = burst, float(burst)
        self._at = 0.0
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """None: leave this one out. Else how many were left out since the last one that was told."""
        self._left = min(self._burst, self._left + (now - self._at) * EVENTS_PER_SECOND)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class Publisher:
    """Keeps status files, the list of events and all watchers up to date."""

    def __init__(
        self,
        clock: Clock,
        store: StatusStore,
        builder: Builder,
        conditions: Callable[[Controlled], list[Condition]],
        later: Callable[[float, Callable[[], None]], object],
        chores: Chores,
    ) -> None:
        self._clock = clock
        self._store = store
        self._builder = builder
        self._conditions = conditions
        self._later = later
        self.chores = chores
        self._status_of: dict[str, Callable[[Any, View], dict[str, Any]]] = {"Program": self._program_status}
        self._written: dict[Key, dict[str, Any]] = {}  # the last object that was written
        self._due: set[Shown] = set()
        self._flushed_at: dict[Key, float] = {}
        self._refused: dict[Key, str] = {}  # whose status the disk did not take, and why
        self._watchers: set[asyncio.Queue[Message]] = set()
        self._event_watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._untold: deque[tuple[float, Callable[[], None]]] = deque()  # to be put into words, in order; since when
        self._budgets: dict[str, Budget] = {}

    # --- objects ------------------------------------------------------------------------------------------------------

    def show(self, kind: str, status_of: Callable[[Any, View], dict[str, Any]]) -> None:
        """How the status of another kind is made: without transition times, conditions as JSON values."""
        self._status_of[kind] = status_of

    def object(self, shown: Shown) -> dict[str, Any]:
        """The whole object as the API answers it, fresh."""
        accepted = shown.accepted
        metadata = {
            "name": accepted.name,
            "uid": accepted.uid,
            "generation": accepted.generation,
            "creationTimestamp": iso_text(accepted.created_at) if accepted.created_at else None,
            "labels": dict(accepted.labels),
            "annotations": dict(accepted.annotations),
            "source": accepted.source,
        }
        return {
            "apiVersion": "reconciler/v1",
            "kind": accepted.kind,
            "metadata": metadata,
            "spec": accepted.canonical,
            "status": self.status(shown),
        }

    def status(self, shown: Shown) -> dict[str, Any]:
        """The status alone, fresh."""
        now, wall = self._clock.now(), self._clock.wall()
        view = View(now, wall - now)
        status = self._status_of[shown.accepted.kind](shown, view)
        before = self._written.get(shown.accepted.key, {}).get("status", {}).get("conditions", [])
        status["conditions"] = with_transitions(status["conditions"], before, view.iso(now))
        return status

    def _program_status(self, controlled: Controlled, view: View) -> dict[str, Any]:
        ledger, extra = controlled.ledger, self._conditions(controlled)
        refusal = self._refused.get(controlled.accepted.key)
        if refusal is not None and not any(condition.type == "StateUnwritable" for condition in extra):
            extra.append(Condition("StateUnwritable", ConditionStatus.TRUE, "CannotWrite", refusal))
        named = view._replace(process_name=lambda ordinal: self._builder.process_name(controlled, ordinal))
        return program_status(controlled.desired, ledger.observed, ledger.memory, named, extra)

    def changed(self, shown: Shown) -> None:
        """Something about this object may have changed: write it soon."""
        if shown in self._due:
            return
        self._due.add(shown)
        since = self._clock.now() - self._flushed_at.get(shown.accepted.key, -FLUSH_SECONDS)
        self._later(
            max(FIRST_FLUSH_SECONDS, FLUSH_SECONDS - since), lambda: self.chores.add(lambda: self._flush(shown))
        )

    def flush_all(self, within: float = NEVER) -> None:
        """Write everything that is due, other chores included, as far as it can be in so many seconds.

        For before the controller leaves. What is left then, the next one writes.
        """
        until = self._clock.now() + within
        self._tell(len(self._untold))
        for shown in list(self._due):
            if self._clock.now() >= until:
                break
            self._flush(shown)
        left = self.chores.finish(until)
        if left:
            log.info("%d files of status and history are left to the next controller", left)

    def _flush(self, shown: Shown) -> None:
        if shown not in self._due:
            return
        self._due.discard(shown)
        key = shown.accepted.key
        self._flushed_at[key] = self._clock.now()
        current = self.object(shown)
        before = self._written.get(key)
        if current == before and key not in self._refused:
            return
        self._written[key] = current
        document = {field: current[field] for field in ("apiVersion", "kind", "metadata", "status")}
        self._note(shown, self._store.write_status(key, document))
        if current != before:
            self._offer_all("ADDED" if before is None else "MODIFIED", current)

    def _note(self, shown: Shown, refusal: str | None) -> None:
        """A status that the disk did not take is written again later. That it is out of date is part of the status."""
        key = shown.accepted.key
        if refusal is not None:
            self._later(REFUSED_SECONDS, lambda: self._write_again(shown))
        if self._refused.get(key) != refusal:
            self._refused[key] = refusal or ""
            if refusal is None:
                del self._refused[key]
            self.changed(shown)

    def _write_again(self, shown: Shown) -> None:
        if shown.accepted.key in self._refused:
            self.changed(shown)

    def removed(self, shown: Shown) -> None:
        """The object is gone."""
        key = shown.accepted.key
        self._due.discard(shown)
        self._flushed_at.pop(key, None)
        self._budgets.pop(key.name, None)
        self._refused.pop(key, None)
        last = self._written.pop(key, None) or self.object(shown)
        self._store.remove_status(key)
        self._offer_all("DELETED", last)

    # --- events -------------------------------------------------------------------------------------------------------

    def recall(self, events: Iterable[Mapping[str, Any]]) -> None:
        """What earlier controllers told, oldest first. Strange lines are left out: somebody may have edited them."""
        known = {"at": float, "type": str, "kind": str, "name": str, "reason": str, "message": str, "count": int}
        for event in events:
            if all(isinstance(event.get(field), kind) for field, kind in known.items()):
                self._events.append({intern(field): _shared(value) for field, value in event.items()})

    def acts(self, controlled: Controlled, action: Action) -> None:
        """An action is carried out: an event, unless it is the ordinary life of a runOnce worker."""
        if action.cause is Cause.NEXT_RUN or isinstance(action, _UNTOLD):
            return
        left_out = self._budget(controlled).take(self._clock.now())
        if left_out is not None:
            wall = self._clock.wall()
            self._tell_soon(lambda: self._acted(wall, controlled.name, action, left_out))

    def _acted(self, wall: float, name: str, action: Start | Stop | Kill, left_out: int) -> None:
        message = _action_text(action) + _left_out_text(left_out)
        reason = {Start: "Starting", Stop: "Stopping", Kill: "Killing"}[type(action)]
        kind = "Warning" if isinstance(action, Kill) else "Normal"
        self._record(wall, name, kind, reason, message, {"cause": action.cause.value, "ordinal": action.ordinal})

    def failed(self, controlled: Controlled, ordinal: int) -> None:
        """A run failed, could not begin, or ended unseen: say how, and when the next one begins."""
        history = controlled.ledger.memory.histories[ordinal]
        if history.last_exit is None:
            return
        left_out = self._budget(controlled).take(self._clock.now())
        if left_out is not None:
            wall, name, desired = self._clock.wall(), controlled.name, controlled.desired
            self._tell_soon(lambda: self._failed(wall, name, desired, ordinal, history, left_out))

    def _failed(self, wall: float, name: str, desired: Desired, ordinal: int, history: History, left_out: int) -> None:
        message = f"{ordinal} failed"
        if history.last_exit is not None:
            message += f": {exit_text(history.last_exit)}"
        if history.failures > 1:
            message += f", {history.failures} in a row"
        seconds = next_start_at(desired, ordinal, history, desired.revision) - self._clock.now()
        if seconds > 1 and not history.done_outcome and desired.wants(ordinal):
            message += f"; next start in {seconds_text(seconds)}"
        self._record(wall, name, "Warning", "Failed", message + _left_out_text(left_out), {"ordinal": ordinal})

    def _budget(self, controlled: Controlled) -> "Budget":
        budget = self._budgets.get(controlled.name)
        if budget is None:
            budget = self._budgets[controlled.name] = Budget(EVENTS_AT_ONCE + 2 * controlled.desired.replicas)
        return budget

    def event(self, name: str, kind: str, reason: str, message: str, about: str = "Program") -> None:
        """Tell everybody: the log, the file, the watchers. `about`: the kind of the object."""
        wall = self._clock.wall()
        self._tell_soon(lambda: self._record(wall, name, kind, reason, message, {}, about))

    def _tell_soon(self, tell: Callable[[], None]) -> None:
        """Words, files and terminals can wait for a moment; a process that is to be started shall not."""
        if not self._untold:
            self._later(TELL_SECONDS, self._tell_some)
        self._untold.append((self._clock.now(), tell))

    def _tell_some(self) -> None:
        if not self._untold:
            return  # somebody asked, and was told
        if self.chores.must_wait(self._untold[0][0], TELL_BUSY_SECONDS):
            self._later(TELL_RETRY_SECONDS, self._tell_some)
            return
        self._tell(TOLD_AT_ONCE)
        if self._untold:
            self._later(TELL_SECONDS, self._tell_some)

    def _tell(self, at_most: int) -> None:
        for _ in range(min(at_most, len(self._untold))):
            self._untold.popleft()[1]()

    def _record(
        self,
        wall: float,
        name: str,
        kind: str,
        reason: str,
        message: str,
        more: dict[str, Any],
        about: str = "Program",
    ) -> None:
        """Hand on an event. A repeat of the last one is counted."""
        last = self._events[-1] if self._events else None
        said = (about, name, reason, message)
        if last is not None and (last["kind"], last["name"], last["reason"], last["message"]) == said:
            last["count"] += 1
            last["lastAt"] = wall
            return
        event = {
            "at": wall,
            "type": kind,
            "kind": about,
            "name": _shared(name),
            "reason": reason,
            "message": message,
            "count": 1,
            **more,
        }
        self._events.append(event)
        log.log(logging.WARNING if kind == "Warning" else logging.INFO, "%s: %s", Key(about, name), message)
        self._store.append_event(event)
        for queue in list(self._event_watchers):
            _offer(queue, event)

    def events(self, name: str | None) -> list[dict[str, Any]]:
        """The last events, oldest first."""
        self._tell(len(self._untold))
        return [event for event in self._events if name in (None, event["name"])]

    # --- watchers -----------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[Message]]:
        """A queue of (ADDED, MODIFIED, DELETED; object) from now on."""
        queue: asyncio.Queue[Message] = asyncio.Queue(WATCH_QUEUE_LENGTH)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    @contextmanager
    def watch_events(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        """A queue of events from now on."""
        self._tell(len(self._untold))
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WATCH_QUEUE_LENGTH)
        self._event_watchers.add(queue)
        try:
            yield queue
        finally:
            self._event_watchers.discard(queue)

    def _offer_all(self, change: str, what: dict[str, Any]) -> None:
        for queue in list(self._watchers):
            _offer(queue, (change, what))


def _offer(queue: asyncio.Queue[Any], item: Any) -> None:
    try:
        queue.put_nowait(item)
    except asyncio.QueueFull:
        pass  # whoever reads so slowly is cut off by the server, which sees the full queue


def _shared(value: Any) -> Any:
    """A word as the other events have it, too: thousands are kept, and each manifest that is read has words anew."""
    return intern(value) if type(value) is str and len(value) <= LONGEST_WORD else value


def _left_out_text(left_out: int) -> str:
    return f"; {left_out} more before it" if left_out else ""


def _action_text(action: Start | Stop | Kill) -> str:
    """The action in the words of `describe` and the log."""
    match action:
        case Start():
            return f"start {action.ordinal} ({action.cause})"
        case Stop():
            how = ", awaiting its end" if action.silent else ""
            return f"stop {action.ordinal}, pid {action.process.pid}{how} ({action.cause})"
        case Kill():
            return f"kill {action.ordinal}, pid {action.process.pid} ({action.cause})"
