"""The HTTP API: requests in, engine's answers out, over a listening socket that somebody else holds.

It reads status and hands on wishes; it touches no process, no file and no state, and decides nothing. What the engine
raises as ApiError becomes an answer; anything else is our fault, logged under a number that the client is told.

    socket -> _Connection (who is it?) -> read_call (which route, may they, what is in it?) -> Handlers -> answer

A client that leaves takes nothing with it: what it asked to be done is finished. Streams of those who left end at once.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconciler.model.problems import ApiError
from reconciler.server.access import AccessRules, Peer, peer_of
from reconciler.server.answers import bad_request, encoded, error_answer, error_value
from reconciler.server.calls import Call, MethodNotAllowed, read_call
from reconciler.server.handlers import Handlers
from reconciler.server.httpstack import BaseRequest, RequestHandler, Response, Server, StreamResponse
from reconciler.server.operations import Lifecycle, LogFiles, LogOptions, Operations, ReadLogs
from reconciler.server.routes import BODY_LIMIT_BYTES
from reconciler.server.streams import Streams

__all__ = ["Lifecycle", "LogFiles", "LogOptions", "Operations", "ReadLogs", "RestServer"]

IDLE_SECONDS = 75.0  # a connection without a further request
HEAD_SECONDS = 30.0  # for the first request of one: all places may be taken by those who never finish theirs
CLOSE_SECONDS = 5.0
ACCEPTED_AT_ONCE = 16  # a crowd at the door shall not hold up the loop
QUEUED = 1024  # and waits in the kernel, as it does while a controller is replaced

# From 3.13 on it would unlink the socket's name at the end: that is its holder's.
KEEP_NAME: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

log = logging.getLogger("reconciler.api")

_CROWDED_ANSWER = encoded(
    error_value(ApiError(503, 1, "TooManyConnections", "too many connections are open; try again"))
)
CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(_CROWDED_ANSWER)
    + _CROWDED_ANSWER
)
"""What a connection is told that is one too many: before it has asked anything."""


class RestServer:
    """Serves the API from `start` to `close`. `rules` may be replaced at any time."""

    def __init__(
        self,
        engine: Operations,
        read_logs: ReadLogs,
        lifecycle: Lifecycle,
        *,
        about: Mapping[str, Any],
        rules: AccessRules | None = None,
        most_connections: int = 1024,
    ) -> None:
        """At most so many connections at a time, more are refused: each takes a descriptor that a process may need."""
        self._most_connections = most_connections
        self.rules = rules or AccessRules()
        self._streams = Streams()
        self._handlers = Handlers(engine, read_logs, lifecycle, self._streams, about)
        self._http: _HttpServer | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Answer what comes in on a listening socket. Its name in the file system is its holder's business."""
        self._http = _HttpServer(self._answer, self._most_connections)
        # Not create_server: that one would load OpenSSL to see that this is no socket of its kind. Its backlog is also
        # how many it accepts before anything else has its turn, so the kernel's queue is made long again behind it.
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(self._http, sock=listener, backlog=ACCEPTED_AT_ONCE, **KEEP_NAME)
        listener.listen(QUEUED)

    async def close(self, grace_seconds: float = CLOSE_SECONDS) -> None:
        """Accept nothing more, end the streams, finish what is being done."""
        if self._listener is None or self._http is None:
            return
        self._listener.close()
        self._streams.close()
        self._http.pre_shutdown()
        await self._handlers.finish(grace_seconds)
        await self._http.shutdown(grace_seconds)
        self._listener = None

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        if isinstance(request.protocol, _Connection):
            request.protocol.has_asked()
        try:
            call = await read_call(request, _peer(request), self.rules)
            handler: Callable[[Call], Awaitable[StreamResponse]] = getattr(self._handlers, call.route.handler)
            return await handler(call)
        except MethodNotAllowed as error:
            answer = error_answer(error)
            answer.headers["Allow"] = error.allowed
        except ApiError as error:
            answer = error_answer(error)
        except (ConnectionError, asyncio.CancelledError):
            raise  # the client left
        except Exception:
            reference = os.urandom(4).hex()
            log.exception("%s %s failed, reference %s", request.method, request.rel_url.raw_path, reference)
            message = f"the controller failed at this request; its log has the details under {reference}"
            answer = error_answer(ApiError(500, 1, "InternalError", message))
        return answer


def _peer(request: BaseRequest) -> Peer | None:
    connection = request.protocol
    return connection.peer if isinstance(connection, _Connection) else None


# ---- the HTTP stack ----


class _Connection(RequestHandler):
    """One connection: knows who is at its other end, and answers rubbish in the API's shape."""

    peer: Peer | None = None
    crowd: "_Crowd"
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel tells who it is, once: credentials are those of the moment of connect()."""
        assert isinstance(transport, asyncio.Transport)
        if not self.crowd.enters(self):
            transport.write(CROWDED)
        sock = transport.get_extra_info("socket")
        try:
            self.peer = peer_of(sock) if sock is not None else None
        except OSError:
            self.peer = None
        super().connection_made(transport)
        self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)
        if self not in self.crowd.inside:
            transport.close()  # when those few bytes have gone

    def connection_lost(self, exc: BaseException | None) -> None:
        """There is room for another one."""
        self.crowd.inside.discard(self)
        self.has_asked()
        super().connection_lost(exc)

    def has_asked(self) -> None:
        """A request is whole, but for its body, which has a time-out of its own."""
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """What cannot even be parsed as a request. Not logged: anybody could fill the disk with it."""
        error = bad_request(f"this is not HTTP as it should be: {' '.join((message or 'bad request').split())[:200]}")
        if status != 400:
            error.status, error.exit_code = status, 1
        answer: Response = error_answer(error)
        answer.force_close()
        return answer


class _Crowd:
    """Who is connected, and how many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside: set[_Connection] = set()
        self._full = False

    def enters(self, connection: _Connection) -> bool:
        """Count this one in. False: there are too many already."""
        if len(self.inside) >= self.most:
            if not self._full:
                log.warning("%d connections are open, further ones are refused", self.most)
            self._full = True
            return False
        if len(self.inside) < self.most // 2:
            self._full = False
        self.inside.add(connection)
        return True


class _HttpServer(Server):
    """Makes connections of ours, with limits of ours."""

    def __init__(self, answer: Callable[[BaseRequest], Awaitable[StreamResponse]], most_connections: int) -> None:
        self._crowd = _Crowd(most_connections)
        # handler_cancellation: a stream whose client has left must not stay until it next has something to say.
        super().__init__(answer, request_factory=self._request, handler_cancellation=True)
        self._ours = asyncio.get_running_loop()

    def __call__(self) -> RequestHandler:
        connection = _Connection(
            self,
            loop=self._ours,
            access_log=None,  # type: ignore[arg-type]  # as documented: no access log
            logger=log,
            tcp_keepalive=False,
            keepalive_timeout=IDLE_SECONDS,
        )
        connection.crowd = self._crowd
        return connection

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> BaseRequest:
        return BaseRequest(message, payload, protocol, writer, task, self._ours, client_max_size=BODY_LIMIT_BYTES)
