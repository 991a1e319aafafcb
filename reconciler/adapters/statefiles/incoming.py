"""incoming/: changes of applied sets, each committed as one file, and carried over to manifests/ and applysets/.

A change has happened once it is committed. To carry it over takes a file for each object: at once (`replay`), or a
little at a time (`settle`). Every step may be repeated, and changes are carried over in their order, so whoever dies
in the middle leaves it to the next one.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from reconciler.adapters.statefiles.files import flush, read_json, remove, replace_all, replace_each_quickly, sync_all
from reconciler.adapters.statefiles.layout import (
    API_VERSION,
    files_in,
    json_lines,
    object_document,
    object_fields,
    path_of,
)
from reconciler.model.identity import Key
from reconciler.model.objects import Declaration, Inventory, SetChange, StateWriteFailed
from reconciler.model.problems import Problem

CHANGE = ".json"


class IncomingFiles:
    """The room of one state directory. One thread at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folder = os.path.join(root, "incoming")
        self._begun: tuple[str, SetChange, int] | None = None  # the oldest one, and how many of it are stored
        self.waits = False  # something was committed and is not carried over

    def commit(self, change: SetChange) -> None:
        """Write down a whole change: from here on it will happen."""
        numbers = [int(os.path.basename(path).removesuffix(CHANGE)) for path in files_in(self._folder, CHANGE)]
        path = os.path.join(self._folder, f"{max(numbers, default=0) + 1:010d}{CHANGE}")
        replace_all([(path, _change_text(change))])
        if not self.waits:
            self._begun = path, change, 0
        self.waits = True

    def replay(self) -> list[Problem]:
        """Carry over all that was committed; what of it could not be read."""
        problems: list[Problem] = []
        self._begun, self.waits = None, True
        for path in files_in(self._folder, CHANGE):
            # A change is whole by construction (rename after fsync): what cannot be read is not one of ours.
            change = read_json(path, SetChange.from_document, problems)
            if change is not None:
                replace_all([*self._stored(change, change.stored), *self._inventories(change)])
                self._finish(path, change)
        self.waits = False
        return problems

    def load_applied(self) -> tuple[dict[str, Inventory], dict[str, dict[Key, Declaration]], list[Problem]]:
        """Inventories and stored objects by applied set, and what could not be read."""
        problems: list[Problem] = []
        inventories: dict[str, Inventory] = {}
        for path in files_in(self._room("applysets")):
            inventory = read_json(path, _inventory_from, problems)
            if inventory is not None:
                inventories[inventory.applyset] = inventory
        stored: dict[str, dict[Key, Declaration]] = {}
        for path in files_in(self._room("manifests")):
            found = read_json(path, _stored_from, problems)
            if found is not None:
                stored.setdefault(found[0], {})[Key(found[1].kind, found[1].name)] = found[1]
        return inventories, stored, problems

    def settle(self, most: int) -> bool:
        """Carry over so many objects of the oldest change; whether there is more to do."""
        if not self.waits:
            return False
        if self._begun is None:
            self._begun = self._oldest()
        if self._begun is None:
            self.waits = False
            return False
        path, change, done = self._begun
        replace_each_quickly(self._stored(change, change.stored[done : done + most]))
        if done + most < len(change.stored):
            self._begun = path, change, done + most
            return True
        sync_all(self._root)
        replace_all(self._inventories(change))
        self._finish(path, change)
        self._begun = None
        return True

    def _oldest(self) -> tuple[str, SetChange, int] | None:
        problems: list[Problem] = []
        for path in files_in(self._folder, CHANGE):
            change = read_json(path, SetChange.from_document, problems)
            if change is None:
                raise StateWriteFailed(path, problems[0].message)
            return path, change, 0
        return None

    def _finish(self, path: str, change: SetChange) -> None:
        """All that it stores is in its place."""
        for key in change.removed:
            remove(path_of(self._room("manifests"), *key))
        flush({os.path.join(self._room("manifests"), key.kind) for key in change.removed})
        remove(path)

    def _room(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _stored(self, change: SetChange, items: Sequence[Declaration]) -> list[tuple[str, str]]:
        """Path and text of the file of each."""
        room = self._room("manifests")
        return [(path_of(room, item.kind, item.name), _stored_text(change.applyset, item)) for item in items]

    def _inventories(self, change: SetChange) -> list[tuple[str, str]]:
        room = self._room("applysets")
        return [(path_of(room, "", each.applyset), _inventory_text(each)) for each in change.inventories]


def _change_text(change: SetChange) -> str:
    """JSON, made of pieces: to encode thousands of objects in one call would hold up whoever else wants to compute."""
    document = change.as_document()
    stored = ",\n".join(map(json.dumps, document.pop("stored")))
    return f'{json.dumps(document)[:-1]}, "stored": [\n{stored}\n]}}'


def _stored_text(applyset: str, item: Declaration) -> str:
    return json_lines(object_document(item, source={"applyset": applyset, "line": item.line}))


def _inventory_text(inventory: Inventory) -> str:
    members = [list(key) for key in inventory.members]
    head = {"apiVersion": API_VERSION, "kind": "ApplySet", "metadata": {"name": inventory.applyset}}
    return json_lines({**head, "spec": {"members": members, "origin": list(inventory.origin)}})


def _stored_from(document: Any) -> tuple[str, Declaration]:
    return str(document["metadata"]["source"]["applyset"]), Declaration(**object_fields(document))


def _inventory_from(document: Any) -> Inventory:
    spec = document["spec"]
    members = tuple(Key(str(kind), str(name)) for kind, name in spec["members"])
    return Inventory(str(document["metadata"]["name"]), members, tuple(map(str, spec["origin"])))
