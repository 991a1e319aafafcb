"""What the keeper's loop stands on: streams, limits, a log that never waits, signals as news, FIFOs that are held open.

Effects only, each of which is over at once; what they are for is decided elsewhere.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import stat
import time

from reconciler import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

PASSED_ON = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
OURS_ALONE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""What a service manager tells its main process, and nobody else shall take to be meant for it."""

SPARE_DESCRIPTORS = 64  # never given to FIFOs: without one we could start and identify nothing
MOST_DESCRIPTORS = 1 << 20
LOG_LINE_BYTES = 4096  # a pipe takes this much as a whole or not at all


def raise_descriptor_limit() -> tuple[int, int]:
    """Take as many descriptors as we may have. Returns the limits as they were: the user's programs get those."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft not in (resource.RLIM_INFINITY, most) and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft, hard


def keep_standard_streams() -> None:
    """Where 0, 1 or 2 is closed put /dev/null, or a socket of ours would become somebody's standard output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


class Log:
    """One line per event on standard error. When nobody takes the lines they are counted, never waited for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            # Non-blocking is a property of the open pipe, which others share: open it once more for us alone.
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                pass  # not ours to open, or no reader: asking before each write has to do
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def __call__(self, text: str) -> None:
        lost = f" ({self._lost} lines before this one were lost)" if self._lost else ""
        line = f"keeper: {text}{lost}".replace("\n", " ").encode("utf-8", "replace")[: LOG_LINE_BYTES - 1] + b"\n"
        try:
            if self._poll.poll(0):
                os.write(self._fd, line)
                self._lost = 0
                return
        except OSError:
            pass  # closed or full
        self._lost += 1


class Signals:
    """Signals only wake the loop, which then asks which ones came."""

    def __init__(self) -> None:
        self._came: dict[str, None] = {}
        self.fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for name in (*PASSED_ON, "CHLD"):
            signal.signal(getattr(signal, "SIG" + name), self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.let_through()  # whoever started us may have blocked some, and so did a keeper whose place we take

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came[signal.Signals(number).name.removeprefix("SIG")] = None

    def take(self) -> list[str]:
        """What came since the last call, each once, in order."""
        try:
            os.read(self.fd, 1 << 16)  # all that a pipe holds
        except BlockingIOError:
            pass
        came = list(self._came)
        for name in came:
            del self._came[name]
        return [name for name in came if name != "CHLD"]

    def hold_back(self) -> None:
        """From now on the kernel keeps them, for us or for the program that takes our place."""
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

    def let_through(self) -> None:
        """The end of `hold_back`."""
        signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Fifos:
    """Keeps log FIFOs open, so that what is in them outlives whoever writes and reads them."""

    def __init__(self, log: Log, most: int, held: Mapping[str, Sequence[int]] | None = None) -> None:
        self._log = log
        self._most = most
        # path -> descriptor, device, inode
        self._held = {path: (fd, device, inode) for path, (fd, device, inode) in (held or {}).items()}
        for fd, _, _ in self._held.values():
            os.set_inheritable(fd, False)

    def hold(self, path: str) -> None:
        """Open `path`, unless that very FIFO is held already."""
        try:
            found = os.lstat(path)
            held = self._held.get(path)
            if held is not None and held[1:] == (found.st_dev, found.st_ino):
                return
            if not stat.S_ISFIFO(found.st_mode):
                self._log(f"a FIFO is not held: {path!r} is none")
            elif len(self._held) >= self._most:
                self._log(f"a FIFO is not held: {self._most} are, raise the limit of open files for {path!r}")
            else:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
                self.release(path)
                self._held[path] = (fd, found.st_dev, found.st_ino)
        except (OSError, TypeError, ValueError) as error:
            self._log(f"a FIFO is not held: {error}")

    def hold_all(self, directory: str) -> None:
        """Hold every FIFO in there: what a keeper that was killed left in them is in nobody's hands."""
        try:
            with os.scandir(directory) as entries:
                paths = [entry.path for entry in entries if stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode)]
        except OSError:
            return  # there is none yet; or one is going, then its processes have gone, too
        for path in paths:
            self.hold(path)

    def release(self, path: str) -> None:
        """Let it go. What was in it is lost if nobody else has it open."""
        held = self._held.pop(path, None)
        if held is not None:
            os.close(held[0])

    @property
    def held(self) -> Mapping[str, Sequence[int]]:
        """All of them, as a later `Fifos` takes them."""
        return self._held


class Notifier:
    """Tells the service manager how things are, by its `sd_notify` protocol: one datagram, never waited for."""

    def __init__(self, address: str, log: Log) -> None:
        self._address = address  # $NOTIFY_SOCKET; empty: nobody wants to know
        self._log = log

    def __call__(self, state: str) -> None:
        if not self._address:
            return
        if state == "RELOADING=1":  # systemd wants to know whether this is the answer to what it asked for
            state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
        try:
            with (
                wire.ReachablePath(self._address) as path,
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
            ):
                # An @ stands for the NUL byte that names without a place in the file system begin with.
                sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except (OSError, ValueError) as error:
            self._log(f"the service manager could not be told {state.partition(chr(10))[0]}: {error}")
