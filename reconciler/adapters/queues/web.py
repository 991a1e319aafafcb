"""GET requests to one HTTP server, over one connection: what the drivers behind HTTP share."""

import http.client
import socket
from base64 import b64encode
from contextlib import closing

from reconciler.adapters.queues.answers import LARGEST_BYTES
from reconciler.adapters.queues.connections import Hold, Kept, Lost, dial, encrypted, tls_context
from reconciler.adapters.queues.urls import Url
from reconciler.model.masking import masked
from reconciler.model.metadata import HttpServer
from reconciler.model.queues import QueueReadFailed

_PORTS = {"http": 80, "https": 443}


class _Connection(http.client.HTTPConnection):
    """Over a socket that was made by us."""

    def __init__(self, host: str, port: int, connected: socket.socket) -> None:
        super().__init__(host, port)
        self.sock = connected


class Web:
    """One server. `url` is where it begins; paths are added to it."""

    def __init__(self, url: str, settings: HttpServer) -> None:
        """Raises QueueReadFailed(BadMetadata)."""
        self._url = Url(url, tuple(_PORTS), _PORTS.get(url.partition("://")[0], 0))
        self.what = f"{self._url.scheme}://{self._url.place}"
        self._tls = tls_context(settings.ca_file, settings.verify_tls) if self._url.scheme == "https" else None
        self._headers = {"Accept": "application/json, text/plain", "User-Agent": "reconciler", **settings.headers}
        self._headers |= self._authorization(settings)
        for name, value in self._headers.items():
            if not (f"{name}{value}".isprintable() and value.isascii()):
                raise QueueReadFailed("BadMetadata", f"headers.{name}: holds a character that no header can")
        self._kept = Kept(self.what, self._connect)

    def _authorization(self, settings: HttpServer) -> dict[str, str]:
        if settings.bearer_token is not None:
            return {"Authorization": f"Bearer {settings.bearer_token}"}
        username = settings.username or self._url.username
        password = settings.password if settings.password is not None else self._url.password
        if username is None or password is None:
            return {}
        return {"Authorization": f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"}

    def get(self, path: str = "") -> bytes:
        """What is at this path (with its query), which begins with a slash; without one: at the URL itself."""
        target = self._url.path.rstrip("/") + path if path else self._url.path or "/"
        if not path and self._url.raw_query:
            target += f"?{self._url.raw_query}"
        if not target.isascii() or not target.isprintable() or " " in target:
            raise QueueReadFailed("BadMetadata", f"url: {masked(target)!r} holds characters that have to be escaped")
        return self._kept.call(lambda connection: self._get(connection, target))

    def close(self) -> None:
        """Let the connection go."""
        self._kept.close()

    def _connect(self, hold: Hold) -> _Connection:
        connected = dial(self._url.host, self._url.port, hold)
        if self._tls is not None:
            connected = encrypted(connected, self._tls, self._url.host)
        return _Connection(self._url.host, self._url.port, connected)

    def _get(self, connection: _Connection, target: str) -> bytes:
        connection.auto_open = 0  # a lost one is dialled anew, by us
        try:
            connection.request("GET", target, headers=self._headers)
            with closing(connection.getresponse()) as response:
                body = response.read(LARGEST_BYTES + 1)
        except OSError:
            raise
        except (http.client.HTTPException, ValueError) as error:
            if isinstance(error, http.client.NotConnected | http.client.IncompleteRead):
                raise Lost("ConnectionRefused", f"{self.what} closed the connection") from None
            raise Lost("ServerError", f"{self.what} does not answer as an HTTP server does") from None
        if len(body) > LARGEST_BYTES:
            raise Lost("NotANumber", f"{self.what} answers with more than {LARGEST_BYTES >> 20} MiB")
        if response.status // 100 != 2:
            raise self._refused(response, target, body)
        return body

    def _refused(self, response: http.client.HTTPResponse, target: str, body: bytes) -> QueueReadFailed:
        status = f"{response.status} {response.reason}".strip()
        path = masked(target.partition("?")[0])
        if response.status in {401, 403}:
            hint = (
                "write username and password, bearerToken or headers" if response.status == 401 else "it is not allowed"
            )
            return QueueReadFailed("AuthenticationFailed", f"{self.what}{path}: {status}; {hint}")
        if response.status == 404:
            return QueueReadFailed("NotFound", f"{self.what}{path}: {status}")
        if response.status // 100 == 3:
            where = masked(response.headers.get("Location") or "")
            return QueueReadFailed("ServerError", f"{self.what}{path} is elsewhere: write {where!r} in url")
        said = " ".join(body[:200].decode(errors="replace").split())
        return QueueReadFailed("ServerError", f"{self.what}{path}: {status}{': ' * bool(said)}{said}")
