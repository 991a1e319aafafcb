"""A pump on strings: the other end of the sink's line, inside the test's event loop."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from reconciler import wire


class PumpPuppet:
    """Notes what it is told; says what the test has it say."""

    def __init__(self, run_dir: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = wire.listen_unix(str(run_dir / "pump.sock"), socket.SOCK_SEQPACKET)
        self._loop.add_reader(self._listener, self._accept)
        self._heard: asyncio.Queue[wire.Message] = asyncio.Queue()
        self._connected = asyncio.Event()
        self.connection: socket.socket | None = None

    def _accept(self) -> None:
        self.connection, _ = self._listener.accept()
        self.connection.setblocking(False)
        self._loop.add_reader(self.connection, self._read)
        self._connected.set()

    def _read(self) -> None:
        connection = self.connection
        assert connection is not None
        try:
            for message in wire.waiting(connection):
                self._heard.put_nowait(message)
        except wire.Closed:
            self.drop()

    async def hears(self, *kinds: str, barriers: bool = False) -> list[dict[str, Any]]:
        """The next messages, which must be of these kinds. The sink's barriers are left out."""
        messages = []
        for kind in kinds:
            message = await self._next()
            while not barriers and message["type"] == "mark" and not message["ids"]:
                message = await self._next()
            assert message["type"] == kind, message
            messages.append(message)
        return messages

    async def barrier(self) -> int:
        """The number of the barrier that comes next."""
        while (message := await self._next())["type"] != "mark" or message["ids"]:
            pass
        number: int = message["n"]
        return number

    async def _next(self) -> wire.Message:
        return await asyncio.wait_for(self._heard.get(), 30)

    async def hears_nothing(self) -> None:
        """What was said until now was heard by the test already."""
        for _ in range(5):
            await asyncio.sleep(0)
        while not self._heard.empty():
            message = self._heard.get_nowait()
            assert message["type"] == "mark", message
            assert not message["ids"], message

    async def connected(self) -> None:
        await asyncio.wait_for(self._connected.wait(), 30)

    def say(self, **message: Any) -> None:
        assert self.connection is not None
        assert wire.send(self.connection, message)

    def say_bytes(self, data: bytes) -> None:
        assert self.connection is not None
        assert wire.send_bytes(self.connection, data)

    def pause(self) -> None:
        """Listen no more, for now."""
        assert self.connection is not None
        self._loop.remove_reader(self.connection)

    def resume(self) -> None:
        assert self.connection is not None
        self._loop.add_reader(self.connection, self._read)

    def drop(self) -> None:
        """Hang up; who comes again is welcome."""
        self._connected.clear()
        if self.connection is not None:
            self._loop.remove_reader(self.connection)
            self.connection.close()
            self.connection = None

    def die(self) -> None:
        """What SIGKILL leaves: a socket's name without anybody behind it."""
        self.drop()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
