"""Lines as they stand in a log with `format: prefix` or `json`, and in one that several replicas share. Pure.

    prefix   2026-07-02T10:11:12.345Z web/3 out | listening on :80
    json     {"time":"2026-07-02T10:11:12.345Z","program":"web","replica":3,"stream":"out","message":"listening on :80"}
    raw      listening on :80

A line may have 64 KiB. A longer one is cut, between two characters if it is UTF-8, and each piece becomes a line of its
own; that a piece is not the end of its line is said by `+` in the place of `|`, and by `"partial":true`. Text stays as
it is, every byte of it; only JSON can hold no other than UTF-8, so there U+FFFD stands for bytes that are none.

What is given twice is cut and framed twice in the same way: a pump that was killed while it wrote relies on that. Lines
are treated by the thousand at once, in C: bytes come faster than Python could look at each.
"""

from __future__ import annotations

import json
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

LINE_BYTES = 64 * 1024
RAW, PREFIX, JSON = "raw", "prefix", "json"
_CONTINUATION = range(0x80, 0xC0)  # bytes inside a character of UTF-8
_LONGEST_CHARACTER = 4
_NO_PLACES: frozenset[int] = frozenset()
_ESCAPES = [  # the backslash first: the others bring some in
    (bytes([code]), json.dumps(chr(code))[1:-1].encode()) for code in (0x5C, 0x22, *range(0x20)) if code != 0x0A
]


class Lines:
    """Some lines, in order, with a line end between each two.

    `unended`: places of those whose line goes on in the next of its stream. `taken`: how many bytes they were; 0: there
    is no line, not even an empty one.
    """

    __slots__ = ("taken", "text", "unended")

    def __init__(self, text: bytes, unended: Set[int], taken: int) -> None:
        self.text = text
        self.unended = unended
        self.taken = taken

    def first(self, count: int) -> Lines:
        """So many of them, at least one, or all when there are no more."""
        texts = self.text.split(b"\n", count)
        if len(texts) <= count:
            return self
        unended = {place for place in self.unended if place < count}
        text = b"\n".join(texts[:count])
        return Lines(text, unended, len(text) + 1 - len(unended))


def cut(data: bytes, *, whole: bool = False) -> Lines:
    """The lines at the beginning of `data`. What has no end yet is left, unless it is longer than a line may be.

    `whole`: take all; it was cut before.
    """
    taken = data.rfind(b"\n") + 1
    if _is_moderate(data, taken) and not (whole and taken < len(data)):
        return Lines(data[: max(taken - 1, 0)], _NO_PLACES, taken)
    pieces: list[bytes] = []
    unended: set[int] = set()
    *texts, rest = data.split(b"\n")
    for text in texts:
        pieces.append(_add_pieces(text, pieces, unended))
    left = _add_pieces(rest, pieces, unended)
    if whole and left:
        unended.add(len(pieces))
        pieces.append(left)
        left = b""
    return Lines(b"\n".join(pieces), unended, len(data) - len(left))


def _is_moderate(data: bytes, taken: int) -> bool:
    """Whether no line in it is longer than a line may be, nor what follows the last one."""
    at = 0
    while taken - at > LINE_BYTES + 1:
        end = data.rfind(b"\n", at, at + LINE_BYTES + 1)
        if end < 0:
            return False
        at = end + 1
    return len(data) - taken <= LINE_BYTES


def _add_pieces(text: bytes, pieces: list[bytes], unended: set[int]) -> bytes:
    """Cut off pieces until what is left is no longer than a line may be."""
    at = 0
    while len(text) - at > LINE_BYTES:
        end = _character_start(text, at + LINE_BYTES)
        unended.add(len(pieces))
        pieces.append(text[at:end])
        at = end
    return text[at:]


def _character_start(text: bytes, at: int) -> int:
    """The place at which a character begins, at most a few bytes before `at`; `at` itself where there is none."""
    for place in range(at, at - _LONGEST_CHARACTER, -1):
        if text[place] not in _CONTINUATION:
            return place
    return at


def framed(lines: Lines, form: str, program: str, replica: int, stream: str, wall_ms: int) -> bytes:
    """The lines as the log has them, one for each."""
    if not lines.taken:
        return b""
    if form == PREFIX:
        label = f"{time_text(wall_ms)} {program}/{replica} {stream} "
        return _each(lines.text, lines.unended, f"{label}| ".encode(), f"{label}+ ".encode(), b"")
    if form == JSON:
        labels = {"time": time_text(wall_ms), "program": program, "replica": replica, "stream": stream}
        label = json.dumps(labels, ensure_ascii=False, separators=(",", ":"))[:-1]
        ended, unended = f'{label},"message":"', f'{label},"partial":true,"message":"'
        return _each(_escaped(lines.text), lines.unended, ended.encode(), unended.encode(), b'"}')
    return lines.text + b"\n"


def _each(text: bytes, places: Set[int], ended: bytes, unended: bytes, tail: bytes) -> bytes:
    """Each line between a head and the tail; at `places` the other head."""
    texts = text.split(b"\n")
    if not places:
        return ended + (tail + b"\n" + ended).join(texts) + tail + b"\n"
    return b"".join((unended if at in places else ended) + line + tail + b"\n" for at, line in enumerate(texts))


def _escaped(text: bytes) -> bytes:
    """As it stands in strings of JSON; line ends are left, for they separate these."""
    try:
        text.decode()
    except UnicodeDecodeError:
        text = text.decode(errors="replace").encode()
    for plain, escape in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escape)
    return text


def time_text(wall_ms: int) -> str:
    """RFC 3339, UTC, with milliseconds."""
    seconds, milliseconds = divmod(wall_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"
