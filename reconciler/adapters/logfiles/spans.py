"""Finds the part of a log that somebody wants: places to begin and to end at. Reads no more than it has to."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from reconciler import segments
from reconciler.adapters.logfiles.cursor import BLOCK_BYTES, Cursor, Place, SegmentFile, open_segment, snapshot
from reconciler.adapters.logfiles.indexes import Record, records

Takes = Callable[[bytes], bool]
_FURTHER = 8  # times as many lines are looked at in each step back


class LogOptions(NamedTuple):
    """What is wanted. All that is given holds: the last `tail` lines of those since `since`."""

    follow: bool = False
    tail: int | None = None  # lines of each log; None: all
    since: float | None = None  # wall time, seconds since the epoch; exact within a second
    timestamps: bool = False  # in UTC, exact within a second
    prefix: bool = False
    previous: int | None = None  # 1: the run that ended last, 2: the one before; these are never followed
    began: float = 0.0  # wall time of the request: of a log that turns up later, what comes from then on


class Span(NamedTuple):
    """A part of a log."""

    start: Place
    end: Place


def find_span(path: str, options: LogOptions, run_of: str = "", takes: Takes | None = None) -> Span:
    """The part of the log that is wanted, as the log is now.

    Where several write to one log: `run_of` (REPLICA/STREAM) is whose runs count, and `takes` which lines do.
    """
    span = Span(*snapshot(path))
    if options.previous is not None:
        span = run_span(path, span, options.previous, run_of)
    if options.since is not None:
        span = Span(max(span.start, since_start(path, span, options.since)), span.end)
    if options.tail is not None:
        start = tail_start(path, span, options.tail)
        if takes is not None and options.tail > 0:
            start = chosen_tail_start(path, span, options.tail, takes)
        span = Span(start, span.end)
    return span


def run_span(path: str, whole: Span, runs_back: int, run_of: str = "") -> Span:
    """What the `runs_back`-th last of the ended runs wrote; nothing when the log does not reach back so far."""
    ends: list[Place] = []  # newest first
    for number in _newest_first(whole):
        ours = (r.offset for r in records(path, number) if r.run is not None and (not run_of or r.whose == run_of))
        last = deque(ours, maxlen=runs_back + 1)
        ends.extend(Place(number, offset) for offset in reversed(last))
        if len(ends) > runs_back:
            return Span(ends[runs_back], ends[runs_back - 1])
    if len(ends) == runs_back:
        return Span(whole.start, ends[-1])
    return Span(whole.end, whole.end)


def since_start(path: str, span: Span, since: float) -> Place:
    """The first place whose bytes came at `since` or later, within a second. Without index a segment counts whole."""
    start = span.end
    for number in _newest_first(span):
        older, recent = _around(path, number, since)
        if recent is not None:
            start = Place(number, recent.offset if older else 0)
        elif not older:  # no index tells
            size, changed = _size_and_change(path, number)
            older = bool(size) and changed < since
            if size and not older:
                start = Place(number, 0)
        if older:  # and so is all that lies before
            break
    return start


def _around(path: str, number: int, since: float) -> tuple[bool, Record | None]:
    """Whether a segment begins before that moment, and the first record of it that is not before it."""
    older = False
    for record in records(path, number):
        if record.run is None and record.wall + segments.INDEX_SECONDS > since:
            return older, record
        older = older or record.run is None
    return older, None


def tail_start(path: str, span: Span, lines: int) -> Place:
    """Where the last `lines` lines begin. An unfinished line at the end is a line, too."""
    if lines <= 0:
        return span.end
    missing = 0  # line ends yet to be found, going back; 0: we have not come to a byte yet
    for number in _newest_first(span):
        file = open_segment(path, number)
        if file is None:  # the open file is not there yet
            continue
        with file:
            if file.number != number:  # it was removed, and what is there comes after it
                break
            low = span.start.offset if number == span.start.number else 0
            high = span.end.offset if number == span.end.number else file.length()
            if not missing and high > low:
                missing = lines + (file.read_at(high - 1, 1) == b"\n")
            found = _back(file, low, high, missing) if missing else 0
        if found < 0:
            missing = -found
        elif missing:
            return Place(number, found)
    return span.start


def chosen_tail_start(path: str, span: Span, lines: int, takes: Takes) -> Place:
    """Where the last `lines` lines that `takes` wants begin. Others stand between: we look back step by step."""
    looked_at = lines
    while True:
        looked_at *= _FURTHER
        start = tail_start(path, span, looked_at)
        found = deque((place for place, line in _lines(path, Span(start, span.end)) if takes(line)), maxlen=lines)
        if len(found) == lines or start == span.start:
            return found[0] if found else span.end


def _lines(path: str, span: Span) -> Iterator[tuple[Place, bytes]]:
    """The lines of a part, and where each begins. Of a very long one the beginning."""
    cursor = Cursor(path, span.start, span.end)
    begun, at = b"", span.start
    while data := cursor.read(BLOCK_BYTES):
        number, offset = cursor.place
        place = Place(number, offset - len(data))
        *texts, rest = data.split(b"\n")
        for text in texts:
            yield (at, begun + text) if begun else (place, text)
            begun = b""
            place = place._replace(offset=place.offset + len(text) + 1)
        at = at if begun else place
        begun = (begun + rest)[:BLOCK_BYTES]
    if begun:
        yield at, begun
    cursor.close()


def _back(file: SegmentFile, low: int, high: int, line_ends: int) -> int:
    """The offset behind the `line_ends`-th last line end between `low` and `high`; negative: so many are missing."""
    if file.compressed:  # these can only be read forwards: count, then look for the one
        total = sum(block.count(b"\n") for _, block in _blocks(file, low, high))
        return _forth(file, low, high, total - line_ends + 1) if total >= line_ends else total - line_ends
    while high > low:
        start = max(low, high - BLOCK_BYTES)
        block = file.read_at(start, high - start)
        here = block.count(b"\n")
        if here >= line_ends:
            end = len(block)
            for _ in range(line_ends):
                end = block.rindex(b"\n", 0, end)
            return start + end + 1
        line_ends -= here
        high = start
    return -line_ends


def _forth(file: SegmentFile, low: int, high: int, line_ends: int) -> int:
    """The offset behind the `line_ends`-th line end from `low` on, which is known to be there."""
    for start, block in _blocks(file, low, high):
        here = block.count(b"\n")
        if here >= line_ends:
            end = -1
            for _ in range(line_ends):
                end = block.index(b"\n", end + 1)
            return start + end + 1
        line_ends -= here
    return high


def _blocks(file: SegmentFile, low: int, high: int) -> Iterator[tuple[int, bytes]]:
    while low < high and (block := file.read_at(low, min(BLOCK_BYTES, high - low))):
        yield low, block
        low += len(block)


def _newest_first(span: Span) -> Iterator[int]:
    return iter(range(span.end.number, span.start.number - 1, -1))


def _size_and_change(path: str, number: int) -> tuple[int, float]:
    file = open_segment(path, number)
    if file is None:
        return 0, 0.0
    with file:
        status: os.stat_result = file.status()
        return status.st_size, status.st_mtime
