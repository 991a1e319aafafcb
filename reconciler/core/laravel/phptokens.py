"""Takes the text of a PHP file apart into tokens, each with its line. Knows no grammar."""

import re
from typing import NamedTuple


class Token(NamedTuple):
    """One token. Kinds: string, name, variable, number, cast, heredoc, sign, end."""

    kind: str
    text: str
    line: int


class NotPhp(Exception):
    """This is no PHP file, or one that is too strange to read. The text says where."""


_LETTER = r"[A-Za-z_\x80-\U0010ffff]"
_WORD = rf"{_LETTER}[0-9A-Za-z_\x80-\U0010ffff]*"
_KINDS = (
    ("space", r"\s+|//[^\n]*|\#(?!\[)[^\n]*|/\*.*?\*/"),
    ("heredoc", rf"<<<[ \t]*(?P<quote>['\"]?)(?P<mark>{_WORD})(?P=quote)\r?\n(?:.*?\n)??[ \t]*(?P=mark)\b"),
    ("string", r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""),
    ("variable", rf"\${_WORD}"),
    ("number", r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?"),
    ("name", rf"\\?{_WORD}(?:\\{_WORD})*"),
    ("cast", r"\((?i:[ \t]*(?:int|integer|string|bool|boolean|float|double|array|object)[ \t]*)\)"),
    ("sign", r"\?>|[!=]==|<=>|\?\?=|\.\.\.|=>|\??->|::|\?\?|==|!=|<=|>=|&&|\|\||\*\*|[-+*/%.,;:=<>!?@&|^~()[\]{}$#\\]"),
)  # fmt: skip
_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS), re.DOTALL)
_OPENING = re.compile(r"\s*<\?php\b", re.IGNORECASE)


def tokens(content: bytes) -> list[Token]:
    """All tokens behind `<?php`, and one of kind `end`. Raises NotPhp."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    if (opening := _OPENING.match(text)) is None:
        raise NotPhp("does not begin with <?php")
    found = []
    at, line = opening.end(), 1 + text.count("\n", 0, opening.end())
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotPhp(f"line {line}: what begins with {text[at]!r} is not PHP, or never ends")
        kind = match.lastgroup or ""
        if match[0] == "?>":
            found.append(Token("sign", ";", line))
            break
        if kind != "space":
            found.append(Token(kind, match[0], line))
        line += match[0].count("\n")
        at = match.end()
    return [*found, Token("end", "", line)]
