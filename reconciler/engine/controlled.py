"""One Program under control: its accepted spec, what is built from it, what runs, and what is still to be looked at."""

from dataclasses import dataclass, field
from typing import Any

from reconciler.core.desired import Bound
from reconciler.core.launching import LaunchTemplate
from reconciler.core.memory import Ledger
from reconciler.model.objects import Accepted
from reconciler.model.overrides import Overrides
from reconciler.model.program import ProgramSpec
from reconciler.model.state import NEVER, Desired, RestartPolicy
from reconciler.ports import Stream, Timer


def count_in_force(overrides: Overrides, bound: Bound | None) -> int | None:
    """An operator's count, else a binding's; None: the written one."""
    if overrides.scale is not None:
        return overrides.scale.replicas
    return None if bound is None else bound.replicas


@dataclass(slots=True)
class Built:
    """What can be started: made from one accepted spec and the host's facts (users, files, links)."""

    spec: ProgramSpec
    revision: str
    template: LaunchTemplate | None  # None: the host lacks something, `problems` says what
    problems: tuple[str, ...]
    digests: dict[str, str]
    fingerprint: tuple[Any, ...]
    doubts: tuple[str, ...] = ()  # what is valid and hardly meant


@dataclass(slots=True, eq=False)
class Controlled:
    """The engine's record of one Program. `eq=False`: it is an identity, and a key of sets."""

    accepted: Accepted
    built: Built
    desired: Desired
    ledger: Ledger
    overrides: Overrides = field(default_factory=Overrides)
    bound: Bound | None = None  # what a binding asks for
    templates: dict[str, LaunchTemplate] = field(default_factory=dict)  # by revision, of what may be started
    deleted: bool = False
    aside: str = ""  # why it is set aside: `built` is a placeholder then, see aside.py
    fault: str = ""  # what went wrong in our own pass over it, while it does
    open_streams: dict[int, tuple[Stream, ...]] = field(default_factory=dict)  # ordinal -> its log streams
    streams_from: dict[int, LaunchTemplate | None] = field(default_factory=dict)  # the template they were made from
    dirty_ordinals: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)  # due, and may not be started yet:
    blocked: bool = False  # because it cannot be written down; else because too many others are starting
    dirty: bool = True  # all of it
    settled: bool = False  # what the last full pass said
    wake_at: float = NEVER
    timer: Timer | None = None
    surroundings: tuple[tuple[Any, ...], float] | None = None  # another fingerprint than built, and since when

    @property
    def count(self) -> int | None:
        """The count in force where it is not the written one."""
        return count_in_force(self.overrides, self.bound)

    @property
    def name(self) -> str:
        """The Program's name."""
        return self.accepted.name

    @property
    def uid(self) -> str:
        """The object's uid: a re-created namesake has another."""
        return self.accepted.uid

    @property
    def must_not_repeat(self) -> bool:
        """Whether its work may not be begun while it cannot be written down that it was."""
        return self.desired.run_once or self.desired.restart_policy is RestartPolicy.NEVER
