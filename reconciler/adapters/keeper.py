"""The controller's end of the line to the keeper: says what it has to, answers pings, hands on what it hears.

It decides nothing and journals nothing. Sending never blocks the loop: what the kernel doesn't take now goes when there
is room. A keeper that is gone, or that talks rubbish, is `on_lost`, once; after that every call is a quiet no-op.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from reconciler import wire
from reconciler.model.identity import ProcessId
from reconciler.model.state import NEVER
from reconciler.ports import ExitReport

T = TypeVar("T")

ACKS_PER_MESSAGE = 1000

log = logging.getLogger(__name__)


def _nothing(*_: object) -> None:
    """What happens when nobody listens."""


class KeeperLink:
    """The keeper, as the controller sees it. Set the callbacks, then say `hello`.

    `on_exits` gets what the keeper reaped in our absence, strangers included; it is told again to the next controller
    until `ack`. `on_signal` gets "TERM", "INT" or "HUP"; `on_welcome` the whole message; `on_pump` a new one's pid;
    `on_told` that there are no more exits of before our hello, and since when (CLOCK_BOOTTIME) the keeper missed none;
    `on_leave`: make room for the next controller, processes stay.
    """

    def __init__(self, control_fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.on_exits: Callable[[Sequence[ExitReport]], None] = _nothing
        self.on_signal: Callable[[str], None] = _nothing
        self.on_welcome: Callable[[wire.Message], None] = _nothing
        self.on_told: Callable[[float], None] = _nothing
        self.on_pump: Callable[[int], None] = _nothing
        self.on_leave: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self._loop = loop
        self._unsent: deque[bytes] = deque()
        self._syncs = 0
        self._synced: dict[int, Callable[[], None]] = {}
        self._sock: socket.socket | None = socket.socket(fileno=control_fd)
        self._sock.setblocking(False)
        # It came to us over an exec. A process of ours that inherited it would hide our death from the keeper.
        self._sock.set_inheritable(False)
        loop.add_reader(self._sock, self._readable)

    # ---- what the controller says ----

    def hello(self) -> None:
        """I am up. Answered by a welcome, waiting signals, and all exits nobody acknowledged."""
        self._send({"type": "hello", "wire": wire.VERSION, "pid": os.getpid()})

    def ready(self) -> None:
        """All is taken over; or, after a HUP, all manifests are read."""
        self._send({"type": "ready"})

    def ack(self, processes: Iterable[ProcessId]) -> None:
        """These exits are in the journal: forget them."""
        pairs = [list(process) for process in processes]
        for start in range(0, len(pairs), ACKS_PER_MESSAGE):
            self._send({"type": "ack", "exits": pairs[start : start + ACKS_PER_MESSAGE]})

    def hold(self, path: str) -> None:
        """Keep this FIFO open, whatever becomes of me."""
        self._send({"type": "hold", "fifo": path})

    def release(self, path: str) -> None:
        """Let this FIFO go."""
        self._send({"type": "release", "fifo": path})

    def sync(self, done: Callable[[], None]) -> None:
        """Call this when all that was said before is done. A keeper that is too old for it never says so."""
        self._syncs += 1
        self._synced[self._syncs] = done
        self._send({"type": "sync", "n": self._syncs})

    def replace(self, *, keeper: bool) -> None:
        """Replace me and the pump, and yourself, too (`keeper`), by the code that is installed now."""
        self._send({"type": "replace", "keeper": keeper})

    def stop(self) -> None:
        """Somebody asked me to drain and end: should I die over it, tell the next one."""
        self._send({"type": "stop"})

    def refuse(self, code: int) -> None:
        """I cannot work with my arguments. If none ever could, leave with this exit code."""
        self._send({"type": "refuse", "code": code})

    def quit(self, code: int, *, keep: bool = False) -> None:
        """All is done: end the pump, then leave with this exit code. The last word; end yourself after it.

        `keep`: processes run on, and the pump stays with them.
        """
        self._send({"type": "quit", "code": code, **({"keep": True} if keep else {})})

    @property
    def idle(self) -> bool:
        """Whether everything said is on its way."""
        return not self._unsent

    def close(self) -> None:
        """Stop listening. `on_lost` is not called."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()
        self._unsent.clear()

    # ---- what it hears ----

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            for message in wire.waiting(self._sock):
                self._hear(message)
                if self._sock is None:  # a callback closed us
                    return
        except wire.Closed:
            self._lose("it is gone")
        except wire.WireError as error:
            self._lose(str(error))

    def _hear(self, message: wire.Message) -> None:
        kind = message["type"]
        if kind == "ping":
            self._send({"type": "pong", "n": message.get("n")})
        elif kind == "exits":
            self.on_exits(_reports(message))
        elif kind == "signal":
            self.on_signal(_field(message, "name", str))
        elif kind == "welcome":
            self.on_welcome(message)
        elif kind == "told":
            since = message.get("reaps_since")
            self.on_told(NEVER if since is None else _field(message, "reaps_since", float))
        elif kind == "pump":
            self.on_pump(_field(message, "pid", int))
        elif kind == "synced":
            self._synced.pop(_field(message, "n", int), _nothing)()
        elif kind == "leave":
            self.on_leave()
        else:
            log.info("the keeper sent %r, which this controller does not know", kind)

    # ---- sending ----

    def _send(self, message: wire.Message) -> None:
        if self._sock is None:
            return
        self._unsent.append(wire.encode(message))
        if len(self._unsent) == 1:  # else a writer waits for room already
            self._flush()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            while self._unsent:
                if not wire.send_bytes(sock, self._unsent[0]):
                    self._loop.add_writer(sock, self._flush)
                    return
                self._unsent.popleft()
        except wire.Closed:
            # What it said before it went is still to be read; the reader finds the end and tells.
            self._unsent.clear()
        self._loop.remove_writer(sock)

    def _lose(self, why: str) -> None:
        log.warning("the keeper is lost: %s", why)
        self.close()
        self.on_lost()


def _field(message: wire.Message, name: str, kind: type[T]) -> T:
    value = message.get(name)
    if not isinstance(value, kind):
        raise wire.WireError(f"broken {message['type']} message: {name} is {value!r}")
    return value


def _reports(message: wire.Message) -> list[ExitReport]:
    try:
        return [_report(*entry) for entry in message["exits"]]
    except (KeyError, TypeError, ValueError) as error:
        raise wire.WireError(f"broken exits message: {error!r}") from None


def _report(pid: int, start_ticks: int, status: int, mark: int) -> ExitReport:
    code = os.waitstatus_to_exitcode(status)
    process = ProcessId(pid, start_ticks)
    return ExitReport(process, code, None, mark) if code >= 0 else ExitReport(process, None, -code, mark)
