"""Small words for a terminal: ages, durations, exits, colours. Pure, but for asking whether a stream is a terminal."""

import os
import sys
import time
from typing import Any, TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def now() -> float:
    """Wall time, to tell how long ago something in an answer was."""
    return time.time()  # noqa: TID251  # for display only, and the command line is given no clock


def age(seconds: float) -> str:
    """How long, in the two units that matter: `12s 5m 3h20m 4d2h`. The steps are kubectl's."""
    whole = max(0, int(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 3 * _HOUR:
        return _in_units(whole, _MINUTE, "m", 1, "s", both_below=10 * _MINUTE)
    if whole < 2 * _DAY:
        return _in_units(whole, _HOUR, "h", _MINUTE, "m", both_below=8 * _HOUR)
    if whole < 2 * _YEAR:
        return _in_units(whole, _DAY, "d", _HOUR, "h", both_below=8 * _DAY)
    return _in_units(whole, _YEAR, "y", _DAY, "d", both_below=8 * _YEAR)


def _in_units(whole: int, big: int, big_name: str, small: int, small_name: str, *, both_below: int) -> str:
    count, rest = divmod(whole, big)
    smaller = rest // small
    if whole >= both_below or not smaller:
        return f"{count}{big_name}"
    return f"{count}{big_name}{smaller}{small_name}"


def moment(iso: Any) -> float | None:
    """Seconds since the epoch of an ISO time, or of what is that already; None when it is neither."""
    if isinstance(iso, int | float):
        return float(iso)
    from datetime import datetime

    try:
        return datetime.fromisoformat(iso).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def age_of(iso: Any, at: float) -> str:
    """How long before `at` an ISO time was; `-` when unknown."""
    then = moment(iso)
    return "-" if then is None else age(at - then)


def time_of_day(iso: Any) -> str:
    """The local time of an ISO time, for a stream of events."""
    then = moment(iso)
    return "--:--:--" if then is None else time.strftime("%H:%M:%S", time.localtime(then))


def duration(seconds: float) -> str:
    """A duration as it would be written."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.3g}s" if seconds < _MINUTE else age(seconds)


def exit_text(last_exit: Any) -> str:
    """How a run ended: `code 1`, `SIGKILL`, or what the controller says about it; `-` when it has not."""
    if not isinstance(last_exit, dict):
        return "-"
    if last_exit.get("message"):
        return plain(str(last_exit["message"]))
    if last_exit.get("signal") is not None:
        name = plain(str(last_exit["signal"]))
        return f"SIG{name}" if name.isalpha() and not name.startswith("SIG") else name
    return "unknown" if last_exit.get("code") is None else f"code {last_exit['code']}"


def plain(text: str, *, keep: str = "") -> str:
    """Without control characters: what a manifest or a program wrote must not command the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else " " if char in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def terminal_columns() -> int:
    """How wide the terminal is. As shutil tells it, whose import takes as long as reading an answer."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal, or no descriptor
        return 80


def wrapped(text: str, indent: str = "  ") -> str:
    """Indented, and on a terminal broken at its edge with the rest further in."""
    if not is_terminal(sys.stdout):
        return indent + text
    import textwrap

    width = max(40, terminal_columns())
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent + "    ")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def has_colours(stream: TextIO) -> bool:
    """Whether to colour what is written there. https://no-color.org"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and is_terminal(stream)


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in a colour, when the stream takes one."""
    if not colour or not has_colours(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def counted(count: int, noun: str) -> str:
    """`1 process`, `3 processes`, `0 Programs`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith('s') else 's'}"
