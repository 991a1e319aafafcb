"""`apply --offline`: stores manifests in the state directory while no controller runs; its next start takes them in.

Uses the same commit point as the controller, below the same lock. It plans nothing and prunes nothing.
"""

import fcntl
import os
from collections.abc import Mapping
from typing import Any

from reconciler.adapters.statefiles import StateFiles
from reconciler.cli.exits import CONFLICT, DONE, FAILED, PERMISSION, Failure
from reconciler.cli.output import hint, problem_lines, say
from reconciler.cli.sources import Source
from reconciler.cli.validate import decoded
from reconciler.model.identity import Key
from reconciler.model.objects import APPLYSET, Accepted, Declaration, Inventory, SetChange, StateWriteFailed


def store(state_dir: str, sources: list[Source], terms: Mapping[str, Any], *, dry_run: bool) -> int:
    """Check all, then commit all."""
    if terms["prune"]:
        raise Failure("--prune needs a controller: what is pruned has to be drained")
    found = decoded(sources)
    problem_lines([*found.errors, *found.warnings])
    if found.errors:
        raise Failure("nothing was stored")
    wanted = [manifest for _, manifest in found.manifests]
    origin = tuple(source.file for source in sources)
    if dry_run and not os.path.isdir(state_dir):
        verbs = {Key(item.kind, item.name): "created" for item in wanted}
    else:
        lock = _lock(state_dir)
        try:
            verbs = _commit(StateFiles(state_dir), wanted, origin, terms, dry_run=dry_run)
        except StateWriteFailed as failure:
            raise Failure(f"{failure}; nothing was stored", FAILED) from None
        finally:
            os.close(lock)
    for key, verb in verbs.items():
        say(f"{key} {verb}{' (dry run)' if dry_run else ''}")
    if not dry_run:
        hint(f"stored in {state_dir}; the next `reconciler run` takes it in")
    return DONE


def _lock(state_dir: str) -> int:
    """The keeper's own lock: while we hold it, none can start and read half of what we write."""
    try:
        os.makedirs(os.path.join(state_dir, "run"), mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(state_dir, "run", "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as failure:
        raise Failure(f"{failure.filename}: permission denied; nothing was stored", PERMISSION) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Failure(f"a keeper runs on {state_dir}, but cannot be reached; nothing was stored", CONFLICT) from None
    return lock


def _commit(
    files: StateFiles, wanted: list[Declaration], origin: tuple[str, ...], terms: Mapping[str, Any], *, dry_run: bool
) -> dict[Key, str]:
    """Decide each object's verb; then write all of them as one change."""
    if not dry_run:
        problem_lines(problem.as_dict() for problem in files.replay_incoming())
    inventories, stored, _ = files.load_applied()
    accepted, _ = files.load_accepted()
    applyset = str(terms["applyset"])
    verbs: dict[Key, str] = {}
    changed = dict(inventories)
    for item in wanted:
        key = Key(item.kind, item.name)
        owner = _owner(key, applyset, stored, accepted)
        if owner and not terms["take_over"]:
            raise Failure(f"{key} belongs to {owner}; --take-over moves it. Nothing was stored", CONFLICT)
        for name, inventory in changed.items():
            if name != applyset and key in inventory.members:
                left = tuple(member for member in inventory.members if member != key)
                changed[name] = inventory._replace(members=left)
        before = stored.get(applyset, {}).get(key)
        is_same = before is not None and before.canonical == item.canonical
        verbs[key] = "unchanged" if is_same else "configured" if before or key in accepted else "created"
    mine = inventories.get(applyset, Inventory(applyset, ()))
    members = tuple(dict.fromkeys((*mine.members, *verbs)))
    changed[applyset] = Inventory(applyset, members, origin)
    if not dry_run:
        differing = tuple(inventory for name, inventory in changed.items() if inventories.get(name) != inventory)
        files.commit_incoming(SetChange(applyset, tuple(wanted), (), differing))
        files.replay_incoming()
    return verbs


def _owner(
    key: Key, applyset: str, stored: Mapping[str, Mapping[Key, Declaration]], accepted: Mapping[Key, Accepted]
) -> str:
    """Who else has the name; empty when nobody does."""
    for name, items in stored.items():
        if name != applyset and key in items:
            return f"applyset {name}"
    holder = accepted.get(key)
    if holder is not None and holder.home != APPLYSET + applyset:
        return holder.source
    return ""
