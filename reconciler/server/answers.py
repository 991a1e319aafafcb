"""Answers in the API's one shape: JSON values, lists, refusals. Knows no route and no engine."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from reconciler.model.problems import ApiError
from reconciler.server.httpstack import Response

Json = dict[str, Any]

HEADERS = {"Server": "reconciler", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
LINE_ITEMS = 20  # of a long list: the loop gets a turn after as many, processes must not wait for readers


def encoded(value: Any) -> bytes:
    """JSON in UTF-8. A file name that is no UTF-8 (a lone surrogate in Python) comes out as a JSON escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON value as an answer."""
    body = encoded(value) + b"\n"
    return Response(status=status, body=body, content_type="application/json", headers=HEADERS | dict(headers or {}))


def text_answer(text: str, status: int = 200) -> Response:
    """A line of text as an answer."""
    return Response(status=status, text=text + "\n", headers=HEADERS)


async def list_answer(items: Iterable[Any], **more: Any) -> Response:
    """A list, made and encoded in slices."""
    fields = b"".join(b',"%s":%s' % (key.encode(), encoded(value)) for key, value in more.items())
    body = b'{"items":%s%s}\n' % (await _list(items), fields)
    return Response(body=body, content_type="application/json", headers=HEADERS)


async def long_answer(value: Mapping[str, Any]) -> Response:
    """A value whose lists may be long, encoded in slices."""
    fields = [
        b'"%s":%s' % (key.encode(), await _list(part) if isinstance(part, list) else encoded(part))
        for key, part in value.items()
    ]
    return Response(body=b"{%s}\n" % b",".join(fields), content_type="application/json", headers=HEADERS)


async def _list(items: Iterable[Any]) -> bytes:
    pieces: list[bytes] = []
    source = iter(items)
    while part := list(islice(source, LINE_ITEMS)):
        pieces.append(encoded(part)[1:-1])
        await asyncio.sleep(0)
    return b"[%s]" % b",".join(pieces)


def error_value(error: ApiError) -> Json:
    """What a refusal says."""
    return {
        "error": {
            "exitCode": error.exit_code,
            "reason": error.reason,
            "message": error.message,
            "problems": [problem.as_dict() for problem in error.problems],
        }
    }


def error_answer(error: ApiError) -> Response:
    """A refusal as an answer."""
    return json_answer(error_value(error), error.status)


def bad_request(message: str, reason: str = "BadRequest") -> ApiError:
    """The request itself cannot be read."""
    return ApiError(400, 2, reason, message)
