"""The part of redis' protocol that counting needs: commands out, replies in, several at once.

A client of our own, since the usual one repeats, pools and reconnects by itself, where here each call has to end in
time and each connection may be cut from outside.
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Any

from reconciler.adapters.queues.connections import Hold, Lost, dial, encrypted, tls_context
from reconciler.adapters.queues.limits import CALL_SECONDS
from reconciler.adapters.queues.urls import Url
from reconciler.model.metadata import RedisServer
from reconciler.model.queues import QueueReadFailed

LONGEST_BYTES = 64 << 20  # of one text: a payload may be large, a queue's head larger than this is not read
LONGEST_LIST = 1 << 20
DEEPEST = 8
_LINE_BYTES = 64 << 10
DEFAULT_PORT = 6379
_ENCRYPTED = frozenset({"rediss", "tls"})

Argument = str | int | float | bytes


class ErrorReply(Exception):
    """The server refused one command. The text begins with a word in capitals, such as WRONGTYPE."""

    @property
    def code(self) -> str:
        """That word."""
        return str(self).partition(" ")[0]


class Resp:
    """One connection that is ready for commands."""

    def __init__(self, connected: socket.socket, what: str) -> None:
        self._socket = connected
        self._replies = connected.makefile("rb")
        self._what = what

    def ask(self, *commands: Sequence[Argument]) -> list[Any]:
        """The replies to some commands, in one round trip: bytes, int, None, lists of these, or ErrorReply.

        Raises OSError, TimeoutError and Lost.
        """
        self._socket.sendall(b"".join(_encoded(command) for command in commands))
        return [self._reply(DEEPEST) for _ in commands]

    def patience(self, seconds: float) -> None:
        """How long a single reply may take from now on."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Let it go."""
        try:
            self._replies.close()
        finally:
            self._socket.close()

    def _reply(self, deepest: int) -> Any:
        line = self._replies.readline(_LINE_BYTES)
        if not line.endswith(b"\r\n"):
            raise self._end() if not line or len(line) < _LINE_BYTES else self._garbled(line)
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode(errors="replace"))
        if kind in b":$*" and rest.removeprefix(b"-").isdigit() and len(rest) <= 20:
            number = int(rest)
            if kind == b":":
                return number
            if number < 0:
                return None
            if kind == b"$" and number <= LONGEST_BYTES:
                return self._text(number)
            if kind == b"*" and number <= LONGEST_LIST and deepest:
                return [self._reply(deepest - 1) for _ in range(number)]
        raise self._garbled(line)

    def _text(self, length: int) -> bytes:
        text = self._replies.read(length + 2)
        if len(text) < length + 2:
            raise self._end()
        return text[:-2]

    def _end(self) -> Lost:
        return Lost("ConnectionRefused", f"{self._what} closed the connection")

    def _garbled(self, line: bytes) -> Lost:
        return Lost("ServerError", f"{self._what} does not answer as a redis does: {line[:40]!r}")


def _encoded(command: Sequence[Argument]) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


class Place:
    """Where a redis is and who asks it, out of a trigger's settings. Raises QueueReadFailed(BadMetadata).

    `tls`: how certificates are judged, where the settings do not say it.
    """

    def __init__(self, server: RedisServer, tls: ssl.SSLContext | None = None) -> None:
        self._url = url = Url(server.url, ("redis", "rediss", "unix", "tcp", "tls"), DEFAULT_PORT)
        self.what = f"redis at {url.place}" + (" over TLS" if url.scheme in _ENCRYPTED else "")
        self._username = server.username or url.username
        self._password = server.password if server.password is not None else url.password
        if tls is None and url.scheme in _ENCRYPTED:
            tls = tls_context(server.ca_file, server.verify_tls)
        self._tls = tls
        self._database = server.database if server.database is not None else self._database_of_url()

    def _database_of_url(self) -> int:
        text = self._url.query.get("db", "0") if self._url.scheme == "unix" else self._url.path.strip("/") or "0"
        if not text.isdigit() or not text.isascii():
            raise QueueReadFailed("BadMetadata", f"url: /{text} is not the number of a database, as in redis://host/0")
        return int(text)

    def connect(self, hold: Hold) -> Resp:
        """A connection that is logged in and has its database. Raises OSError and QueueReadFailed."""
        port = 0 if self._url.scheme == "unix" else self._url.port
        connected = dial(self._url.path if port == 0 else self._url.host, port, hold, CALL_SECONDS)
        if self._tls is not None:
            connected = encrypted(connected, self._tls, self._url.host)
        resp = Resp(connected, self.what)
        try:
            self._introduce(resp)
        except BaseException:
            resp.close()
            raise
        return resp

    def _introduce(self, resp: Resp) -> None:
        if self._password is not None:
            who = (self._username, self._password) if self._username else (self._password,)
            (reply,) = resp.ask(("AUTH", *who))
            if isinstance(reply, ErrorReply):
                raise self.refused(reply)
        if self._database:
            (reply,) = resp.ask(("SELECT", self._database))
            if isinstance(reply, ErrorReply):
                raise self.refused(reply)

    def refused(self, error: ErrorReply) -> QueueReadFailed:
        """The failure that an error reply is, whatever was asked."""
        text = str(error)
        if error.code in {"NOAUTH", "WRONGPASS", "NOPERM"} or "AUTH" in text or "invalid password" in text:
            hint = {
                "NOAUTH": "it wants a password: write password, or passwordFromEnv or passwordFromFile",
                "NOPERM": f"the user may not do this: {text}",
            }
            return QueueReadFailed("AuthenticationFailed", f"{self.what}: {hint.get(error.code, text)}")
        if error.code in {"MOVED", "ASK"}:
            where = text.rpartition(" ")[2]
            message = f"{self.what} is a cluster, and the key lies at {where}: write that in url"
            return QueueReadFailed("ServerError", message)
        if "DB index" in text:
            return QueueReadFailed("NotFound", f"{self.what} has no database {self._database}")
        return QueueReadFailed("ServerError", f"{self.what}: {text}")
