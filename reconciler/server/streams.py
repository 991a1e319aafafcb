"""Answers that do not end: lines for watchers, bytes for log readers.

A stream ends when its client leaves (the task is cancelled), when the server closes (`Streams.close`), or when its
client reads so slowly that the queue is full: then nothing is known to be complete any more, and the last line says so.
Memory stays bounded by the queue, whatever a client does. Knows nothing of what it sends.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, TypeVar

from reconciler.model.problems import ApiError
from reconciler.server.answers import HEADERS, Json, encoded, error_value
from reconciler.server.httpstack import BaseRequest, StreamResponse

FLUSH_BYTES = 64 * 1024  # lines that wait are sent together, up to here
LAST_WORDS_SECONDS = 5.0
STALL_CHECK_SECONDS = 1.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

log = logging.getLogger("reconciler.api")

T = TypeVar("T")


class _TooSlow(Exception):
    """The queue is full: something may be missing from it."""


class Streams:
    """All streams that are open, so that they can be ended in order."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """End all streams at their next pause; new ones end at once."""
        self.closing.set()
        for task in self._tasks:
            task.cancel()

    async def lines(
        self,
        request: BaseRequest,
        queue: "asyncio.Queue[T]",
        first: Iterable[Json],
        line: Callable[[T], Json | None],
    ) -> StreamResponse:
        """Send `first`, then what `line` makes of each item of the queue (None: nothing)."""
        response = await _begun(request, "application/x-ndjson")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.closing.is_set():
                await _guarded(request, self._send_lines(request, response, queue, first, line))
        except asyncio.CancelledError:
            if not self.closing.is_set():
                raise
            task.uncancel()  # ended by us: the answer is to end as a whole one
        finally:
            self._tasks.discard(task)
        return response

    async def bytes(
        self, request: BaseRequest, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> StreamResponse:
        """Send chunks as they come, until there are no more; they are expected to end when `closing` is set."""
        response = await _begun(request, "text/plain", headers)

        async def send() -> None:
            async with aclosing(chunks):  # type: ignore[type-var]  # every async generator has aclose()
                async for chunk in chunks:
                    await response.write(chunk)

        await _guarded(request, send())
        return response

    async def _send_lines(
        self,
        request: BaseRequest,
        response: StreamResponse,
        queue: "asyncio.Queue[T]",
        first: Iterable[Json],
        line: Callable[[T], Json | None],
    ) -> None:
        try:
            for batch in _batches(first):
                await _write(response, batch, queue)
            while True:
                item = await queue.get()
                items = [item, *(queue.get_nowait() for _ in range(queue.qsize()))]
                if queue.maxsize and len(items) >= queue.maxsize:
                    raise _TooSlow
                for batch in _batches(value for each in items if (value := line(each)) is not None):
                    await _write(response, batch, queue)
        except _TooSlow:
            await _last_words(request, response)


async def _guarded(request: BaseRequest, sending: Awaitable[None]) -> None:
    """Send. The status line is out already, so a failure is told by an answer that breaks off."""
    try:
        await sending
    except (ConnectionError, asyncio.CancelledError):
        raise  # the client left
    except Exception:
        log.exception("%s %s failed in the middle of its answer", request.method, request.rel_url.raw_path)
        if request.transport is not None:
            request.transport.abort()


async def _begun(request: BaseRequest, content_type: str, headers: Mapping[str, str] = NO_HEADERS) -> StreamResponse:
    response = StreamResponse(headers={**HEADERS, **headers})
    response.content_type = content_type
    response.charset = "utf-8"
    response.force_close()  # the next request has its own connection
    await response.prepare(request)
    return response


def _batches(values: Iterable[Json]) -> Iterable[bytes]:
    batch = bytearray()
    for value in values:
        batch += encoded(value) + b"\n"
        if len(batch) >= FLUSH_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def _write(response: StreamResponse, batch: bytes, queue: "asyncio.Queue[Any]") -> None:
    """Write, and wait for a client that pauses: for as long as the queue has room."""
    writing = asyncio.ensure_future(response.write(batch))
    try:
        while not writing.done():
            await asyncio.wait((writing,), timeout=STALL_CHECK_SECONDS)
            if queue.full() and not writing.done():
                raise _TooSlow
        writing.result()
    finally:
        writing.cancel()


async def _last_words(request: BaseRequest, response: StreamResponse) -> None:
    """Tell a client that was too slow; if it still does not read, hang up."""
    error = ApiError(503, 1, "TooSlow", "this stream was read too slowly, changes are missing; watch again")
    try:
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await response.write(encoded({"type": "ERROR", **error_value(error)}) + b"\n")
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
