"""Reads back what processes printed: over all segments of a log, out of its frames, and as counted lines."""

import gzip
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from support.daemon import Entry, eventually

PREFIX = re.compile(rb"(\S+Z) (\S+)/(\d+) (out|err) ([|+]) (.*)")
SEGMENT = re.compile(r"\.\d{6}(\.gz)?")


def content(log: Path) -> bytes:
    """All segments, oldest first, and nothing of what is rotated or compressed meanwhile is missed or read twice.

    Of a log that is never at rest, what was seen last.
    """
    for _ in range(50):
        before = segments(log)
        whole = b"".join(map(read_segment, before))
        if segments(log) == before:
            break
    return whole


def segments(log: Path) -> dict[Path, int]:
    """The files of a log with their inodes, oldest first; one that is just being compressed is told once."""
    closed = [path for path in log.parent.glob(f"{log.name}.*") if SEGMENT.fullmatch(path.name[len(log.name) :])]
    found: dict[Path, int] = {}
    for path in [*sorted(closed), log]:
        # Compressed, the plain one is removed last: until then both are whole.
        if path.suffix != ".gz" or path.with_suffix("") not in found:
            with suppress(FileNotFoundError):  # not begun, or gone while we looked
                found[path] = path.stat().st_ino
    return found


def read_segment(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # compressed or renamed while we looked
        return b""
    return gzip.decompress(data) if path.suffix == ".gz" else data


def texts(log: bytes, replica: int | None = None, stream: str | None = None) -> bytes:
    """What was printed, of a framed log: every line must have a frame."""
    found = b""
    for line in log.removesuffix(b"\n").split(b"\n") if log else []:
        if line.startswith(b"{"):
            parts = json.loads(line)
            whose, where, text = parts["replica"], parts["stream"], parts["message"].encode()
            is_end = not parts.get("partial")
        else:
            match = PREFIX.fullmatch(line)
            assert match, line
            whose, where, text, is_end = int(match[3]), match[4].decode(), match[6], match[5] == b"|"
        if replica in (None, whose) and stream in (None, where):
            found += text + (b"\n" if is_end else b"")
    return found


def counted(log: bytes, pid: int) -> list[int]:
    """The numbers that this process of mode `count` printed, framed or not."""
    return [int(number) for number in re.findall(rb"\b%d (\d+) \.{60}" % pid, log)]


def assert_counted(entry: Entry, read: Callable[[], bytes]) -> None:
    """All that this process printed is there, each line once, in order; if not yet, then soon."""
    expected = list(range(1, int(entry.more) + 1))
    eventually(lambda: len(counted(read(), entry.pid)) >= len(expected), "all is moved")
    assert counted(read(), entry.pid) == expected
