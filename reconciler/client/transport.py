"""The little of HTTP/1.1 that the client needs, over a connected socket: send one request, read one answer.

Bodies come with a length, in chunks, or until the connection ends. Everything is bounded by a deadline, and an answer
that is cut short is never taken for a whole one. Knows nothing of endpoints; used by the client alone.
"""

import socket
from collections.abc import Iterator
from select import POLLIN, poll
from time import monotonic

_RECEIVE_BYTES = 256 * 1024
_LINE_BYTES = 16 * 1024  # of a header or chunk size; more is no answer of ours
_HEADER_LINES = 100
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Expired(Exception):
    """The deadline is over."""


class Disconnected(Exception):
    """The other side went away before its answer was whole."""


class BadAnswer(Exception):
    """What came is not HTTP as we know it."""


def quoted(text: str) -> str:
    """Percent-encoded for a path segment or a query."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


class Deadline:
    """A moment of the monotonic clock that may be moved, or none."""

    def __init__(self, at: float | None) -> None:
        self._at = at

    def extend_to(self, at: float | None) -> None:
        """Move it: a stream has begun, and may take as long as its reader wishes."""
        self._at = at

    def left(self) -> float:
        """Seconds from now; raises Expired when there are none."""
        if self._at is None:
            return float("inf")
        seconds = self._at - monotonic()
        if seconds <= 0:
            raise Expired
        return seconds


class Wire:
    """A connection with what was received and not yet taken."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self.deadline = deadline
        self._connection = connection
        self._received = bytearray()
        self._poll = poll()
        self._poll.register(connection, POLLIN)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def send(self, method: str, target: str, payload: bytes | None) -> None:
        """Send one request; the connection carries no second one."""
        head = [f"{method} {target} HTTP/1.1", "Host: reconciler", "Connection: close"]
        if payload is not None:
            head += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        try:
            self._connection.sendall("\r\n".join([*head, "", ""]).encode() + (payload or b""))
        except BlockingIOError:
            raise Expired from None  # SO_SNDTIMEO, see client
        except OSError:
            # The other side may have answered ("too large") and hung up without reading on: that answer counts.
            return

    def answer(self) -> "Answer":
        """Read the head of the answer."""
        try:
            first = self.line()
        except Disconnected:
            if self._received[:5] == b"HTTP/"[: len(self._received)]:
                raise
            first = bytes(self._received)  # not even the beginning of an answer
        status = first[9:12]
        if not first.startswith(b"HTTP/1.") or not status.isdigit():
            raise BadAnswer(repr(first[:80].decode(errors="replace")))
        headers: dict[bytes, bytes] = {}
        for _ in range(_HEADER_LINES):
            line = self.line()
            if not line:
                return Answer(self, int(status), headers)
            key, colon, value = line.partition(b":")
            if not colon:
                raise BadAnswer("a header without a colon")
            headers[key.strip().lower()] = value.strip()
        raise BadAnswer("too many headers")

    def line(self) -> bytes:
        """The next line, without its end."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LINE_BYTES:
                raise BadAnswer("an endless line")
            if not self._receive():
                raise Disconnected
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.rstrip(b"\r")

    def take(self, count: int) -> Iterator[bytes]:
        """Exactly `count` bytes, in pieces as they arrive."""
        while count:
            if not self._received and not self._receive():
                raise Disconnected
            piece = bytes(self._received[:count])
            del self._received[: len(piece)]
            count -= len(piece)
            yield piece

    def rest(self) -> Iterator[bytes]:
        """All until the other side ends the connection."""
        while self._received or self._receive():
            piece = bytes(self._received)
            self._received.clear()
            yield piece

    def has_more_within(self, seconds: float) -> bool:
        """Whether there is something to read, or comes in time."""
        return bool(self._received) or self._wait(min(seconds, self.deadline.left()))

    def _receive(self) -> bool:
        """Receive what is there, wait for it when nothing is; False at the end of the connection."""
        while not self._wait(self.deadline.left()):
            pass
        try:
            piece = self._connection.recv(_RECEIVE_BYTES)
        except OSError:  # reset: the controller died
            raise Disconnected from None
        self._received += piece
        return bool(piece)

    def _wait(self, seconds: float) -> bool:
        return bool(self._poll.poll(None if seconds == float("inf") else seconds * 1000 + 1))


class Answer:
    """One answer: its head has been read, its body is still to come."""

    def __init__(self, wire: Wire, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self._wire = wire
        self._headers = headers

    def header(self, name: str) -> str:
        """A header of the answer; empty when it has none of this name."""
        return self._headers.get(name.lower().encode(), b"").decode(errors="replace")

    def pieces(self, idle_seconds: float | None = None) -> Iterator[bytes]:
        """The body as it arrives; an empty piece whenever nothing came for `idle_seconds`."""
        if self._headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            yield from self._chunks(idle_seconds)
            return
        length = self._headers.get(b"content-length")
        if length is None:
            yield from self._wire.rest()
        elif length.isdigit():
            yield from self._wire.take(int(length))
        else:
            raise BadAnswer("a length that is no number")

    def lines(self, idle_seconds: float | None = None) -> Iterator[bytes]:
        """The body's lines without their ends, blank ones left out; an empty one stands for idleness."""
        pending = b""
        for piece in self.pieces(idle_seconds):
            if not piece:
                yield b""
                continue
            *whole, pending = (pending + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if pending.strip():
            raise Disconnected  # half a line

    def _chunks(self, idle_seconds: float | None) -> Iterator[bytes]:
        wire = self._wire
        while True:
            while idle_seconds is not None and not wire.has_more_within(idle_seconds):
                yield b""
            try:
                size = int(wire.line().partition(b";")[0], 16)
            except ValueError:
                raise BadAnswer("a chunk without a size") from None
            if size < 0:
                raise BadAnswer("a chunk of a negative size")
            if not size:
                while wire.line():  # trailers
                    pass
                return
            yield from wire.take(size)
            if wire.line():
                raise BadAnswer("a chunk longer than its size")
