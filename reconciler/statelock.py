"""Who may keep a state directory: one keeper at a time, and never beside what a killed one left running.

A file lock says the first, and what is written in the file lets the next keeper see to the second: two controllers on
one state directory would start everything twice. Used by keeper.py at its start; imports the standard library only.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time

from reconciler import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EXIT_FAILED, EXIT_USAGE, EXIT_CONFLICT, EXIT_PERMISSION = 1, 2, 6, 7
FORMER_SECONDS = 2.0  # without its keeper a controller or a pump leaves within one
POLL_SECONDS = 0.02


class Refused(Exception):
    """The keeper cannot start. The text says why and what to do."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def make_directories(state_dir: str, run_dir: str) -> None:
    """What is there stays as it is, but nobody else may write where our sockets and FIFOs are."""
    os.makedirs(state_dir, 0o755, exist_ok=True)
    os.makedirs(run_dir, 0o700, exist_ok=True)
    found = os.stat(run_dir)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{run_dir} belongs to another user or is writable for others (chmod go-w it)")


class Lock:
    """One keeper per state directory. The file also says who was started, for the keeper after a killed one.

    Its lines: our pid, the boot id, then name, pid and start time of the controller and of the pump.
    """

    def __init__(self, path: str, fd: int = -1, started: Mapping[str, int] | None = None) -> None:
        """`fd` and `started`: the keeper whose place we take has it already."""
        self.fd = fd
        if fd < 0:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.set_inheritable(self.fd, False)
        self.started = dict(started or {})
        self._former: list[str] = []

    def take(self, state_dir: str) -> None:
        """Get the lock or raise Refused. It ends with our process: nobody else has the descriptor."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(EXIT_CONFLICT, self._who_holds_it(state_dir)) from None
        self._former = self._read()[1:]
        self._write(self._former)  # still there for the next one, should we be killed before they left

    def outlast_former(self, log: Callable[[str], None]) -> None:
        """Wait until the controller and the pump of a killed keeper have left; kill them if they don't."""
        if self._former[:1] != [wire.boot_id()]:
            return  # nobody was there, or another boot ended them all
        deadline = time.monotonic() + FORMER_SECONDS
        for line in self._former[1:]:
            name, (pid, start_ticks) = line.partition(" ")[0], identity(line)
            if is_alive(pid, start_ticks):
                log(f"waiting for the former {name} (pid {pid}) to leave")
                if name == "pump":  # it has stayed for the processes that write; now we are here for them
                    signal_stranger(pid, start_ticks, signal.SIGTERM)
                outlast(name, pid, start_ticks, deadline, log)

    def note(self, name: str, pid: int) -> None:
        """`name` runs as `pid` from now on."""
        self.started[name] = pid
        started = [f"{name} {pid} {wire.start_ticks(pid) or 0}" for name, pid in self.started.items()]
        self._write([wire.boot_id(), *started])

    def release(self) -> None:
        """Let the next one in. A pump that stays for those who write is for it to outlast."""
        boot, *started = self._read()[1:] or [""]
        if stay := [line for line in started if is_alive(*identity(line))]:
            self._write([boot, *stay])
        else:
            self._empty()
        os.close(self.fd)

    def _empty(self) -> None:
        try:
            os.truncate(self.fd, 0)
        except OSError:
            pass  # a disk that takes nothing: whoever reads it finds that they have left

    def _who_holds_it(self, state_dir: str) -> str:
        pid = next(iter(self._read()), "")
        if not pid.isdecimal() or wire.start_ticks(int(pid)) is None:
            return f"another reconciler command is at work on {state_dir}: try again when it is done"
        return (
            f"reconciler already runs on {state_dir} (pid {pid}): look at it with `reconciler status`, "
            "end it with `reconciler shutdown`, or choose another --state-dir"
        )

    def _read(self) -> list[str]:
        return os.pread(self.fd, 4096, 0).decode("ascii", "replace").splitlines()

    def _write(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in (os.getpid(), *lines)).encode()
        try:
            os.ftruncate(self.fd, os.pwrite(self.fd, data, 0))
        except OSError:
            pass  # a full disk: the lock itself holds without it


def identity(line: str) -> tuple[int, int]:
    """Pid and start time in a line of a lock; nobody's where it makes no sense."""
    words = line.split()
    sound = len(words) == 3 and words[1].isdecimal() and words[2].isdecimal()
    return (int(words[1]), int(words[2])) if sound else (0, 0)


def outlast(name: str, pid: int, start_ticks: int, deadline: float, log: Callable[[str], None]) -> None:
    """Come back when this process is gone, by itself or by SIGKILL. Refused when even that does not end it."""
    if not has_left(pid, start_ticks, deadline):
        log(f"killing the former {name} (pid {pid})")
        signal_stranger(pid, start_ticks, signal.SIGKILL)
        if not has_left(pid, start_ticks, time.monotonic() + FORMER_SECONDS):
            raise Refused(EXIT_CONFLICT, f"the former {name} (pid {pid}) does not end, not even by SIGKILL")


def has_left(pid: int, start_ticks: int, deadline: float) -> bool:
    """Whether this process is gone by then, on the monotonic clock."""
    while is_alive(pid, start_ticks):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether this very process still runs; a zombie has let go of all it had."""
    found = wire.process_stat(pid)
    return found is not None and found.start_ticks == start_ticks and found.state not in ("Z", "X")


def signal_stranger(pid: int, start_ticks: int, number: signal.Signals) -> None:
    """A signal to this process, never to another one that got its number meanwhile."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(pid, start_ticks):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)
