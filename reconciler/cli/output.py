"""Where words go: results to stdout; hints, warnings, errors and progress to stderr. Nothing else prints."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from reconciler.cli.text import paint, plain


def say(text: str) -> None:
    """A result: what a script reads."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Progress: what a person reads meanwhile."""
    sys.stdout.flush()  # both may be one terminal
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def hint(text: str) -> None:
    """Something worth knowing that is no fault."""
    note(paint("hint:", "cyan", sys.stderr) + " " + plain(text, keep="\n"))


def warning(text: str) -> None:
    """Something doubtful."""
    note(paint("warning:", "yellow", sys.stderr) + " " + plain(text, keep="\n"))


def error(text: str) -> None:
    """Why it did not work."""
    note(paint("error:", "red", sys.stderr) + " " + plain(text, keep="\n"))


def problem_text(problem: Mapping[str, Any], stream: TextIO | None = None) -> str:
    """`file:line:column: error: field: message (hint)`, which editors can jump to."""
    place = str(problem.get("file") or "-")
    if problem.get("line"):
        place += f":{problem['line']}:{problem.get('column') or 1}"
    severity = str(problem.get("severity") or "error")
    severity = paint(severity, "yellow" if severity == "warning" else "red", stream or sys.stderr)
    field = f"{problem['field']}: " if problem.get("field") else ""
    advice = f" ({problem['hint']})" if problem.get("hint") else ""
    return f"{plain(place)}: {severity}: " + plain(f"{field}{problem.get('message', '')}{advice}")


def problem_lines(problems: Iterable[Mapping[str, Any]]) -> None:
    """All problems on stderr."""
    for problem in problems:
        note(problem_text(problem))
