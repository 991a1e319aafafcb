"""What there is to say about homes and what they declare: as conditions, as warnings, and in the log."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from reconciler.core.homes import Change, Conflict, Invalid, SourceSuspect
from reconciler.model.identity import Key
from reconciler.model.objects import FileReading, Scan
from reconciler.model.problems import Problem
from reconciler.model.state import Condition, ConditionStatus

IN_FORCE = "the last accepted spec stays in force"
log = logging.getLogger(__name__)


class News:
    """What the log was told of what is wrong: each thing once when it comes up, and once when it is over."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def tell(self, problems: Iterable[Problem], standing: Iterable[Change]) -> None:
        """This is all that is wrong now."""
        now = {str(each): logging.ERROR if each.severity == "error" else logging.WARNING for each in problems}
        now.update((change.message, logging.WARNING) for change in standing if isinstance(change, SourceSuspect))
        held = {str(each) for change in standing if isinstance(change, Invalid) for each in change.problems}
        for line, level in now.items():
            if line not in self._told:
                log.log(level, "%s%s", line, f"; {IN_FORCE}" if line in held else "")
        for line in self._told:
            if line not in now:
                log.info("no longer so: %s", line)
        self._told = now


def holds(kind: str, reason: str, message: str) -> Condition:
    """A condition that is true."""
    return Condition(kind, ConditionStatus.TRUE, reason, message)


def found_about(change: Change) -> Sequence[Key]:
    """Whom a finding (not a change of what is in force) is about."""
    match change:
        case Conflict(key=key) | Invalid(key=key):
            return (key,)
        case SourceSuspect(keys=keys):
            return keys
    return ()


def conditions_by_key(standing: Sequence[Change]) -> dict[Key, list[Condition]]:
    """What the findings of a settlement say about each object."""
    said: dict[Key, list[Condition]] = {}
    for change in standing:
        match change:
            case Conflict(key=key):
                message = f"{change.contender} declares it differently"
                said.setdefault(key, []).append(holds("Conflict", "DeclaredElsewhere", message))
            case Invalid(key=key):
                said.setdefault(key, []).append(holds("Invalid", "FileBroken", _first_of(change)))
            case SourceSuspect(keys=keys):
                lost = holds("SourceSuspect", "SourceLost", change.message)
                for key in keys:
                    said.setdefault(key, []).append(lost)
    return said


def _first_of(change: Invalid) -> str:
    more = f" (and {len(change.problems) - 1} more)" if len(change.problems) > 1 else ""
    wrong = f"{change.problems[0]}{more}" if change.problems else f"{change.file} cannot be read"
    return f"{wrong}; {IN_FORCE}"


def only_known_kinds(scan: Scan, kinds: Collection[str]) -> Scan:
    """Objects of other kinds have no place in a watched directory; it is said, and they are left out."""
    strange = {
        path: reading
        for path, reading in scan.files.items()
        if any(declared.kind not in kinds for declared in reading.manifests)
    }
    if not strange:
        return scan
    return replace(
        scan, files={**scan.files, **{path: _without_strangers(path, r, kinds) for path, r in strange.items()}}
    )


def _without_strangers(path: str, reading: FileReading, kinds: Collection[str]) -> FileReading:
    kept = tuple(declared for declared in reading.manifests if declared.kind in kinds)
    told: Iterable[Problem] = (
        Problem(path, d.line, 1, "kind", f"{d.kind} is not read from a watched directory", severity="warning")
        for d in reading.manifests
        if d.kind not in kinds
    )
    return FileReading(kept, (*reading.problems, *told), reading.advice)
