"""What keeper, controller and pump share: their messages, and the kernel facts that tell processes apart.

One message is one SOCK_SEQPACKET datagram holding a JSON object with a "type". Nothing here blocks, keeps state or
trusts the other side: what it sends that makes no sense is a WireError, never a crash. The keeper and the pump stay
near the size of a bare interpreter, so this module imports little (`typing` alone would cost a megabyte in each).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict

VERSION = 1
MESSAGE_LIMIT_BYTES = 64 * 1024
MESSAGES_PER_WAKE = 64  # whoever talks without end shall not keep us from the rest of our work
UNIX_PATH_LIMIT_BYTES = 107
PR_SET_CHILD_SUBREAPER = 36

# A process can leave its parent, its group, its session and its environment behind. Its resource limits it inherits
# over fork and exec, whatever it does, and nobody has a use for a real-time CPU limit of 36,000 years: its soft value
# marks everything that descends from one spawn.
MARK = resource.RLIMIT_RTTIME
MARK_BIT = 1 << 60
MARK_END = 1 << 61
_MARK_LINE = b"Max realtime timeout"
_READ_BYTES = 4096  # more than any of the files that are read here has
_SHORT_OF_MEMORY = (errno.ENOMEM, errno.ENOBUFS)


class WireError(Exception):
    """A message that breaks the contract. The connection it came over is worth no further word."""


class Closed(Exception):
    """The other side is gone."""


# ---- messages ----


def encode(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message. WireError when it is larger than a message may be."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MESSAGE_LIMIT_BYTES:
        raise WireError(f"a message of {len(data)} bytes is over the limit of {MESSAGE_LIMIT_BYTES}")
    return data


def decode(data: bytes) -> Message:
    """The message in these bytes. WireError when there is none."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are both ValueErrors
        raise WireError(f"not JSON: {data[:40]!r} ({error})") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError(f"not an object with a type: {data[:40]!r}")
    return message


def send(sock: socket.socket, message: Mapping[str, Any]) -> bool:
    """Send one message now. False: the other side's queue is full, ask again when it is writable."""
    return send_bytes(sock, encode(message))


def send_bytes(sock: socket.socket, data: bytes) -> bool:
    """Send an encoded message now. False: the other side's queue is full. Closed: there is no other side."""
    try:
        sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except OSError as error:
        # ENOBUFS and ENOMEM pass by themselves; everything else (EPIPE, ECONNRESET, EBADF) does not.
        if error.errno in _SHORT_OF_MEMORY:
            return False
        raise Closed(str(error)) from None
    return True


def receive(sock: socket.socket) -> Message | None:
    """The next message, or None when none waits. Raises Closed at the end, WireError for rubbish."""
    try:
        data, _, flags, _ = sock.recvmsg(MESSAGE_LIMIT_BYTES, 0, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        raise Closed(str(error)) from None
    if not data:
        raise Closed("end of file")
    if flags & socket.MSG_TRUNC:
        raise WireError(f"a message of over {MESSAGE_LIMIT_BYTES} bytes")
    return decode(data)


def waiting(sock: socket.socket, at_most: int = MESSAGES_PER_WAKE) -> Iterator[Message]:
    """The messages that wait now, but a bounded number. What came before an end or before rubbish is yielded first."""
    for _ in range(at_most):
        message = receive(sock)
        if message is None:
            return
        yield message


# ---- sockets with long paths ----


class ReachablePath:
    """`with ReachablePath(path) as short:` gives a name for `path` that fits into a Unix socket address.

    An address holds 107 bytes and state directories may be deep. Then the way leads through a descriptor of the
    directory: /proc/self/fd/N/name. It is valid inside the block only; a socket bound through it stays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._directory_fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= UNIX_PATH_LIMIT_BYTES:
            return self._path
        directory, name = os.path.split(self._path)
        self._directory_fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory_fd}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._directory_fd >= 0:
            os.close(self._directory_fd)


def listen_unix(path: str, kind: int, backlog: int = 128, mode: int = 0o600) -> socket.socket:
    """A listening Unix socket at `path`, non-blocking, never for a moment open to more than `mode`.

    Whatever has the name is unlinked first: the caller holds the lock that makes it a left-over.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        umask = os.umask(0o777 & ~mode)
        try:
            with ReachablePath(path) as address:
                sock.bind(address)
        finally:
            os.umask(umask)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_unix(path: str, kind: int) -> socket.socket:
    """A Unix socket connected to `path`, non-blocking. OSError when nobody listens there, or its queue is full."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        with ReachablePath(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


# ---- kernel facts ----


class ProcessStat:
    """What one read of /proc/PID/stat says. `exit_status` is the raw wait status, true of a zombie of ours only."""

    __slots__ = ("cpu_ticks", "exit_status", "group", "parent", "rss_pages", "session", "start_ticks", "state")

    def __init__(self, line: bytes) -> None:
        # The name stands in parentheses and may itself hold spaces and parentheses: the last one ends it.
        fields = line[line.rindex(b")") + 2 :].split()
        self.state = fields[0].decode()  # field 3 of proc(5); the others follow by its numbers minus 3
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.cpu_ticks = int(fields[11]) + int(fields[12])
        self.start_ticks = int(fields[19])
        self.rss_pages = int(fields[21])
        self.exit_status = int(fields[49])


def process_stat(pid: int) -> ProcessStat | None:
    """The process `pid` as it is now, zombies included. None: there is no such process."""
    line = _read_stat(pid)
    return ProcessStat(line) if line else None


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot: together they name a process for good. None: no such process."""
    line = _read_stat(pid)
    return int(line[line.rindex(b")") + 2 :].split(None, 20)[19]) if line else None


def _read_stat(pid: int) -> bytes:
    return _read(f"/proc/{pid}/stat")


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _READ_BYTES)
    except OSError:  # ESRCH: it went between open and read
        return b""
    finally:
        os.close(fd)


def birthmark_of(pid: int) -> int | None:
    """The mark of a process, zombies included; 0 when it has none, None when there is no such process."""
    try:
        soft = resource.prlimit(pid, MARK)[0]
    except ProcessLookupError:
        return None
    except PermissionError:  # of another user; /proc tells the same at ten times the price
        found = _mark_in_limits(pid)
        if found is None:
            return None
        soft = found
    return soft if MARK_BIT <= soft < MARK_END else 0


def _mark_in_limits(pid: int) -> int | None:
    text = _read(f"/proc/{pid}/limits")
    at = text.find(_MARK_LINE)
    words = text[at + len(_MARK_LINE) : at + 80].split() if at >= 0 else []
    return (int(words[0]) if words and words[0].isdigit() else 0) if text else None


def boot_id() -> str:
    """Names this boot of this kernel: start times of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def become_subreaper() -> None:
    """From now on orphaned descendants become ours, not those of pid 1. OSError when the kernel refuses."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
