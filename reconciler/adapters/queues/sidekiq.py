"""The `sidekiq` trigger: Sidekiq's lists, the due entries of its schedule and retries, and what its processes are at.

The schedule and the retries are one sorted set each for all queues. Only what is due is looked into, and of that no
more than some: with a process running it does not stay there for long.
"""

import json
from typing import Any

from reconciler.adapters.queues.readings import age, number, oldest, soonest
from reconciler.adapters.queues.redisreader import RedisDriver, Session
from reconciler.model.metadata import Sidekiq
from reconciler.model.queues import QueueReading

_LATER = ("schedule", "retry")
_MOST_READ = 200


def _look(settings: Sidekiq, session: Session) -> QueueReading:
    lists = [f"queue:{name}" for name in settings.queues]
    now = f"{session.now:.6f}"
    replies = session.ask(
        *[("LLEN", key) for key in lists],
        *[("LINDEX", key, -1) for key in lists],  # put in at the left, taken from the right
        *[("ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, _MOST_READ) for key in _LATER],
        *[("ZRANGEBYSCORE", key, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1) for key in _LATER],
        ("SMEMBERS", "processes"),
    )
    lengths = [number(length, key) for key, length in zip(lists, replies, strict=False)]
    heads = replies[len(lists) : 2 * len(lists)]
    due, coming, processes = replies[-5:-3], replies[-3:-1], replies[-1]
    session.empty_list = next((key for key, length in zip(lists, lengths, strict=True) if not length), None)
    is_due = [member for members in due for member in members if _field(member, "queue") in settings.queues]
    reserved = _reserved(settings, processes[:_MOST_READ], session)
    found = f"sidekiq {', '.join(settings.queues)}: {sum(lengths):g} queued, {len(is_due)} due, {reserved} in work"
    return QueueReading(
        waiting=sum(lengths) + len(is_due),
        reserved=reserved,
        oldest_seconds=oldest(*(age(_field(head, "enqueued_at"), session.now) for head in heads if head is not None)),
        next_due_seconds=soonest(*(float(each[1]) - session.now for each in coming if each)),
        at_least=any(len(members) >= _MOST_READ for members in due),
        found=found,
    )


def _reserved(settings: Sidekiq, processes: list[bytes], session: Session) -> int:
    """What each process is at is a hash that it writes every few seconds. Before 7.0 it had another name."""
    works = session.ask(*[("HVALS", process + suffix) for process in processes for suffix in (b":work", b":workers")])
    return sum(_field(entry, "queue") in settings.queues for entries in works for entry in entries)


def _field(text: Any, name: str) -> Any:
    try:
        return json.loads(text)[name]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


DRIVER = RedisDriver(Sidekiq, _look)
