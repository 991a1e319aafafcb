"""What is counted of a queue that Laravel keeps in redis: a list and two sorted sets, in one round trip.

    queues:NAME            what may be taken, the oldest first               waiting
    queues:NAME:delayed    by when it is due; only who takes moves it        waiting when due, else delayed
    queues:NAME:reserved   by when it is given back (taken + retry_after)    waiting when that is past, else reserved

`LLEN` alone is the wrong number: without a process that takes work nobody moves what is due. `queues:NAME:notify`
belongs to the processes that wait on it and is never touched.
"""

import json
from typing import Any, NamedTuple

from reconciler.adapters.queues.laravel.worktable import shown_expired
from reconciler.adapters.queues.readings import combined, moment, number, oldest
from reconciler.adapters.queues.redisreader import Session
from reconciler.core.laravel.settings import RedisQueues
from reconciler.model.queues import QueueReading

LARGE_BYTES = 64 << 10  # of the oldest in the list: then it is looked at only now and then
LARGE_SECONDS = 5.0
SEARCH_SECONDS = 60.0
SEARCH_STEPS = 4  # of SEARCH_KEYS each, per look
SEARCH_KEYS = 500


class _Head(NamedTuple):
    """The oldest in the list, and since when it has been waiting as far as we know."""

    text: bytes
    since: float
    look_again_at: float


class RedisLists:
    """The lists of one trigger, and what has to be remembered of them between two looks."""

    def __init__(self, queues: RedisQueues) -> None:
        self._queues = queues
        self._heads: dict[str, _Head] = {}
        self._search = _Search(queues.prefix, queues.queues)

    def look(self, session: Session) -> QueueReading:
        """Look once."""
        whole = combined([self._one(session, name) for name in self._queues.queues])
        if not whole.waiting:
            session.empty_list = self._key(self._queues.queues[0])
        is_empty = not (whole.waiting or whole.reserved or whole.delayed)
        return whole._replace(found=whole.found + (self._search.hint(session) if is_empty else ""))

    def _key(self, name: str) -> str:
        return f"{self._queues.prefix}queues:{name}"

    def _one(self, session: Session, name: str) -> QueueReading:
        key, now = self._key(name), int(session.now)  # Laravel compares whole seconds
        replies = session.ask(
            ("LLEN", key),
            ("ZCOUNT", f"{key}:delayed", "-inf", now),
            ("ZCOUNT", f"{key}:delayed", f"({now}", "+inf"),
            ("ZCOUNT", f"{key}:reserved", "-inf", now),
            ("ZCOUNT", f"{key}:reserved", f"({now}", "+inf"),
        )
        length, due, to_come, expired, reserved = (number(reply, key) for reply in replies)
        since, next_due = self._times(session, key, now, (length, due, to_come, expired))
        waiting = length + due + expired
        told = f" ({due:g} of them due, still in :delayed)" if due else ""
        told += shown_expired(expired, self._queues.retry_after_seconds)
        return QueueReading(
            waiting,
            reserved=reserved,
            delayed=to_come,
            oldest_seconds=since if waiting else None,
            next_due_seconds=next_due,
            found=f"list {key}: {waiting:g} waiting{told}, {reserved:g} reserved, {to_come:g} delayed",
        )

    def _times(
        self, session: Session, key: str, now: int, counts: tuple[float, float, float, float]
    ) -> tuple[float | None, float | None]:
        """How long the oldest has been waiting, and how long until the next one may be taken."""
        length, due, to_come, expired = counts
        head = self._heads.get(key)
        asks_head = length > 0 and (head is None or session.now >= head.look_again_at)
        commands: list[tuple[Any, ...]] = []
        if asks_head:
            commands.append(("LINDEX", key, 0))
        if due:
            commands.append(("ZRANGE", f"{key}:delayed", 0, 0, "WITHSCORES"))
        if to_come:
            commands.append(("ZRANGEBYSCORE", f"{key}:delayed", f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1))
        if expired:
            commands.append(("ZRANGE", f"{key}:reserved", 0, 0, "WITHSCORES"))
        replies = iter(session.ask(*commands))
        if asks_head:
            self._remember(key, next(replies), session.now)
        elif not length:
            self._heads.pop(key, None)
        known = self._heads.get(key)
        waits = [session.now - known.since if known else None]
        waits += [_past(next(replies), session.now)] if due else []
        next_due = _past(next(replies), session.now) if to_come else None
        waits += [_past(next(replies), session.now)] if expired else []
        return oldest(*waits), None if next_due is None else max(-next_due, 0.0)

    def _remember(self, key: str, head: bytes | None, now: float) -> None:
        """Since when the oldest waits: by what it says itself, else since we first saw it at the head."""
        before = self._heads.get(key)
        if head is None:  # taken meanwhile
            self._heads.pop(key, None)
        elif before is None or before.text != head:
            said = _put_in_at(head)
            since = now if said is None else min(said, now)
            self._heads[key] = _Head(head, since, now + LARGE_SECONDS if len(head) > LARGE_BYTES else 0.0)
        elif before.look_again_at:
            self._heads[key] = before._replace(look_again_at=now + LARGE_SECONDS)


def _past(reply: list[bytes], now: float) -> float | None:
    """How long ago the moment was that a member of a sorted set has for a score; negative: it is to come."""
    at = None if len(reply) < 2 else moment(reply[1])
    return None if at is None else now - at


def _put_in_at(payload: bytes) -> float | None:
    """When a piece of work says that it was put into the list: only of one that came there directly, unmoved.

    Laravel writes `createdAt` (from 12.11 on), Horizon `pushedAt`; what was delayed or given back came later.
    """
    try:
        said = json.loads(payload)
        if said.get("attempts") or said.get("delay"):
            return None
    except (ValueError, AttributeError, RecursionError):
        return None  # compressed, encrypted, or no Laravel
    return moment(said.get("pushedAt")) or moment(said.get("createdAt"))


class _Search:
    """Looks for the queue under another prefix while it is not there under ours: a bit per look, now and then anew."""

    def __init__(self, prefix: str, names: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._names = names
        self._cursor: bytes | None = b"0"  # None: all keys were seen
        self._again_at = 0.0
        self._found: set[str] = set()

    def hint(self, session: Session) -> str:
        """What was found so far, in words."""
        if self._cursor is None and session.now >= self._again_at:
            self._cursor, self._found = b"0", set()
        for _ in range(SEARCH_STEPS):
            if self._cursor is None:
                break
            self._step(session)
        if not self._found:
            return ""
        shown = " or ".join(repr(prefix) for prefix in sorted(self._found)[:3])
        return f". Nothing is there, but another prefix has such a queue: did you mean {shown}?"

    def _step(self, session: Session) -> None:
        pattern = "*queues:" + ("".join(f"[{char}]" if char in "*?[\\" else char for char in self._names[0])) + "*"
        (reply,) = session.ask(
            ("SCAN", self._cursor or b"0", "MATCH", pattern, "COUNT", SEARCH_KEYS), optional="NOPERM"
        )
        if reply is None:
            self._cursor, self._again_at = None, float("inf")
            return
        cursor, keys = reply
        for key in keys:
            prefix, _, name = key.decode(errors="replace").rpartition("queues:")
            if prefix != self._prefix and name.split(":")[0] in self._names:
                self._found.add(prefix)
        self._cursor = cursor if cursor != b"0" else None
        if self._cursor is None:
            self._again_at = session.now + SEARCH_SECONDS
