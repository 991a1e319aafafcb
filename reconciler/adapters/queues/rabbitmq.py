"""The `rabbitmq` trigger: a queue's numbers from the management plugin.

That never touches the queue itself; the numbers are as old as the server's statistics, up to 5 s as it is shipped.
"""

import json
from typing import Any
from urllib.parse import quote

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.polling import PollingReader
from reconciler.adapters.queues.readings import age, number, total, wall_seconds
from reconciler.adapters.queues.web import Web
from reconciler.model.metadata import Rabbitmq
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

_COLUMNS = (
    "messages_ready,messages_unacknowledged,head_message_timestamp,consumers,message_stats.publish,message_stats.ack,"
    "message_stats.deliver_no_ack,message_stats.get_no_ack"
)


def _look(web: Web, settings: Rabbitmq) -> QueueReading:
    path = f"/api/queues/{quote(settings.vhost, safe='')}/{quote(settings.queue, safe='')}?columns={_COLUMNS}"
    try:
        answer = json.loads(web.get(path))
        stats: dict[str, Any] = dict(answer.get("message_stats") or {})
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise QueueReadFailed("ServerError", f"{web.what} does not answer as RabbitMQ's management does") from None
    except QueueReadFailed as failed:
        if failed.reason == "NotFound":
            message = f"{web.what} has no queue {settings.queue} in the virtual host {settings.vhost}; who declares it?"
            raise QueueReadFailed("NotFound", message) from None
        raise
    if "messages_ready" not in answer:
        hint = "it has them some seconds after a queue or the server is new"
        raise QueueReadFailed("ServerError", f"{web.what} has no statistics of {settings.queue}; {hint}")
    ready = number(answer["messages_ready"], "messages_ready")
    unacknowledged = number(answer.get("messages_unacknowledged", 0), "messages_unacknowledged")
    consumers = answer.get("consumers", 0)
    return QueueReading(
        waiting=ready,
        reserved=unacknowledged,
        oldest_seconds=age(answer.get("head_message_timestamp"), wall_seconds()) if ready else None,
        arrived=_counter(stats, "publish"),
        completed=total(*(_counter(stats, name) for name in ("ack", "deliver_no_ack", "get_no_ack"))),
        found=f"queue {settings.queue}: {ready:g} ready, {unacknowledged:g} unacknowledged, {consumers} consumers",
    )


def _counter(stats: dict[str, Any], name: str) -> float | None:
    return number(stats[name], name) if name in stats else None


class _Driver:
    polling_seconds = 1.0

    def open(self, asked: QueueAsked) -> PollingReader:
        """Make a reader."""
        settings = opening.settings(asked, Rabbitmq)
        web = Web(settings.url, settings)
        return PollingReader(lambda: _look(web, settings), web.close)


DRIVER = _Driver()
