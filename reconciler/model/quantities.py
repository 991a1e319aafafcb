"""Quantities as people write them: durations, sizes, file modes, signals, amounts.

Pure text to number and back. Every function raises ValueError with a sentence that can be shown as it is; where the
text stood and which field it was is added by decode.py.
"""

import re
from decimal import Decimal
from typing import NamedTuple

INFINITY = "infinity"
LONGEST_SECONDS = 1e9
LARGEST_BYTES = 1 << 62

_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z]*)")
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_OCTAL = re.compile(r"(?:0o?)?([0-7]{1,4})")

SECONDS = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_LARGEST_UNIT_FIRST = tuple(SECONDS)

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5}
_DECIMAL = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
BYTES = (
    {"": 1, "B": 1}
    | {unit + end: 1024**power for unit, power in _BINARY.items() for end in ("", "B")}
    | {unit + end: 1000**power for unit, power in _DECIMAL.items() for end in ("", "B")}
)


def seconds(text: str) -> float:
    """A finite duration: `500ms`, `30s`, `5m`, `1h30m`, or a number of seconds."""
    if _NUMBER.fullmatch(text):
        value = Decimal(text)
    elif _DURATION.fullmatch(text):
        parts = _DURATION_PART.findall(text)
        order = [_LARGEST_UNIT_FIRST.index(unit) for _, unit in parts]
        if order != sorted(set(order)):
            raise ValueError("gives its units once each, the largest first, as in 1h30m")
        value = sum((Decimal(amount) * SECONDS[unit] for amount, unit in parts), Decimal(0))
    else:
        raise ValueError("is not a duration; write 500ms, 30s, 5m, 1h30m or a number of seconds")
    if value > LONGEST_SECONDS:
        raise ValueError("is longer than 31 years")
    return float(value)


def plain_seconds(text: str) -> float:
    """What a field whose name ends in `Seconds` takes: a number, without a unit."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a number of seconds")
    return seconds(text)


def size(text: str) -> int:
    """A number of bytes: `64Ki`, `50Mi`, `1Gi`, `10MB`, or plain bytes."""
    match = _SIZE.fullmatch(text)
    factor = BYTES.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError("is not a size; write 64Ki, 50Mi, 1Gi, 10MB or a number of bytes")
    value = int(Decimal(match[1]) * factor)
    if value > LARGEST_BYTES:
        raise ValueError("is larger than any machine")
    return value


def cores(text: str) -> float:
    """An amount of CPU as Kubernetes writes it: `1.5`, or `500m` for half a core."""
    if _NUMBER.fullmatch(text):
        return float(Decimal(text))
    if text.endswith("m") and _NUMBER.fullmatch(text[:-1]):
        return float(Decimal(text[:-1]) / 1000)
    raise ValueError("is not an amount of CPU; write 1.5 or 500m")


def whole(text: str) -> int:
    """A whole number. Leading zeros are refused: half of the world reads them as octal."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("is not a whole number")
    return int(text)


def octal(text: str) -> int:
    """A file mode or mask: `022`, `0640`."""
    match = _OCTAL.fullmatch(text)
    if match is None:
        raise ValueError("is not an octal file mode such as 022 or 0640")
    return int(match[1], 8)


def octal_text(mode: int) -> str:
    """The one way a mode is written down again."""
    return f"{mode:04o}"


class Amount(NamedTuple):
    """A number of replicas, or a percentage of them; never less than `at_least`."""

    number: int
    percent: bool = False
    at_least: int = 0

    @classmethod
    def parse(cls, value: "int | str | Amount") -> "Amount":
        """Read `3` or `25%`."""
        if isinstance(value, Amount):
            return value
        text = str(value)
        number = text[:-1] if text.endswith("%") else text
        if not number.isascii() or not number.isdigit() or len(number) > 6:
            raise ValueError("is neither a number nor a percentage such as 25%")
        return cls(int(number), text.endswith("%"))

    def resolve(self, replicas: int, *, round_up: bool = False) -> int:
        """How many of `replicas` that is."""
        count = self.number
        if self.percent:
            product = self.number * replicas
            count = -(-product // 100) if round_up else product // 100
        return max(count, self.at_least)

    @property
    def is_zero(self) -> bool:
        """Whether it is none, of however many."""
        return self.number == 0

    def __str__(self) -> str:
        return f"{self.number}%" if self.percent else str(self.number)


# Numbers of Linux on x86, ARM, POWER, s390 and RISC-V; the real-time range is what the C library leaves to programs.
_SIGNAL_ORDER = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS = {name: number for number, name in enumerate(_SIGNAL_ORDER.split(), start=1)}
_SIGNAL_NAMES = {number: name for name, number in SIGNALS.items()}
_SIGNAL_ALIASES = {"IOT": 6, "POLL": 29, "CLD": 17}
RTMIN, RTMAX = 34, 64
_REAL_TIME = re.compile(r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?")


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM`, `15` or `RTMIN+3` as a number."""
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    if name in _SIGNAL_ALIASES:
        return _SIGNAL_ALIASES[name]
    number = 0
    if name.isascii() and name.isdigit() and len(name) <= 2:
        number = int(name)
    elif match := _REAL_TIME.fullmatch(name):
        offset = int(f"{match[2]}{match[3]}") if match[2] else 0
        number = (RTMIN if match[1] == "MIN" else RTMAX) + offset
    if number in _SIGNAL_NAMES or RTMIN <= number <= RTMAX:
        return number
    raise ValueError("is not a signal; write a name such as TERM, USR1 or RTMIN+3")


def signal_name(number: int) -> str:
    """The one way a signal is written down: without SIG, real-time ones counted from RTMIN."""
    if number in _SIGNAL_NAMES:
        return _SIGNAL_NAMES[number]
    return "RTMIN" if number == RTMIN else f"RTMIN+{number - RTMIN}"
