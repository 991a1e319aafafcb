"""What reading shares, whatever is read: where one is, what was wrong, what may have been meant.

Errors are collected, never raised: all errors of an input come at once.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.node import Node, Scalar, shown
from reconciler.model.problems import Problem

MISSING: Any = object()
MOST_PROBLEMS = 100

Trail = tuple[Any, str | int] | None
"""The path to a node: (path to its parent, key or index). Rendered only when something is wrong."""

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")

OTHER_NAMES = {
    "advanced": "behavior",
    "args": "command",
    "autorestart": "restartPolicy",
    "autostart": "suspend",
    "cwd": "workingDir",
    "directory": "workingDir",
    "environment": "env",
    "instances": "replicas",
    "maxprocesses": "maxReplicaCount",
    "maxreplicas": "maxReplicaCount",
    "minprocesses": "minReplicaCount",
    "minreplicas": "minReplicaCount",
    "numprocs": "replicas",
    "restart": "restartPolicy",
    "startsecs": "minReady",
    "stdout_logfile": "logs",
    "stopsignal": "stopSignal",
    "stopwaitsecs": "terminationGracePeriod",
}
"""What other tools call things, where the letters alone would not lead to our name."""


@dataclass(slots=True)
class Context:
    """What readers share while one input is read."""

    file: str
    base_dir: str | None
    problems: list[Problem] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)  # fields of the current document that an error was told of

    def refuse(self, node: Node, trail: Trail, message: str, hint: str = "") -> Any:
        """Tell an error and answer MISSING."""
        path = rendered(trail)
        self.failed.add(path)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(self.file, node.line, node.column, path, message, hint))
        elif len(self.problems) == MOST_PROBLEMS:
            self.problems.append(Problem(self.file, node.line, 1, "", "has more errors than are worth showing"))
        return MISSING

    def warn(self, node: Node, trail: Trail, message: str, hint: str = "") -> None:
        """Tell of something that is ignored."""
        if len(self.problems) < MOST_PROBLEMS:
            problem = Problem(self.file, node.line, node.column, rendered(trail), message, hint, "warning")
            self.problems.append(problem)

    def unknown(self, key: Scalar, trail: Trail, known: Iterable[str]) -> None:
        """Tell of a key that means nothing here, and which one may have been meant."""
        self.refuse(key, trail, "is not a field here", nearest(key.text, known))


Reader = Callable[[Node, Trail, Context], Any]


def rendered(trail: Trail) -> str:
    """`spec.env.PATH`, `spec.command[2]`, `metadata.labels["example.org/app"]`."""
    steps: list[str] = []
    while trail is not None:
        trail, step = trail
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif _SIMPLE_KEY.fullmatch(step) or (trail is None and step.startswith("items[")):
            steps.append(f".{step}")
        else:
            steps.append(f"[{shown(step)}]")
    return "".join(reversed(steps)).removeprefix(".")


def nearest(word: str, known: Iterable[str], *, listed: bool = False) -> str:
    """A hint that names what may have been meant, or all there is when that is little (`listed`: that is told)."""
    names = list(known)
    if len(word) <= 64:
        if OTHER_NAMES.get(word.lower()) in names:
            return f"here it is called {OTHER_NAMES[word.lower()]}"
        lowered = {name.lower(): name for name in reversed(names)}
        if found := difflib.get_close_matches(word.lower().replace("_", ""), lowered, n=1, cutoff=0.7):
            return f"did you mean {lowered[found[0]]}?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= 12 and not listed else ""
