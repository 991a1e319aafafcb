"""Files and YAML text to document trees: bounded before it is parsed, bounded while it is parsed, never constructed.

Works on the parser's events rather than on its node graph: limits hold before anything is built, nothing recurses, and
it is the quicker way. JSON is read as the YAML that it nearly is. What the trees mean is decided in model/decode.py.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from typing import Any

import yaml

from reconciler.model.node import Document, Entry, Mapping, Node, Scalar, Sequence, kind_of, shown
from reconciler.model.problems import Problem

MOST_BYTES = 1 << 20
MOST_LEVELS = 64
MOST_ALIASES = 1_000
MOST_VALUES = 100_000
MOST_PROBLEMS = 100

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster; both give the same events

_BOM = b"\xef\xbb\xbf"
_TAG_PREFIX = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG_PREFIX + name for name in ("int", "float", "bool", "null"))
_TEXT_TAGS = frozenset({"!", _TAG_PREFIX + "str"})
_CONTAINER_TAGS = {Sequence: frozenset({"!", _TAG_PREFIX + "seq"}), Mapping: frozenset({"!", _TAG_PREFIX + "map"})}
_MERGE = "<<"

_ESCAPED_PAIR = re.compile(r"(\\[^u])|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "cannot be read: permission denied",
    errno.EPERM: "cannot be read: permission denied",
    errno.ELOOP: "is a symbolic link that leads in a circle",
    errno.ENXIO: "is a socket, not a regular file",
    errno.ENODEV: "is a device without a driver, not a regular file",
    errno.ENOTDIR: "lies below something that is not a directory",
    errno.EISDIR: "is a directory, not a regular file",
    errno.ENAMETOOLONG: "has a name that is too long",
}
_FILE_TYPES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


# ---- files ----------------------------------------------------------------------------------------------------------


def read_manifest_file(path: str) -> bytes | Problem:
    """The bytes of a manifest, if it is a regular file of a sane size in UTF-8. Never waits for another process."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return _whole(path, _reason(error))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            what = _FILE_TYPES.get(stat.S_IFMT(status.st_mode), "something else")
            return _whole(path, f"is {what}, not a regular file")
        if status.st_size > MOST_BYTES:
            return _whole(path, _too_large(status.st_size))
        data = _read_at_most(fd, MOST_BYTES + 1)
    except OSError as error:
        return _whole(path, _reason(error))
    finally:
        os.close(fd)
    return _text_problem(data, path) or data


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return _REASONS.get(error.errno, f"cannot be read: {error.strerror}")
    return f"cannot be read: {error}"


def _read_at_most(fd: int, limit: int) -> bytes:
    """To the end of the file, or to `limit`: it may grow meanwhile, and files of /proc do not tell their size."""
    data = os.read(fd, limit)
    while data and len(data) < limit and (more := os.read(fd, limit - len(data))):
        data += more
    return data


def _too_large(size: int) -> str:
    return f"is too large for a manifest: {size} bytes, {MOST_BYTES} (1 MiB) at most"


def _whole(file: str, message: str) -> Problem:
    return Problem(file, 0, 1, "", message)


def _text_problem(data: bytes, file: str) -> Problem | None:
    """What keeps these bytes from being text of a sane length."""
    if len(data) > MOST_BYTES:
        return _whole(file, _too_large(len(data)))
    try:
        data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        message = f"is not UTF-8: byte {error.start} (0x{data[error.start]:02x}) does not belong there"
        return Problem(file, line, column, "", message)
    return None


# ---- documents ------------------------------------------------------------------------------------------------------


def read_documents(data: bytes, file: str) -> tuple[list[Document], list[Problem]]:
    """All documents of a YAML or JSON text, those before a syntax error too, and what is wrong with it."""
    if problem := _text_problem(data, file):
        return [], [problem]
    text = data.removeprefix(_BOM)
    builder = _Builder(file)
    try:
        builder.build(_Loader(_with_pairs_joined(text)).get_event)
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text, file))
    except _Refused as refused:
        builder.problems.append(refused.problem)
    documents: list[Document] = []
    for root in builder.roots:
        _unroll(root, file, documents, builder.problems)
    return documents, builder.problems


def _unroll(document: Document, file: str, documents: list[Document], problems: list[Problem]) -> None:
    """A `kind: List` is its items; a document without content is nothing."""
    root, path, broken = document
    if isinstance(root, Scalar) and root.is_null and not path:
        return
    kind = root.get("kind") if isinstance(root, Mapping) else None
    if not isinstance(root, Mapping) or not isinstance(kind, Scalar) or kind.text != "List":
        documents.append(document)
        return
    items = root.get("items")
    prefix = f"{path}.items" if path else "items"
    if isinstance(items, Sequence):
        for index, item in enumerate(items.items):
            _unroll(Document(item, f"{prefix}[{index}]", broken), file, documents, problems)
    else:
        message = f"must be a list, not {kind_of(items)}" if items else "is required in a List"
        place = items or root
        problems.append(Problem(file, place.line, place.column, prefix, message))


def _with_pairs_joined(text: bytes) -> bytes:
    r"""JSON writes what lies beyond 16 bits as two escapes (\ud83d\ude00), which YAML does not know."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def joined(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        return chr(0x10000 + ((int(match[2], 16) & 0x3FF) << 10) + (int(match[3], 16) & 0x3FF))

    return _ESCAPED_PAIR.sub(joined, text.decode()).encode()


def _syntax_problem(error: yaml.YAMLError, text: bytes, file: str) -> Problem:
    """One line for a person, at the place where the parser gave up."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        character = error.character if isinstance(error.character, int) else ord(error.character)
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        return Problem(file, line, column, "", f"is not valid YAML: character U+{character:04X} is not allowed")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _whole(file, f"is not valid YAML: {' '.join(str(error).split())}")
    mark = error.problem_mark
    lines = text.split(b"\n")
    rest = lines[mark.line].decode()[mark.column :] if mark.line < len(lines) else ""
    problem = error.problem or "syntax error"
    if "cannot start any token" in problem and rest:
        what = "a tab cannot indent, write spaces" if rest[0] == "\t" else f"{shown(rest[0])} cannot begin a value"
        hint = "" if rest[0] == "\t" else "put the value in quotes"
        return Problem(file, mark.line + 1, mark.column + 1, "", f"is not valid YAML: {what}", hint)
    context = f" {error.context}" if error.context else ""
    return Problem(file, mark.line + 1, mark.column + 1, "", f"is not valid YAML: {problem}{context}")


class _Refused(Exception):
    """The text as a whole is not worth reading on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Open:
    """A list or map that is being read."""

    __slots__ = ("anchor", "column", "count_before", "is_map", "line", "nodes", "tallest")

    def __init__(self, event: Any, is_map: bool, count_before: int) -> None:
        self.is_map = is_map
        self.nodes: list[Node] = []  # of a map: key, value, key, value
        self.line = event.start_mark.line + 1
        self.column = event.start_mark.column + 1
        self.anchor = event.anchor
        self.count_before = count_before
        self.tallest = 0  # levels below


class _Anchored:
    """What an alias stands for, and what it costs."""

    __slots__ = ("height", "node", "values")

    def __init__(self, node: Node, values: int, height: int) -> None:
        self.node = node
        self.values = values
        self.height = height


class _Builder:
    """Turns events into trees with an explicit stack, counting what the trees would be with all aliases expanded."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.roots: list[Document] = []
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Anchored] = {}
        self.values = 0
        self.aliases = 0
        self.broken = False  # the current document

    def build(self, next_event: Callable[[], Any]) -> None:
        """Read to the end. Raises _Refused or yaml.YAMLError."""
        while (event := next_event()) is not None:
            kind = event.__class__
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, kind is yaml.MappingStartEvent)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                self.anchors.clear()
                self.broken = False

    def _refuse(self, event: Any, message: str) -> _Refused:
        mark = event.start_mark
        return _Refused(Problem(self.file, mark.line + 1, mark.column + 1, "", message))

    def _tell(self, line: int, column: int, message: str) -> None:
        self.broken = True
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(self.file, line, column, "", message))

    def _count(self, event: Any, values: int) -> None:
        self.values += values
        if self.values > MOST_VALUES:
            raise self._refuse(event, f"has more than {MOST_VALUES} values, counting what its aliases stand for")

    def _scalar(self, event: Any) -> None:
        self._count(event, 1)
        mark, plain = event.start_mark, not event.style
        if event.tag is not None and event.tag not in _SCALAR_TAGS:
            plain = False
            if event.tag not in _TEXT_TAGS:
                self._strange_tag(event)
        node = Scalar(event.value, plain, mark.line + 1, mark.column + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(node, 1, 0)
        self._put(node)

    def _open(self, event: Any, is_map: bool) -> None:
        self._count(event, 1)
        if len(self.stack) >= MOST_LEVELS:
            raise self._refuse(event, f"is nested deeper than {MOST_LEVELS} levels")
        if event.tag is not None and event.tag not in _CONTAINER_TAGS[Mapping if is_map else Sequence]:
            self._strange_tag(event)
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)  # until it is closed, an alias to it would be a circle
        self.stack.append(_Open(event, is_map, self.values - 1))

    def _close(self) -> None:
        done = self.stack.pop()
        height = done.tallest + 1
        if self.stack:
            self.stack[-1].tallest = max(self.stack[-1].tallest, height)
        node: Node = self._map(done) if done.is_map else Sequence(tuple(done.nodes), done.line, done.column)
        if done.anchor is not None:
            self.anchors[done.anchor] = _Anchored(node, self.values - done.count_before, height)
        self._put(node)

    def _alias(self, event: Any) -> None:
        self.aliases += 1
        if self.aliases > MOST_ALIASES:
            raise self._refuse(event, f"has more than {MOST_ALIASES} aliases")
        if any(level.anchor == event.anchor for level in self.stack):
            raise self._refuse(event, f"alias {shown(event.anchor)} contains itself")
        found = self.anchors.get(event.anchor)
        if found is None:
            raise self._refuse(event, f"alias {shown(event.anchor)} stands for nothing that came before")
        self._count(event, found.values)
        if len(self.stack) + found.height > MOST_LEVELS:
            raise self._refuse(event, f"is nested deeper than {MOST_LEVELS} levels, following its aliases")
        if self.stack:
            self.stack[-1].tallest = max(self.stack[-1].tallest, found.height)
        self._put(found.node)

    def _put(self, node: Node) -> None:
        if self.stack:
            self.stack[-1].nodes.append(node)
        else:
            self.roots.append(Document(node, broken=self.broken))

    def _strange_tag(self, event: Any) -> None:
        mark = event.start_mark
        tag = event.tag.replace(_TAG_PREFIX, "!!")
        self._tell(mark.line + 1, mark.column + 1, f"YAML tag {shown(tag)} is not allowed in a manifest")

    def _map(self, done: _Open) -> Mapping:
        entries: dict[str, Entry] = {}
        merges: list[tuple[Scalar, Node]] = []
        nodes = iter(done.nodes)
        for key, value in zip(nodes, nodes, strict=True):
            if not isinstance(key, Scalar):
                self._tell(key.line, key.column, f"a key must be text, not {kind_of(key)}")
            elif key.plain and key.text == _MERGE:
                merges.append((key, value))
            elif key.text in entries:
                first = entries[key.text].key.line
                self._tell(key.line, key.column, f"key {shown(key.text)} stands here already, in line {first}")
            else:
                entries[key.text] = Entry(key, value)
        for key, value in merges:
            self._merge(key, value, entries)
        return Mapping(entries, done.line, done.column)

    def _merge(self, key: Scalar, value: Node, entries: dict[str, Entry]) -> None:
        """`<<`: what stands here wins, then the first of several."""
        sources = value.items if isinstance(value, Sequence) else (value,)
        for source in sources:
            if isinstance(source, Mapping):
                for name, entry in source.entries.items():
                    entries.setdefault(name, entry)
            else:
                self._tell(key.line, key.column, f"<< takes a map or a list of maps, not {kind_of(source)}")
