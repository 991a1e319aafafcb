"""What all conduits of a pump share: open logs, consoles, the folder where lines are staged, a pipe to peek with.

Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os

from reconciler.folders import Refused
from reconciler.pumping.console import STDERR, STDOUT, Console
from reconciler.pumping.logfile import Bounds, LogFile
from reconciler.segments import Tidier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NOTE = ".to"
_TEE_NONBLOCK = 2  # SPLICE_F_NONBLOCK


class Settings:
    """What the controller wants of a stream.

    `form` is raw, prefix or json; `program`, `replica` and `stream` are what its lines are called. `shared`: other
    streams of the Program write to the same path. KeyError, TypeError or ValueError when the message makes no sense.
    """

    __slots__ = ("bounds", "fifo", "form", "id", "message", "path", "program", "replica", "shared", "stream")

    def __init__(self, message: dict[str, Any]) -> None:
        self.message = message
        self.id = str(message["id"])
        self.fifo = _possible_path(message["fifo"])
        self.path = _possible_path(message["path"])
        self.bounds = Bounds(
            int(message["max_size"]),
            int(message["max_files"]),
            message["compress"] == "gzip",
            int(message["mode"]) & 0o777,
            int(message.get("uid", -1)),
        )
        # A controller that is older than this pump knows nothing of what follows.
        self.form = str(message.get("format", "raw"))
        self.program = str(message.get("program", ""))
        self.replica = int(message.get("replica", 0))
        self.stream = str(message.get("stream", ""))
        self.shared = message.get("shared") is True

    @property
    def owner(self) -> str:
        """The Program: no other one may write to the same log."""
        return self.id.partition("/")[0]

    @property
    def is_for_console(self) -> bool:
        return self.path in (STDOUT, STDERR)

    @property
    def whose(self) -> str:
        """Names the stream among those that share a log."""
        return f"{self.replica}/{self.stream}"


class Plumbing:
    """See above. `run_dir` is the pump's; a folder for staging is made in it when one is needed."""

    def __init__(self, run_dir: str, tidier: Tidier | None = None, consoles: tuple[Console, ...] = ()) -> None:
        self.tidier = tidier or Tidier()
        self.consoles = {console.path: console for console in consoles}
        self._staged_dir = os.path.join(run_dir, "staged")
        self._fifo_dir = os.path.join(run_dir, "fifos")
        self._logs: dict[str, LogFile] = {}
        self._open_files: dict[tuple[int, int], LogFile] = {}
        self._peek_reader, self._peek_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._tee = ctypes.CDLL(None, use_errno=True).tee
        self._tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
        self._tee.restype = ctypes.c_ssize_t

    def join(self, settings: Settings) -> LogFile | Console:
        """Where this stream writes to. Raises Refused."""
        if settings.is_for_console:
            try:
                return self.consoles[settings.path]
            except KeyError:
                raise Refused(f"this pump has no {settings.path}") from None
        log = self._logs.get(settings.path)
        if log is None:
            log = self._logs[settings.path] = LogFile(settings.path, settings.bounds, self.tidier, self._open_files)
        elif log.users and log.owner != settings.owner:
            raise Refused(f"{settings.path} is the log of another Program; give each a path of its own")
        log.owner = settings.owner
        log.users.add(settings.id)
        return log

    def leave(self, settings: Settings, output: LogFile | Console) -> None:
        """This stream writes there no more."""
        if isinstance(output, LogFile):
            output.users.discard(settings.id)
            if not output.users:
                output.close()
                del self._logs[output.path]

    def staged_path(self, stream_id: str) -> str:
        """Where lines of this stream are staged."""
        return os.path.join(self._staged_dir, stream_id.replace("/", "-"))

    def make_staged_dir(self) -> None:
        os.makedirs(self._staged_dir, mode=0o700, exist_ok=True)

    def staged(self) -> Iterator[str]:
        """The files with staged lines that are there."""
        try:
            names = os.listdir(self._staged_dir)
        except FileNotFoundError:
            return
        for name in names:
            yield os.path.join(self._staged_dir, name)

    def noted(self) -> Iterator[dict[str, Any]]:
        """What controllers have noted beside the FIFOs that are there: their own message to open each."""
        try:
            names = os.listdir(self._fifo_dir)
        except OSError:
            return
        for name in names:
            if name.endswith(NOTE) and name.removesuffix(NOTE) in names:
                try:
                    with open(os.path.join(self._fifo_dir, name), encoding="utf-8") as file:
                        found = json.load(file)
                except (OSError, ValueError):
                    continue  # cut short: its controller says it again
                if isinstance(found, dict):
                    yield found

    def peek(self, fifo: int, count: int) -> bytes:
        """The next bytes of a FIFO, which stay in it: at most `count`, fewer when they lie in many small buffers."""
        copied = self._tee(fifo, self._peek_writer, count, _TEE_NONBLOCK)
        if copied < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return os.read(self._peek_reader, copied)

    def has_writer(self, fifo: int) -> bool:
        """Whether somebody has this FIFO open for writing, or has left something in it."""
        try:
            return bool(self.peek(fifo, 1))
        except BlockingIOError:
            return True

    def close(self) -> None:
        os.close(self._peek_reader)
        os.close(self._peek_writer)
        for console in self.consoles.values():
            console.close()


def _possible_path(path: object) -> str:
    """ValueError for what can be no path: a NUL or a lone surrogate in it."""
    text = str(path)
    if b"\0" in os.fsencode(text):
        raise ValueError(f"a NUL in {text!r}")
    return text
