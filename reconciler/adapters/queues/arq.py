"""The `arq` trigger: one sorted set whose scores are when each piece is due; it stays there while it is worked on.

What is in work shows by a key of its own, `arq:in-progress:ID`: the oldest due ones are looked up, up to a bound.
"""

from reconciler.adapters.queues.readings import combined, number
from reconciler.adapters.queues.redisreader import RedisDriver, Session
from reconciler.model.metadata import Arq
from reconciler.model.queues import QueueReading

_MOST_READ = 500


def _queue(key: str, session: Session) -> QueueReading:
    now = f"{session.now * 1000:.0f}"
    due, later, first, coming = session.ask(
        ("ZCOUNT", key, "-inf", now),
        ("ZCOUNT", key, f"({now}", "+inf"),
        ("ZRANGEBYSCORE", key, "-inf", now, "WITHSCORES", "LIMIT", 0, _MOST_READ),
        ("ZRANGEBYSCORE", key, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
    )
    names, scores = first[::2], first[1::2]
    in_work = session.ask(("MGET", *(b"arq:in-progress:" + name for name in names)))[0] if names else []
    reserved = sum(each is not None for each in in_work)
    waiting = [float(score) for score, taken in zip(scores, in_work, strict=True) if taken is None]
    later_count = number(later, key)
    return QueueReading(
        waiting=number(due, key) - reserved,
        reserved=reserved,
        delayed=later_count,
        oldest_seconds=max(session.now - min(waiting) / 1000, 0.0) if waiting else None,
        next_due_seconds=float(coming[1]) / 1000 - session.now if coming else None,
        found=f"arq {key}: {due} due, of which {reserved} in work, {later_count:g} deferred",
    )


def _look(settings: Arq, session: Session) -> QueueReading:
    return combined([_queue(key, session) for key in settings.queues])


DRIVER = RedisDriver(Arq, _look)
