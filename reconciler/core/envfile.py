r"""Reads the files that `envFrom` names: lines `NAME=value`, and nothing that two readers could take differently.

    # a comment
    export APP_ENV=production          # `export` and a comment behind the value are allowed
    PASSWORD='taken $literally'
    GREETING="two\nlines for ${APP_ENV}"

Shells, dotenv libraries and container tools disagree about all the rest (a bare `$HOME`, spaces without quotes, `\t`),
so all the rest is an error with its line. Values are secrets: no error quotes any, nor any line that may be one. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from reconciler.core.expansion import LONGEST_BYTES

MOST_ERRORS = 10
"""After that many a file is something else altogether, and says so."""

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
_NOTHING_MORE = re.compile(r"[ \t]*(?:[ \t]#.*)?", re.DOTALL)
_PLAIN = re.compile(r"""[^\s'"\\$]+""")
_BETWEEN_DOUBLE_QUOTES = re.compile(r'[^"\\$]+')
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\", "$": "$"}


class EnvFile(NamedTuple):
    """What a file says: its variables in their order, or what is wrong with it (then they are not to be used)."""

    variables: dict[str, str]
    errors: tuple[str, ...] = ()  # "line 3: ..."

    def __repr__(self) -> str:
        return f"EnvFile({len(self.variables)} variables, errors={self.errors!r})"


class _Unreadable(Exception):
    """Why a line is none of ours."""


def parsed(content: bytes, before: Mapping[str, str]) -> EnvFile:
    """Read the content of one file; `${NAME}` means what was set further up in it, else `before`."""
    variables: dict[str, str] = {}
    errors: list[str] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            assignment = _assignment(_text(line), variables, before)
        except _Unreadable as error:
            errors.append(f"line {number}: {error}")
            if len(errors) == MOST_ERRORS:
                errors.append("and so on; no further errors are listed")
                break
        else:
            if assignment:
                variables[assignment[0]] = assignment[1]
    return EnvFile(variables, tuple(errors))


def _text(line: bytes) -> str:
    if b"\0" in line:
        raise _Unreadable("a NUL byte")
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise _Unreadable("not UTF-8") from None


def _assignment(line: str, variables: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and value, or None for a line that says nothing."""
    if not (stripped := line.strip(" \t")) or stripped[0] == "#":
        return None
    start = _ASSIGNMENT.match(line)
    if start is None:
        raise _Unreadable("expected NAME=value (a name is letters, digits and _, without spaces around the =)")
    name = start[1]
    value, end = _value(line, start.end(), variables, before)
    if not _NOTHING_MORE.fullmatch(line, end):
        raise _Unreadable(_why_not_over(name, line, end, quoted=end > start.end() and line[start.end()] in "'\""))
    if len(name) + 1 + len(value.encode()) > LONGEST_BYTES:
        raise _Unreadable(f"{name} is longer than the 128 KiB that Linux allows a variable")
    return name, value


def _value(line: str, at: int, variables: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, int]:
    """The value that begins here, and where it ends."""
    match line[at : at + 1]:
        case "'":
            end = line.find("'", at + 1)
            if end < 0:
                raise _Unreadable("the single quote is not closed on this line")
            return line[at + 1 : end], end + 1
        case '"':
            return _double_quoted(line, at + 1, variables, before)
    parts = []
    while True:
        if plain := _PLAIN.match(line, at):
            parts.append(plain[0])
            at = plain.end()
        elif line[at : at + 1] == "$":
            value, at = _reference(line, at, variables, before)
            parts.append(value)
        else:
            return "".join(parts), at


def _double_quoted(line: str, at: int, variables: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, int]:
    parts = []
    while at < len(line):
        if plain := _BETWEEN_DOUBLE_QUOTES.match(line, at):
            parts.append(plain[0])
            at = plain.end()
        elif line[at] == '"':
            return "".join(parts), at + 1
        elif line[at] == "$":
            value, at = _reference(line, at, variables, before)
            parts.append(value)
        elif (escape := line[at + 1 : at + 2]) in _ESCAPES:
            parts.append(_ESCAPES[escape])
            at += 2
        else:
            raise _Unreadable(r'in double quotes a backslash stands before n, ", \ or $ only (or use single quotes)')
    raise _Unreadable(r"the double quote is not closed on this line (a line break is written \n)")


def _reference(line: str, at: int, variables: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, int]:
    reference = _REFERENCE.match(line, at)
    if reference is None:
        raise _Unreadable(r"a dollar begins ${NAME}; for the sign itself use single quotes, or \$ in double quotes")
    name = reference[1]
    value = variables.get(name, before.get(name))
    if value is None:
        raise _Unreadable(f"${{{name}}} is not set before this line")
    return value, reference.end()


def _why_not_over(name: str, line: str, end: int, *, quoted: bool) -> str:
    if quoted:
        return f"something follows the closing quote of {name}"
    if line[end] in "'\"":
        return f"a quote within the value of {name} (put quotes around the whole of it)"
    if line[end] == "\\":
        return f"a backslash in the value of {name} (put single quotes around it)"
    return f"a space in the value of {name} (put quotes around it)"


def content_of(variables: Mapping[str, str]) -> Iterator[bytes]:
    """What a digest of a file is made of: the variables it sets, so that a comment changes nothing."""
    for name in sorted(variables):
        yield f"{name}={variables[name]}\0".encode()
