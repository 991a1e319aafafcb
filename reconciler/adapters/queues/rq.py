"""The `rq` trigger: RQ's list, the due entries of its schedule, and its registry of what is being worked on."""

from reconciler.adapters.queues.readings import age, combined, number, soonest
from reconciler.adapters.queues.redisreader import RedisDriver, Session
from reconciler.model.metadata import Rq
from reconciler.model.queues import QueueReading


def _queue(name: str, session: Session) -> QueueReading:
    key, scheduled, working = f"rq:queue:{name}", f"rq:scheduled:{name}", f"rq:wip:{name}"
    now = f"{session.now:.3f}"
    length, due, later, reserved, head, next_due = session.ask(
        ("LLEN", key),
        ("ZCOUNT", scheduled, "-inf", now),
        ("ZCOUNT", scheduled, f"({now}", "+inf"),
        ("ZCOUNT", working, f"({now}", "+inf"),  # the score is when it is given up
        ("LINDEX", key, 0),
        ("ZRANGEBYSCORE", scheduled, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
    )
    if not length:
        session.empty_list = session.empty_list or key
    waited = None
    if head is not None:
        (enqueued,) = session.ask(("HGET", b"rq:job:" + head, "enqueued_at"))
        waited = age(enqueued.decode(errors="replace") if enqueued is not None else None, session.now)
    return QueueReading(
        waiting=number(length, key) + number(due, scheduled),
        reserved=number(reserved, working),
        delayed=number(later, scheduled),
        oldest_seconds=waited,
        next_due_seconds=soonest(float(next_due[1]) - session.now if next_due else None),
        found=f"rq {name}: {length} queued, {due} due, {later} scheduled, {reserved} in work",
    )


def _look(settings: Rq, session: Session) -> QueueReading:
    return combined([_queue(name, session) for name in settings.queues])


DRIVER = RedisDriver(Rq, _look)
