r"""Reads a `.env` as Laravel does (phpdotenv 5), so that one file means one thing to both.

Not the files of `envFrom` (core/envfile.py), which are stricter: here a value may span lines in double quotes, a
`${NAME}` that nobody set stays as it is, and what the process's environment already has wins over the file. A file that
Laravel itself refuses is refused, and so is one half of which it would silently drop. No error quotes a value.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_SPACE = " \t\n\r\v\f"
_TRIMMED = " \t\n\r\v\0"
_LINE_END = re.compile(r"\r\n|\n|\r")
_NAME = re.compile(r"[A-Za-z0-9_.]+")
_EXPORT = re.compile(rf"export[{_SPACE}](?=..)", re.DOTALL)
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_.]+)\}")
_UNESCAPED_QUOTE = re.compile(r'(?<=[^\\])"')
_ESCAPES = {'"': '"', "\\": "\\", "$": "$", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Invalid(Exception):
    """Why the file cannot be read, with its line. Holds no value."""


class _Value(NamedTuple):
    text: str
    references: tuple[int, ...]  # where a dollar stands that may begin ${NAME}


def variables(content: bytes, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that the application sees: the process's own, and below it what the file sets. Raises Invalid."""
    if b"\0" in content:
        raise Invalid("it holds a NUL byte, so it is no text")
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").replace("\ufffd", "?")
    loaded: dict[str, str] = {}
    for number, entry in _entries(text):
        try:
            name, value = _assignment(entry)
        except Invalid as error:
            raise Invalid(f"line {number}: {error}") from None
        if value is None:
            loaded.pop(name, None)
        else:
            loaded[name] = _resolved(value, {**loaded, **environment})
    return {**loaded, **environment}


def _entries(text: str) -> Iterator[tuple[int, str]]:
    """Assignments with the number of their first line. One in double quotes may go on over several lines."""
    begun: list[str] = []
    first = 0
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if begun or ('="' in line and not _closes(line, opened_here=True)):
            first = first if begun else number
            opened_here = not begun or ('="' in line and not _closes(line, opened_here=True))
            begun.append(line)
            if not _closes(line, opened_here=opened_here):
                continue
            whole, begun = "\n".join(begun), []
        else:
            whole, first = line, number
        if (stripped := whole.strip(_TRIMMED)) and stripped[0] != "#":
            yield first, whole
    if begun:
        raise Invalid(f"line {first}: a double quote is never closed (Laravel would drop this line and all below it)")


def _closes(line: str, *, opened_here: bool) -> bool:
    """Whether a value in double quotes ends on this line."""
    quotes = len(_UNESCAPED_QUOTE.findall(line.replace("\\\\", "")))
    return line == '"' or quotes > int(opened_here)


def _assignment(entry: str) -> tuple[str, _Value | None]:
    """Name and value; a name alone, without spaces around it, unsets it."""
    name, equals, value = entry.partition("=")
    name = name.strip(_TRIMMED) if equals else name
    if not name:
        raise Invalid("no name before the =")
    if export := _EXPORT.match(name):
        name = name[export.end() :].lstrip(_TRIMMED)
    if len(name) > 2 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1]
    if not _NAME.fullmatch(name):
        raise Invalid("expected NAME=value (a name is letters, digits, _ and .)")
    return name, _value(value.strip(_TRIMMED)) if equals else None


def _value(text: str) -> _Value:
    match text[:1]:
        case "'":
            end = text.find("'", 1)
            if end < 0:
                raise Invalid("the single quote is not closed")
            _nothing_more(text[end + 1 :])
            return _Value(text[1:end], ())
        case '"':
            return _double_quoted(text)
    end = next((at for at, char in enumerate(text) if char == "#" or char in _SPACE), len(text))
    _nothing_more(text[end:])
    return _Value(text[:end], tuple(at for at in range(end) if text[at] == "$"))


def _double_quoted(text: str) -> _Value:
    chars: list[str] = []
    references = []
    at = 1
    while at < len(text) and text[at] != '"':
        char = text[at]
        if char == "\\":
            at += 1
            if text[at : at + 1] not in _ESCAPES:
                raise Invalid(r'in double quotes a backslash stands before " \ $ f n r t v only')
            chars.append(_ESCAPES[text[at]])
        else:
            if char == "$":
                references.append(len(chars))
            chars.append(char)
        at += 1
    if at >= len(text):
        raise Invalid("the double quote is not closed")
    _nothing_more(text[at + 1 :])
    return _Value("".join(chars), tuple(references))


def _nothing_more(rest: str) -> None:
    """Behind a value only a comment may follow."""
    if (stripped := rest.lstrip(_SPACE)) and stripped[0] != "#":
        raise Invalid("a space within a value (put double quotes around it), or something behind its closing quote")


def _resolved(value: _Value, known: Mapping[str, str]) -> str:
    """With each ${NAME} that is known replaced, the last one first; what is put in is not looked at again."""
    text = value.text
    for at in reversed(value.references):
        if found := _REFERENCE.match(text, at):
            text = text[:at] + known.get(found[1], found[0]) + text[found.end() :]
    return text
