"""Reads what a PHP file returns, as far as that can be told without PHP: configuration of Laravel, written or cached.

    return ['default' => env('QUEUE_CONNECTION', 'sync'), 'connections' => [...]];

Literals, arrays, the usual operators, `env()`, folders and some functions (phpvalues.py) are read; a value made of
anything else is Unknown, with its line, and nothing else in the file suffers from that.
"""

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from reconciler.core.laravel.phptokens import NotPhp, Token, tokens
from reconciler.core.laravel.phpvalues import (
    FOLDERS,
    FUNCTIONS,
    NUMBERS,
    Constant,
    Elements,
    Refused,
    Unknown,
    Value,
    integer_of,
    is_true,
    key_of,
    listed,
    read_env,
    text_of,
)

DEEPEST = 24  # arrays in arrays; configuration has five
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CONSTANTS: dict[str, Value] = {"null": None, "true": True, "false": False}
_STATEMENTS = frozenset({"use", "declare", "namespace"})


class _Strange(Exception):
    """An expression of a kind that is not read here."""


def returned(content: bytes, root: str, environment: Mapping[str, str]) -> Value:
    """What the file returns; `root` is the application's folder, `environment` what env() reads. Raises NotPhp."""
    return _Reader(tokens(content), root, environment).file()


class _Reader:
    def __init__(self, of: list[Token], root: str, environment: Mapping[str, str]) -> None:
        self._tokens = of
        self._at = 0
        self._depth = 0
        self._root = root
        self._environment = environment
        self._variables: dict[str, Value] = {}

    # ---- statements ----

    def file(self) -> Value:
        while (token := self._next()).kind != "end":
            if token.text.lower() == "return":
                return self._guarded((";",))
            if token.kind == "variable" and self._take("="):
                self._variables[token.text] = self._guarded((";",))
            elif token.text.lower() not in _STATEMENTS:
                raise NotPhp(f"line {token.line}: begins with something else than return: {token.text[:40]!r}")
            self._skip((";",))
            self._take(";")
        raise NotPhp("returns nothing")

    # ---- expressions that may be strange ----

    def _guarded(self, ends: tuple[str, ...]) -> Value:
        """An expression up to one of these signs, which comes next; Unknown when it is of a kind not read here."""
        start = self._at
        depth = self._depth
        try:
            self._depth += 1
            if depth > DEEPEST:
                raise _Strange("deeper than is read here")
            value = self._ternary()
            if self._peek().text not in ends:
                self._strange(self._peek())
        except _Strange as strange:
            line = self._tokens[start].line
            value = Unknown(f"{strange} in line {line}")
            self._at = start
            self._skip(ends)
        finally:
            self._depth = depth
        return value

    def _skip(self, ends: tuple[str, ...]) -> None:
        """Go to the next of these signs outside of brackets. Raises NotPhp when there is none."""
        open_brackets: list[str] = []
        while (token := self._peek()).kind != "end":
            sign = token.text if token.kind == "sign" else ""
            if not open_brackets and sign in ends:
                return
            if sign in _CLOSING:
                open_brackets.append(_CLOSING[sign])
            elif sign in _CLOSING.values() and (not open_brackets or open_brackets.pop() != sign):
                raise NotPhp(f"line {token.line}: {sign} closes nothing")
            self._at += 1
        if ";" not in ends or open_brackets:
            raise NotPhp(f"line {token.line}: ends where {' or '.join(open_brackets[-1:] or ends)} is expected")

    # ---- operators, the weakest first ----

    def _ternary(self) -> Value:
        condition = self._coalesced()
        while self._take("?"):
            if self._take(":"):
                other = self._coalesced()
                condition = condition if isinstance(condition, Unknown) or is_true(condition) else other
                continue
            first = self._guarded((":",))
            self._take(":")
            other = self._coalesced()
            if not isinstance(condition, Unknown):
                condition = first if is_true(condition) else other
            elif isinstance(first, int | str) and _is_same(first, other):
                condition = first
        return condition

    def _coalesced(self) -> Value:
        value = self._binary(0)
        while self._take("??"):
            other = self._binary(0)
            value = other if value is None else value
        return value

    def _binary(self, level: int) -> Value:
        if level == len(_LEVELS):
            return self._unary()
        value = self._binary(level + 1)
        while (operator := _LEVELS[level].get(self._sign())) is not None:
            self._at += 1
            value = _applied(operator, value, self._binary(level + 1))
        return value

    def _unary(self) -> Value:
        operators: list[Callable[..., Value]] = []
        while (token := self._peek()).kind == "cast" or self._sign() in _PREFIXES:
            cast = token.text[1:-1].strip().lower()
            operators.append(_PREFIXES[token.text] if token.kind == "sign" else _CASTS.get(cast, _refuse))
            self._at += 1
        value = self._indexed(self._primary())
        for operator in reversed(operators):
            value = _applied(operator, value)
        return value

    def _indexed(self, value: Value) -> Value:
        while self._take("["):
            index = self._guarded(("]",))
            self._take("]")
            value = _applied(_element, value, index)
        if self._sign() in {"->", "?->", "::", "(", "="}:
            self._strange(self._peek())
        return value

    # ---- what stands between operators ----

    def _primary(self) -> Value:
        token = self._next()
        match token.kind:
            case "string":
                return _string(token)
            case "number":
                return _number(token)
            case "variable":
                return self._variables.get(token.text, Unknown(f"{token.text} in line {token.line}"))
            case "name":
                return self._named(token)
        if token.text == "[":
            return self._array("]")
        if token.text != "(":
            self._strange(token)
        value = self._guarded((")",))
        self._take(")")
        return value

    def _named(self, token: Token) -> Value:
        name = token.text.lower()
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        last = name.rpartition("\\")[2]
        if name == "array" and self._take("("):
            return self._array(")")
        if self._take("::"):
            member = self._next().text
            if self._sign() != "(":
                number = NUMBERS.get(f"{last}::{member.lower()}")
                return number if number is not None else Constant(f"{token.text}::{member} in line {token.line}")
            last = f"{last}::{member.lower()}"
        if self._take("("):
            return self._called(last, self._arguments(), token)
        return Unknown(f"{token.text} in line {token.line}")

    def _array(self, end: str) -> Value:
        elements = Elements()
        while not self._take(end):
            if self._take("..."):
                elements.spread(self._guarded((",", end)))
            else:
                value = self._guarded((",", end, "=>"))
                if self._take("=>"):
                    elements.put(value, self._guarded((",", end)))
                else:
                    elements.append(value)
            if not self._take(","):
                self._take(end)
                break
        return elements.unknown or elements.values

    def _arguments(self) -> list[Value]:
        values: list[Value] = []
        while not self._take(")"):
            values.append(self._guarded((",", ")")))
            if not self._take(","):
                self._take(")")
                break
        return values

    def _called(self, name: str, arguments: list[Value], token: Token) -> Value:
        unknown = Unknown(f"a call of {token.text}() in line {token.line}")
        if name == "env" and arguments and isinstance(arguments[0], str):
            return read_env(self._environment, arguments[0], arguments[1] if len(arguments) > 1 else None)
        try:
            if name in FOLDERS and len(arguments) < 2:
                return "/".join(filter(None, (self._root, FOLDERS[name], *map(text_of, arguments))))
            if name in FUNCTIONS:
                first = next((argument for argument in arguments if isinstance(argument, Unknown)), None)
                return first or FUNCTIONS[name](*arguments)
        except (Refused, TypeError):
            pass  # more, fewer or other arguments than are read here
        return unknown

    # ---- tokens ----

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _sign(self) -> str:
        token = self._peek()
        return token.text if token.kind == "sign" else ""

    def _take(self, sign: str) -> bool:
        if self._sign() != sign:
            return False
        self._at += 1
        return True

    def _strange(self, token: Token) -> NoReturn:
        raise _Strange(repr(token.text[:40]))


def _applied(operator: Callable[..., Value], *values: Value) -> Value:
    unknown = next((value for value in values if isinstance(value, Unknown)), None)
    try:
        return operator(*values) if unknown is None else unknown
    except Refused:
        return Unknown("an operation on other kinds of values")


def _refuse(*_: Value) -> Value:
    raise Refused


def _element(value: Value, index: Value) -> Value:
    if not isinstance(value, dict):
        raise Refused
    return value.get(key_of(index))


def _negative(value: Value) -> Value:
    return -value if isinstance(value, float) else -integer_of(value)


def _is_same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _is_equal(one: Value, other: Value) -> bool:
    """Loosely, where PHP and everybody else agree. Raises Refused."""
    if type(one) is type(other) and not isinstance(one, str | dict):
        return one == other
    if isinstance(one, str) and isinstance(other, str) and not (one[:1].isdigit() and other[:1].isdigit()):
        return one == other
    raise Refused


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    def computed(one: Value, other: Value) -> Value:
        if isinstance(one, float) or isinstance(other, float):
            raise Refused
        return compute(integer_of(one), integer_of(other))

    return computed


_sum = _arithmetic(lambda one, other: one + other)


def _plus(one: Value, other: Value) -> Value:
    """Of two arrays: what the first has, and what only the other has."""
    return {**one, **(other | one)} if isinstance(one, dict) and isinstance(other, dict) else _sum(one, other)


def _comparison(holds: Callable[[int, int], bool]) -> Callable[[Value, Value], Value]:
    """Of two whole numbers: PHP has rules of its own for everything else."""

    def compared(one: Value, other: Value) -> Value:
        if type(one) is int and type(other) is int:
            return holds(one, other)
        raise Refused

    return compared


_LEVELS: tuple[dict[str, Callable[..., Value]], ...] = (
    {"||": lambda one, other: is_true(one) or is_true(other)},
    {"&&": lambda one, other: is_true(one) and is_true(other)},
    {
        "===": _is_same,
        "!==": lambda one, other: not _is_same(one, other),
        "==": _is_equal,
        "!=": lambda one, other: not _is_equal(one, other),
    },
    {
        "<": _comparison(lambda one, other: one < other),
        "<=": _comparison(lambda one, other: one <= other),
        ">": _comparison(lambda one, other: one > other),
        ">=": _comparison(lambda one, other: one >= other),
    },
    {".": lambda one, other: text_of(one) + text_of(other)},
    {"+": _plus, "-": _arithmetic(lambda one, other: one - other)},
    {"*": _arithmetic(lambda one, other: one * other)},
)
_PREFIXES: dict[str, Callable[[Value], Value]] = {
    "!": lambda value: not is_true(value),
    "-": _negative,
    "@": lambda value: value,
}
_CASTS: dict[str, Callable[[Value], Value]] = {
    "int": integer_of,
    "integer": integer_of,
    "string": text_of,
    "bool": is_true,
    "boolean": is_true,
    "array": lambda value: value if isinstance(value, dict) else listed([] if value is None else [value]),
}


# ---- literals -------------------------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|([nrtvef\\$\"]))")
_INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*(?:\$[A-Za-z_{\x80-\U0010ffff]|\{\$)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "e": "\x1b", "f": "\f", "\\": "\\", "$": "$", '"': '"'}


def _string(token: Token) -> Value:
    inside = token.text[1:-1]
    if token.text[0] == "'":
        return re.sub(r"\\([\\'])", r"\1", inside)
    if _INTERPOLATION.search(inside):
        return Unknown(f"a text with variables in line {token.line}")
    try:
        return _ESCAPE.sub(_unescaped, inside)
    except (ValueError, OverflowError):
        return Unknown(f"a text with a strange escape in line {token.line}")


def _unescaped(found: re.Match[str]) -> str:
    code, hexadecimal, octal, letter = found.groups()
    if letter:
        return _LETTERS[letter]
    number = int(octal, 8) if octal else int(code or hexadecimal, 16)
    if not code and number > 0x7F:  # a byte, maybe a part of a letter
        raise ValueError
    return chr(number)


def _number(token: Token) -> Value:
    text = token.text.replace("_", "").lower()
    if text.startswith(("0x", "0b")):
        return int(text, 0)
    if not text.isdigit():
        return float(text)
    return int(text, 8) if len(text) > 1 and text[0] == "0" and not set(text) & set("89") else int(text)
