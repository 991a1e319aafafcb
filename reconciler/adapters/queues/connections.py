"""Connections that are kept: opened by the first call, used by the next ones, opened anew when they were lost.

`dial` makes sockets, `Kept` owns one connection of whatever protocol. A call on it ends in time (limits.py), and
`close` from another thread ends a call that waits.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from reconciler.adapters.queues.limits import CALL_SECONDS, SOCKET_SECONDS, within
from reconciler.model.queues import QueueReadFailed

T = TypeVar("T")


class Connection(Protocol):
    """What is kept."""

    def close(self) -> None:
        """Let it go. Never blocks, never raises."""
        ...


C = TypeVar("C", bound=Connection)


class Lost(QueueReadFailed):
    """The connection is of no further use: gone, or out of step."""


class Leash:
    """Ends what blocks on a connection, from another thread.

    Holds a descriptor of its own, so that it never meets another file by the number of a closed one.
    """

    def __init__(self, descriptor: int) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = socket.socket(fileno=_duplicate(descriptor))

    def cut(self) -> None:
        """Whoever reads from it or writes to it now gets an end of file or an error."""
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it was over before

    def release(self) -> None:
        """The connection is closed."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _duplicate(descriptor: int) -> int:
    with socket.socket(fileno=descriptor) as borrowed:
        try:
            return borrowed.dup().detach()
        finally:
            borrowed.detach()


Hold = Callable[[Leash], None]


class Kept(Generic[C]):
    """One connection over many calls. `what` names the server in messages, without any password.

    `connect(hold)` makes it and passes its leash to `hold` as soon as there is one, before it says a word.
    """

    def __init__(self, what: str, connect: Callable[[Hold], C]) -> None:
        self.what = what
        self._connect = connect
        self._connection: C | None = None
        self._leash: Leash | None = None
        self._lock = threading.Lock()
        self._busy = False
        self._closings = 0

    def call(self, ask: Callable[[C], T], seconds: float = CALL_SECONDS) -> T:
        """Ask over the connection. Raises QueueReadFailed.

        A kept connection may have died since (the server was restarted, or ends idle ones): then once more, anew.
        """
        with self._lock:
            self._busy = True
            closings = self._closings
        try:
            with within(seconds, self._cut, self.what) as limited:
                kept = self._connection is not None
                try:
                    return self._once(ask)
                except Lost:
                    if not kept or limited.expired or closings != self._closings:
                        raise
                return self._once(ask)
        finally:
            with self._lock:
                self._busy = False
                if closings != self._closings:
                    self._drop()

    def close(self) -> None:
        """Let the connection go; a call that is under way in another thread ends. The next call opens a new one."""
        with self._lock:
            self._closings += 1
            if not self._busy:
                self._drop()
                return
        self._cut()

    def _once(self, ask: Callable[[C], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect(self._hold)
            return ask(self._connection)
        except OSError as error:
            self._drop()
            if isinstance(error, TimeoutError):
                raise  # limits.py has the words
            raise unreachable(self.what, error) from None
        except QueueReadFailed as failed:
            if isinstance(failed, Lost) or self._connection is None:
                self._drop()
            raise
        except BaseException:
            self._drop()
            raise

    def _hold(self, leash: Leash) -> None:
        self._leash = leash

    def _cut(self) -> None:
        leash = self._leash
        if leash is not None:
            leash.cut()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        leash, self._leash = self._leash, None
        if connection is not None:
            connection.close()
        if leash is not None:
            leash.release()


def dial(host: str, port: int, hold: Hold, seconds: float = CALL_SECONDS) -> socket.socket:
    """A TCP connection, or with port 0 a Unix socket whose path is `host`. Blocks no longer than `seconds`.

    Raises OSError.
    """
    deadline = time.monotonic() + seconds
    failure: OSError = OSError("has no address")
    places = [(socket.AF_UNIX, host)] if port == 0 else addresses(host, port, seconds)
    for index, (family, address) in enumerate(places):
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(max((deadline - time.monotonic()) / (len(places) - index), 0.001))
            made.connect(address)
            made.settimeout(SOCKET_SECONDS)
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hold(Leash(made.fileno()))
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


def addresses(host: str, port: int, seconds: float) -> list[tuple[int, Any]]:
    """(family, address) of a host. A resolver may take longer than anybody should wait, and cannot be interrupted."""
    found: list[tuple[int, Any]] = []
    failures: list[OSError] = []

    def resolve() -> None:
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend((family, address) for family, _, _, _, address in resolved)
        except (OSError, UnicodeError) as error:
            failures.append(error if isinstance(error, OSError) else socket.gaierror(0, "not a host name"))

    if _is_literal(host):
        resolve()  # does not ask anybody
    else:
        thread = threading.Thread(target=resolve, name="queue-resolver", daemon=True)
        thread.start()
        thread.join(seconds)
    if failures:
        raise failures[0]
    if not found:
        raise TimeoutError
    return list(found)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def encrypted(plain: socket.socket, context: ssl.SSLContext, host: str) -> socket.socket:
    """The same connection over TLS. Raises Lost."""
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise untrusted(host, error) from None
    except ssl.SSLError as error:
        plain.close()
        raise Lost("ServerError", f"{host} does not speak TLS there: {error.reason}") from None


def untrusted(host: str, error: ssl.SSLCertVerificationError) -> Lost:
    """What to say of a certificate that is not accepted."""
    text = f"the certificate of {host} is not accepted: {error.verify_message}; name its authority in caFile"
    return Lost("AuthenticationFailed", text)


def tls_context(ca_file: str | None, verify: bool, *, verify_host: bool = True) -> ssl.SSLContext:
    """How certificates are judged; `verify_host`: whether they have to be the host's, too.

    Raises QueueReadFailed(BadMetadata).
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise QueueReadFailed("BadMetadata", f"caFile {ca_file} cannot be used: {error.strerror or error}") from None
    context.check_hostname = verify and verify_host
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def unreachable(what: str, error: OSError) -> Lost:
    """What to say of a server that cannot be reached."""
    if isinstance(error, socket.gaierror):
        text = f"{what}: the host is not known ({error.strerror or error})"
    elif isinstance(error, ConnectionRefusedError | FileNotFoundError):
        text = f"nobody listens at {what}; is the server running?"
    else:
        text = f"{what}: {error.strerror or str(error) or 'the connection was lost'}"
    return Lost("ConnectionRefused", text)
