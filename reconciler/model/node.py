"""What a manifest looks like before anyone knows what it means: text with its place in the file.

The reader of files (adapters/documents/) makes these trees, decode.py gives them meaning. Nothing is interpreted
here: `4`, `no` and `1e3` are still the characters that were typed. Aliases share nodes, so a tree may be a graph
without cycles; its expanded size and depth are bounded by whoever built it.
"""

from collections.abc import Mapping as AbstractMapping
from typing import NamedTuple

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Scalar(NamedTuple):
    """A single value, exactly as typed. `plain`: without quotes, so it may also mean a number, a boolean or null."""

    text: str
    plain: bool
    line: int  # from 1
    column: int  # from 1

    @property
    def is_null(self) -> bool:
        """Whether YAML reads this as "nothing"."""
        return self.plain and self.text in NULLS


class Sequence(NamedTuple):
    """A list."""

    items: "tuple[Node, ...]"
    line: int
    column: int


class Entry(NamedTuple):
    """One line of a map: the key keeps its own place, for what is wrong with the key itself."""

    key: Scalar
    value: "Node"


class Mapping(NamedTuple):
    """A map from text to nodes, in the order written."""

    entries: AbstractMapping[str, Entry]
    line: int
    column: int

    def get(self, key: str) -> "Node | None":
        """The value at this key, or None when it was not written."""
        entry = self.entries.get(key)
        return None if entry is None else entry.value


Node = Scalar | Sequence | Mapping


class Document(NamedTuple):
    """One document of an input, or one item of a `kind: List`."""

    root: Node
    path: str = ""  # where an item stands inside its List, `items[3]`; empty for a document of its own
    broken: bool = False  # something in it is ambiguous (a key twice, a strange tag): judge it, but do not use it


def kind_of(node: Node) -> str:
    """How a person calls this node."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a map"
    if node.is_null:
        return "null"
    return shown(node.text)


def shown(text: str, limit: int = 60) -> str:
    """Text from a file, quoted and safe to print on a terminal."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return f'"{"".join(letter if letter.isprintable() else _escape(letter) for letter in cut)}"'


def _escape(letter: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(letter, f"\\u{ord(letter):04x}")
