"""Label selectors, with the grammar and the meaning that kubectl gives them.

    app=shop   app==shop   app!=shop   tier in (web, api)   tier notin (web)   app   !app

A comma means "and". As in Kubernetes `!=` and `notin` also match an object that does not have the label at all.
Anything that cannot be meant is an error that points at the place; an empty selector matches everything.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_WORD = re.compile(r"[A-Za-z0-9._/-]+")
_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z0-9._/-]+)|(?P<mark>==|!=|[=!(),])|(?P<other>\S))")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class SelectorError(ValueError):
    """A selector that cannot be read; the text says where and what was expected."""


class Requirement(NamedTuple):
    """One term: with `negated` false the label must be there and have one of `values` (None: any value)."""

    key: str
    values: frozenset[str] | None
    negated: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels satisfies the term."""
        has = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return has != self.negated


class Selector(NamedTuple):
    """All terms of a selector; every one must match."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERYTHING = Selector()


def parse_selector(text: str) -> Selector:
    """The selector that `text` spells. Raises SelectorError."""
    if not text.strip():
        return EVERYTHING
    reader = _Reader(text)
    requirements = [_requirement(reader)]
    while reader.take(","):
        requirements.append(_requirement(reader))
    reader.expect_end()
    return Selector(tuple(requirements))


def _requirement(reader: "_Reader") -> Requirement:
    if reader.take("!"):
        return Requirement(_key(reader), None, negated=True)
    key = _key(reader)
    if reader.take("=") or reader.take("=="):
        return Requirement(key, frozenset({_value(reader)}))
    if reader.take("!="):
        return Requirement(key, frozenset({_value(reader)}), negated=True)
    if reader.take("in"):
        return Requirement(key, _values(reader))
    if reader.take("notin"):
        return Requirement(key, _values(reader), negated=True)
    return Requirement(key, None)


def _key(reader: "_Reader") -> str:
    column, word = reader.word("a label")
    prefix, slash, name = word.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise reader.error(column, f"{word!r} is no label name")
    return word


def _value(reader: "_Reader") -> str:
    """A value; `app=` asks for the empty one."""
    if not reader.at_word():
        return ""
    column, word = reader.word("a value")
    if not _NAME.fullmatch(word):
        raise reader.error(column, f"{word!r} is no label value")
    return word


def _values(reader: "_Reader") -> frozenset[str]:
    reader.expect("(")
    values = {_value(reader)}
    while reader.take(","):
        values.add(_value(reader))
    reader.expect(")")
    return frozenset(values)


class _Reader:
    """The tokens of a selector, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [(m.start(m.lastgroup or 0) + 1, m[m.lastgroup or 0]) for m in _TOKEN.finditer(text)]
        self._next = 0

    def take(self, token: str) -> bool:
        """Step over `token` if it comes next."""
        if self._next < len(self._tokens) and self._tokens[self._next][1] == token:
            self._next += 1
            return True
        return False

    def expect(self, token: str) -> None:
        """Step over `token`, which has to come next."""
        if not self.take(token):
            raise self._unexpected(f"{token!r}")

    def expect_end(self) -> None:
        """Nothing may come next."""
        if self._next < len(self._tokens):
            raise self._unexpected("',' or the end")

    def at_word(self) -> bool:
        """Whether a name or a value comes next."""
        return self._next < len(self._tokens) and _WORD.fullmatch(self._tokens[self._next][1]) is not None

    def word(self, what: str) -> tuple[int, str]:
        """The name or value that has to come next, and its column."""
        if not self.at_word():
            raise self._unexpected(what)
        self._next += 1
        return self._tokens[self._next - 1]

    def error(self, column: int, message: str) -> SelectorError:
        """What is wrong, with its place."""
        return SelectorError(f"label selector {self._text!r}, column {column}: {message}")

    def _unexpected(self, wanted: str) -> SelectorError:
        if self._next == len(self._tokens):
            return self.error(len(self._text) + 1, f"{wanted} expected at the end")
        column, token = self._tokens[self._next]
        return self.error(column, f"{wanted} expected, not {token!r}")
