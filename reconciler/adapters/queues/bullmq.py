"""The `bullmq` trigger: BullMQ's list of what waits, its sorted sets by priority and by time, and what is active."""

from reconciler.adapters.queues.readings import age, combined, number
from reconciler.adapters.queues.redisreader import RedisDriver, Session
from reconciler.model.metadata import BullMq
from reconciler.model.queues import QueueReading

_SCALE = 0x1000
"""The score of what is delayed is milliseconds times this, plus a counter that keeps the order."""


def _queue(prefix: str, name: str, session: Session) -> QueueReading:
    base = f"{prefix}:{name}"
    # Its own clock reads milliseconds: what is due in this one is due.
    now = (int(session.now * 1000) + 1) * _SCALE - 1
    waiting, prioritized, paused, due, later, active, head, next_due, is_paused = session.ask(
        ("LLEN", f"{base}:wait"),
        ("ZCARD", f"{base}:prioritized"),
        ("LLEN", f"{base}:paused"),
        ("ZCOUNT", f"{base}:delayed", "-inf", now),
        ("ZCOUNT", f"{base}:delayed", f"({now}", "+inf"),
        ("LLEN", f"{base}:active"),
        ("LINDEX", f"{base}:wait", -1),  # put in at the left, taken from the right
        ("ZRANGEBYSCORE", f"{base}:delayed", f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
        ("HEXISTS", f"{base}:meta", "paused"),
    )
    waited = None
    if head is not None:
        (put_in,) = session.ask(("HGET", f"{base}:".encode() + head, "timestamp"))
        waited = age(put_in, session.now)
    if not waiting:
        session.empty_list = session.empty_list or f"{base}:wait"
    can_be_taken = number(waiting, base) + number(prioritized, base) + number(due, base)
    found = f"bullmq {name}: {waiting} waiting, {prioritized} by priority, {due} due, {later} delayed, {active} active"
    if is_paused:  # nothing can be taken before somebody resumes it
        return QueueReading(
            waiting=0,
            reserved=number(active, base),
            delayed=can_be_taken + number(paused, base) + number(later, base),
            found=f"{found}, {paused} paused",
        )
    return QueueReading(
        waiting=can_be_taken,
        reserved=number(active, base),
        delayed=number(later, base),
        oldest_seconds=waited,
        next_due_seconds=float(next_due[1]) / _SCALE / 1000 - session.now if next_due else None,
        found=found,
    )


def _look(settings: BullMq, session: Session) -> QueueReading:
    return combined([_queue(settings.prefix, name, session) for name in settings.queues])


DRIVER = RedisDriver(BullMq, _look)
