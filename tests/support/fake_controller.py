"""A controller that only talks: the API's shapes over a Unix socket, served from threads, scripted by the test.

It records every request, and what the real one would refuse in it, by the real one's own table of routes. What it
answers is set beforehand; a hostile answer is bytes that go out as they are.
"""

import json
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from reconciler.server.routes import find
from reconciler.server.shapes import checked, parameter

Json = dict[str, Any]


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """What is answered: a value as JSON, or text; `lines` go out one by one as chunks."""

    value: Any = None
    status: int = 200
    text: bytes | None = None
    lines: tuple[Any, ...] | None = None
    stays: bool = False  # a stream that goes on after its lines


class FakeController:
    """Programs, events and logs to be asked for, and answers to be given instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.programs: dict[str, Json] = {}
        self.bindings: dict[str, Json] = {}
        self.problems: list[Json] = []
        self.sources: list[Json] = []
        self.daemon: Json = {"version": "0.1.0", "pid": 4711, "upSeconds": 273600.0, "ready": True, "safeMode": False}
        self.events: list[Json] = []
        self.stream: list[Json] = []  # events of a watch
        self.changes: list[Json] = []  # of watched programs, after SYNCED
        self.stays = False  # watches go on after what they had to tell
        self.log = b""
        self.requests: list[Request] = []
        self.faults: list[str] = []  # in requests
        self.scripted: dict[tuple[str, str], Callable[[Request], Reply]] = {}
        self.raw: bytes | None = None  # answers everything
        self.hangs = False
        self.leaving = threading.Event()

    def answers(self, method: str, path: str, value: Any = None, status: int = 200, **more: Any) -> None:
        """Script one answer."""
        self.scripted[method, path] = lambda _: Reply(value, status, **more)

    def refuses(self, method: str, path: str, status: int, exit_code: int, reason: str, message: str) -> None:
        """Script a refusal."""
        error = {"exitCode": exit_code, "reason": reason, "message": message, "problems": []}
        self.answers(method, path, {"error": error}, status)

    def take(self, request: Request) -> None:
        """Note a request, and what is wrong with it."""
        self.requests.append(request)
        routes, _ = find(request.path)
        route = routes.get(request.method)
        if route is None:
            self.faults.append(f"there is no {request.method} {request.path}")
            return
        known = {name: schema for name, schema, _ in route.query}
        for name, text in request.query.items():
            if name not in known:
                self.faults.append(f"{request.path} has no parameter {name}")
            else:
                parameter(text, known[name])
        if request.body is not None:
            faults = checked(request.body, route.body or {"type": "null"})[1]
            self.faults += [f"{request.path}: {fault}" for fault in faults]

    def asked(self, method: str, path: str) -> list[Request]:
        """The requests of this kind so far."""
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def reply(self, request: Request) -> Reply:
        """What a request is answered with."""
        scripted = self.scripted.get((request.method, request.path))
        if scripted:
            return scripted(request)
        parts = request.path.strip("/").split("/")
        if request.method == "GET":
            return self._read(request, parts)
        if parts[1] in ("apply", "diff"):
            return Reply({"results": [], "warnings": [], "hints": []})
        name = unquote(parts[2]) if len(parts) > 2 else ""
        if parts[1] == "queuebindings":
            return self._operate_binding(name, parts[-1] if request.method == "POST" else "delete")
        if name not in self.programs:
            return not_found(name)
        verb = {"scale": "scaled", "stop": "stopped", "start": "started", "restart": "restarted"}.get(parts[-1], "")
        verb = verb or ("deleted" if request.method == "DELETE" else parts[-1])
        return Reply({"kind": "Program", "name": name, "verb": verb, "message": "", "generation": 1})

    def _operate_binding(self, name: str, verb: str) -> Reply:
        if name not in self.bindings:
            return not_found(name, "queuebinding")
        if verb == "test":
            return Reply(self.bindings[name])
        done = {"pause": "paused", "resume": "resumed", "poke": "poked", "delete": "deleted"}[verb]
        return Reply({"kind": "QueueBinding", "name": name, "verb": done, "message": "", "generation": 1})

    def _read(self, request: Request, parts: list[str]) -> Reply:
        things = [thing for thing in self.programs.values() if self._is_selected(thing, request.query)]
        match parts:
            case ["readyz"] | ["healthz"]:
                return Reply(text=b"ok\n")
            case ["v1", "programs"] if "watch" in request.query:
                first = [{"type": "ADDED", "object": thing} for thing in things]
                synced = {"type": "SYNCED", "object": {}}
                return Reply(lines=(*first, synced, *self.changes), stays=self.stays)
            case ["v1", "programs"]:
                return Reply({"kind": "List", "items": things, "problems": self.problems})
            case ["v1", "programs", name]:
                return Reply(self.programs[name]) if name in self.programs else not_found(name)
            case ["v1", "programs", name, "logs"]:
                stays = self.stays and "follow" in request.query
                return Reply(lines=(self.log,), stays=stays) if name in self.programs else not_found(name)
            case ["v1", "queuebindings"]:
                found = [each for each in self.bindings.values() if self._is_selected(each, request.query)]
                lines = (*({"type": "ADDED", "object": each} for each in found), {"type": "SYNCED", "object": {}})
                if "watch" in request.query:
                    return Reply(lines=(*lines, *self.changes), stays=self.stays)
                return Reply({"kind": "List", "items": found})
            case ["v1", "processes"]:
                rows = [
                    {"program": name, **row} for name, t in self.programs.items() for row in t["status"]["processes"]
                ]
                return Reply({"items": rows})
            case ["v1", "daemon"]:
                return Reply(self.daemon)
            case ["v1", "status"]:
                return Reply(
                    {
                        "daemon": self.daemon,
                        "items": things,
                        "queueBindings": list(self.bindings.values()),
                        "problems": self.problems,
                        "sources": self.sources,
                    }
                )
            case ["v1", "events"] if "watch" in request.query:
                return Reply(lines=tuple(self.stream), stays=self.stays)
            case ["v1", "events"]:
                wanted = request.query.get("name")
                return Reply({"items": [event for event in self.events if wanted in (None, event["name"])]})
        return Reply({"error": {"exitCode": 2, "reason": "NoSuchPath", "message": request.path}}, 404)

    @staticmethod
    def _is_selected(thing: Json, query: dict[str, str]) -> bool:
        key, _, value = query.get("labelSelector", "").partition("=")
        return not key or thing["metadata"]["labels"].get(key) == value


def not_found(name: str, kind: str = "program") -> Reply:
    """No such object."""
    error = {"exitCode": 3, "reason": "NotFound", "message": f"{kind}/{name} not found", "problems": []}
    return Reply({"error": error}, 404)


@contextmanager
def fake_controller(path: Path) -> Iterator[FakeController]:
    """Serve until the block ends."""
    fake = FakeController(path)
    server = _Server(fake)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.leaving.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64

    def __init__(self, fake: FakeController) -> None:
        self.fake = fake
        fake.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(fake.path.parent, os.O_PATH)  # the path may be longer than an address takes
        try:
            super().__init__(f"/proc/self/fd/{folder}/{fake.path.name}", _Handler)
        finally:
            os.close(folder)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        fake = self.server.fake
        self.close_connection = True
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        request = Request(self.command, parts.path, query, body)
        fake.take(request)
        try:
            if fake.hangs:
                fake.leaving.wait(30)
            elif fake.raw is not None:
                self.wfile.write(fake.raw)
            else:
                self._send(fake.reply(request))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has seen enough

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        if reply.lines is None:
            text = json.dumps(reply.value).encode() if reply.text is None else reply.text
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in reply.lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if reply.stays:
            self.server.fake.leaving.wait(30)
        self.wfile.write(b"0\r\n\r\n")


# ---- things to be asked for ----


def _wall() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def ago(seconds: float) -> str:
    """An ISO time that was so many seconds before now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_wall() - seconds))


def condition(kind: str, status: str, reason: str, message: str = "", generation: int = 1) -> Json:
    """One condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(7300),
        "observedGeneration": generation,
    }


def process(ordinal: int, **more: Any) -> Json:
    """One row of status.processes, running for two hours unless told otherwise."""
    row = {
        "replica": ordinal,
        "name": f"web-{ordinal}",
        "pid": 100 + ordinal,
        "state": "Running",
        "ready": True,
        "available": True,
        "revision": "7f3c9a01",
        "startedAt": ago(7300),
        "restarts": 0,
        "runs": 1,
        "cause": "NewReplica",
    }
    return {**row, **more}


def program(name: str, replicas: int = 2, *, generation: int = 1, **more: Any) -> Json:
    """A Program of which all is well. `more` replaces parts of the status; `labels` and `spec` theirs."""
    labels, spec = more.pop("labels", {"app": "shop"}), more.pop("spec", {})
    processes = more.pop("processes", None)
    if processes is None:
        processes = [process(ordinal, name=f"{name}-{ordinal}") for ordinal in range(replicas)]
    conditions = more.pop("conditions", None)
    if conditions is None:
        message = f"{replicas} of {replicas} replicas are available."
        conditions = [
            condition("Available", "True", "MinimumReplicasAvailable", message, generation),
            condition("Progressing", "True", "NewRevisionAvailable", "", generation),
        ]
    status = {
        "observedGeneration": generation,
        "replicas": replicas,
        "runningReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
        "updatedReplicas": replicas,
        "revision": "7f3c9a01",
        "conditions": conditions,
        "processes": processes,
    }
    return {
        "apiVersion": "reconciler/v1",
        "kind": "Program",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "generation": generation,
            "labels": labels,
            "annotations": {},
            "creationTimestamp": ago(273600),
            "source": f"dir:manifests/{name}.yaml",
        },
        "spec": {"command": ["php", "artisan", "queue:work"], "replicas": replicas, **spec},
        "status": {**status, **more},
    }


def crashing(name: str) -> Json:
    """A Program whose second replica fails again and again."""
    last_exit = {"outcome": "Failed", "code": 1, "signal": None, "at": ago(630), "ran": "3.2s"}
    failing = process(
        1,
        name=f"{name}-1",
        pid=None,
        state="BackOff",
        ready=False,
        available=False,
        restarts=7,
        failures=7,
        runs=8,
        lastExit=last_exit,
        nextStartAt=ago(-3630),
        cause="ProcessFailed",
    )
    message = "1 of 2 replicas fail; replica 1 failed 7 times in a row."
    return program(
        name,
        2,
        readyReplicas=1,
        availableReplicas=1,
        processes=[process(0, name=f"{name}-0"), failing],
        conditions=[
            condition(
                "Available", "False", "MinimumReplicasUnavailable", "1 of 2 replicas are available, 2 are needed."
            ),
            condition("Progressing", "True", "RollingOut"),
            condition("CrashLoop", "True", "BackOff", message),
        ],
    )


def event(name: str, reason: str, message: str, **more: Any) -> Json:
    """One event, from twenty minutes ago."""
    base = {"at": _wall() - 1230, "type": "Normal", "kind": "Program", "name": name}
    return {**base, "reason": reason, "message": message, "count": 1, **more}
