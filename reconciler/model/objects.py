"""Where objects come from and which of them are in force: the records that intake, engine and state files share.

A scan says what a home declares at the moment; an accepted object is what was taken from it and is acted upon, on disk
before the first act. A home is `dir:/abs/dir` (watched) or `set:NAME` (applied). Frozen values only; who owns what is
decided in core/homes.py.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler.model.identity import Key
from reconciler.model.problems import Problem

DIRECTORY = "dir:"
APPLYSET = "set:"


class Declaration(NamedTuple):
    """One object as its home declares it, checked: what a manifest comes down to once its spec was understood."""

    kind: str
    name: str
    canonical: Mapping[str, Any]  # the spec as written, normalised; JSON values
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    line: int = 0


class FileReading(NamedTuple):
    """One file of a home: what it declares and what is wrong with it."""

    manifests: tuple[Declaration, ...] = ()
    problems: tuple[Problem, ...] = ()
    advice: tuple[Problem, ...] = ()  # warnings about what is valid and hardly meant; conditions tell of it, too

    @property
    def broken(self) -> bool:
        """Whether something in it could not be read: what is missing from `manifests` may still be meant."""
        return any(problem.severity == "error" for problem in self.problems)

    def and_then(self, more: "FileReading") -> "FileReading":
        """Both, as if they stood in one file."""
        return FileReading(self.manifests + more.manifests, self.problems + more.problems, self.advice + more.advice)


Parse = Callable[[bytes, str, str | None], FileReading]
"""(content, file, what relative paths in it are relative to) -> what it declares. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one home declares at one moment."""

    home: str
    files: Mapping[str, FileReading] = field(default_factory=dict)  # in the order of the paths
    present: bool = True  # False: the directory is not there
    error: str = ""  # the home could not be listed, so nothing can be said about absence
    unreadable: frozenset[str] = frozenset()  # directories below it that could not be listed
    tentative: bool = False  # something has just vanished; absence is not to be believed yet
    problems: tuple[Problem, ...] = ()  # about directories; those about files are with the files

    @property
    def trusted(self) -> bool:
        """Whether what is missing here is really missing."""
        return self.present and not self.error and not self.tentative

    def all_problems(self) -> list[Problem]:
        """Everything wrong in this home."""
        return [*self.problems, *(problem for reading in self.files.values() for problem in reading.problems)]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One object in force."""

    kind: str
    name: str
    uid: str  # "" until the intake gives it one
    generation: int
    canonical: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    home: str
    file: str  # absolute; of an applied set: the stored manifest, relative to the state directory
    line: int = 0
    suspect: bool = False  # its source lost it together with too much else: in force until confirmed
    created_at: float = 0.0  # wall clock, for display; 0.0: not known

    @property
    def key(self) -> Key:
        """What it is called."""
        return Key(self.kind, self.name)

    @property
    def source(self) -> str:
        """Its home as users see it: `dir:manifests/web.yaml`, `applyset:default`."""
        if self.home.startswith(APPLYSET):
            return f"applyset:{self.home.removeprefix(APPLYSET)}"
        root = self.home.removeprefix(DIRECTORY)
        inside = posixpath.relpath(self.file, root) if self.file else ""
        # A home may be one file: its name then stands for itself.
        return f"dir:{posixpath.normpath(posixpath.join(posixpath.basename(root), inside))}"

    @property
    def place(self) -> str:
        """Where it stands, for messages: file and line, or the set."""
        if self.home.startswith(APPLYSET):
            return f"applyset {self.home.removeprefix(APPLYSET)}"
        return f"{self.file}:{self.line}" if self.line else self.file


class Inventory(NamedTuple):
    """What an applied set consists of, and where it was applied from."""

    applyset: str
    members: tuple[Key, ...]
    origin: tuple[str, ...] = ()  # the files of its last apply


class SetChange(NamedTuple):
    """A whole change of applied sets, as one record: what an apply or a delete commits to."""

    applyset: str  # whose objects `stored` are
    stored: tuple[Declaration, ...]
    removed: tuple[Key, ...]  # from manifests/, whatever set they were in
    inventories: tuple[Inventory, ...]  # of every set that changes, complete

    def as_document(self) -> dict[str, Any]:
        """JSON values only."""
        return {
            "applyset": self.applyset,
            "stored": [
                [item.kind, item.name, dict(item.canonical), dict(item.labels), dict(item.annotations), item.line]
                for item in self.stored
            ],
            "removed": self.removed,
            "inventories": self.inventories,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "SetChange":
        """The inverse. Raises KeyError, TypeError or ValueError when it is not one."""
        return cls(
            str(document["applyset"]),
            tuple(Declaration(*item) for item in document["stored"]),
            tuple(Key(*key) for key in document["removed"]),
            tuple(
                Inventory(name, tuple(Key(*key) for key in members), tuple(origin))
                for name, members, origin in document["inventories"]
            ),
        )


class StateWriteFailed(OSError):
    """The state directory did not take something (full, read-only, ...). What it was is not in force."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path = path
        self.reason = reason
