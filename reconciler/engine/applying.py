"""What an apply asks for: reads the request, puts it in its place in what homes declare, and judges the answer.

Functions over values; the only thing awaited is the parser. The decision itself is core/homes.py's, intake asks it. An
input file that lies in a watched directory is not applied to a set: it means "read this directory now".
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from reconciler.core.homes import Accept, Change, Conflict, Remove, SourceSuspect
from reconciler.model.identity import Key
from reconciler.model.objects import (
    APPLYSET,
    DIRECTORY,
    Accepted,
    Declaration,
    FileReading,
    Inventory,
    Scan,
    SetChange,
)
from reconciler.model.problems import ApiError, Problem

ParseMany = Callable[[Sequence[tuple[bytes, str, str | None]]], Awaitable[list[FileReading]]]

STDIN = "-"
SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class Request:
    """An apply, read and checked as far as it can be without knowing what is in force."""

    applyset: str
    readings: Mapping[str, FileReading]  # by file: what goes to the set
    watched: Mapping[str, Mapping[str, FileReading]]  # by home, by file: what only means "read it now"
    homes: tuple[str, ...]  # that are to be read now
    folders: tuple[str, ...]  # the directories of the input, absolute
    prune: bool
    prune_limit: str
    allow_empty: bool
    take_over: bool

    @property
    def set_home(self) -> str:
        """The home of what goes to the set."""
        return APPLYSET + self.applyset

    def declared(self) -> dict[Key, Declaration]:
        """What goes to the set, by key."""
        return _by_key(self.readings)

    def declarations(self) -> Iterator[tuple[str, Declaration]]:
        """All that it declares, each with its file."""
        for files in (self.readings, *self.watched.values()):
            yield from ((file, each) for file, reading in files.items() for each in reading.manifests)

    def takers(self) -> dict[Key, str]:
        """Which names are taken over, and by which home."""
        if not self.take_over:
            return {}
        takers = {key: home for home, files in self.watched.items() for key in _by_key(files)}
        return {**takers, **dict.fromkeys(self.declared(), self.set_home)}

    def confirmed(self, standing: Sequence[Change]) -> frozenset[str]:
        """The homes whose losses `allowEmpty` confirms: those of the input, also ones not watched any more."""
        if not self.allow_empty:
            return frozenset()
        suspects = {change.home for change in standing if isinstance(change, SourceSuspect)}
        return frozenset(self.homes) | (suspects & {DIRECTORY + folder for folder in self.folders})


class Prepared(NamedTuple):
    """An apply as it would end."""

    request: Request
    results: tuple[dict[str, Any], ...]  # kind, name, verb, generation
    changes: tuple[Accept | Remove, ...]  # of the objects in `results`; what they do to processes, the engine tells
    warnings: tuple[Problem, ...]
    hints: tuple[str, ...]
    change: SetChange | None  # what is to be committed

    def as_answer(self) -> dict[str, Any]:
        """The answer of POST /v1/apply, without effects."""
        return {
            "results": [dict(result) for result in self.results],
            "warnings": [problem.as_dict() for problem in self.warnings],
            "hints": list(self.hints),
        }


def _by_key(readings: Mapping[str, FileReading]) -> dict[Key, Declaration]:
    return {Key(each.kind, each.name): each for reading in readings.values() for each in reading.manifests}


# --- reading the request --------------------------------------------------------------------------------------------


async def read_request(
    body: Mapping[str, Any], parse_many: ParseMany, homes: Sequence[str], kinds: Collection[str]
) -> Request:
    """Parse and check all documents. Raises ApiError with everything that is wrong with them."""
    documents = body.get("documents") or []
    _check_terms(str(body.get("applyset") or "default"), documents, allow_empty=bool(body.get("allowEmpty")))
    sources = [
        (str(each["text"]).encode("utf-8", "surrogatepass"), str(each["file"]), each.get("baseDir"))
        for each in documents
    ]
    readings = await parse_many(sources)
    files: dict[str, FileReading] = {}
    for (_, file, _), reading in zip(sources, readings, strict=True):
        files[file] = files.get(file, FileReading()).and_then(reading)
    return await asyncio.to_thread(_sorted, body, files, homes, kinds)


def _sorted(
    body: Mapping[str, Any], files: Mapping[str, FileReading], homes: Sequence[str], kinds: Collection[str]
) -> Request:
    """What goes to the set, and what lies in a watched home. Looks at links, so it runs in a thread."""
    _refuse_if_wrong(files, kinds)
    folders = tuple(os.path.abspath(folder) for folder in body.get("directories") or ())
    watched: dict[str, dict[str, FileReading]] = {}
    to_set: dict[str, FileReading] = {}
    for file, reading in files.items():
        home = _home_of(file, homes)
        if home is None:
            to_set[file] = reading
        else:
            watched.setdefault(home, {})[_as_seen_by(home, file)] = reading
    return Request(
        applyset=str(body.get("applyset") or "default"),
        readings=to_set,
        watched=watched,
        homes=tuple(h for h in homes if h in watched or any(_overlap(h, folder) for folder in folders)),
        folders=folders,
        prune=bool(body.get("prune")),
        prune_limit=str(body.get("pruneLimit") or "50%"),
        allow_empty=bool(body.get("allowEmpty")),
        take_over=bool(body.get("takeOver")),
    )


def _check_terms(applyset: str, documents: Sequence[Any], *, allow_empty: bool) -> None:
    if not applyset.replace("-", "").replace(".", "").isalnum() or len(applyset) > 63 or applyset.startswith("."):
        message = f"{applyset!r} is not the name of an applyset: letters, digits, - and ., at most 63"
        raise ApiError(400, 2, "BadApplyset", message)
    if not documents and not allow_empty:
        raise ApiError(400, 2, "EmptyInput", "there is nothing in the input; --allow-empty if that is meant")


def _refuse_if_wrong(files: Mapping[str, FileReading], kinds: Collection[str]) -> None:
    """All that is wrong with all documents, at once."""
    problems = [problem for reading in files.values() for problem in reading.problems]
    seen: dict[Key, tuple[str, Declaration]] = {}
    for file, reading in files.items():
        for declared in reading.manifests:
            key = Key(declared.kind, declared.name)
            if declared.kind not in kinds:
                message = f"{declared.kind} is not applied; `run --config` reads it"
                problems.append(Problem(file, declared.line, 1, "kind", message))
            first_file, first = seen.setdefault(key, (file, declared))
            if first is not declared and first.canonical != declared.canonical:
                message = f"{key} stands differently in {first_file}:{first.line}"
                problems.append(Problem(file, declared.line, 1, "metadata.name", message, "remove one of the two"))
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        counted = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise ApiError(422, 1, "Invalid", f"{counted}; nothing was done", problems)


def _home_of(file: str, homes: Sequence[str]) -> str | None:
    """The watched home that reads this file, if one does."""
    return None if file == STDIN else next((home for home in homes if _as_seen_by(home, file)), None)


def _as_seen_by(home: str, file: str) -> str:
    """The path under which a home's scan knows the file; empty: it does not read it."""
    root = home.removeprefix(DIRECTORY)
    for seen_root, path in ((root, file), (os.path.realpath(root), os.path.realpath(file))):
        if path == seen_root:
            return root
        if path.startswith(seen_root.rstrip("/") + "/"):
            inside = os.path.relpath(path, seen_root)
            return "" if any(part.startswith(".") for part in inside.split("/")) else os.path.join(root, inside)
    return ""


def _overlap(home: str, folder: str) -> bool:
    root = os.path.realpath(home.removeprefix(DIRECTORY))
    folder = os.path.realpath(folder)
    return root == folder or folder.startswith(root + "/") or root.startswith(folder + "/")


# --- what would be declared -----------------------------------------------------------------------------------------


def set_scan(name: str, inventory: Inventory | None, stored: Mapping[Key, Declaration]) -> Scan:
    """An applied set as a scan with a file per object. What its inventory names and nobody can read is broken."""
    files = {_stored_file(key): FileReading((declared,)) for key, declared in sorted(stored.items())}
    for key in inventory.members if inventory else ():
        if key not in stored:
            lost = Problem(_stored_file(key), 0, 1, "", "is missing or damaged", "apply it again")
            files[_stored_file(key)] = FileReading((), (lost,))
    return Scan(APPLYSET + name, files, error="" if inventory else "its inventory is missing or damaged")


def _stored_file(key: Key) -> str:
    return f"manifests/{key.kind}/{key.name}.yaml"


def hypothesis(
    request: Request,
    accepted: Mapping[Key, Accepted],
    scans: Mapping[str, Scan],
    inventories: Mapping[str, Inventory],
    stored: Mapping[str, Mapping[Key, Declaration]],
) -> tuple[list[Scan], list[Scan], SetChange | None]:
    """Scans and sets as they would be, and the change of sets that is to be committed."""
    change = _set_change(request, accepted, scans, inventories, stored)
    seen = [_with_input(scan, request) if scan.home in request.homes else scan for scan in scans.values()]
    after_inventories, after_stored = dict(inventories), stored
    if change is not None:
        # Unless it takes over, it stands beside what it is in conflict with, for the decision to see.
        after_stored = carried_over(change, stored, moving=request.take_over)
        after_inventories.update({inventory.applyset: inventory for inventory in change.inventories})
    names = sorted({*after_inventories, *after_stored})
    sets = [set_scan(name, after_inventories.get(name), after_stored.get(name, {})) for name in names]
    return seen, sets, change


def _with_input(scan: Scan, request: Request) -> Scan:
    """A watched home as the input shows it: its files as handed in, and what is no more in a directory that was."""
    given = request.watched.get(scan.home, {})
    roots = [os.path.realpath(folder) for folder in request.folders]
    kept = {
        path: reading
        for path, reading in scan.files.items()
        if not any(os.path.realpath(path).startswith(root.rstrip("/") + "/") for root in roots)
    }
    files = dict(sorted({**kept, **given}.items()))
    return replace(scan, files=files, present=scan.present or bool(files), tentative=False)


def _set_change(
    request: Request,
    accepted: Mapping[Key, Accepted],
    scans: Mapping[str, Scan],
    inventories: Mapping[str, Inventory],
    stored: Mapping[str, Mapping[Key, Declaration]],
) -> SetChange | None:
    """What the sets are to become; None when they stay as they are."""
    inventory = inventories.get(request.applyset, Inventory(request.applyset, ()))
    own = stored.get(request.applyset, {})
    members = dict.fromkeys((*inventory.members, *own))
    declared = request.declared()
    pruned = [key for key in members if key not in declared] if request.prune else []
    _refuse_if_too_much(request, len(pruned), len(members))
    homes = {*scans, *(APPLYSET + name for name in inventories)}
    new = {
        key: item
        for key, item in declared.items()
        if request.take_over or not _is_the_same_elsewhere(item, accepted.get(key), homes - {request.set_home})
    }
    # What a watched directory takes over leaves the set that it was stored in.
    taken = {key for files in request.watched.values() for key in _by_key(files)} if request.take_over else set()
    gone = {*pruned, *(key for key in taken if any(key in items for items in stored.values()))}
    left = gone | new.keys() if request.take_over else gone
    others = [
        other._replace(members=tuple(key for key in other.members if key not in left))
        for name, other in inventories.items()
        if name != request.applyset and left & set(other.members)
    ]
    changed = tuple(item for key, item in new.items() if own.get(key) != item)
    after = tuple(key for key in dict.fromkeys((*members, *new)) if key not in gone)
    if not changed and not gone and not others and after == inventory.members:
        return None
    inventory = Inventory(request.applyset, after, tuple(request.readings))
    return SetChange(request.applyset, changed, tuple(sorted(gone)), (inventory, *others))


def _is_the_same_elsewhere(item: Declaration, owned: Accepted | None, other_homes: Collection[str]) -> bool:
    """Whether another home has it already, just so: nothing is stored then. Another spec is refused by the decision."""
    return owned is not None and owned.home in other_homes and owned.canonical == item.canonical


def carried_over(
    change: SetChange, stored: Mapping[str, Mapping[Key, Declaration]], *, moving: bool = True
) -> dict[str, dict[Key, Declaration]]:
    """What the sets hold after a change. An object is stored once, whatever set it was in before (`moving`)."""
    new = {Key(item.kind, item.name): item for item in change.stored}
    gone = {*change.removed, *(new if moving else ())}
    after = {name: {key: item for key, item in items.items() if key not in gone} for name, items in stored.items()}
    after.setdefault(change.applyset, {}).update(new)
    return after


def _refuse_if_too_much(request: Request, pruned: int, members: int) -> None:
    if not pruned or request.allow_empty:
        return
    if pruned == members:
        message = (
            f"this would prune all {members} objects of applyset {request.applyset}; --allow-empty if that is meant"
        )
        raise ApiError(409, 1, "PruneRefused", message)
    limit = request.prune_limit.strip()
    try:
        most = members * float(limit.removesuffix("%")) / 100 if limit.endswith("%") else float(limit)
    except ValueError:
        raise ApiError(400, 2, "BadPruneLimit", f"{limit!r} is neither a share (50%) nor a number") from None
    if pruned > most:
        message = f"this would prune {pruned} of {members} objects of applyset {request.applyset}, more than {limit}"
        raise ApiError(409, 1, "PruneRefused", f"{message}; --prune-limit=100% if that is meant")


# --- judging the answer ---------------------------------------------------------------------------------------------


def refuse_if_conflicting(request: Request, changes: Sequence[Change]) -> None:
    """Nothing is applied when something in the input belongs to somebody else."""
    asked = {request.set_home: request.declared()}
    asked.update({home: _by_key(files) for home, files in request.watched.items()})
    conflicts = [c for c in changes if isinstance(c, Conflict) and c.key in asked.get(c.home, {})]
    if conflicts:
        more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
        first = conflicts[0]
        message = f"{first.key} belongs to {first.owner}{more}; --take-over moves it to {first.contender}"
        # Of a set the decision knows the file that would be stored; who applies knows the one that was handed in.
        written = {Key(each.kind, each.name): (file, each.line) for file, each in request.declarations()}
        places = [
            conflict._replace(file=written[conflict.key][0], line=written[conflict.key][1]) for conflict in conflicts
        ]
        raise ApiError(409, 6, "Conflict", message, [conflict.as_problem() for conflict in places])


def judged(
    request: Request,
    accepted: Mapping[Key, Accepted],
    changes: Sequence[Change],
    change: SetChange | None,
    confirmed: Collection[str],
) -> Prepared:
    """The answer, object by object: those of the input in its order, then what goes."""
    keys = [*request.declared(), *(key for files in request.watched.values() for key in _by_key(files))]
    accepts = {c.after.key: c for c in changes if isinstance(c, Accept)}
    results = [_result(key, accepts.get(key), accepted.get(key), request) for key in dict.fromkeys(keys)]
    concerned: list[Accept | Remove] = [accepts[key] for key in dict.fromkeys(keys) if key in accepts]
    for gone in (c for c in changes if isinstance(c, Remove)):
        if gone.before.home in {request.set_home, *request.homes, *confirmed}:
            concerned.append(gone)
            before = gone.before
            results.append(
                {"kind": before.kind, "name": before.name, "verb": "pruned", "generation": before.generation}
            )
    readings = [*request.readings.values(), *(r for files in request.watched.values() for r in files.values())]
    warnings = tuple(problem for reading in readings for problem in (*reading.problems, *reading.advice))
    return Prepared(request, tuple(results), tuple(concerned), warnings, _hints(request, accepted, changes), change)


def _result(key: Key, accept: Accept | None, before: Accepted | None, request: Request) -> dict[str, Any]:
    if accept is None:
        verb, generation = "unchanged", before.generation if before else 0
    else:
        same_home = before is not None and before.home == accept.after.home
        # A new line number, or another file of the same directory, is nothing that anybody applied.
        verb = {"created": "created", "configured": "configured", "annotated": "configured"}.get(
            accept.how, "unchanged" if same_home else "configured"
        )
        generation = accept.after.generation
    return {"kind": key.kind, "name": key.name, "verb": verb, "generation": generation}


def _hints(request: Request, accepted: Mapping[Key, Accepted], changes: Sequence[Change]) -> tuple[str, ...]:
    hints = [c.message for c in changes if isinstance(c, SourceSuspect) and c.home in request.homes]
    declared = request.declared()
    left = sorted(str(key) for key, item in accepted.items() if item.home == request.set_home and key not in declared)
    if left and declared and not request.prune:
        shown = ", ".join(left[:SHOWN_NAMES]) + (
            f" and {len(left) - SHOWN_NAMES} more" if len(left) > SHOWN_NAMES else ""
        )
        hints.append(f"not in the input, but in applyset {request.applyset}: {shown} (--prune deletes)")
    for conflict in changes:
        if isinstance(conflict, Conflict) and conflict.key in request.takers():
            hints.append(f"{conflict.contender} still declares {conflict.key} differently; it has no say any more")
    if request.homes:
        roots = ", ".join(home.removeprefix(DIRECTORY) for home in request.homes)
        hints.append(f"{roots} is watched: its files are read, nothing was stored")
    return tuple(hints)
