"""A RestServer on a Unix socket, in a thread of its own, and a plain client from the standard library."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from reconciler.server.access import AccessRules
from reconciler.server.rest import LogFiles, LogOptions, RestServer
from reconciler.wire import connect_unix, listen_unix
from support.fake_engine import FakeEngine

T = TypeVar("T")
PATIENCE_SECONDS = 30.0


class Connection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("reconciler", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = connect_unix(str(self._path), socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_SECONDS)


class Served:
    """The server and the ways to reach it."""

    def __init__(self, path: Path, engine: FakeEngine, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.engine = engine
        self.loop = loop
        self.server: RestServer
        self.log_options: list[LogOptions] = []

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded answer of one request on a connection of its own."""
        connection = Connection(self.path)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in answer.headers["Content-Type"]
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    def refusal(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and error of a request that is refused."""
        status, answer = self.ask(method, target, body, **headers)
        return status, answer["error"]

    @contextmanager
    def stream(self, target: str) -> Iterator[http.client.HTTPResponse]:
        """An answer that is read as it comes."""
        connection = Connection(self.path)
        try:
            connection.request("GET", target)
            with connection.getresponse() as answer:
                yield answer
        finally:
            connection.close()

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """A bare connection."""
        with connect_unix(str(self.path), socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE_SECONDS)
            yield sock

    def run(self, call: Callable[[], Any]) -> Any:
        """Call something in the server's thread."""

        async def called() -> Any:
            return call()

        return self.wait(called())

    def tell(self, item: Any) -> None:
        """Put something on all queues of the engine."""
        self.run(lambda: self.engine.tell(item))

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Await something in the server's thread."""

        async def awaited() -> T:
            return await asyncio.wait_for(awaitable, PATIENCE_SECONDS)

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server's side says so."""

        async def hold() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.wait(hold())

    async def read_logs(self, files: LogFiles, options: LogOptions, stop: asyncio.Event) -> AsyncIterator[bytes]:
        """Sends the paths of the files; following: until told to stop."""
        self.log_options.append(options)
        for each in files():
            if each["path"] == "broken":
                raise OSError("the disk")
            yield each["path"].encode() + b"\n"
        if options.follow:
            await stop.wait()
            yield b"stopped\n"


@contextmanager
def serving(
    folder: Path, engine: Callable[[], FakeEngine], rules: AccessRules | None = None, **options: Any
) -> Iterator[Served]:
    """Serve an engine below a folder."""
    path = folder / "api.sock"
    listener = listen_unix(str(path), socket.SOCK_STREAM)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> Served:
        fake = engine()
        served = Served(path, fake, loop)
        about = {"version": "1.2.3", "python": "3", "wire": 1}
        served.server = RestServer(fake, served.read_logs, fake, about=about, rules=rules, **options)
        await served.server.start(listener.dup())
        return served

    served = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    try:
        yield served
    finally:
        served.wait(served.server.close(1.0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        listener.close()
