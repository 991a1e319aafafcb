"""The log sink: makes FIFOs, has the keeper hold them, and tells the pump what to move where.

It never blocks, and never waits for the pump. The pump is stateless and may be killed at any time: all that it has to
know is kept here and said again to the next one, as is every request that was not acknowledged. No log byte passes
through here.
"""

import asyncio
import logging
import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from reconciler import wire
from reconciler.adapters.logs.fifos import NOTE, Holder, files_in, id_of, make_fifo, note_of, write_note
from reconciler.ports import Stream

RECONNECT_MIN_SECONDS = 0.010
RECONNECT_MAX_SECONDS = 0.05  # what is written meanwhile is in nobody's hands but the keeper's
RETRY_SECONDS = 1.0
MARKS_AT_MOST = 10_000  # while no pump answers; whoever waits for the oldest is told to go on

log = logging.getLogger(__name__)


class _Mark(NamedTuple):
    """A request for run-end records that the pump did not acknowledge yet."""

    stream_ids: list[str]
    run: str
    done: Callable[[], None]


class PumpSink:
    """Implements ports.LogSink. `hold`, `release` and `sync` speak to the keeper; use it inside a running event loop.

    `on_trouble(stream_id, message)` is called when a stream's trouble begins, changes or (None) ends.
    """

    def __init__(
        self,
        run_dir: str,
        hold: Callable[[str], None],
        release: Callable[[str], None],
        sync: Callable[[Callable[[], None]], None],
    ) -> None:
        self.on_trouble: Callable[[str, str | None], None] = lambda stream_id, message: None
        self._socket_path = os.path.join(run_dir, "pump.sock")
        self._fifo_dir = os.path.join(run_dir, "fifos")
        self._holder = Holder(hold, sync)
        self._release = release
        self._streams: dict[str, Stream] = {}
        self._closing: dict[str, str] = {}  # id -> FIFO, until the pump let go; empty: it is to stay
        self._answers_due: dict[str, int] = {}  # a stream may be closed, opened and closed faster than is answered
        self._swept = False
        self._marks: dict[int, _Mark] = {}
        self._count = 0  # numbers marks
        self._troubles: dict[str, str] = {}
        self._unmade: set[str] = set()  # streams without a FIFO: that trouble is ours, not the pump's
        self._repeated: set[str] = set()  # troubles that a new pump has, too
        self._barrier = 0  # the mark whose answer says: all streams were opened, and their troubles told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        self._reconnect_seconds = RECONNECT_MIN_SECONDS
        self._reconnect_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None

    # ---- the port ----

    def open(self, stream: Stream) -> None:
        """Make sure that FIFO, holder and file exist; a changed path, size or mode takes effect at once."""
        known = self._streams.get(stream.id)
        self._streams[stream.id] = stream
        closing = self._closing.pop(stream.id, None)  # its answer will find the stream open again, and change nothing
        if closing and closing != stream.fifo:
            self._remove(closing)
        try:
            made = make_fifo(stream.fifo, stream.owner)
        except OSError as error:
            self._unmade.add(stream.id)
            self._set_trouble(stream.id, f"cannot make the FIFO {stream.fifo}: {error.strerror}")
            self._retry_timer = self._retry_timer or self._running_loop().call_later(RETRY_SECONDS, self._make_again)
            return
        if stream.id in self._unmade:
            self._unmade.discard(stream.id)
            self._set_trouble(stream.id, None)
        elif known == stream and not made:
            return  # this is asked before every start of a process
        self._holder.hold(stream.fifo)
        write_note(stream.fifo, _open_message(stream))
        if known is not None and known.fifo != stream.fifo:
            self._remove(known.fifo)
        self._say(_open_message(stream))

    def close(self, stream_id: str) -> None:
        """Drain, then let the FIFO go. The files stay."""
        stream = self._streams.pop(stream_id, None)
        self._unmade.discard(stream_id)
        self._set_trouble(stream_id, None)
        self._close(stream_id, stream.fifo if stream is not None else "")

    def _close(self, stream_id: str, fifo: str) -> None:
        self._closing[stream_id] = fifo
        self._answers_due[stream_id] = self._answers_due.get(stream_id, 0) + 1
        self._say({"type": "close", "id": stream_id})

    def mark(self, stream_ids: Iterable[str], run: str, done: Callable[[], None]) -> None:
        """Note in the index that `run` ended here. `done` is called when it is noted."""
        self._count += 1
        mark = self._marks[self._count] = _Mark(list(stream_ids), run, done)
        if len(self._marks) > MARKS_AT_MOST:
            self._marks.pop(next(iter(self._marks))).done()
        self._say(_mark_message(self._count, mark))

    # ---- beyond it ----

    def trouble(self, stream_id: str) -> str | None:
        """What is wrong with this stream. While it has trouble its bytes wait in the FIFO."""
        return self._troubles.get(stream_id)

    @property
    def count(self) -> int:
        """How many streams are open: one pipe each."""
        return len(self._streams)

    def reopen(self) -> None:
        """Have the pump open all files anew: someone moved them. A pump that is not there will do so anyway."""
        self._say({"type": "reopen"})

    def sweep(self) -> None:
        """All streams there shall be are open: what other FIFOs there are is of Programs that went in our absence.

        What is still in one is for its log: the pump, which knows from the note beside it where that is, lets it go.
        """
        self._swept = True
        self._say({"type": "sweep"})
        used = {fifo for stream in self._streams.values() for fifo in (stream.fifo, note_of(stream.fifo))}
        used.update(path for fifo in self._closing.values() if fifo for path in (fifo, note_of(fifo)))
        for path in files_in(self._fifo_dir):
            if path in used:
                continue
            if stat.S_ISFIFO(os.lstat(path).st_mode):
                used.add(note_of(path))
                self._close(id_of(path), path)
            elif not path.endswith(NOTE) or not os.path.exists(path.removesuffix(NOTE)):
                self._remove(path)

    def disconnect(self) -> None:
        """The end: leave the pump alone, which goes on moving."""
        for timer in (self._reconnect_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self._holder.close()
        self._hang_up()

    # ---- what the pump says ----

    def _readable(self) -> None:
        pump = self._pump
        assert pump is not None
        try:
            for message in wire.waiting(pump):
                self._hear(message)
                if self._pump is not pump:  # a callback disconnected us
                    return
        except wire.Closed:
            self._reconnect()
        except (wire.WireError, KeyError) as error:
            log.warning("the pump talks rubbish: %s", error)
            self._reconnect()

    def _hear(self, message: wire.Message) -> None:
        kind = message["type"]
        if kind == "marked":
            number = message["n"]
            if number == self._barrier:
                self._forget_old_troubles()
            if mark := self._marks.pop(number, None):
                mark.done()
        elif kind == "closed":
            self._closed(message["id"])
        elif kind == "trouble" and message["id"] in self._streams:
            self._repeated.add(message["id"])
            self._set_trouble(message["id"], str(message["message"]))
        elif kind == "healthy" and message["id"] not in self._unmade:
            self._set_trouble(message["id"], None)

    def _closed(self, stream_id: str) -> None:
        self._answers_due[stream_id] = left = self._answers_due.get(stream_id, 1) - 1
        if left <= 0:
            del self._answers_due[stream_id]
            if fifo := self._closing.pop(stream_id, ""):
                self._remove(fifo)

    def _set_trouble(self, stream_id: str, message: str | None) -> None:
        if self._troubles.get(stream_id) == message:
            return
        if message is None:
            del self._troubles[stream_id]
        else:
            self._troubles[stream_id] = message
        self.on_trouble(stream_id, message)

    def _forget_old_troubles(self) -> None:
        """A pump that was killed says `healthy` no more: what its successor did not complain about has passed."""
        for stream_id in self._troubles.keys() - self._repeated - self._unmade:
            self._set_trouble(stream_id, None)

    # ---- what it is told ----

    def _say(self, message: wire.Message) -> None:
        if self._pump is None:
            self._connect()  # which says all there is to say, this message included
        else:
            self._unsent.append(wire.encode(message))
            if len(self._unsent) == 1:
                self._flush()

    def _connect(self) -> None:
        """Connect unless an attempt is due anyway, and tell the pump all it has to know."""
        if self._reconnect_timer is not None:
            return
        loop = self._running_loop()
        try:
            pump = self._pump = wire.connect_unix(self._socket_path, socket.SOCK_SEQPACKET)
        except OSError:
            self._reconnect()
            return
        self._reconnect_seconds = RECONNECT_MIN_SECONDS
        self._repeated.clear()
        loop.add_reader(pump, self._readable)
        opened = (stream for stream in self._streams.values() if stream.id not in self._unmade)
        self._unsent.extend(wire.encode(_open_message(stream)) for stream in opened)
        self._answers_due = dict.fromkeys(self._closing, 1)
        self._unsent.extend(wire.encode({"type": "close", "id": stream_id}) for stream_id in self._closing)
        if self._swept:
            self._unsent.append(wire.encode({"type": "sweep"}))
        self._unsent.extend(wire.encode(_mark_message(number, mark)) for number, mark in self._marks.items())
        self._count += 1
        self._barrier = self._count
        self._unsent.append(wire.encode(_mark_message(self._barrier, _Mark([], "", lambda: None))))
        self._flush()

    def _flush(self) -> None:
        pump, loop = self._pump, self._running_loop()
        assert pump is not None
        try:
            while self._unsent and wire.send_bytes(pump, self._unsent[0]):
                self._unsent.popleft()
        except wire.Closed:
            self._reconnect()
            return
        if self._unsent:
            loop.add_writer(pump, self._flush)
        else:
            loop.remove_writer(pump)

    def _reconnect(self) -> None:
        """The pump is gone. The keeper starts another one."""
        self._hang_up()
        self._reconnect_timer = self._running_loop().call_later(self._reconnect_seconds, self._connect_again)
        self._reconnect_seconds = min(self._reconnect_seconds * 2, RECONNECT_MAX_SECONDS)

    def _connect_again(self) -> None:
        self._reconnect_timer = None
        self._connect()

    def _hang_up(self) -> None:
        pump, self._pump = self._pump, None
        self._unsent.clear()
        if pump is not None:
            loop = self._running_loop()
            loop.remove_reader(pump)
            loop.remove_writer(pump)
            pump.close()

    def _make_again(self) -> None:
        self._retry_timer = None
        for stream_id in list(self._unmade):
            self.open(self._streams[stream_id])

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _remove(self, fifo: str) -> None:
        self._release(fifo)
        for path in (note_of(fifo), fifo):
            try:
                os.unlink(path)
            except OSError:  # gone already; or in the way of nobody
                pass


def _open_message(stream: Stream) -> dict[str, Any]:
    message = stream._asdict()
    owner = message.pop("owner")  # of the FIFO, which is made here; and whose files the log may be
    return {"type": "open", **message, "uid": owner[0] if owner else os.geteuid()}


def _mark_message(number: int, mark: _Mark) -> dict[str, Any]:
    return {"type": "mark", "ids": mark.stream_ids, "run": mark.run, "n": number}
