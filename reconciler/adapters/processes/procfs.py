"""What the kernel tells about a process: its line in /proc, its birthmark, how it ended.

Reads only, and remembers nothing. A process that is gone is None, never an exception.
"""

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from reconciler.model.digests import blake2b
from reconciler.model.identity import ProcessId
from reconciler.wire import MARK, MARK_BIT, birthmark_of

__all__ = [
    "MARK", "SPAWN_ID", "Stat", "birthmark", "birthmark_of", "exit_status_of", "is_thread", "owner_of", "pids",
    "read_stat", "spawn_id_of", "start_ticks", "zombie_status_of",
]  # fmt: skip

SPAWN_ID = "RECONCILER_SPAWN_ID"

# _IOWR(0xFF, 11, struct pidfd_info of 64 bytes), Linux 6.13; the exit status in it since 6.15
_PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 8
_PIDFD_INFO = struct.Struct("QQ11Ii")


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are of use."""

    state: str
    parent: int
    group: int
    session: int
    threads: int
    start_ticks: int
    wait_status: int  # of a zombie, as in os.waitpid; 0 when we may not know

    @property
    def alive(self) -> bool:
        """Whether it still runs. A zombie with threads is one whose first thread ended before the others."""
        return self.state not in "ZX" or self.threads > 1


def read_stat(pid: int) -> Stat | None:
    """The process with this pid, or the thread: the kernel answers for both."""
    fields = _stat_fields(pid, -1)
    if fields is None:
        return None
    status = int(fields[49]) if len(fields) > 49 else 0
    return Stat(
        fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[17]), int(fields[19]), status
    )


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: half of its identity. Cheaper than the whole line."""
    fields = _stat_fields(pid, 20)
    return None if fields is None else int(fields[19])


def _stat_fields(pid: int, count: int) -> list[bytes] | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # gone; the latter while the name was looked up
        return None
    try:
        line = os.read(fd, 2048)
    except ProcessLookupError:  # it went between the two calls
        return None
    finally:
        os.close(fd)
    # The second field is the command's name in parentheses, with whatever the process wrote in it.
    return line[line.rindex(b")") + 2 :].split(None, count)


def is_thread(pid: int) -> bool:
    """Whether this is one of the threads of a process: the kernel numbers them alike."""
    try:
        os.close(os.pidfd_open(pid))
    except OSError as error:
        # Gone, or no descriptor to ask with: better one thread too many than a process too few.
        return error.errno not in (errno.ESRCH, errno.EMFILE, errno.ENFILE)
    return False


def birthmark(spawn_id: str) -> int:
    """The mark that all descendants of this spawn carry."""
    digest = blake2b(spawn_id.encode(errors="surrogateescape"), digest_size=7).digest()
    return MARK_BIT | int.from_bytes(digest, "little")


def spawn_id_of(pid: int) -> str | None:
    """The spawn id in a process's environment: as it was at its last exec, and only if it was not cleared."""
    return environment_of(pid, SPAWN_ID + "=").get(SPAWN_ID)


def environment_of(pid: int, beginning: str) -> dict[str, str]:
    """The variables of a process whose entries begin so, as they were at its last exec."""
    entries = (_read(f"/proc/{pid}/environ") or b"").split(b"\0")
    wanted = [entry.decode(errors="surrogateescape") for entry in entries if entry.startswith(beginning.encode())]
    return {name: value for name, _, value in (entry.partition("=") for entry in reversed(wanted))}


def offspring(pid: int) -> list[int] | None:
    """The processes whose parent this one is; None when this kernel does not tell."""
    text = _read(f"/proc/{pid}/task/{pid}/children")
    return None if text is None else [int(word) for word in text.split()]


def owner_of(pid: int) -> int | None:
    """The effective uid that a process runs as."""
    text = _read(f"/proc/{pid}/status") or b""
    at = text.find(b"\nUid:")
    return int(text[at:].split(None, 3)[2]) if at >= 0 else None


def pids() -> list[int]:
    """All processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def zombie_status_of(process: ProcessId) -> int | None:
    """The wait status of a process that ended and that nobody has reaped. None: not known."""
    stat = read_stat(process.pid)
    if stat is None or stat.start_ticks != process.start_ticks or stat.alive:
        return None
    # Who may not look into it is shown 0 whatever it was. The same right decides whether its program may be asked for.
    return stat.wait_status or (0 if _may_look_into(process.pid) else None)


def _may_look_into(pid: int) -> bool:
    try:
        os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return False
    except OSError:
        pass  # a zombie has no program any more
    return os.path.exists(f"/proc/{pid}")  # else it went meanwhile, and nothing was decided


def exit_status_of(pidfd: int) -> int | None:
    """The wait status of a process that somebody else reaped, from a pidfd that was open then. None: not known."""
    buffer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, 0, *[0] * 12))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:  # an older kernel, or not reaped yet
        return None
    answer = _PIDFD_INFO.unpack(buffer)
    return int(answer[-1]) if answer[0] & _PIDFD_INFO_EXIT else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:  # gone, or none of our business
        return None
