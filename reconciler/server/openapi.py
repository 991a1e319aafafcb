"""The OpenAPI document of the API, drawn from the route table. Pure."""

from typing import Any

from reconciler.server.access import Level
from reconciler.server.routes import BODY_LIMIT_BYTES, JSON, JSON_LINES, ROUTES, TEXT, Route

_ERROR = {"$ref": "#/components/responses/Error"}
_FAILURES = {
    "400": "what was asked cannot be read",
    "403": "the user at the other end of the socket may not do this",
    "404": "there is no such object or path",
    "409": "in conflict with another home of the object, or with an override",
    "413": f"the body is larger than {BODY_LIMIT_BYTES // 1024 // 1024} MiB",
    "422": "the manifests are wrong; `problems` says where",
    "500": "our fault; the message has the number under which it stands in the log",
}


def document(version: str) -> dict[str, Any]:
    """The whole document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reconciler",
            "version": version,
            "description": "Keeps the processes of a Linux host equal to a directory of YAML manifests.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "responses": {"Error": _ERROR_ANSWER}},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler,
        "summary": route.meaning,
        "x-access": route.level.name.lower(),
        "responses": {str(route.status): {"description": "done", "content": _content(route)}},
    }
    parameters = [_path_parameter(part[1:-1]) for part in route.path.split("/") if part.startswith("{")]
    parameters += [
        {"name": name, "in": "query", "schema": dict(schema), "description": meaning}
        for name, schema, meaning in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        required = bool(route.body.get("required"))
        operation["requestBody"] = {"required": required, "content": {JSON: {"schema": dict(route.body)}}}
    operation["responses"] |= {status: _ERROR | {"description": why} for status, why in _failures(route)}
    return operation


def _content(route: Route) -> dict[str, Any]:
    return {kind: {"schema": {"type": "object" if kind in (JSON, JSON_LINES) else "string"}} for kind in route.answers}


def _failures(route: Route) -> list[tuple[str, str]]:
    absent = set() if route.body is not None else {"413", "422"}
    if route.level < Level.OPERATE:
        absent.add("409")
    if "{" not in route.path:
        absent.add("404")
    if route.answers == (TEXT,) and "{" not in route.path:
        absent |= {"400", "500"}
    return [(status, why) for status, why in _FAILURES.items() if status not in absent]


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": "its name"}


_STRING = {"type": "string"}
_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "One thing wrong with a manifest, or doubtful in it.",
        "properties": {
            "file": _STRING,
            "line": {"type": "integer", "description": "from 1; 0: the file as a whole"},
            "column": {"type": "integer", "description": "from 1"},
            "field": _STRING | {"description": "dotted path; empty: the document as a whole"},
            "message": _STRING,
            "hint": _STRING,
            "severity": _STRING | {"enum": ["error", "warning"]},
        },
    },
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "required": ["exitCode", "reason", "message", "problems"],
                "properties": {
                    "exitCode": {"type": "integer", "description": "what the command line ends with"},
                    "reason": _STRING | {"description": "one CamelCase word, for programs"},
                    "message": _STRING | {"description": "for people"},
                    "problems": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
                },
            }
        },
    },
}
_ERROR_ANSWER = {
    "description": "what went wrong",
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
}
