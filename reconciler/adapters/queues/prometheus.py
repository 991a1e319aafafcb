"""The `prometheus` trigger: what a PromQL query says at this instant.

No series is not zero: an exporter that died has none, and its queue may be full.
"""

import json
from typing import Any
from urllib.parse import urlencode

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.polling import PollingReader
from reconciler.adapters.queues.readings import number
from reconciler.adapters.queues.web import Web
from reconciler.model.metadata import Prometheus
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

_SERVER_LIMIT = "1500ms"


def _look(web: Web, settings: Prometheus) -> QueueReading:
    asked = urlencode({"query": settings.query, "timeout": _SERVER_LIMIT})
    try:
        answer: Any = json.loads(web.get(f"/api/v1/query?{asked}"))
        kind, found = answer["data"]["resultType"], answer["data"]["result"]
        warnings = "; ".join(str(each) for each in answer.get("warnings") or ())
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _strange(web) from None
    suffix = f" (warning: {warnings})" if warnings else ""
    if kind in {"vector", "scalar"} and not isinstance(found, list):
        raise _strange(web)
    if kind == "vector" and found == []:
        if settings.empty_result == "zero":
            return QueueReading(0, found=f"the query finds no series, which is taken for 0{suffix}")
        hint = "if that means 0, write emptyResult: zero, or `or vector(0)` in the query"
        raise QueueReadFailed("NotFound", f"the query finds no series at {web.what}; {hint}")
    if kind == "vector" and len(found) > 1:
        raise QueueReadFailed("NotANumber", f"the query finds {len(found)} series; put sum() around it")
    if kind not in {"vector", "scalar"}:
        raise QueueReadFailed("NotANumber", f"the query gives a {kind}; it must give one number")
    try:
        value = found[0]["value"][1] if kind == "vector" else found[1]
    except (KeyError, IndexError, TypeError):
        raise _strange(web) from None
    count = number(value, "the query's result")
    return QueueReading(count, found=f"the query: {count:g}{suffix}")


def _strange(web: Web) -> QueueReadFailed:
    return QueueReadFailed("ServerError", f"{web.what} does not answer as a Prometheus does")


class _Driver:
    polling_seconds = 5.0  # what is asked was scraped every 15 s or so

    def open(self, asked: QueueAsked) -> PollingReader:
        """Make a reader."""
        settings = opening.settings(asked, Prometheus)
        web = Web(settings.url, settings)
        return PollingReader(lambda: _look(web, settings), web.close)


DRIVER = _Driver()
