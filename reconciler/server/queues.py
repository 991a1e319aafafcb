"""The handlers of queue bindings: values in, the engine's bindings asked, an answer out."""

from reconciler.model.problems import ApiError
from reconciler.server.access import user_name
from reconciler.server.answers import Json, json_answer, list_answer
from reconciler.server.calls import Call
from reconciler.server.httpstack import StreamResponse
from reconciler.server.requests import Requests

KIND = "QueueBinding"


class QueueHandlers(Requests):
    """One method per row of the route table."""

    async def queuebindings(self, call: Call) -> StreamResponse:
        """All bindings, or a stream of them."""
        selector = self.selector(call)
        if call.query.get("watch"):
            return await self.watched(call, KIND, self.engine.bindings.objects, lambda value, change: value)
        items = [each for each in self.engine.bindings.objects() if selector.matches(self.labels(each))]
        return await list_answer(items, apiVersion="reconciler/v1", kind="List")

    async def queuebinding(self, call: Call) -> StreamResponse:
        """One binding."""
        return json_answer(self._binding(call.name))

    async def queue_history(self, call: Call) -> StreamResponse:
        """Samples."""
        return await list_answer(self.engine.bindings.history(call.name))

    async def queue_test(self, call: Call) -> StreamResponse:
        """Ask now."""
        return json_answer(await self.finished(self.engine.bindings.test(call.name)))

    async def _operate_binding(self, call: Call) -> StreamResponse:
        by = user_name(call.peer.uid) if call.peer else ""
        verb = call.route.handler.removeprefix("queue_")
        wish = self.engine.bindings.operate(call.name, verb, call.body, dry_run=call.is_dry_run, by=by)
        return json_answer(await self.finished(wish))

    queue_pause = queue_resume = queue_poke = _operate_binding

    async def delete_queuebinding(self, call: Call) -> StreamResponse:
        """Delete what was applied."""
        return json_answer(await self.finished(self.engine.delete_binding(call.name, dry_run=call.is_dry_run)))

    def _binding(self, name: str) -> Json:
        found = self.engine.bindings.object(name)
        if found is None:
            raise ApiError(404, 3, "NotFound", f"queuebinding/{name[:80]} not found")
        return found
