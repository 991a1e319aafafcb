"""Values of PHP as far as configuration has them, what PHP makes of one where another is wanted, and a few functions.

An array is a dict. `Unknown` stands for whatever only PHP could say; it makes everything Unknown that is made of it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias


class Unknown(NamedTuple):
    """What is not read here, and why: `a call of foo() in line 12`."""

    why: str


class Constant(Unknown):
    """A constant of a class. As a key it is a number of PDO's or redis' own options, and no name of a setting."""


Value: TypeAlias = "bool | int | float | str | dict[int | str, Value] | Unknown | None"

_INTEGER = re.compile(r"[ \t\n\r\v\f]*([+-]?[0-9]{1,18})")
_KEY = re.compile(r"0|-?[1-9][0-9]{0,17}")
_QUOTED = re.compile(r"(['\"])(.*)\1", re.DOTALL)
_WORDS: dict[str, Value] = {"true": True, "false": False, "empty": "", "null": None}


class Refused(Exception):
    """These arguments are not read here."""


def is_true(value: Value) -> bool:
    """Whether a condition holds. Not for Unknown."""
    return value not in (None, False, 0, "", "0", {})


def text_of(value: Value) -> str:
    """The string that PHP makes of a value. Raises Refused."""
    match value:
        case None | False:
            return ""
        case True:
            return "1"
        case str() | int():
            return str(value)
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
    raise Refused


def integer_of(value: Value) -> int:
    """The integer that PHP makes of a value: what a text begins with. Raises Refused."""
    match value:
        case str():
            found = _INTEGER.match(value)
            return int(found[1]) if found else 0
        case None | bool() | int():
            return int(value or 0)
        case float() if abs(value) < 1e15:
            return int(value)
    raise Refused


def key_of(value: Value) -> int | str:
    """What a value becomes as a key. Raises Refused."""
    match value:
        case str():
            return int(value) if _KEY.fullmatch(value) else value
        case None:
            return ""
        case bool() | int() | float():
            return integer_of(value)
    raise Refused


def listed(values: Iterable[Value]) -> dict[int | str, Value]:
    """An array without keys."""
    return dict(enumerate(values))


def merged(arrays: Iterable[Value]) -> dict[int | str, Value]:
    """array_merge, and what `...` does: later keys win, numbers are counted anew. Raises Refused."""
    result: dict[int | str, Value] = {}
    count = 0
    for array in arrays:
        if not isinstance(array, dict):
            raise Refused
        for key, value in array.items():
            if isinstance(key, int):
                result[count] = value
                count += 1
            else:
                result[key] = value
    return result


class Elements:
    """An array while it is written down."""

    def __init__(self) -> None:
        self.values: dict[int | str, Value] = {}
        self.unknown: Unknown | None = None  # why nobody knows what it is
        self._next: int | None = 0  # None: who knows, after a key that is not known

    def put(self, key: Value, value: Value) -> None:
        """With a key. A class constant is left out; after any other that is not known nothing is."""
        if isinstance(key, Constant):
            self._next = None
            return
        try:
            known = key_of(key)
        except Refused:
            self.unknown = key if isinstance(key, Unknown) else Unknown("an array with keys that are no keys")
            return
        self.values[known] = value
        if isinstance(known, int) and self._next is not None:
            # What follows a negative one is another number in each release of PHP.
            self._next = max(self._next, known + 1) if known >= 0 else None

    def append(self, value: Value) -> None:
        """Without."""
        if self._next is None:
            self.unknown = self.unknown or Unknown("an array with keys that are not known")
        else:
            self.put(self._next, value)

    def spread(self, array: Value) -> None:
        """All of another array."""
        if not isinstance(array, dict):
            self.unknown = array if isinstance(array, Unknown) else Unknown("something spread that is no array")
            return
        for key, value in array.items():
            if isinstance(key, int):
                self.append(value)
            else:
                self.put(key, value)


def read_env(environment: Mapping[str, str], name: str, default: Value) -> Value:
    """What env() makes of a variable: `true`, `(null)` and such are no texts."""
    text = environment.get(name)
    if text is None:
        return default
    word = text.lower()
    bare = word[1:-1] if word[:1] == "(" and word[-1:] == ")" else word
    if bare in _WORDS:
        return _WORDS[bare]
    quoted = _QUOTED.fullmatch(text)
    return quoted[2] if quoted else text


# ---- functions that configuration calls -----------------------------------------------------------------------------

_TRANSLITERATED = {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"}
_TRANSLITERATED |= {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "TH"}


def ascii_of(text: str) -> str:
    """Letters without their accents. Raises Refused for alphabets that are not Latin."""
    plain = "".join(_TRANSLITERATED.get(char, char) for char in text)
    plain = "".join(char for char in unicodedata.normalize("NFD", plain) if not unicodedata.combining(char))
    if not plain.isascii():
        raise Refused
    return plain


def slug(title: str, separator: str = "-") -> str:
    """Str::slug: words in lower case, joined. Raises Refused."""
    text = ascii_of(title)
    flipped = "_" if separator == "-" else "-"
    text = re.sub(f"{re.escape(flipped)}+", lambda _: separator, text).replace("@", f"{separator}at{separator}")
    text = re.sub(rf"[^{re.escape(separator)}A-Za-z0-9\s]+", "", text.lower())
    return re.sub(rf"[{re.escape(separator)}\s]+", lambda _: separator, text).strip(separator)


MYSQL_SSL = {"key": 1007, "cert": 1008, "ca": 1009, "capath": 1010, "cipher": 1011, "verify_server_cert": 1014}
"""Options of PDO for TLS, as PHP numbers them with its own client for MySQL."""
NUMBERS = {
    f"{prefix}{name}": number
    for prefix in ("pdo::mysql_attr_ssl_", "mysql::attr_ssl_")
    for name, number in MYSQL_SSL.items()
}
"""Constants of classes that are read, by lower-case name."""


def _is_loaded(name: Value) -> bool:
    """What the processes of an application need is there: it is asked only where a connection to MySQL is described."""
    if name != "pdo_mysql":
        raise Refused
    return True


def _explode(separator: Value, text: Value) -> Value:
    if not (between := text_of(separator)):
        raise Refused
    return listed(text_of(text).split(between))


def _implode(glue: Value, parts: Value) -> Value:
    if not isinstance(parts, dict):
        raise Refused
    return text_of(glue).join(map(text_of, parts.values()))


def _filtered(array: Value) -> Value:
    if not isinstance(array, dict) or any(isinstance(value, Unknown) for value in array.values()):
        raise Refused
    return {key: value for key, value in array.items() if is_true(value)}


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "array_filter": _filtered,
    "array_merge": lambda *arrays: merged(arrays),
    "array_values": lambda array: merged([listed(array.values())]) if isinstance(array, dict) else _refuse(),
    "explode": _explode,
    "extension_loaded": _is_loaded,
    "implode": _implode,
    "intval": integer_of,
    "str::lower": lambda text: text_of(text).lower(),
    "str::slug": lambda title, separator="-": slug(text_of(title), text_of(separator)),
    "str_slug": lambda title, separator="-": slug(text_of(title), text_of(separator)),
    "strtolower": lambda text: text_of(text).lower(),
    "trim": lambda text: text_of(text).strip(" \t\n\r\0\v"),
}
"""By lower-case name; of a class only the last part of its name. They raise Refused, or TypeError for what they do not
take."""

FOLDERS = {
    "base_path": "", "app_path": "app", "config_path": "config", "database_path": "database",
    "public_path": "public", "resource_path": "resources", "storage_path": "storage",
}  # fmt: skip


def _refuse() -> Value:
    raise Refused
