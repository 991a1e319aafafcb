"""One method per row of the route table: values in, the engine asked, an answer out.

Nothing here parses what a client sent (server/calls.py did) or knows of sockets. A client that leaves takes nothing
with it: what it asked to be done is finished.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.problems import ApiError
from reconciler.server.access import user_name
from reconciler.server.answers import Json, json_answer, list_answer, long_answer, text_answer
from reconciler.server.calls import Call
from reconciler.server.httpstack import StreamResponse
from reconciler.server.logs import Asked, meant, note_headers, notes
from reconciler.server.openapi import document
from reconciler.server.operations import Lifecycle, LogOptions, Operations, ReadLogs
from reconciler.server.queues import QueueHandlers
from reconciler.server.routes import ROUTES
from reconciler.server.streams import Streams


class Handlers(QueueHandlers):
    """One method per row of the route table."""

    def __init__(
        self,
        engine: Operations,
        read_logs: ReadLogs,
        lifecycle: Lifecycle,
        streams: Streams,
        about: Mapping[str, Any],
    ) -> None:
        super().__init__(engine, streams)
        self._read_logs = read_logs
        self._lifecycle = lifecycle
        self._about = dict(about)
        self._openapi = document(str(about.get("version", "")))

    # ---- about ----

    async def index(self, call: Call) -> StreamResponse:
        """What this is."""
        routes = [f"{route.method} {route.path}" for route in ROUTES]
        return json_answer({"name": "reconciler", **self._about, "openapi": "/v1/openapi.json", "routes": routes})

    async def healthz(self, call: Call) -> StreamResponse:
        """The loop turns."""
        return text_answer("ok")

    async def readyz(self, call: Call) -> StreamResponse:
        """The first pass is done."""
        return text_answer("ok") if self.engine.ready else text_answer("starting: the first pass is not done", 503)

    async def version(self, call: Call) -> StreamResponse:
        """Versions."""
        return json_answer(self._about)

    async def openapi(self, call: Call) -> StreamResponse:
        """The route table, for programs."""
        return json_answer(self._openapi)

    # ---- reading ----

    async def programs(self, call: Call) -> StreamResponse:
        """All objects, or a stream of them."""
        selector, effective = self.selector(call), call.query.get("effective", False)
        if call.query.get("watch"):
            return await self.watched(
                call,
                "Program",
                self.engine.objects,
                lambda value, change: self._shown(value, effective and change != "DELETED"),
            )
        items = (each for each in self._objects(effective) if selector.matches(self.labels(each)))
        return await list_answer(items, apiVersion="reconciler/v1", kind="List", problems=self.engine.problems())

    async def program(self, call: Call) -> StreamResponse:
        """One object."""
        return json_answer(self._existing(call.name, effective=call.query.get("effective", False)))

    async def processes(self, call: Call) -> StreamResponse:
        """Rows."""
        return await list_answer(self.engine.processes())

    async def daemon(self, call: Call) -> StreamResponse:
        """The daemon alone: cheap, however many objects there are."""
        return json_answer(self.engine.daemon_status())

    async def status(self, call: Call) -> StreamResponse:
        """All in one."""
        engine = self.engine
        about = {"daemon": engine.daemon_status(), "problems": engine.problems(), "sources": engine.sources()}
        return await list_answer(engine.objects(), queueBindings=engine.bindings.objects(), **about)

    async def events(self, call: Call) -> StreamResponse:
        """What happened, or what happens."""
        name = call.query.get("name") or None
        if not call.query.get("watch"):
            return await list_answer(self.engine.events(name))
        with self.engine.watch_events() as queue:
            return await self.streams.lines(
                call.request, queue, (), lambda event: event if name in (None, event.get("name")) else None
            )

    async def logs(self, call: Call) -> StreamResponse:
        """What processes printed."""
        query = dict(call.query)
        replica, stream = query.pop("replica", None), query.pop("stream", None)
        options = LogOptions(since_seconds=query.pop("since", None), **query)
        self._existing(call.name)
        asked = Asked(call.name, replica, stream, options.previous)

        def files() -> list[Json]:
            return meant(self.engine.log_files(call.name), asked)

        logs = self.engine.log_files(call.name)
        waits = options.follow and not any(map(asked.means, logs))  # for one that is still to come
        told = [] if waits else notes(logs, asked)
        chunks = self._read_logs(files, options, self.streams.closing)
        return await self.streams.bytes(call.request, chunks, note_headers(told))

    # ---- changing ----

    async def apply(self, call: Call) -> StreamResponse:
        """Take manifests."""
        return await long_answer(await self.finished(self.engine.apply(call.body, dry_run=call.is_dry_run)))

    async def diff(self, call: Call) -> StreamResponse:
        """Foretell what `apply` would do."""
        return await long_answer(await self.finished(self.engine.diff(call.body)))

    async def delete(self, call: Call) -> StreamResponse:
        """Delete what was applied."""
        return json_answer(await self.finished(self.engine.delete(call.name, dry_run=call.is_dry_run)))

    async def _operate(self, call: Call) -> StreamResponse:
        by = user_name(call.peer.uid) if call.peer else ""  # from the kernel: overrides and events say who it was
        wish = self.engine.operate(call.name, call.route.handler, call.body, dry_run=call.is_dry_run, by=by)
        return json_answer(await self.finished(wish))

    scale = stop = start = restart = reset = _operate

    async def rescan(self, call: Call) -> StreamResponse:
        """Read all manifests now."""
        return json_answer(await self.finished(self.engine.rescan()))

    async def shutdown(self, call: Call) -> StreamResponse:
        """Begin to end."""
        self._lifecycle.shutdown(keep=call.body["keep"])
        return json_answer({"message": "shutting down"}, 202)

    async def reexec(self, call: Call) -> StreamResponse:
        """Begin to make room for the code that is installed now."""
        renewal = self._lifecycle.reexec(keeper=call.body["keeper"], dry_run=call.is_dry_run)
        return json_answer(await self.finished(renewal), 202)

    # ---- how ----

    def _objects(self, effective: bool) -> Iterator[Json]:
        return (self._shown(each, effective) for each in self.engine.objects())

    def _existing(self, name: str, *, effective: bool = False) -> Json:
        found = self.engine.object(name)
        if found is None:
            raise ApiError(404, 3, "NotFound", f"program/{name[:80]} not found")
        return self._shown(found, effective)

    def _shown(self, value: Json, effective: bool) -> Json:
        if not effective:
            return value
        try:
            return {**value, "spec": self.engine.effective_spec(value["metadata"]["name"])}
        except ApiError:  # deleted since: its DELETED is on the way
            return value
