"""One log stream: the bytes of a FIFO into a file, which is rotated at line ends.

Every byte of a raw log is moved by exactly one splice, which takes it out of the FIFO as it puts it into the file. So
all state is the kernel's: SIGKILL between any two instructions, or inside one, neither loses nor doubles a byte, and a
new pump needs no journal. What is about to come is looked at with tee, which takes nothing. Lines that are framed, that
share a file, or that go to a console take the way of a Framer instead, as exactly.

A conduit never raises for what its files do: `complaint` says what is wrong, and `halted` whether bytes wait in the
FIFO because of it (then the writer waits too, once that is full). When to serve which conduit is the pump's business.
Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios

from reconciler import folders
from reconciler.folders import Refused
from reconciler.pumping.framer import Framer
from reconciler.pumping.framing import RAW
from reconciler.pumping.logfile import LogFile, wall
from reconciler.pumping.staging import Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reconciler.pumping.console import Console
    from reconciler.pumping.plumbing import Plumbing, Settings

PEEK_BYTES = 64 * 1024  # what a pipe holds by default: more cannot be seen at once
PIPE_BYTES = 1024 * 1024  # what a busy stream gets, where the kernel allows it
CHUNK_BYTES = 1024 * 1024
FRAMED_CHUNK_BYTES = 256 * 1024  # framing takes several times as long as a splice
DRAIN_BYTES = 8 * PIPE_BYTES  # a full pipe several times over: whoever writes faster than we drain does not end
LONG_LINE_BYTES = 1024 * 1024  # a line may exceed the size limit by this much, then it is cut


class Conduit:
    """One FIFO into one log. To be made, then `open`ed, then served whenever bytes wait."""

    __slots__ = (
        "_at", "_enlarged", "_framer", "_moved", "_output", "_parted", "_plumbing", "_unended", "capacity", "complaint",
        "fifo", "halted", "settings",
    )  # fmt: skip

    def __init__(self, settings: Settings, plumbing: Plumbing) -> None:
        self.settings = settings
        self.fifo = -1
        self.complaint: str | None = None
        self.halted = False
        self.capacity = PEEK_BYTES  # of the pipe
        self._output: LogFile | Console | None = None
        self._framer: Framer | None = None  # while lines take its way; without it they are spliced
        self._parted = False  # there is no FIFO any more
        self._enlarged = False
        self._moved = 0  # by the serving that goes on
        self._unended = True  # bytes came since the last end of a run, as far as we know
        self._plumbing = plumbing
        self._at = settings.path  # what a complaint is about

    # ---- what the pump asks for ----

    def open(self) -> None:
        """Open what is not open. A complaint when that fails; to be asked again later."""
        self._heal()
        for step in (self._open_fifo, self.prepare, self._open_log):  # each of use without the others
            try:
                step()
            except OSError as error:
                self._halt(error)

    def adopt(self, settings: Settings) -> None:
        """Other settings. What waits in the FIFO still goes to the old place if that is possible."""
        old, self._parted = self.settings, False
        moved_fifo = settings.fifo != old.fifo or not (self.fifo >= 0 and _is_at(self.fifo, settings.fifo))
        if settings.path != old.path or settings.form != old.form or moved_fifo:
            self.drain()
        if moved_fifo:
            self._close_fifo()
        if settings.path != old.path:
            self._leave()
        self.settings = settings
        if isinstance(self._output, LogFile):
            self._output.set_bounds(settings.bounds)
        self.open()
        self.tidy()

    def serve(self, budget: int = CHUNK_BYTES) -> int:
        """Move at most about `budget` bytes. How many were moved; 0 when none wait, or none can be moved."""
        if not self._is_open():
            self.open()
            if self.halted:
                return 0
        self._moved = 0
        try:
            if self._framer is None:
                self._serve_raw(budget)
            else:
                self._serve_framer(self._framer, budget)
        except OSError as error:
            self._halt(error)
        else:
            self._heal()
        if self._moved:
            self._unended = True
            if self._moved > self.capacity / 2:
                self._enlarge()
        return self._moved

    def drain(self) -> None:
        """Move until the FIFO is empty, or so much that its writer clearly does not end."""
        left = DRAIN_BYTES
        while left > 0 and (moved := self.serve()):
            left -= moved

    def mark(self, run: str) -> None:
        """What was written until now belongs to `run`, which ended. Empty runs leave no record: they show nothing."""
        self.drain()
        self._end_line()
        if self._unended and isinstance(self._output, LogFile) and self._output.fd >= 0:
            self._unended = False
            self._output.index.end(self._output.size, wall(), run, self.settings.whose if self._framer else "")

    def reopen(self) -> None:
        """Take the file that has the path now: someone moved ours away."""
        if isinstance(self._output, LogFile):
            self._output.close()
        self.open()

    def tidy(self) -> None:
        """Have closed segments compressed and removed, behind our back."""
        if isinstance(self._output, LogFile):
            self._output.tidy()

    def part(self) -> bool:
        """The FIFO goes. Whether nothing is left to be done; else `serve` has to be called until that is so."""
        self.drain()
        self._end_line()
        self._parted = True
        self._close_fifo()
        if self._framer is not None:
            self.serve()
        return self.is_done

    @property
    def is_done(self) -> bool:
        """Whether no line waits in us. What a FIFO still has goes with it."""
        return self._framer is None or self._framer.staging.is_empty

    @property
    def is_stalled(self) -> bool:
        """Whether there is no room for more before the console has taken some: it would wake us without end."""
        return self._framer is not None and self._framer.staging.is_full

    def finish(self) -> None:
        """Let go for good: nothing waits."""
        if self._framer is not None:
            self._framer.staging.remove()
            self._framer = None
        self.close()

    def close(self) -> None:
        """Let go, without draining."""
        if self._framer is not None:
            self._framer.close()
            self._framer = None
        self._leave()
        self._close_fifo()

    # ---- opening ----

    def _is_open(self) -> bool:
        output = self._output
        has_output = output.is_ready if isinstance(output, LogFile) else output is not None
        return has_output and (self.fifo >= 0 or self._parted) and not self.halted

    def _wants_framer(self) -> bool:
        settings, output = self.settings, self._output
        return settings.form != RAW or settings.shared or not isinstance(output, LogFile) or len(output.users) > 1

    def prepare(self) -> None:
        """Know where bytes go, and by what way: then what a killed pump left to be done is known, too."""
        self._at = self.settings.path
        if self._output is None:
            self._output = self._plumbing.join(self.settings)
            if isinstance(self._output, LogFile):
                self._output.set_bounds(self.settings.bounds)
        self._at = self._plumbing.staged_path(self.settings.id)
        if self._framer is not None:
            self._framer.turn_to(self.settings, self._output)
        elif self._wants_framer() or os.path.exists(self._at):
            self._open_framer()

    def _leave(self) -> None:
        if self._output is not None:
            self._plumbing.leave(self.settings, self._output)
            self._output = None

    def _open_framer(self) -> Framer:
        assert self._output is not None
        self._at = self._plumbing.staged_path(self.settings.id)
        self._plumbing.make_staged_dir()
        framer = self._framer = Framer(self.settings, Staging(self._at, self.settings.message), self._output)
        return framer

    def _open_log(self) -> None:
        self._at = self.settings.path
        if isinstance(self._output, LogFile):
            self._output.open()

    def _open_fifo(self) -> None:
        if self.fifo >= 0 or self._parted:
            return
        # By path, so that this description is ours alone: O_NONBLOCK on a shared one would reach the writers.
        self._at = self.settings.fifo
        fd = os.open(self.settings.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused(f"{self.settings.fifo} is not a FIFO")
        self.fifo = folders.keep(fd)
        self.capacity = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        self._enlarged = False

    def _close_fifo(self) -> None:
        if self.fifo >= 0:
            os.close(self.fifo)
            self.fifo = -1

    # ---- framed ----

    def _serve_framer(self, framer: Framer, budget: int) -> None:
        staging, budget = framer.staging, min(budget, FRAMED_CHUNK_BYTES)
        self._at = staging.path
        try:
            while self._moved < budget and self.fifo >= 0 and not staging.is_full:
                asked = min(budget - self._moved, PEEK_BYTES)
                step = staging.take(self.fifo, asked)
                self._moved += step
                if step < asked:
                    break  # most likely it is empty now; if not, we are called again
        except BlockingIOError:
            pass  # the FIFO is empty
        self._at = self.settings.path
        if isinstance(self._output, LogFile):
            self._output.find_end()
        framer.bring_out()
        if staging.is_empty and not self._wants_framer():
            staging.remove()  # between two lines: from here on they are spliced
            self._framer = None

    def _end_line(self) -> None:
        """The line that has begun is one: who wrote it has ended."""
        if self._framer is not None:
            try:
                self._at = self._framer.staging.path
                self._framer.staging.end_line()
            except OSError as error:
                self._halt(error)
                return
            self.serve()

    # ---- raw ----

    def _serve_raw(self, budget: int) -> None:
        if self._wants_framer():  # another stream has joined
            self._serve_framer(self._open_framer(), budget)
            return
        file = self._output
        assert isinstance(file, LogFile)
        self._at = file.path
        file.pay()
        file.find_end()
        try:
            while self._moved < budget:
                asked = budget - self._moved
                step = self._step(file, asked)
                self._moved += step
                if step < min(asked, PEEK_BYTES):
                    break  # most likely it is empty now; if not, we are called again
        except BlockingIOError:
            pass  # the FIFO is empty

    def _step(self, file: LogFile, count: int) -> int:
        """Move some bytes and close a segment when it is full. 0: no byte waits."""
        room = file.room()
        if room is None:
            return file.splice(self.fifo, count)
        if room > PEEK_BYTES:
            return file.splice(self.fifo, min(count, room - PEEK_BYTES))
        waiting = _waiting_bytes(self.fifo)
        if waiting <= room:
            return file.splice(self.fifo, waiting) if waiting else 0
        return self._near_limit(file, room)

    def _near_limit(self, file: LogFile, room: int) -> int:
        """More waits than the segment may take: the last line end that fits is where it ends."""
        seen = self._plumbing.peek(self.fifo, room if room > 0 else PEEK_BYTES)
        if room > 0:
            end = seen.rfind(b"\n") + 1
            if len(seen) < room:  # small buffers hid the rest; this much fits anyway
                return self._splice_exactly(file, len(seen))
            if end:
                moved = self._splice_exactly(file, end)
                file.rotate()
                return moved
        if file.size and file.at_line_start():
            file.rotate()
            return self._step(file, CHUNK_BYTES)
        # The line that has begun does not fit: it is finished over the limit, but not without bound.
        if room > 0:
            return self._splice_exactly(file, room)
        end = seen.find(b"\n") + 1
        moved = self._splice_exactly(file, end or len(seen))
        if not end and moved - room >= LONG_LINE_BYTES:
            file.rotate()
        return moved

    def _splice_exactly(self, file: LogFile, count: int) -> int:
        """Move `count` bytes that are known to wait."""
        left = count
        while left:
            left -= file.splice(self.fifo, left)
        return count

    # ---- complaints ----

    def _halt(self, error: OSError) -> None:
        why = error.strerror or str(error)
        self.complaint = f"cannot write: {why}" if isinstance(error, Refused) else f"cannot write {self._at}: {why}"
        self.halted = True
        self._enlarge()  # the writer may go on for longer

    def _heal(self) -> None:
        self.halted = False
        self.complaint = self._output.complaint if isinstance(self._output, LogFile) else None

    def _enlarge(self) -> None:
        """A large pipe, for those that need one: a user may have so many, then all further ones are small."""
        if not self._enlarged and self.fifo >= 0:
            self._enlarged = True
            try:
                self.capacity = fcntl.fcntl(self.fifo, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass


def _is_at(fd: int, path: str) -> bool:
    """Whether the file that `fd` holds is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _waiting_bytes(fifo: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(fifo, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count
