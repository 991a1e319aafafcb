"""From bytes to a call: which route is meant, may this peer use it, are its parameters and its body as they should be.

Everything a client sends is checked here, so that handlers deal with values only. Raises ApiError for all that is
wrong; answers nothing itself.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from reconciler.model.problems import ApiError, Problem
from reconciler.server.access import AccessRules, Level, Peer
from reconciler.server.answers import bad_request
from reconciler.server.httpstack import BaseRequest, HTTPRequestEntityTooLarge, RequestPayloadError
from reconciler.server.routes import BODY_LIMIT_BYTES, ROUTES, Route, find
from reconciler.server.shapes import checked, nearest, parameter

BODY_SECONDS = 60.0  # a body that takes longer is not coming
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and found good."""

    request: BaseRequest
    route: Route
    name: str  # what `{name}` in the path stands for
    query: dict[str, Any]  # only what was given
    peer: Peer | None
    body: Any = None

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is to be done."""
        return bool(self.query.get("dryRun") or (self.body or {}).get("dryRun"))


async def read_call(request: BaseRequest, peer: Peer | None, rules: AccessRules) -> Call:
    """The call that a request makes. Raises ApiError."""
    level = rules.level(peer)
    if level < Level.READ:  # before anything else: strangers learn nothing
        raise _forbidden(rules, peer, Level.READ)
    path = request.rel_url.raw_path
    routes, names = find(path)
    if not routes:
        raise _no_such_path(path)
    route = routes.get(request.method)
    if route is None:
        allowed = ", ".join(sorted(routes))
        raise MethodNotAllowed(f"{request.method} {path} is not possible; {allowed} is", allowed)
    if level < route.level:
        raise _forbidden(rules, peer, route.level)
    query = _query(request, route)
    body = None if route.body is None else await _body(request, route)
    return Call(request, route, names.get("name", ""), query, peer, body)


class MethodNotAllowed(ApiError):
    """The path is known, the method is not."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(405, 2, "MethodNotAllowed", message)
        self.allowed = allowed


def _forbidden(rules: AccessRules, peer: Peer | None, needed: Level) -> ApiError:
    return ApiError(403, 7, "Forbidden", rules.refusal(peer, needed))


def _no_such_path(path: str) -> ApiError:
    known = sorted({route.path for route in ROUTES})
    shown = path if len(path) <= 100 else path[:100] + "..."
    message = f"there is no {shown} here; {nearest(path, known)}"
    return ApiError(404, 3, "NoSuchPath", message)


def _query(request: BaseRequest, route: Route) -> dict[str, Any]:
    schemas = {name: schema for name, schema, _ in route.query}
    values: dict[str, Any] = {}
    try:
        given = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError as error:
        raise bad_request(f"the query cannot be read: {error}") from None
    for name, text in given:
        if name not in schemas:
            hint = nearest(name, list(schemas)) or f"{route.path} takes none"
            raise bad_request(f"unknown query parameter {name!r}; {hint}", "UnknownParameter")
        if name in values:
            raise bad_request(f"query parameter {name!r} is given twice")
        try:
            values[name] = parameter(text, schemas[name])
        except ValueError as error:
            raise bad_request(f"query parameter {name!r} must be {error}, not {text!r}") from None
    return values


async def _body(request: BaseRequest, route: Route) -> Any:
    assert route.body is not None
    value = _decoded(await _body_bytes(request))
    value, faults = checked(value, route.body)
    if faults:
        problems = [Problem("", 0, 0, fault.field, fault.message, fault.hint) for fault in faults]
        message = "; ".join(_sentence(problem) for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ApiError(400, 2, "BadBody", f"the body is not right: {message}{more}", problems)
    return value


def _sentence(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{problem.field or 'it'} {problem.message}{hint}"


async def _body_bytes(request: BaseRequest) -> bytes:
    if (request.content_length or 0) > BODY_LIMIT_BYTES:
        raise _too_large()
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        raise ApiError(408, 4, "BodyTimeout", f"the body did not come within {BODY_SECONDS:g}s") from None
    except RequestPayloadError as error:
        raise bad_request(f"the body cannot be read: {error}") from None


def _too_large() -> ApiError:
    limit = f"{BODY_LIMIT_BYTES // 1024 // 1024} MiB"
    return ApiError(413, 2, "BodyTooLarge", f"the body is larger than {limit}; hand the manifests in in parts")


def _decoded(data: bytes) -> Any:
    if not data.strip():
        return {}
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
        if _LONE_SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # text that no file can hold
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, and of numbers with thousands of digits
        raise bad_request(f"the body is not JSON: {error}") from None
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
