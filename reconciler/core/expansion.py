"""`$(NAME)` in the texts of a spec: read once, bound once per revision, filled in once per ordinal.

    compiled("--port=$(PORT)")   ->  ("--port=", Reference("PORT"))      the text, taken apart
    scope.expand(...)            ->  ("--port=", Ordinal(3000))          what does not depend on the ordinal, put in
    filled(text, ordinal=2, ...) ->  "--port=3002"                       the rest, for one process

A text without a dollar stays the string it is in all three steps. What is put in is never expanded again, so a value
read from a file cannot smuggle a reference in. Unknown names stay as written and are told of: a shell may be waiting
for them. Pure; knows neither specs nor processes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

LONGEST_BYTES = 128 * 1024 - 1
"""Linux refuses to start a process with a longer argument or variable (MAX_ARG_STRLEN, its final NUL left out)."""

QUOTED = 20
"""Characters of something that is no reference, and has no end that we know of, in a warning."""

NUMBER_CHARACTERS = 24
"""Of an ordinal or a count that is still to be filled in: more than any has that is meant."""

KNOWN_CHARACTERS = 256
"""Longer texts are taken apart each time."""

DEEPEST = 32
"""Variables that name variables that name variables: nobody means more than a few."""

_REFERENCE = re.compile(r"\$\$|\$\(([^()$\s]*)\)|\$\(")
_ORDINAL = re.compile(r"REPLICA(?:\+([0-9]{1,9}))?(?::(0?[0-9]{1,2}d))?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class Ordinal(NamedTuple):
    """The ordinal of the replica, `$(REPLICA+3000:05d)`."""

    offset: int = 0
    format: str = ""  # as in Python's format(): 02d

    def of(self, ordinal: int) -> str:
        """The text for this ordinal."""
        return format(ordinal + self.offset, self.format)


class Count(NamedTuple):
    """How many replicas are wanted, `$(REPLICAS)`."""


class Reference(NamedTuple):
    """A variable by its name; without a name: something that looks like a reference and is none."""

    name: str
    written: str  # what stays when nothing is known by that name
    shown: str  # how a warning quotes it


Piece = str | Ordinal | Count | Reference
Text = str | tuple[Piece, ...]
"""A plain string when there is nothing (left) to put in."""


def compiled(text: str) -> Text:
    """Take a text apart at its references; `$$` becomes a dollar here."""
    if "$" not in text:
        return text
    return _known(text) if len(text) <= KNOWN_CHARACTERS else _taken_apart(text)


def _taken_apart(text: str) -> Text:
    pieces: list[Piece] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        pieces += (text[end : match.start()], _piece(match))
        end = match.end()
    pieces.append(text[end:])
    return _joined(pieces)


_known = lru_cache(maxsize=128)(_taken_apart)  # most Programs write what others write: where logs go, process names


def _piece(match: re.Match[str]) -> Piece:
    written, inner = match[0], match[1]
    if written == "$$":
        return "$"
    if inner is None:  # `$(` of a shell, or never closed: what follows may still hold references
        rest = match.string[match.start() :]
        return Reference("", written, rest if len(rest) <= QUOTED else rest[:QUOTED] + "…")
    if inner == "REPLICAS":
        return Count()
    if ordinal := _ORDINAL.fullmatch(inner):
        return Ordinal(int(ordinal[1] or 0), ordinal[2] or "")
    return Reference(inner if _NAME.fullmatch(inner) else "", written, written)


def _joined(pieces: Iterable[Piece]) -> Text:
    """Neighbouring strings become one, empty ones go."""
    merged: list[Piece] = []
    for piece in pieces:
        if piece == "":
            continue
        if isinstance(piece, str) and merged and isinstance(last := merged[-1], str):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    if not merged:
        return ""
    return merged[0] if len(merged) == 1 and isinstance(merged[0], str) else tuple(merged)


def _size(piece: Piece) -> int:
    """How many characters it is, or about so many as it will be."""
    return len(piece) if isinstance(piece, str) else NUMBER_CHARACTERS


def escaped(text: str) -> str:
    """A text that expands to exactly `text`."""
    return text.replace("$", "$$")


def filled(text: Text, ordinal: int, replicas: int) -> str:
    """The final string for one process, of a text that has been bound."""
    if isinstance(text, str):
        return text
    return "".join([_filled_piece(piece, ordinal, replicas) for piece in text])


def _filled_piece(piece: Piece, ordinal: int, replicas: int) -> str:
    if isinstance(piece, Ordinal):
        return piece.of(ordinal)
    if isinstance(piece, Count):
        return str(replicas)
    return piece.written if isinstance(piece, Reference) else piece


def mentions_count(texts: Iterable[str]) -> bool:
    """Whether one of these texts, as written, uses `$(REPLICAS)`."""
    return any("$(REPLICAS)" in text and depends_on_count(compiled(text)) for text in texts)


def depends_on_count(text: Text) -> bool:
    """Whether the count is still to be filled in."""
    return not isinstance(text, str) and any(isinstance(piece, Count) for piece in text)


class Scope:
    """The variables that texts may name: `texts` with references of their own, above `literals` that have none.

    A variable that names itself means the one beneath it: `PATH: /opt/bin:$(PATH)`. The order in which `texts` are
    written does not matter, since YAML maps have none that people rely on.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        literals: Mapping[str, str],
        *,
        secrets: Iterable[str] = (),
        warn: Callable[[str, str], None],
        program: str,
    ) -> None:
        """`program` is what `$(PROGRAM)` means; `warn` is called with a field and a message."""
        self._texts = texts
        self._literals = literals
        self._warn = warn
        self._program = program
        self._known: dict[str, Text] = {}
        self._open: list[str] = []
        self._secrets = frozenset(secrets)  # of the literals
        self._tainted: set[str] = set()  # the texts into which one was put

    def value(self, name: str) -> Text | None:
        """The value of a variable, None when there is none of that name."""
        if name in self._known:
            return self._known[name]
        if name not in self._texts or name in self._open or len(self._open) >= DEEPEST:
            return self._literals.get(name)
        if "$" not in self._texts[name]:
            self._known[name] = self._texts[name]
            return self._texts[name]
        self._open.append(name)
        value, secret = self.expand(f"env.{name}", self._texts[name])
        self._open.pop()
        self._known[name] = value
        if secret:
            self._tainted.add(name)
        return value

    def expand(self, field: str, text: str) -> tuple[Text, bool]:
        """Put in all that is known, and say whether something of it is secret."""
        parts = compiled(text)
        if isinstance(parts, str):
            return parts, False
        pieces: list[Piece] = []
        secret = False
        size = 0
        for part in parts:
            value: Text
            if isinstance(part, Reference):
                value = self._put_in(field, part)
                secret = secret or self._is_secret(part.name)
            else:
                value = part if isinstance(part, str) else (part,)
            size += len(value) if isinstance(value, str) else sum(map(_size, value))
            if size > LONGEST_BYTES:  # also the end of variables that double each other
                self._warn(field, "grows beyond 128 KiB when it is expanded, and stays as written")
                return text, False
            pieces += (value,) if isinstance(value, str) else value
        return _joined(pieces), secret

    def _put_in(self, field: str, part: Reference) -> Text:
        if part.name == "PROGRAM":
            return self._program
        value = self.value(part.name) if part.name else None
        if value is None:
            self._warn(field, f"{part.shown} {self._why_unknown(part)} and stays as written (a dollar is written $$)")
            return part.written
        return value

    def _is_secret(self, name: str) -> bool:
        return name in self._tainted or (name in self._secrets and name not in self._known)

    def _why_unknown(self, part: Reference) -> str:
        if not part.name:
            return "is not a reference"
        if part.name in self._texts:
            return "names this variable in turn"
        return "is not a variable of the process's environment"
