"""The process that moves log bytes: `python -m reconciler.pump --run-dir DIR --life-fd N`.

It serves one controller over DIR/pump.sock and moves the bytes of its `Streams`. It holds no state but in files: killed
at any instant, the next one is told again what to do, and goes on at the very byte (see conduit.py, staging.py). It
decides nothing about processes, and imports the standard library and its own few modules only. While streams rest, the
controller's messages still wake us: a mark stands in the way of a restart.

When the life descriptor gives end-of-file the keeper is gone, and nobody else holds the FIFOs: what is in one is lost
when its writer ends. So we stay as long as somebody writes, until the next keeper holds them and says TERM.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque

from reconciler import wire
from reconciler.hostmounts import Mounts
from reconciler.pumping.console import STDERR, STDOUT, Console
from reconciler.pumping.lanes import Lanes
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.streams import Streams
from reconciler.statelock import identity, signal_stranger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TERM_DRAIN_SECONDS = 2.0
LAST_DRAIN_SECONDS = 0.7
HANDED_OVER_SECONDS = 0.1
LOCK_RETRY_SECONDS = 0.010


class Pump:
    """The loop. `turn` does one round of it, so that a test can drive it by hand."""

    def __init__(
        self, run_dir: str, life_fd: int, wakeup_fd: int, plumbing: Plumbing, mounts: Mounts | None = None
    ) -> None:
        self.leaving = False
        self.drain_seconds = 0.0  # for what is left to do when `leaving`
        self._is_orphan = False  # the keeper is gone
        self._controller: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        self._claimed: set[str] = set()  # by this controller
        self.lanes = Lanes(run_dir, mounts or Mounts(), self._tell, self._tell_closed)
        self.lanes.take_over(plumbing)
        self.streams = Streams(plumbing, self._tell, owns=lambda path: not self.lanes.owns(path))
        self._life_fd = life_fd
        self._wakeup_fd = wakeup_fd
        self._socket_path = os.path.join(run_dir, "pump.sock")
        self._listener = wire.listen_unix(self._socket_path, socket.SOCK_SEQPACKET)
        # Beside the set of the streams: what is always urgent, and both together for when no stream has to rest.
        self._urgent = select.epoll()
        self._all = select.epoll()
        for fd in (life_fd, wakeup_fd, self._listener.fileno(), self.lanes.wake_fd, *self.streams.wake_fds):
            self._urgent.register(fd, select.EPOLLIN)
        for member in (self._urgent, self.streams.epoll):
            self._all.register(member.fileno(), select.EPOLLIN)

    # ---- the loop ----

    def run(self) -> None:
        """Until told to leave; then what waits is still moved."""
        while not self.leaving:
            self.turn()
        self.streams.drain(self.drain_seconds)
        self.lanes.drain(self.drain_seconds)

    def turn(self, timeout_seconds: float = -1.0) -> None:
        """Wait until something is to be done, at most `timeout_seconds` (below 0: without end), and do it."""
        streams, now = self.streams, time.monotonic()
        rest = streams.rest_until - now
        if rest > 0:
            self._urgent.poll(rest if timeout_seconds < 0 else min(rest, timeout_seconds))
        else:
            self._all.poll(self.lanes.until_look(streams.until_retry(now, timeout_seconds)))
        for fd, event in self._urgent.poll(0):
            self._handle_urgent(fd, event)
        now = time.monotonic()
        self.lanes.look(now)
        if streams.retry_at and now >= streams.retry_at:
            self._urgent.modify(self._listener.fileno(), select.EPOLLIN)
            streams.retry()
            if self._is_orphan:
                self._stay()
        if now >= streams.rest_until:
            streams.serve(now)

    def close(self) -> None:
        """Let everything go. The name of the socket goes first: it is ours as long as we hold the lock."""
        try:
            os.unlink(self._socket_path)
        except OSError:
            pass  # a disk that takes nothing: the next pump replaces it
        for each in (self._all, self._urgent, self._listener, self._controller, self.streams, self.lanes):
            if each is not None:
                each.close()

    # ---- the controller and the keeper ----

    def _handle_urgent(self, fd: int, event: int) -> None:
        if fd == self._life_fd:
            if not os.read(fd, 512):
                self._urgent.unregister(fd)
                self._is_orphan = True
                self._stay()
        elif fd == self._wakeup_fd:
            for number in os.read(fd, 64):
                self._handle_signal(number)
        elif fd == self._listener.fileno():
            self._accept()
        elif fd == self.lanes.wake_fd:
            self.lanes.heed()
        elif fd in self.streams.wake_fds:
            self.streams.settle(fd)
        elif self._controller is not None and fd == self._controller.fileno():
            if event & select.EPOLLOUT:
                self._flush()
            self._receive()

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGTERM:  # an orphan is told so by the next keeper, which holds what is not moved
            self._leave(HANDED_OVER_SECONDS if self._is_orphan else TERM_DRAIN_SECONDS)
        elif number == signal.SIGUSR2:
            self._reopen()

    def _reopen(self) -> None:
        self.streams.reopen()
        self.lanes.reopen()

    def _stay(self) -> None:
        """For those who write: without a keeper we are the only one who holds what they have written."""
        if self.streams.are_written or self.lanes.are_written:
            self.streams.retry_later()  # and looked at again then
        else:
            self._leave(LAST_DRAIN_SECONDS)

    def _leave(self, drain_seconds: float) -> None:
        self.leaving = True
        self.drain_seconds = drain_seconds

    def _accept(self) -> None:
        """The newest controller is the only one."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it left again; or we are out of descriptors, then it would wake us without end
            self._urgent.modify(self._listener.fileno(), 0)
            self.streams.retry_later()
            return
        self._hang_up()
        connection.setblocking(False)
        self._controller = connection
        self._urgent.register(connection.fileno(), select.EPOLLIN)
        self._claimed.clear()
        self.streams.tell_again()
        self.lanes.tell_again()

    def _hang_up(self) -> None:
        if self._controller is not None:
            self._urgent.unregister(self._controller.fileno())
            self._controller.close()
            self._controller = None
        self._unsent.clear()

    def _receive(self) -> None:
        connection = self._controller
        if connection is None:
            return
        try:
            for message in wire.waiting(connection):
                self._obey(message)
        except (wire.Closed, wire.WireError, KeyError, TypeError, ValueError):
            # Who sends rubbish is not heard any further; a controller connects again and says everything anew.
            self._hang_up()

    def _obey(self, message: wire.Message) -> None:
        kind = message["type"]
        if kind == "open":
            settings = Settings(message)
            self._claimed.add(settings.id)
            if self.lanes.open(settings):
                self.streams.let_go(settings.id)  # its log was elsewhere before
            else:
                self.streams.open(settings)
        elif kind == "close":
            if not self.lanes.let_go(message["id"]):
                self.streams.let_go(message["id"])
                self._tell_closed(message["id"])
        elif kind == "mark":
            for stream_id in message["ids"]:
                self.streams.mark(stream_id, str(message["run"]))
                self.lanes.mark(stream_id, str(message["run"]))
            self._send({"type": "marked", "n": message["n"]})
        elif kind == "reopen":
            self._reopen()
        elif kind == "sweep":  # it has opened all that it knows: the others went while no controller ran
            self.streams.sweep(self._claimed)
            self.lanes.sweep(self._claimed)
        # Any other word is of a newer controller, which knows what an older pump does not do.

    def _tell_closed(self, stream_id: str) -> None:
        self._send({"type": "closed", "id": stream_id})

    def _tell(self, stream_id: str, complaint: str | None) -> None:
        """The controller, if there is one, what changed for the worse or the better."""
        if complaint is None:
            self._send({"type": "healthy", "id": stream_id})
        else:
            self._send({"type": "trouble", "id": stream_id, "message": complaint})

    def _send(self, message: wire.Message) -> None:
        if self._controller is not None:
            self._unsent.append(wire.encode(message))
            if len(self._unsent) == 1:
                self._flush()

    def _flush(self) -> None:
        """Send what waits; if the controller is too busy to read, the rest when it has read."""
        connection = self._controller
        assert connection is not None
        try:
            while self._unsent and wire.send_bytes(connection, self._unsent[0]):
                self._unsent.popleft()
        except wire.Closed:  # seen as end-of-file in a moment, by the reader
            self._unsent.clear()
        self._urgent.modify(connection.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))


# ---- the process ----


def claim(lock_fd: int, life_fd: int) -> bool:
    """Wait for the pump of a keeper that died to leave: two would write over each other. False: our keeper died too."""
    life = select.poll()
    life.register(life_fd, select.POLLIN)
    asked = b""
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock_fd, 100, 0)
            if holder != asked and ask_to_leave(holder.decode("ascii", "replace")):
                asked = holder
            if life.poll(LOCK_RETRY_SECONDS * 1000):
                return False
        else:
            note_holder(lock_fd)
            return True


def note_holder(lock_fd: int) -> None:
    """Say in the lock who has it."""
    line = f"pump {os.getpid()} {wire.start_ticks(os.getpid()) or 0}\n".encode()
    try:
        os.ftruncate(lock_fd, os.pwrite(lock_fd, line, 0))
    except OSError:
        pass  # a full disk: the lock itself holds without it


def ask_to_leave(holder: str) -> bool:
    """Tell a pump that lost its keeper that ours holds what is not moved. False: it has not, or it is gone.

    Our keeper knows whom to tell this from what the one before had noted. That one may have died before it could.
    """
    pid, start_ticks = identity(holder)
    found = wire.process_stat(pid) if pid else None
    if found is None or found.start_ticks != start_ticks or found.parent == os.getppid():
        return False
    signal_stranger(pid, start_ticks, signal.SIGTERM)
    return True


def catch_signals() -> int:
    """Have signals arrive as bytes; the descriptor to read them from. Interrupts of a terminal are not for us."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return reader


def main(arguments: Sequence[str]) -> int:
    """Run until told to leave. The exit code."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    try:
        run_dir, life_fd = options["--run-dir"], int(options["--life-fd"])
    except (KeyError, ValueError):
        print("usage: python -m reconciler.pump --run-dir DIR --life-fd N", file=sys.stderr)  # noqa: T201
        return 2
    try:
        return serve(run_dir, life_fd)
    except OSError as error:  # no descriptor, or a disk that takes not even a socket: the keeper tries again
        print(f"pump: cannot serve: {error}", file=sys.stderr)  # noqa: T201
        return 1


def serve(run_dir: str, life_fd: int) -> int:
    """Be the pump of this folder until told to leave. The exit code. Raises OSError when that cannot be."""
    wakeup_fd = catch_signals()
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lock_fd = os.open(os.path.join(run_dir, "pump.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not claim(lock_fd, life_fd):
        return 0
    consoles = (Console(STDOUT, 1), Console(STDERR, 2))
    pump = Pump(run_dir, life_fd, wakeup_fd, Plumbing(run_dir, consoles=consoles))
    pump.run()
    pump.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
