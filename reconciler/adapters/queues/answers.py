"""A number out of what a command printed or a server answered: text, or JSON with a way to it."""

import json
from typing import Any

from reconciler.adapters.queues.readings import not_a_number, number, reading_by_name
from reconciler.model.jsonpath import JsonPath
from reconciler.model.queues import QueueReadFailed, QueueReading

LARGEST_BYTES = 1 << 20


def reading_of(answer: bytes, json_path: str | None, what: str) -> QueueReading:
    """Without a path: a bare number, or a JSON object with `waiting` and what else QueueReading has.

    Raises QueueReadFailed.
    """
    if len(answer) > LARGEST_BYTES:
        raise QueueReadFailed("NotANumber", f"{what} is longer than {LARGEST_BYTES >> 20} MiB")
    text = answer.decode(errors="replace").strip()
    if json_path is None:
        if text.startswith("{"):
            return reading_by_name(_parsed(text, what), what)
        count = number(text, what)
        return QueueReading(count, found=f"{what}: {count:g}")
    try:
        value = JsonPath.parse(json_path).find(_parsed(text, what))
    except LookupError as error:
        raise QueueReadFailed("NotANumber", f"{what} {error}") from None
    if isinstance(value, list | dict):
        raise QueueReadFailed("NotANumber", f"{json_path} of {what} is no number; write {json_path}.length() to count")
    count = number(value, f"{json_path} of {what}")
    return QueueReading(count, found=f"{json_path} of {what}: {count:g}")


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise not_a_number(text, f"{what}, which should be JSON,") from None
