"""Judging canonical values by their model, and bringing each error back to its line, field and words.

Pydantic names a place by keys and by steps of its own (which arm of a union, which validator); the steps that are in
the file are kept. Errors that only follow from one that was told already are left out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.model.fields import FAULTS, Spec
from reconciler.model.node import Mapping, Node, Sequence, shown
from reconciler.model.reading import Context, Trail, rendered

SpecT = TypeVar("SpecT", bound=Spec)

_WORDS = {
    "missing": "is required",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must end some day",
    "too_long": "must have at most {max_length}",
}


class _Error(NamedTuple):
    steps: tuple[str | int, ...]
    message: str
    kept: int  # how many of the last steps are told although the file does not have them


def judged(model: type[SpecT], canonical: Any, written: Node, trail: Trail, context: Context) -> SpecT | None:
    """The spec with its defaults; None when it does not hold."""
    try:
        return model.model_validate(canonical)
    except ValidationError as raised:
        before = frozenset(context.failed)
        for detail in raised.errors(include_url=False, include_input=True):
            for error in _errors_in(detail):
                node, here = _find(written, trail, error)
                if not _follows(rendered(here), before):
                    context.refuse(node, here, error.message)
        return None


def _errors_in(detail: ErrorDetails) -> Iterator[_Error]:
    """Most details are one error; what does not fit together comes as several."""
    steps, bounds = detail["loc"], detail.get("ctx", {})
    if detail["type"] == FAULTS:
        for at, message in bounds[FAULTS]:
            inner = tuple(int(step) if step.isdigit() else step for step in at.split(".")) if at else ()
            yield _Error(steps + inner, message, len(inner))
    elif detail["type"] in _WORDS:
        plain = {name: f"{bound:g}" for name, bound in bounds.items() if isinstance(bound, int | float)}
        yield _Error(steps, _WORDS[detail["type"]].format(**plain), 1 if detail["type"] == "missing" else 0)
    elif detail["type"] == "string_pattern_mismatch":
        yield _Error(steps, f"{shown(str(detail['input']))} does not match {bounds['pattern']}", 0)
    else:
        yield _Error(steps, detail["msg"].removeprefix("Value error, "), 0)


def _find(written: Node, trail: Trail, error: _Error) -> tuple[Node, Trail]:
    """The node that an error is about, or the nearest one around it, and the path to show."""
    node = written
    steps = error.steps
    for index, step in enumerate(steps):
        following: Node | None = None
        shown_step = step
        if isinstance(node, Mapping) and isinstance(step, str):
            if step not in node.entries and f"{step}Seconds" in node.entries:
                shown_step = f"{step}Seconds"
            following = node.get(str(shown_step))
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            following = node.items[step]
        if following is None:
            for missing in steps[max(index, len(steps) - error.kept) :]:
                trail = (trail, missing)
            return node, trail
        node, trail = following, (trail, shown_step)
    return node, trail


def _follows(path: str, failed: frozenset[str]) -> bool:
    """Whether an error at, above or below this path has been told."""
    return any(path == other or _is_below(path, other) or _is_below(other, path) for other in failed if other and path)


def _is_below(path: str, other: str) -> bool:
    return path.startswith(other) and path[len(other) : len(other) + 1] in {".", "["}
