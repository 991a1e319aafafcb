"""Prints what lies between two places of a log, and goes on with what comes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from reconciler.adapters.logfiles.cursor import BLOCK_BYTES, Cursor, Place
from reconciler.adapters.logfiles.frames import Choice, Whose, frame
from reconciler.adapters.logfiles.indexes import Times
from reconciler.adapters.logfiles.spans import LogOptions, find_span

LINE_BYTES = 1024 * 1024  # of a longer line this much is shown
CUT = b" ... (cut)"
POLL_SECONDS = 0.1
POLLED_PER_SECOND = 2000  # logs looked at; for more than a few hundred the polls grow rarer
LOGS_PER_TURN = 16  # read in one go, so this many blocks are in memory


class LogFile(NamedTuple):
    """One log, and what its lines are called: `web/3`.

    `framed`: lines say by themselves when they came and whose they are. `whose`: where several write to it, those whose
    lines are wanted; None: all. `run_of`: of whom a previous run is meant.
    """

    label: str
    path: str
    framed: bool = False
    whose: frozenset[Whose] | None = None
    run_of: Whose | None = None

    @property
    def runs(self) -> str:
        """How the index calls the one whose runs count; empty: the only one."""
        return "" if self.run_of is None else f"{self.run_of[0]}/{self.run_of[1]}"

    def choice(self, since: float | None) -> Choice | None:
        """Which of its lines are wanted; None: all."""
        if self.whose is None and not (self.framed and since):
            return None
        return Choice(self.whose, _stamp(since) if self.framed and since else b"")


class Printer:
    """One log as its reader sees it: whole lines, decorated as wanted. `end` None: it is followed."""

    def __init__(self, file: LogFile, start: Place, end: Place | None, options: LogOptions) -> None:
        self.choice = file.choice(options.since)  # of a log that is followed it may change
        self._framed = file.framed
        self._prefix = f"[{file.label}] ".encode() if options.prefix else b""
        self._times = Times(file.path) if options.timestamps else None
        self._cursor = Cursor(file.path, start, end)
        self._partial = b""  # a line whose end has not come yet
        self._partial_at = start
        self._skipping = False  # the rest of a line that was cut

    def chunk(self) -> bytes:
        """The next lines, some 64 KiB of them; b"" when there are none now."""
        if self._times is not None:
            self._times.refresh()
        while data := self._cursor.read(BLOCK_BYTES):
            number, offset = self._cursor.place
            if lines := self._lines(Place(number, offset - len(data)), data):
                return lines
        return b""

    def rest(self) -> bytes:
        """The line without an end, if there is one: no more of it will be read."""
        line, self._partial = self._partial, b""
        return self._shown(self._partial_at, line) if line else b""

    def close(self) -> None:
        self._cursor.close()
        if self._times is not None:
            self._times.close()

    def _lines(self, at: Place, data: bytes) -> bytes:
        """What of `data`, which stands at `at`, can be shown by now."""
        if self._skipping:
            line_end = data.find(b"\n") + 1
            if not line_end:
                return b""
            self._skipping = False
            at = at._replace(offset=at.offset + line_end)
            data = data[line_end:]
        if not self._partial:
            self._partial_at = at
        whole, line_end_byte, last = data.rpartition(b"\n")
        shown = b""
        if line_end_byte:
            shown = self._all_shown(at, whole)
            self._partial, self._partial_at = last, at._replace(offset=at.offset + len(whole) + 1)
        else:
            self._partial += last
        if len(self._partial) > LINE_BYTES:
            shown += self._shown(self._partial_at, self._partial[:LINE_BYTES], CUT)
            self._partial = b""
            self._skipping = True
        return shown

    def _all_shown(self, at: Place, lines: bytes) -> bytes:
        """Whole lines from `at` on, the first of which began with what is partial."""
        if not self._prefix and self._times is None and self.choice is None:
            return self._partial + lines + b"\n"
        first, *others = lines.split(b"\n")
        shown = [self._shown(self._partial_at, self._partial + first)]
        offset = at.offset + len(first) + 1
        for line in others:
            shown.append(self._shown(Place(at.number, offset), line))
            offset += len(line) + 1
        return b"".join(shown)

    def _shown(self, at: Place, line: bytes, ending: bytes = b"") -> bytes:
        """One line as it is wanted, or nothing. What its frame says is not said twice."""
        if self.choice is not None and not self.choice.takes(line):
            return b""
        if (self._framed and frame(line)) or not (self._prefix or self._times):
            return line + ending + b"\n"
        if self._times is None:
            return self._prefix + line + ending + b"\n"
        wall = self._times.at(at)
        return self._prefix + (b"-" if wall is None else _stamp(wall)) + b" " + line + ending + b"\n"


def _stamp(wall: float) -> bytes:
    try:
        moment = datetime.fromtimestamp(wall, UTC)
    except (ValueError, OverflowError):  # a damaged index
        return b"-"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


async def read_logs(
    files: Callable[[], list[LogFile]], options: LogOptions, stop: asyncio.Event
) -> AsyncIterator[bytes]:
    """The wanted lines, log after log, each chunk a whole number of lines; then, if wanted, those that come.

    Following ends when `stop` is set. `files` is asked again all the time, and logs that turn up are followed, too.
    """
    follow = options.follow and options.previous is None
    printers: dict[tuple[str, str], Printer] = {}
    try:
        for file in tuple(files()):
            printer = printers[file.path, file.runs] = await asyncio.to_thread(_begun, file, options, follow)
            while not stop.is_set() and (chunk := await asyncio.to_thread(printer.chunk)):
                yield chunk
                if follow and printer.choice is not None:  # there may be others by now whose lines are wanted
                    _renew(printers, files(), options)
            if not follow:
                if rest := printer.rest():
                    yield rest
                printer.close()
        if follow:
            async for chunk in _followed(files, options, stop, printers):
                yield chunk
    finally:
        for printer in printers.values():
            printer.close()


async def _followed(
    files: Callable[[], list[LogFile]],
    options: LogOptions,
    stop: asyncio.Event,
    printers: dict[tuple[str, str], Printer],
) -> AsyncIterator[bytes]:
    late = options._replace(tail=None, since=max(options.began, options.since or 0.0) or None)
    while not stop.is_set():
        for file in _renew(printers, files(), options):
            printers[file.path, file.runs] = await asyncio.to_thread(_begun, file, late, True)
        quiet = True
        for group in _groups(list(printers.values())):
            for chunk in await asyncio.to_thread(_chunks, group):
                quiet = False
                yield chunk
        if quiet:
            await _sleep_until(stop, max(POLL_SECONDS, len(printers) / POLLED_PER_SECOND))
    for rest in [printer.rest() for printer in printers.values()]:
        if rest:
            yield rest


def _renew(
    printers: dict[tuple[str, str], Printer], files: Iterable[LogFile], options: LogOptions
) -> Sequence[LogFile]:
    """Have the logs that are read choose lines as is wanted now; answers with those that are not read yet."""
    new: list[LogFile] = []
    for file in files:
        if printer := printers.get((file.path, file.runs)):
            printer.choice = file.choice(options.since)
        else:
            new.append(file)
    return new


def _begun(file: LogFile, options: LogOptions, follow: bool) -> Printer:
    choice = file.choice(options.since)
    span = find_span(file.path, options, file.runs, choice and choice.takes)
    return Printer(file, span.start, None if follow else span.end, options)


def _chunks(printers: Sequence[Printer]) -> list[bytes]:
    return [chunk for chunk in (printer.chunk() for printer in printers) if chunk]


def _groups(printers: Sequence[Printer]) -> Iterator[Sequence[Printer]]:
    return (printers[at : at + LOGS_PER_TURN] for at in range(0, len(printers), LOGS_PER_TURN))


async def _sleep_until(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass
