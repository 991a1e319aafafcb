"""One method per endpoint; streams as iterators, refusals as exceptions. An answer is handed on as it was given.

While the controller restarts, the keeper goes on listening: a request then waits in the socket's backlog, so a
time-out (30 s) is the one patience this module needs.
"""

import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any, NoReturn

from reconciler.client.errors import ApiFailure, NoController, PermissionRefused, TimedOut
from reconciler.client.places import REQUEST_SECONDS
from reconciler.client.transport import Answer, BadAnswer, Deadline, Disconnected, Expired, Wire, quoted

Json = dict[str, Any]

ATTEMPTS = 3  # a request for reading that was cut off by a dying controller is asked again
NOTE_HEADER = "Reconciler-Note"
_UNIX_PATH_MAX = 107  # bytes of sun_path, without the final NUL


class Client:
    """One controller, reached through the first of `paths` where somebody listens."""

    def __init__(self, paths: Sequence[str], *, timeout_seconds: float = REQUEST_SECONDS) -> None:
        self._paths = list(paths)
        self.timeout_seconds = timeout_seconds

    # -- reading ---------------------------------------------------------------------------------------------------

    def programs(self, selector: str = "", *, effective: bool = False) -> Json:
        """All Programs as a List, with the problems of manifests."""
        return self._read("/v1/programs", labelSelector=selector, effective=effective)

    def program(self, name: str, *, effective: bool = False) -> Json:
        """One Program."""
        return self._read(f"/v1/programs/{quoted(name)}", effective=effective)

    def watch_programs(
        self, selector: str = "", *, idle_seconds: float | None = None, until: float | None = None
    ) -> Iterator[Json]:
        """Each `{type, object}`: first all that there are, then SYNCED, then changes. See `_json_lines`."""
        query = {"labelSelector": selector, "watch": True}
        return self._json_lines("/v1/programs", query, idle_seconds=idle_seconds, until=until)

    def queuebindings(self, selector: str = "") -> list[Json]:
        """All QueueBindings."""
        return list(self._read("/v1/queuebindings", labelSelector=selector).get("items", ()))

    def queuebinding(self, name: str) -> Json:
        """One QueueBinding."""
        return self._read(f"/v1/queuebindings/{quoted(name)}")

    def queue_history(self, name: str) -> list[Json]:
        """What waited and how many replicas there were, a sample a second, oldest first."""
        return list(self._read(f"/v1/queuebindings/{quoted(name)}/history").get("items", ()))

    def watch_queuebindings(
        self, selector: str = "", *, idle_seconds: float | None = None, until: float | None = None
    ) -> Iterator[Json]:
        """As `watch_programs`."""
        query = {"labelSelector": selector, "watch": True}
        return self._json_lines("/v1/queuebindings", query, idle_seconds=idle_seconds, until=until)

    def processes(self) -> list[Json]:
        """One row per process, each with its program."""
        return list(self._read("/v1/processes").get("items", ()))

    def daemon(self) -> Json:
        """The daemon alone. One that is older than this question is asked for all it has."""
        try:
            return self._read("/v1/daemon")
        except ApiFailure as failure:
            if failure.reason != "NoSuchPath":
                raise
            return dict(self.status().get("daemon") or {})

    def status(self) -> Json:
        """The daemon, all objects, problems and sources in one answer."""
        return self._read("/v1/status")

    def events(self, name: str = "") -> list[Json]:
        """What happened, oldest first."""
        return list(self._read("/v1/events", name=name).get("items", ()))

    def watch_events(
        self, name: str = "", *, idle_seconds: float | None = None, until: float | None = None
    ) -> Iterator[Json]:
        """What happens from now on. See `_json_lines`."""
        return self._json_lines("/v1/events", {"name": name, "watch": True}, idle_seconds=idle_seconds, until=until)

    def logs(
        self,
        name: str,
        *,
        replica: int | None = None,
        follow: bool = False,
        tail: int | None = None,
        since_seconds: float | None = None,
        timestamps: bool = False,
        prefix: bool = False,
        previous: int | None = None,
        stream: str = "",
        note: Callable[[str], None] = lambda text: None,
    ) -> Iterator[bytes]:
        """Log bytes as they arrive. `note` is told what the reader should know of them."""
        path = f"/v1/programs/{quoted(name)}/logs"
        query = {
            "replica": replica,
            "follow": follow,
            "tail": tail,
            "since": since_seconds,
            "timestamps": timestamps,
            "prefix": prefix,
            "previous": previous,
            "stream": stream,
        }
        with self._translated():
            wire, answer = self._ask("GET", path, query)
            with wire:
                wire.deadline.extend_to(None if follow else monotonic() + self.timeout_seconds)
                if text := answer.header(NOTE_HEADER):
                    note(text)
                for piece in answer.pieces():
                    yield piece
                    if not follow:  # a log may be long, but it may not come to a halt
                        wire.deadline.extend_to(monotonic() + self.timeout_seconds)

    def version(self) -> Json:
        """The controller's version, which may be older than ours: it is replaced later than our files are."""
        return self._read("/v1/version")

    def is_ready(self) -> bool:
        """Whether the controller has made its first pass."""
        try:
            self._text("GET", "/readyz")
        except ApiFailure:
            return False
        return True

    # -- changing --------------------------------------------------------------------------------------------------

    def apply(self, body: Json) -> Json:
        """Hand in manifests: all or nothing."""
        return self._change("POST", "/v1/apply", body)

    def diff(self, body: Json) -> Json:
        """What `apply` of the same body would do."""
        return self._json("POST", "/v1/diff", body)

    def delete(self, name: str, *, dry_run: bool = False) -> Json:
        """Remove a Program that was applied."""
        return self._change("DELETE", f"/v1/programs/{quoted(name)}", None, dry_run=dry_run)

    def operate(self, name: str, verb: str, body: Json, *, dry_run: bool = False) -> Json:
        """An operator's wish: scale, stop, start, restart or reset."""
        return self._change("POST", f"/v1/programs/{quoted(name)}/{verb}", body, dry_run=dry_run)

    def delete_queuebinding(self, name: str, *, dry_run: bool = False) -> Json:
        """Remove a QueueBinding that was applied."""
        return self._change("DELETE", f"/v1/queuebindings/{quoted(name)}", None, dry_run=dry_run)

    def queue(self, name: str, verb: str, body: Json, *, dry_run: bool = False) -> Json:
        """An operator's wish about a binding: pause, resume or poke; `test` answers with the object."""
        return self._change("POST", f"/v1/queuebindings/{quoted(name)}/{verb}", body, dry_run=dry_run)

    def rescan(self) -> Json:
        """Have all directories read now."""
        return self._change("POST", "/v1/rescan", {})

    def shutdown(self, *, keep: bool = False) -> None:
        """Begin an orderly end; `keep` leaves the processes running."""
        self._text("POST", "/v1/shutdown", {"keep": keep})

    def reexec(self, *, keeper: bool = False, dry_run: bool = False) -> Json:
        """Begin to replace the daemon by the code that is installed now; says who will be, and by which version."""
        return self._change("POST", "/v1/reexec", {"keeper": keeper}, dry_run=dry_run)

    # -- how -------------------------------------------------------------------------------------------------------

    def _read(self, path: str, **query: Any) -> Json:
        return self._json("GET", path, None, **query)

    def _change(self, method: str, path: str, body: Json | None, *, dry_run: bool = False) -> Json:
        return self._json(method, path, body, dryRun=dry_run)

    def _json(self, method: str, path: str, body: Json | None, **query: Any) -> Json:
        text = self._text(method, path, body, **query)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            _unreadable(f"{method} {path} was answered with {_shown(text)}")
        return answer

    def _text(self, method: str, path: str, body: Json | None = None, **query: Any) -> bytes:
        with self._translated():
            wire, answer = self._ask(method, path, query, body)
            with wire:
                return b"".join(answer.pieces())

    def _json_lines(self, path: str, query: Json, *, idle_seconds: float | None, until: float | None) -> Iterator[Json]:
        """One object per line. An empty one when nothing came for `idle_seconds`; TimedOut at `until` (monotonic).

        Ends when the controller ends the stream, in good order or not: the caller may simply watch again.
        """
        with self._translated():
            wire, answer = self._ask("GET", path, query)
            with wire:
                wire.deadline.extend_to(until)
                try:
                    for line in answer.lines(idle_seconds):
                        yield _event(line)
                except Disconnected:
                    return

    def _ask(self, method: str, path: str, query: Json, body: Json | None = None) -> tuple[Wire, Answer]:
        """Send a request and read the head of the answer; the caller reads the rest and closes the wire."""
        deadline = Deadline(monotonic() + self.timeout_seconds)
        arguments = "&".join(f"{key}={_argument(value)}" for key, value in query.items() if _is_given(value))
        target = f"{path}?{arguments}" if arguments else path
        payload = None if body is None else json.dumps(body).encode()
        attempts = ATTEMPTS if method == "GET" else 1
        while True:
            attempts -= 1
            wire = Wire(self._connect(deadline), deadline)
            try:
                wire.send(method, target, payload)
                answer = wire.answer()
                if answer.status >= 400:
                    _refused(answer.status, b"".join(answer.pieces()))
            except Disconnected:
                wire.close()
                if not attempts:
                    raise
            except BaseException:
                wire.close()
                raise
            else:
                return wire, answer

    def _connect(self, deadline: Deadline) -> socket.socket:
        tried: list[tuple[str, str]] = []
        refused = ""
        for path in self._paths:
            try:
                return _connected(path, deadline.left())
            except PermissionError:
                refused = refused or path
            except BlockingIOError:
                raise Expired from None
            except FileNotFoundError:
                tried.append((path, "no such file"))
            except ConnectionRefusedError:
                tried.append((path, "nobody listens (left behind by a keeper that is gone)"))
            except OSError as error:
                tried.append((path, error.strerror or str(error)))
        if refused:
            raise PermissionRefused(refused)
        raise NoController(tried)

    def _translated(self) -> "_Translated":
        return _Translated(self.timeout_seconds)


class _Translated:
    """Turns what happened on the wire into what a person can act on."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Expired):
            raise TimedOut(
                f"the controller did not answer within {self.timeout_seconds:g}s; it may be starting or hang:"
                " look at its log, or ask again"
            ) from None
        if isinstance(error, Disconnected):
            message = (
                "the controller went away in the middle of its answer, so what was asked may be done or not; ask again"
            )
            raise ApiFailure(1, "Disconnected", message) from None
        if isinstance(error, BadAnswer):
            _unreadable(str(error))


def _connected(path: str, timeout_seconds: float) -> socket.socket:
    """A connection to a Unix socket; waits while the backlog is full."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    folder = -1
    try:
        # With a time-out of Python's the socket would be non-blocking, and a full backlog an error at once.
        seconds = max(timeout_seconds, 0.001)
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        address = path
        if len(os.fsencode(path)) > _UNIX_PATH_MAX:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            address = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        if len(os.fsencode(address)) > _UNIX_PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, "the name of the socket is too long")
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return connection


def _refused(status: int, body: bytes) -> NoReturn:
    """Raise what an answer of 4xx or 5xx says."""
    try:
        error = json.loads(body)["error"]
        code = error.get("exitCode")
        problems = [problem for problem in error.get("problems") or () if isinstance(problem, dict)]
        message, reason = str(error["message"]), str(error.get("reason", "Failed"))
    except (ValueError, TypeError, KeyError, AttributeError):
        _unreadable(f"HTTP {status}: {_shown(body)}")
    raise ApiFailure(code if code in range(1, 8) else 1, reason, message, problems)


def _unreadable(detail: str) -> NoReturn:
    message = f"the controller's answer cannot be read ({detail}); is something else listening at this socket?"
    raise ApiFailure(1, "BadAnswer", message)


def _event(line: bytes) -> Json:
    if not line:
        return {}
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise BadAnswer(_shown(line))
    return event


def _shown(body: bytes) -> str:
    return repr(body[:120].decode(errors="replace")) if body else "nothing"


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != ""


def _argument(value: Any) -> str:
    return "1" if value is True else quoted(str(value))
