"""Who owns a name: from what all homes declare, and what is in force, to what shall be in force.

Pure and level-triggered: it is given the whole state, never an event, and may be called again at any time. The rules,
first match wins, for an object that is in force:

 1. its file still declares it                      -> that declaration
 2. its file is broken or below an unreadable folder-> it stays in force as it is (Invalid)
 3. another file of its home declares it            -> moved; uid and processes stay
 4. its home cannot be trusted (gone, just shrunk)  -> it stays in force as it is
 5. another home declares it                        -> that home owns it now; uid and processes stay
 6. it vanished with all or most of its home        -> suspect; it stays in force until the home has it back, or
                                                       an operator confirms
 7. otherwise                                       -> removed

A name that nobody owns goes to the first home in the order of `-f`, then to the first path. Whoever else declares an
owned name with the same spec is `unchanged`, with another spec in Conflict.
"""

import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, assert_never

from reconciler.model.identity import Key
from reconciler.model.objects import APPLYSET, DIRECTORY, Accepted, Declaration, Scan
from reconciler.model.problems import Problem


class Accept(NamedTuple):
    """An object is accepted anew. `how` tells what differs; only `created` and `configured` touch what runs."""

    how: str  # created, configured, annotated, moved, suspected, returned
    after: Accepted
    before: Accepted | None


class Remove(NamedTuple):
    """An object is no longer declared by anybody who counts."""

    before: Accepted


class Conflict(NamedTuple):
    """Somebody else declares an owned name with another spec; the owner keeps it."""

    key: Key
    owner: str  # place
    contender: str  # place
    home: str  # of the contender
    file: str
    line: int

    def as_problem(self) -> Problem:
        """For lists of what is wrong."""
        message = f"{self.key} is declared differently in {self.owner}, which owns it"
        # In a watched directory the file itself is the wish; only who hands something in can take a name over.
        way = "delete this one" if self.home.startswith(DIRECTORY) else "move it with --take-over"
        return Problem(self.file, self.line, 1, "metadata.name", message, f"rename one, or {way}")


class Invalid(NamedTuple):
    """The file of an object cannot be read any more; the last accepted spec stays in force."""

    key: Key
    file: str
    problems: tuple[Problem, ...]


class SourceSuspect(NamedTuple):
    """A home vanished, or lost all or most of its objects at once; nothing of it is stopped."""

    home: str
    message: str
    keys: tuple[Key, ...]


Change = Accept | Remove | Conflict | Invalid | SourceSuspect


class _Claim(NamedTuple):
    home: str
    path: str
    declared: Declaration


def settle(
    accepted: Mapping[Key, Accepted],
    scans: Sequence[Scan],
    applied: Sequence[Scan] = (),
    confirmed: Collection[str] = frozenset(),
    preferred: Mapping[Key, str] | None = None,
) -> tuple[Change, ...]:
    """What has to change for the homes' declarations to be in force, and what stands against it.

    `scans` are the watched directories in the order of `-f`, `applied` the applied sets, `confirmed` the homes whose
    losses an operator has confirmed, `preferred` names that are taken over, and by which home. Names that are in force
    as declared do not occur in the answer.
    """
    sources = {scan.home: scan for scan in (*scans, *applied)}
    claims = _claims(sources.values())
    takers = preferred or {}
    changes: list[Change] = []
    missing: dict[str, list[Accepted]] = {}
    for key, recorded in accepted.items():
        claiming = claims.pop(key, None)
        # The whole state is looked at on every change: what is in force as declared must cost next to nothing.
        if claiming is not None and len(claiming) == 1 and _is_current(recorded, claiming[0]):
            continue
        owner = _owner(recorded, claiming or [], sources.get(recorded.home), takers.get(key))
        if owner is not None:
            changes += _accept(recorded, owner)
            changes += _conflicts(key, owner.declared.canonical, _place(owner), claiming or [], owner)
            continue
        changes += _conflicts(key, recorded.canonical, recorded.place, claiming or [], None)
        invalid = _held_by_file(recorded, sources.get(recorded.home))
        if invalid is not None:
            changes.append(invalid)
        else:
            missing.setdefault(recorded.home, []).append(recorded)
    changes += _missed(missing, accepted, sources, confirmed)
    for key, claiming in claims.items():
        owner = _first(claiming, takers.get(key))
        changes += _accept(None, owner)
        changes += _conflicts(key, owner.declared.canonical, _place(owner), claiming, owner)
    return tuple(changes)


def _claims(scans: Iterable[Scan]) -> dict[Key, list[_Claim]]:
    claims: dict[Key, list[_Claim]] = {}
    for scan in scans:
        for path, reading in scan.files.items():
            for declared in reading.manifests:
                claim = _Claim(scan.home, path, declared)
                claims.setdefault(Key(declared.kind, declared.name), []).append(claim)
    return claims


def _is_current(recorded: Accepted, claim: _Claim) -> bool:
    declared = claim.declared
    return (
        recorded.file == claim.path
        and recorded.home == claim.home
        and recorded.line == declared.line
        and not recorded.suspect
        and recorded.canonical == declared.canonical
        and recorded.labels == declared.labels
        and recorded.annotations == declared.annotations
    )


def _first(claiming: list[_Claim], taker: str | None) -> _Claim:
    return next((claim for claim in claiming if claim.home == taker), claiming[0])


def _owner(recorded: Accepted, claiming: list[_Claim], source: Scan | None, taker: str | None) -> _Claim | None:
    """Rules 1 to 5; None: nobody who may own it declares it."""
    own = [claim for claim in claiming if claim.home == recorded.home]
    for found in (
        [claim for claim in claiming if claim.home == taker],
        [claim for claim in own if claim.path == recorded.file],
    ):
        if found:
            return found[0]
    if _held_by_file(recorded, source) is not None:
        return None
    if own:
        return own[0]
    # A home that is not configured any more has no say: a directory that was renamed together with its `-f` moves.
    if source is not None and not source.trusted:
        return None
    return claiming[0] if claiming else None


def _held_by_file(recorded: Accepted, source: Scan | None) -> Invalid | None:
    """Whether the recorded file is in a state in which what it does not declare may still be meant."""
    if source is None or not source.present:
        return None
    reading = source.files.get(recorded.file)
    if reading is not None and reading.broken:
        errors = tuple(problem for problem in reading.problems if problem.severity == "error")
        return Invalid(recorded.key, recorded.file, errors)
    folder = _unreadable_above(source, recorded.file) if source.unreadable else ""
    if folder:
        return Invalid(recorded.key, folder, tuple(problem for problem in source.problems if problem.file == folder))
    return None


def _unreadable_above(source: Scan, path: str) -> str:
    """The unreadable directory on the way from the root to the path, or nothing."""
    root = source.home.removeprefix(DIRECTORY)
    folder = posixpath.dirname(path)
    while folder not in source.unreadable and len(folder) > len(root):
        folder = posixpath.dirname(folder)
    return folder if folder in source.unreadable else ""


def _accept(recorded: Accepted | None, owner: _Claim) -> list[Change]:
    declared = owner.declared
    if recorded is None:
        generation, how = 1, "created"
    else:
        same_spec = recorded.canonical == declared.canonical and recorded.labels == declared.labels
        generation = recorded.generation if same_spec else recorded.generation + 1
        if not same_spec:
            how = "configured"
        elif recorded.annotations != declared.annotations:
            how = "annotated"
        else:
            how = "returned" if recorded.suspect else "moved"
    after = Accepted(
        kind=declared.kind,
        name=declared.name,
        uid=recorded.uid if recorded else "",
        generation=generation,
        canonical=declared.canonical,
        labels=declared.labels,
        annotations=declared.annotations,
        home=owner.home,
        file=owner.path,
        line=declared.line,
        created_at=recorded.created_at if recorded else 0.0,
    )
    return [] if after == recorded else [Accept(how, after, recorded)]


def _place(claim: _Claim) -> str:
    if claim.home.startswith(APPLYSET):
        return f"applyset {claim.home.removeprefix(APPLYSET)}"
    return f"{claim.path}:{claim.declared.line}"


def _conflicts(key: Key, canonical: object, place: str, claiming: list[_Claim], owner: _Claim | None) -> list[Change]:
    return [
        Conflict(key, place, _place(claim), claim.home, claim.path, claim.declared.line)
        for claim in claiming
        if claim is not owner and claim.declared.canonical != canonical
    ]


def _missed(
    missing: Mapping[str, list[Accepted]],
    accepted: Mapping[Key, Accepted],
    sources: Mapping[str, Scan],
    confirmed: Collection[str],
) -> list[Change]:
    """Rules 4, 6 and 7 for what nobody declares."""
    changes: list[Change] = []
    for home, lost in missing.items():
        source = sources.get(home)
        # A directory that cannot be listed says nothing about what is in it, whatever an operator confirms.
        if home in confirmed and not (source and source.error):
            changes += [Remove(recorded) for recorded in lost]
            continue
        if source is None or not source.trusted:
            message = _why_untrusted(home, source)
            if message:
                changes.append(SourceSuspect(home, message, tuple(recorded.key for recorded in lost)))
            continue
        suspected = [recorded for recorded in lost if recorded.suspect]
        newly = [recorded for recorded in lost if not recorded.suspect]
        had = sum(1 for recorded in accepted.values() if recorded.home == home and not recorded.suspect)
        # What leaves an applied set was pruned or deleted on purpose; a set that lost its inventory has no scan.
        if home.startswith(DIRECTORY) and newly and _is_suspicious(source, had, len(newly)):
            changes += [Accept("suspected", replace(recorded, suspect=True), recorded) for recorded in newly]
            suspected += newly
        else:
            changes += [Remove(recorded) for recorded in newly]
        if suspected:
            changes.append(_suspect(home, source, suspected))
    return changes


def _is_suspicious(source: Scan, had: int, lost: int) -> bool:
    """From some to none, or more than half at once. One of one with a new one beside it is a renamed object."""
    declares_nothing = not any(reading.manifests or reading.broken for reading in source.files.values())
    return declares_nothing or (had > 1 and lost * 2 > had)


def _why_untrusted(home: str, source: Scan | None) -> str:
    where = home.removeprefix(DIRECTORY).removeprefix(APPLYSET)
    if source is None:
        if home.startswith(APPLYSET):
            return f"the inventory of applyset {where} is missing or unreadable"
        return f"{where} is not watched any more; confirm with `apply --allow-empty -f {where}`"
    if source.tentative:
        return ""
    if source.error:
        return f"{where}: {source.error}"
    return f"{where} is not there; restore it, or confirm with `apply --allow-empty -f {where}`"


def _suspect(home: str, source: Scan, suspected: list[Accepted]) -> SourceSuspect:
    where = home.removeprefix(DIRECTORY)
    names = sorted(str(recorded.key) for recorded in suspected)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = "declares nothing any more" if not source.files else f"lost {len(names)} objects at once"
    message = f"{where} {what} ({shown}); restore it, or confirm with `apply --allow-empty -f {where}`"
    return SourceSuspect(home, message, tuple(recorded.key for recorded in suspected))


def render(changes: Iterable[Change]) -> str:
    """One line per change, for logs and the tests."""
    lines = []
    for change in changes:
        match change:
            case Accept(how, after, _):
                lines.append(f"{how} {after.key} generation {after.generation} from {after.place}")
            case Remove(before):
                lines.append(f"removed {before.key}")
            case Conflict(key, owner, contender):
                lines.append(f"conflict {key}: {owner} keeps it against {contender}")
            case Invalid(key, file, _):
                lines.append(f"invalid {key}: {file}")
            case SourceSuspect(home, _, keys):
                lines.append(f"suspect {home}: {' '.join(map(str, keys))}")
            case _:
                assert_never(change)
    return "\n".join(lines)
