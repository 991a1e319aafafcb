"""What handlers of every kind share: the engine, streams of objects, and operations that outlive their client."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from reconciler.model.labels import Selector, SelectorError, parse_selector
from reconciler.server.answers import LINE_ITEMS, Json, bad_request
from reconciler.server.calls import Call
from reconciler.server.httpstack import StreamResponse
from reconciler.server.operations import Operations
from reconciler.server.streams import Streams

T = TypeVar("T")


class Requests:
    """The ground that handlers stand on."""

    def __init__(self, engine: Operations, streams: Streams) -> None:
        self.engine = engine
        self.streams = streams
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def finish(self, grace_seconds: float) -> None:
        """Wait for what clients have asked for."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=grace_seconds)

    async def finished(self, operation: Awaitable[T]) -> T:
        """The result of an operation that goes on even if its client leaves: half an apply is worse than none."""
        task = asyncio.ensure_future(operation)
        self._unfinished.add(task)
        task.add_done_callback(self._was_finished)
        return await asyncio.shield(task)

    def _was_finished(self, task: "asyncio.Task[Any]") -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, it is not to be reported as forgotten

    async def watched(
        self, call: Call, kind: str, objects: Callable[[], Iterable[Json]], shown: Callable[[Json, str], Json]
    ) -> StreamResponse:
        """A stream of the objects of a kind: all as ADDED, then SYNCED, then each change."""
        view = _View(self.selector(call))
        with self.engine.watch() as queue:  # before the first look: what changes in between comes twice, not never
            first: list[Json] = []
            for number, each in enumerate(objects(), 1):
                if added := view.line("ADDED", shown(each, "ADDED")):
                    first.append(added)
                if number % LINE_ITEMS == 0:
                    await asyncio.sleep(0)
            first.append({"type": "SYNCED", "object": {}})

            def line(change: tuple[str, Json]) -> Json | None:
                what, value = change
                return view.line(what, shown(value, what)) if value["kind"] == kind else None

            return await self.streams.lines(call.request, queue, first, line)

    @staticmethod
    def labels(value: Json) -> Mapping[str, str]:
        """The labels of an object."""
        return value["metadata"].get("labels") or {}

    @staticmethod
    def selector(call: Call) -> Selector:
        """Which labels are asked for. Raises ApiError for a selector that is none."""
        try:
            return parse_selector(call.query.get("labelSelector", ""))
        except SelectorError as error:
            raise bad_request(str(error), "BadSelector") from None


class _View:
    """What one watcher sees through its selector: an object whose labels begin to match is ADDED, and so on."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._seen: set[str] = set()

    def line(self, change: str, value: Json) -> Json | None:
        """The line for a change, or None when this watcher has nothing of it."""
        name = value["metadata"]["name"]
        if change == "DELETED" or not self._selector.matches(Requests.labels(value)):
            if name not in self._seen:
                return None
            self._seen.discard(name)
            return {"type": "DELETED", "object": value}
        known = name in self._seen
        self._seen.add(name)
        return {"type": "MODIFIED" if known else "ADDED", "object": value}
