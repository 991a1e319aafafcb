"""The `celery` trigger: Celery's lists in redis, one per priority, and what processes have taken.

Celery's processes take more than they work on (`worker_prefetch_multiplier`), and tasks with an ETA long before it:
all of that is in the hash `unacked`, for all queues of a database. Who owns which is in the messages.
"""

import json
from typing import Any

from reconciler.adapters.queues.readings import number
from reconciler.adapters.queues.redisreader import RedisDriver, Session
from reconciler.model.metadata import Celery
from reconciler.model.queues import QueueReading

_SEPARATOR = "\x06\x16"  # between a queue's name and a priority other than the first
_MOST_READ = 200  # messages of `unacked` that are looked into


def keys_of(settings: Celery) -> list[str]:
    """The lists."""
    return [
        f"{settings.key_prefix}{queue}" + (f"{_SEPARATOR}{step}" if step else "")
        for queue in settings.queues
        for step in settings.priority_steps
    ]


def _look(settings: Celery, session: Session) -> QueueReading:
    keys, unacked = keys_of(settings), f"{settings.key_prefix}unacked"
    *lengths, taken = session.ask(*[("LLEN", key) for key in keys], ("HLEN", unacked))
    counts = [number(length, key) for key, length in zip(keys, lengths, strict=True)]
    session.empty_list = next((key for key, count in zip(keys, counts, strict=True) if not count), None)
    reserved = _reserved(settings, int(taken), unacked, session)
    shown = "not looked at" if reserved is None else f"{reserved:g}"
    found = f"celery {', '.join(settings.queues)}: {sum(counts):g} waiting, {shown} unacknowledged"
    return QueueReading(sum(counts), reserved=reserved, found=found)


def _reserved(settings: Celery, taken: int, unacked: str, session: Session) -> float | None:
    if settings.unacked == "none":
        return None
    if settings.unacked == "all" or not taken:
        return taken
    if taken > _MOST_READ:
        return None  # too much to read at each look
    (messages,) = session.ask(("HVALS", unacked))
    return sum(_queue_of(message) in settings.queues for message in messages)


def _queue_of(message: Any) -> str | None:
    """A message in `unacked` is a list of itself, its exchange and its routing key, which is the queue's name."""
    try:
        payload, _, routing_key = json.loads(message)
        info = payload["properties"]["delivery_info"]
        return str(info.get("routing_key") or routing_key)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


DRIVER = RedisDriver(Celery, _look)
