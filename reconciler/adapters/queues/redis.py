"""The `redis` trigger: lists, sorted sets, streams, sets and hashes, one key or several.

For queues that are none of the known kinds. Each part is counted by one or a few commands of constant cost, all in one
round trip.
"""

import json
from collections.abc import Sequence
from typing import Any

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.readings import age, combined, number
from reconciler.adapters.queues.redisreader import POLLING_SECONDS, RedisReader, Session
from reconciler.adapters.queues.resp import Argument
from reconciler.model.metadata import Redis, RedisPart
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

_CARDINALITY = {"list": "LLEN", "zset": "ZCARD", "set": "SCARD", "hash": "HLEN", "stream": "XLEN"}
_MOST_ENTRIES = 1000  # of a stream, where the server does not know its lag

Command = Sequence[Argument]


def _look(settings: Redis, count_at_most: int, session: Session) -> QueueReading:
    readings = [_part(part, settings, count_at_most, session) for part in settings.counted]
    return combined(readings)


def _part(part: RedisPart, settings: Redis, count_at_most: int, session: Session) -> QueueReading:
    if part.up_to is not None:
        return due(part.key, session, milliseconds=part.up_to == "nowMs")
    if part.group is not None:
        return _group(part.key, part.group, count_at_most, session)
    (reply,) = session.ask((_CARDINALITY[part.type], part.key))
    count = number(reply, part.key)
    found = f"{part.type} {part.key}: {count:g} {part.counts_as}"
    if part.counts_as == "reserved":
        return QueueReading(0, reserved=count, found=found)
    if part.counts_as == "delayed":
        return QueueReading(0, delayed=count, found=found)
    waited = None
    if part.type == "list":
        if not count:
            session.empty_list = session.empty_list or part.key
        elif settings.time_field is not None:
            waited = _head_age(part.key, settings, session)
    return QueueReading(count, oldest_seconds=waited, found=found)


def _head_age(key: str, settings: Redis, session: Session) -> float | None:
    """By a time in the oldest element, which is JSON."""
    (payload,) = session.ask(("LINDEX", key, 0 if settings.taken_from == "left" else -1))
    try:
        value: Any = json.loads(payload or b"null")
    except (ValueError, RecursionError):
        return None
    for step in (settings.time_field or "").split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return age(value, session.now)


def due(key: str, session: Session, *, milliseconds: bool) -> QueueReading:
    """A sorted set whose scores are times: up to now they wait, the rest is delayed."""
    unit = 1000 if milliseconds else 1
    now = f"{session.now * unit:.3f}"
    first_later = ("ZRANGEBYSCORE", key, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1)
    replies = session.ask(
        ("ZCOUNT", key, "-inf", now),
        ("ZCOUNT", key, f"({now}", "+inf"),
        ("ZRANGE", key, 0, 0, "WITHSCORES"),
        first_later,
    )
    is_due, later = number(replies[0], key), number(replies[1], key)
    waited = max(session.now - float(replies[2][1]) / unit, 0.0) if is_due and replies[2] else None
    comes = float(replies[3][1]) / unit - session.now if replies[3] else None
    found = f"zset {key}: {is_due:g} due, {later:g} later"
    return QueueReading(is_due, delayed=later, oldest_seconds=waited, next_due_seconds=comes, found=found)


def _group(key: str, group: str, count_at_most: int, session: Session) -> QueueReading:
    """A consumer group of a stream: what it has not been given yet waits, what it has not acknowledged is reserved."""
    (reply,) = session.ask(("XINFO", "GROUPS", key), optional="no such key")
    if reply is None:
        return QueueReading(0, reserved=0, found=f"stream {key} does not exist")
    groups = [dict(zip(each[::2], each[1::2], strict=False)) for each in reply]
    mine = next((each for each in groups if each.get(b"name") == group.encode()), None)
    if mine is None:
        names = ", ".join(each.get(b"name", b"?").decode(errors="replace") for each in groups) or "none"
        raise QueueReadFailed("NotFound", f"stream {key} has no group {group}; it has {names}")
    pending, lag, last = number(mine[b"pending"], key), mine.get(b"lag"), mine[b"last-delivered-id"]
    at_least = False
    waited = None
    if lag is None or lag:
        most = min(count_at_most, _MOST_ENTRIES) if lag is None else 1
        (entries,) = session.ask(("XRANGE", key, b"(" + last, "+", "COUNT", most))
        if entries:
            waited = age(entries[0][0].partition(b"-")[0], session.now)  # the first half of an id is milliseconds
        if lag is None:  # redis before 7, or entries were deleted from the middle
            lag, at_least = len(entries), len(entries) >= most
    waiting = number(lag, key)
    found = f"stream {key}, group {group}: {waiting:g} not yet given out, {pending:g} not acknowledged"
    return QueueReading(waiting, reserved=pending, oldest_seconds=waited, at_least=at_least, found=found)


class _Driver:
    polling_seconds = POLLING_SECONDS

    def open(self, asked: QueueAsked) -> RedisReader:
        """Make a reader."""
        settings = opening.settings(asked, Redis)
        return RedisReader(settings, lambda session: _look(settings, asked.count_at_most, session))


DRIVER = _Driver()
