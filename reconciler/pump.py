"""The process that moves log bytes: `python -m reconciler.pump --run-dir DIR --life-fd N`.

It serves one controller over DIR/pump.sock and keeps a `Conduit` per stream. It holds no state of its own: killed at
any instant, the next one is told again what to do, and goes on at the very byte (see conduit.py). It leaves within a
second when the life descriptor gives end-of-file. It decides nothing about processes, and imports the standard library
and its own few modules only.

Waiting. A line of an idle stream is moved at once. Busy streams are rested for 1 to 4 ms, so that many small lines are
one move, but not for so long that a pipe would fill. While streams rest, the controller's messages still wake us: a
mark stands in the way of a restart.
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
from reconciler.conduit import CHUNK_BYTES, RETRY_SECONDS, Conduit, Plumbing, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STREAMS_PER_TURN = 64  # then messages and signals are looked at again
REST_AT_MOST_SECONDS = 0.004
IDLE_SECONDS = 0.010  # whoever was quiet for this long is served without delay
TERM_DRAIN_SECONDS = 2.0
ORPHAN_DRAIN_SECONDS = 0.7
LOCK_RETRY_SECONDS = 0.010
_GONE = select.EPOLLHUP | select.EPOLLERR


class Pump:
    """The loop. `turn` does one round of it, so that a test can drive it by hand."""

    def __init__(self, run_dir: str, life_fd: int, wakeup_fd: int, plumbing: Plumbing | None = None) -> None:
        self.leaving = False
        self.drain_seconds = 0.0  # for what is left to do when `leaving`
        self._plumbing = plumbing or Plumbing()
        self._conduits: dict[str, Conduit] = {}
        self._by_fifo: dict[int, Conduit] = {}  # those in `_streams`: neither halted nor deserted
        self._claimed: set[str] = set()  # by this controller
        self._announced: dict[str, str] = {}  # the complaints that the controller knows of
        self._retry_at = 0.0  # 0: nothing is to be tried again
        self._rest_until = 0.0
        self._busy_at = 0.0
        self._life_fd = life_fd
        self._wakeup_fd = wakeup_fd
        self._socket_path = os.path.join(run_dir, "pump.sock")
        self._listener = wire.listen_unix(self._socket_path, socket.SOCK_SEQPACKET)
        self._controller: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        # Three sets: what is always urgent, the streams, and both together for when no stream has to rest.
        self._urgent = select.epoll()
        self._streams = select.epoll()
        self._all = select.epoll()
        for fd in (life_fd, wakeup_fd, self._listener.fileno()):
            self._urgent.register(fd, select.EPOLLIN)
        for member in (self._urgent, self._streams):
            self._all.register(member.fileno(), select.EPOLLIN)

    # ---- the loop ----

    def run(self) -> None:
        """Until told to leave; then what waits is still moved."""
        while not self.leaving:
            self.turn()
        self.drain(self.drain_seconds)

    def turn(self, timeout_seconds: float = -1.0) -> None:
        """Wait until something is to be done, at most `timeout_seconds` (below 0: without end), and do it."""
        now = time.monotonic()
        rest = self._rest_until - now
        if rest > 0:
            self._urgent.poll(rest if timeout_seconds < 0 else min(rest, timeout_seconds))
        else:
            self._all.poll(self._until_retry(now, timeout_seconds))
        for fd, event in self._urgent.poll(0):
            self._handle_urgent(fd, event)
        now = time.monotonic()
        if self._retry_at and now >= self._retry_at:
            self._retry()
        if now >= self._rest_until:
            self._serve_streams(now)

    def drain(self, seconds: float) -> None:
        """Move all that waits, for at most `seconds`."""
        end = time.monotonic() + seconds
        moved = True
        while moved and time.monotonic() < end:
            moved = False
            for conduit in self._conduits.values():
                moved = bool(conduit.serve()) or moved

    def close(self) -> None:
        """Let everything go. The name of the socket goes first: it is ours as long as we hold the lock."""
        os.unlink(self._socket_path)
        for conduit in self._conduits.values():
            conduit.close()
        self._plumbing.close()
        for each in (self._all, self._streams, self._urgent, self._listener, self._controller):
            if each is not None:
                each.close()

    def _until_retry(self, now: float, timeout_seconds: float) -> float:
        if not self._retry_at:
            return timeout_seconds
        left = max(self._retry_at - now, 0.0)
        return left if timeout_seconds < 0 else min(left, timeout_seconds)

    # ---- streams ----

    def _serve_streams(self, now: float) -> None:
        """One bounded portion for each stream that has bytes; then decide how long they rest."""
        fullest = 0.0
        for fd, event in self._streams.poll(0, STREAMS_PER_TURN):
            conduit = self._by_fifo[fd]
            moved = conduit.serve(CHUNK_BYTES)
            fullest = max(fullest, moved / conduit.capacity)
            deserted = not moved and event & _GONE
            if conduit.halted or deserted:  # it would wake us without end; so it is looked at each second
                self._ignore(fd)
                self._retry_later()
            self._announce(conduit)
        if fullest:
            rest = rest_seconds(fullest, now - self._busy_at)
            self._busy_at = time.monotonic()
            self._rest_until = self._busy_at + rest

    def _heed(self, conduit: Conduit) -> None:
        """Be woken by this stream again, or try again later if it cannot be served."""
        self._announce(conduit)
        if conduit.halted:
            self._ignore(conduit.fifo)
            self._retry_later()
        elif conduit.fifo not in self._by_fifo:
            self._by_fifo[conduit.fifo] = conduit
            self._streams.register(conduit.fifo, select.EPOLLIN)

    def _ignore(self, fd: int) -> None:
        if self._by_fifo.pop(fd, None) is not None:
            self._streams.unregister(fd)

    def _retry_later(self) -> None:
        self._retry_at = self._retry_at or time.monotonic() + RETRY_SECONDS

    def _retry(self) -> None:
        self._retry_at = 0.0
        self._urgent.modify(self._listener.fileno(), select.EPOLLIN)
        for conduit in self._conduits.values():
            if conduit.fifo not in self._by_fifo:
                conduit.serve()
                self._heed(conduit)

    def _announce(self, conduit: Conduit) -> None:
        """Tell the controller what changed for the worse or the better, once."""
        stream_id = conduit.settings.id
        if conduit.complaint == self._announced.get(stream_id):
            return
        if conduit.complaint is None:
            del self._announced[stream_id]
            self._send({"type": "healthy", "id": stream_id})
        else:
            self._announced[stream_id] = conduit.complaint
            self._send({"type": "trouble", "id": stream_id, "message": conduit.complaint})

    # ---- the controller and the keeper ----

    def _handle_urgent(self, fd: int, event: int) -> None:
        if fd == self._life_fd:
            if not os.read(fd, 512):  # the keeper is gone; the next one starts a pump of its own, and soon
                self._leave(ORPHAN_DRAIN_SECONDS)
        elif fd == self._wakeup_fd:
            for number in os.read(fd, 64):
                self._handle_signal(number)
        elif fd == self._listener.fileno():
            self._accept()
        elif self._controller is not None and fd == self._controller.fileno():
            if event & select.EPOLLOUT:
                self._flush()
            self._receive()

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGTERM:
            self._leave(TERM_DRAIN_SECONDS)
        elif number == signal.SIGUSR2:
            self._reopen()

    def _leave(self, drain_seconds: float) -> None:
        self.leaving = True
        self.drain_seconds = drain_seconds

    def _reopen(self) -> None:
        for conduit in self._conduits.values():
            conduit.reopen()
            self._heed(conduit)

    def _accept(self) -> None:
        """The newest controller is the only one."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it left again; or we are out of descriptors, then it would wake us without end
            self._urgent.modify(self._listener.fileno(), 0)
            self._retry_later()
            return
        self._hang_up()
        connection.setblocking(False)
        self._controller = connection
        self._urgent.register(connection.fileno(), select.EPOLLIN)
        self._claimed.clear()
        self._announced.clear()  # it knows nothing yet
        for conduit in self._conduits.values():
            self._announce(conduit)

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
            self._open(Settings(message))
        elif kind == "close":
            self._let_go(message["id"])
            self._send({"type": "closed", "id": message["id"]})
        elif kind == "mark":
            for stream_id in message["ids"]:
                if conduit := self._conduits.get(stream_id):
                    conduit.mark(str(message["run"]))
                    self._announce(conduit)
            self._send({"type": "marked", "n": message["n"]})
        elif kind == "reopen":
            self._reopen()
        elif kind == "sweep":  # it has opened all that it knows: the others went while no controller ran
            for stream_id in self._conduits.keys() - self._claimed:
                self._let_go(stream_id)
        # Any other word is of a newer controller, which knows what an older pump does not do.

    def _open(self, settings: Settings) -> None:
        self._claimed.add(settings.id)
        conduit = self._conduits.get(settings.id)
        if conduit is None:
            conduit = self._conduits[settings.id] = Conduit(settings, self._plumbing)
            conduit.open()
            conduit.tidy()
        else:
            self._ignore(conduit.fifo)  # its descriptor may become another one's
            conduit.adopt(settings)
        self._heed(conduit)

    def _let_go(self, stream_id: str) -> None:
        """What can still be written is; what a full disk does not take is lost with the FIFO."""
        if conduit := self._conduits.pop(stream_id, None):
            self._ignore(conduit.fifo)
            conduit.drain()
            conduit.close()
            self._announced.pop(stream_id, None)

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


def rest_seconds(fullest: float, since_seconds: float) -> float:
    """How long streams rest when, in the time since the round before, the fullest pipe got so full (1.0: to the brim).

    Until it would be half full again; whole milliseconds, since that is what can be waited for.
    """
    if since_seconds >= IDLE_SECONDS:
        return 0.0
    half_full = since_seconds * 0.5 / fullest
    return min(int(half_full * 1000) / 1000, REST_AT_MOST_SECONDS)


# ---- the process ----


def claim(lock_fd: int, life_fd: int) -> bool:
    """Wait for the pump of a keeper that died to leave: two would write over each other. False: our keeper died too."""
    life = select.poll()
    life.register(life_fd, select.POLLIN)
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if life.poll(LOCK_RETRY_SECONDS * 1000):
                return False


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
    wakeup_fd = catch_signals()
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lock_fd = os.open(os.path.join(run_dir, "pump.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not claim(lock_fd, life_fd):
        return 0
    pump = Pump(run_dir, life_fd, wakeup_fd)
    pump.run()
    pump.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
