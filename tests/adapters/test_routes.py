"""The route table, the handlers and the OpenAPI document say the same; and importing them is cheap."""

import json
import subprocess
import sys

import pytest

from reconciler.server.access import Level
from reconciler.server.handlers import Handlers
from reconciler.server.openapi import document
from reconciler.server.queues import QueueHandlers
from reconciler.server.routes import ROUTES, find


def test_each_route_has_a_handler_and_each_handler_a_route() -> None:
    handlers = {name for room in (Handlers, QueueHandlers) for name in vars(room) if not name.startswith("_")}
    assert {route.handler for route in ROUTES} == handlers


def test_no_two_routes_answer_the_same_request() -> None:
    requests = [(route.method, route.path) for route in ROUTES]
    assert len(requests) == len(set(requests))
    for route in ROUTES:
        routes, _ = find(route.path)
        assert routes[route.method] is route


def test_whatever_changes_something_takes_the_right_to_operate() -> None:
    for route in ROUTES:
        asks_only = route.method == "GET" or route.handler in ("diff", "queue_test")
        assert (route.level is Level.READ) == asks_only, route.path


def test_the_document_has_every_route_with_its_parameters_and_body() -> None:
    paths = json.loads(json.dumps(document("1.0")))["paths"]
    assert sum(len(methods) for methods in paths.values()) == len(ROUTES)
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        assert operation["operationId"] == route.handler
        shown = {part["name"] for part in operation.get("parameters", ()) if part["in"] == "query"}
        assert shown == {part.name for part in route.query}
        assert ("requestBody" in operation) == (route.body is not None)
        assert str(route.status) in operation["responses"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/programs/web", "web"), ("/v1/programs/w%65b", "web"), ("/v1/programs/a%2Fb", "a/b")],
)
def test_a_name_in_a_path_is_decoded_after_the_path_was_cut(path: str, name: str) -> None:
    routes, names = find(path)
    assert (sorted(routes), names) == (["DELETE", "GET"], {"name": name})


def test_the_server_does_not_load_the_http_client_until_somebody_wants_it() -> None:
    script = """
import sys, reconciler.server.rest
assert "aiohttp.connector" not in sys.modules
import aiohttp
assert aiohttp.ClientSession.__module__ == "aiohttp.client"
assert aiohttp.__version__
from aiohttp import web
assert web.Application
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
