"""The way to one number in a JSON document: `data.queues[0]["in flight"]`, `items.length()`.

A small part of JSONPath: names, indices, quoted names, and `length()` at the end for how many there are. Pure.
"""

import re
from typing import Any, NamedTuple

from reconciler.model.node import shown

_STEP = re.compile(
    r"""\.?(?P<name>[^\s.\[\]"'()*$@?]+)(?![(\w])|\[(?P<index>-?[0-9]{1,9})\]|\[(?P<quote>["'])(?P<quoted>.*?)(?P=quote)\]"""
)
_LENGTH = ".length()"


class JsonPath(NamedTuple):
    """A path that was read."""

    text: str
    steps: tuple[str | int, ...]
    counts: bool  # how many there are, not what is there

    @classmethod
    def parse(cls, text: str) -> "JsonPath":
        """Raises ValueError."""
        rest = text.strip().removeprefix("$")
        counts = rest.endswith(_LENGTH)
        rest = rest.removesuffix(_LENGTH)
        steps: list[str | int] = []
        while rest:
            match = _STEP.match(rest)
            if match is None:
                raise ValueError(f"cannot be read from {shown(rest)} on; write names, [0] and .length() only")
            if match["index"] is not None:
                steps.append(int(match["index"]))
            else:
                steps.append(match["name"] if match["name"] is not None else match["quoted"])
            rest = rest[match.end() :]
        return cls(text, tuple(steps), counts)

    def find(self, document: Any) -> Any:
        """What is there. Raises LookupError with where the way ends."""
        value = document
        for index, step in enumerate(self.steps):
            try:
                if isinstance(step, int) != isinstance(value, list):
                    raise KeyError(step)
                value = value[step]
            except (KeyError, IndexError, TypeError):
                before = JsonPath("", self.steps[:index], counts=False)
                raise LookupError(f"has no {shown(str(step))} in {before.steps_text()}") from None
        if not self.counts:
            return value
        if not isinstance(value, list | dict):
            raise LookupError("has no length there")
        return len(value)

    def steps_text(self) -> str:
        """The way so far, for messages."""
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps).lstrip(".")
        return text or "the answer"
