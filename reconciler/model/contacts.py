"""The parts of a Program's spec through which processes are reached: listening sockets, probes, preStop.

Values and what fits within one part, and which address is whose; what has to fit across parts is in program.py.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from reconciler.model.fields import (
    CheckedSpec,
    Command,
    Duration,
    Filled,
    Name,
    Octal,
    Pairs,
    Path,
    Port,
    Signal,
    SomeDuration,
    Spec,
)


class Address(NamedTuple):
    """Where something listens, or is asked. Empty host: any."""

    host: str
    port: str


_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*):(?P<port>[0-9]{1,5})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104  we compare, we do not listen


class Socket(CheckedSpec):
    """A listening socket that outlives the processes which serve it."""

    name: Name
    listen: str
    backlog: Annotated[int, Field(ge=1, le=1 << 31)] = 4096
    mode: Octal | None = None
    owner: Filled | None = None
    handover: Annotated[Literal["listenFds", "stdin"], Field(alias="as")] = "listenFds"

    def faults(self) -> Iterator[tuple[str, str]]:
        is_unix = self.listen.startswith("unix:")
        if "$(" not in self.listen:
            match = _TCP.fullmatch(self.listen)
            if is_unix:
                if not self.listen.startswith("unix:///") or self.listen.endswith("/"):
                    yield "listen", "must name an absolute path, unix:///run/app.sock"
            elif match is None or not 1 <= int(match["port"]) <= 65535:
                yield "listen", "must be tcp://HOST:PORT or unix:///PATH"
        if not is_unix:
            yield from (
                (field, "is for unix sockets only") for field in ("mode", "owner") if getattr(self, field) is not None
            )

    @property
    def path(self) -> str | None:
        """The path of a unix socket."""
        return self.listen.removeprefix("unix://") if self.listen.startswith("unix://") else None

    @property
    def address(self) -> Address | None:
        """The address of a TCP socket, None also when it is not known before expansion."""
        match = _TCP.fullmatch(self.listen)
        return Address(match["host"].strip("[]"), match["port"]) if match else None

    def takes(self, asked: Address) -> bool:
        """Whether a connection to that address would land here, as far as names tell."""
        mine = self.address
        if mine is None or mine.port != asked.port:
            return False
        return mine.host == asked.host or mine.host in _ANY or {mine.host, asked.host} <= _LOOPBACK


class ExecAction(Spec):
    """A command that answers by its exit code."""

    command: Command


class HttpGet(CheckedSpec):
    """A request that answers by its status: a URL, a port of this host, or a unix socket."""

    url: str | None = None
    port: Port | None = None
    path: Annotated[str, Field(pattern=r"^(/|\$\()")] = "/"
    socket: Path | None = None
    headers: Pairs = Field(default_factory=dict)

    def faults(self) -> Iterator[tuple[str, str]]:
        if sum(way is not None for way in (self.url, self.port, self.socket)) != 1:
            yield "", "needs exactly one of url, port (with path) and socket (with path)"
        if self.url is not None:
            if "path" in self.model_fields_set:
                yield "path", "belongs into the url"
            if not self.url.startswith(("http://", "https://", "$(")):
                yield "url", "must begin with http:// or https://"
            elif "$(" not in self.url and _url_address(self.url) is None:
                yield "url", "is not a URL"

    @property
    def address(self) -> Address | None:
        """What is asked, None when it is a unix socket or not known before expansion."""
        if self.port is not None:
            return Address("localhost", str(self.port))
        return None if self.url is None else _url_address(self.url)


def _url_address(url: str) -> Address | None:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    return Address(parts.hostname, str(port)) if parts.hostname else None


class TcpSocket(Spec):
    """A connection that answers by being accepted."""

    port: Port
    host: Filled = "localhost"


class Notify(Spec):
    """The process says so itself (sd_notify)."""


_WAYS = ("exec", "http_get", "tcp_socket", "notify")


class Probe(CheckedSpec):
    """One way to ask a process how it is, and how often."""

    exec: ExecAction | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    notify: Notify | None = None
    initial_delay: Duration = 0.0
    period: SomeDuration = 10.0
    timeout: SomeDuration = 1.0
    success_threshold: Annotated[int, Field(ge=1)] = 1
    failure_threshold: Annotated[int, Field(ge=1)] = 3

    def faults(self) -> Iterator[tuple[str, str]]:
        if sum(getattr(self, way) is not None for way in _WAYS) != 1:
            yield "", "needs exactly one of exec, httpGet, tcpSocket and notify"

    @property
    def address(self) -> Address | None:
        """The network address that is asked, if there is one."""
        if self.tcp_socket is not None:
            return Address(self.tcp_socket.host, str(self.tcp_socket.port))
        return None if self.http_get is None else self.http_get.address


class PreStop(CheckedSpec):
    """What comes before the stop signal: a command, or a gentler signal and a wait."""

    exec: ExecAction | None = None
    timeout: SomeDuration | None = None  # None: what is left of the grace period
    signal: Signal | None = None
    wait: Duration | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if (self.exec is None) == (self.signal is None):
            yield "", "needs exactly one of exec and signal"
        elif self.exec is None:
            if self.timeout is not None:
                yield "timeout", "goes with exec"
            if self.wait is None:
                yield "wait", "is required with signal"
        elif self.wait is not None:
            yield "wait", "goes with signal"
