"""An engine that holds objects and does nothing, for tests of what stands in front of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.model.problems import ApiError

Json = dict[str, Any]


def a_program(name: str, **labels: str) -> Json:
    """A Program as the engine shows it."""
    return {
        "apiVersion": "reconciler/v1",
        "kind": "Program",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1, "labels": labels, "annotations": {}},
        "spec": {"command": ["true"]},
        "status": {"replicas": 1},
    }


def a_binding(name: str, program: str, **labels: str) -> Json:
    """A QueueBinding as the engine shows it."""
    trigger = {"name": "redis", "active": True, "waiting": 3, "asksFor": 3, "message": "3 waiting; 1 for each replica"}
    return {
        "apiVersion": "reconciler/v1",
        "kind": "QueueBinding",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1, "labels": labels, "annotations": {}},
        "spec": {"scaleTargetRef": {"name": program}, "maxReplicaCount": 8},
        "status": {
            "program": program,
            "runningReplicas": 2,
            "desiredReplicas": 3,
            "active": True,
            "reason": "FollowsDemand",
            "message": "redis: 3 waiting",
            "triggers": [trigger],
            "conditions": [{"type": "Ready", "status": "True", "reason": "QueuesRead", "message": ""}],
        },
    }


class FakeBindings:
    """Implements server.operations.BindingOperations."""

    def __init__(self, *bindings: Json) -> None:
        self.bindings = {binding["metadata"]["name"]: binding for binding in bindings}
        self.asked: list[tuple[Any, ...]] = []

    def objects(self) -> list[Json]:
        return list(self.bindings.values())

    def object(self, name: str) -> Json | None:
        return self.bindings.get(name)

    def history(self, name: str) -> list[Json]:
        return [{"at": 1.0, "waiting": 3, "reserved": 1, "desired": 3, "running": 2, "name": self._known(name)}]

    async def test(self, name: str) -> Json:
        self._known(name)
        return self.bindings[name]

    async def operate(self, name: str, verb: str, body: Json, *, dry_run: bool, by: str) -> Json:
        self.asked.append((self._known(name), verb, body, dry_run))
        return {"kind": "QueueBinding", "name": name, "verb": f"{verb}d", "message": "", "generation": 1}

    def _known(self, name: str) -> str:
        if name not in self.bindings:
            raise ApiError(404, 3, "NotFound", f"queuebinding/{name} not found")
        return name


class FakeEngine:
    """Implements server.operations.Operations."""

    def __init__(self, *programs: Json, queue_length: int = 100) -> None:
        self.bindings = FakeBindings()
        self.programs = {program["metadata"]["name"]: program for program in programs}
        self.queue_length = queue_length
        self.queues: list[asyncio.Queue[Any]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.answer_may_come = asyncio.Event()
        self.answer_may_come.set()
        self.happened: list[Json] = []
        self.is_ready = True
        self.broken = False
        self.files: list[Json] = []

    def objects(self) -> list[Json]:
        if self.broken:
            raise RuntimeError("a secret of the engine")
        return list(self.programs.values())

    def object(self, name: str) -> Json | None:
        return self.programs.get(name)

    def effective_spec(self, name: str) -> Json:
        if name not in self.programs:
            raise ApiError(404, 3, "NotFound", name)
        return {**self.programs[name]["spec"], "replicas": 1}

    def processes(self) -> list[Json]:
        return [{"program": name, "replica": 0} for name in self.programs]

    def daemon_status(self) -> Json:
        return {"ready": self.is_ready}

    def problems(self) -> list[Json]:
        return []

    def sources(self) -> list[Json]:
        return [{"home": "dir:/m", "suspect": False, "message": "", "files": 1}]

    def events(self, name: str | None) -> list[Json]:
        return [event for event in self.happened if name in (None, event["name"])]

    def log_files(self, name: str) -> list[Json]:
        return self.files

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[Any]]:
        queue: asyncio.Queue[Any] = asyncio.Queue(self.queue_length)
        self.queues.append(queue)
        try:
            yield queue
        finally:
            self.queues.remove(queue)

    watch_events = watch

    def tell(self, item: Any) -> None:
        for queue in self.queues:
            if not queue.full():
                queue.put_nowait(item)

    async def apply(self, body: Json, *, dry_run: bool) -> Json:
        return await self._do("apply", body, dry_run)

    async def diff(self, body: Json) -> Json:
        return await self._do("diff", body)

    async def delete(self, name: str, *, dry_run: bool) -> Json:
        return await self._do("delete", name, dry_run)

    async def delete_binding(self, name: str, *, dry_run: bool) -> Json:
        return await self._do("delete_binding", name, dry_run)

    async def operate(self, name: str, verb: str, body: Json, *, dry_run: bool, by: str) -> Json:
        return await self._do("operate", name, verb, body, dry_run, by)

    async def rescan(self) -> Json:
        return await self._do("rescan")

    def shutdown(self, *, keep: bool) -> None:
        self.asked.append(("shutdown", keep))

    async def reexec(self, *, keeper: bool, dry_run: bool) -> Json:
        return await self._do("reexec", keeper, dry_run)

    @property
    def ready(self) -> bool:
        return self.is_ready

    async def _do(self, *what: Any) -> Json:
        self.asked.append(("began", *what))
        await self.answer_may_come.wait()
        self.asked.append(what)
        return {"done": what[0]}
