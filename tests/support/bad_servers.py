"""Servers that behave badly on purpose: silent, slow, garbled, endless. Each is a socket of the test's own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


GARBAGE = {
    "text": b"\r\n\r\nwhat?\r\n" * 20,
    "zeros": bytes(4096),
    "bytes": bytes(range(256)) * 16,
    "half": b"HT",
    "digits": b"9" * 4096 + b"\r\n",
    "negative": b"$-5\r\n*-7\r\n:x\r\n",
    "huge text": b"$99999999999999\r\n",
    "huge list": b"*1000000000\r\n",
    "nested": b"*1\r\n" * 1000,
    "huge packet": b"\xff\xff\xff\x00" + b"\x0a" * 64,
    "huge body": b"OK 99999999999\r\n",
    "other numbers": b"OK 7\r\nabc: 1\n\r\n",
    "http of a strange vector": _http(b'{"data": {"resultType": "vector", "result": 5}, "message_stats": 5}'),
    "http of a strange list": _http(b'{"data": {"resultType": "vector", "result": [[1]], "warnings": 5}}'),
    "http of 2 TB": b"HTTP/1.1 200 OK\r\nContent-Length: 2000000000000\r\n\r\n",
    "http of no length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
    "http without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,
    "http of no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


class BadServer:
    """Accepts on `port`; what it sends is up to `says`, and then either it closes or it stays."""

    def __init__(self, says: bytes, *, every_seconds: float | None, closes: bool) -> None:
        self._says = says
        self._every = every_seconds
        self._closes = closes
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connected)
            thread = threading.Thread(target=self._serve, args=(connected,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket) -> None:
        try:
            if self._every is None:
                connected.sendall(self._says)
            else:
                for byte in self._says:
                    connected.sendall(bytes([byte]))
                    if self._ended.wait(self._every):
                        break
        except OSError:
            pass
        if not self._closes:
            self._ended.wait()
        try:
            connected.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was quicker

    def close(self) -> None:
        """End all threads."""
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        for each in self._connections:
            each.close()


@contextmanager
def bad_server(says: bytes = b"", *, every_seconds: float | None = None, closes: bool = False) -> Iterator[int]:
    """The port of one, as long as the block lasts."""
    server = BadServer(says, every_seconds=every_seconds, closes=closes)
    try:
        yield server.port
    finally:
        server.close()
