"""accepted/: what is in force. A few objects are written each to a file of its own, many as one batch (batches.py).

When `write` returns, all is durable, either way; who reads cannot tell the difference.
"""

import json
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from reconciler.adapters.statefiles.batches import Batches
from reconciler.adapters.statefiles.files import flush, read_json, remove, replace_all
from reconciler.adapters.statefiles.layout import (
    ENDING,
    files_in,
    json_lines,
    key_of,
    object_document,
    object_fields,
    path_of,
)
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted
from reconciler.model.problems import Problem

MANY = 24  # from so many on it is cheaper to write each twice, but once while nobody waits
LEAVING = ENDING + ".leaving"


class AcceptedFiles:
    """Reads and writes the room. One writer at a time."""

    def __init__(self, room: str) -> None:
        self._room = room
        self._batches = Batches(os.path.join(room, "batches"), _as_line, _from_line, self._as_file)

    def write(self, items: Sequence[Accepted]) -> None:
        """Put these in place, durably: all of them or, when the disk refuses, none."""
        keys = [item.key for item in items]
        for key in keys:
            path_of(self._room, *key)  # what has no place of its own is refused before anything is written
        if len(items) >= MANY or self._batches.holds(keys):
            self._batches.write(items)
        else:
            replace_all([self._as_file(item) for item in items])

    @property
    def has_batches(self) -> bool:
        """Whether something is to be settled."""
        return bool(self._batches)

    def settle(self, most: int) -> bool:
        """Take apart what was written as batches, so many objects of it; whether there is more to do."""
        return self._batches.settle(most)

    def load(self) -> tuple[dict[Key, Accepted], list[Problem]]:
        """All that is in force, and what could not be read."""
        problems: list[Problem] = []
        in_batches = self._batches.load(problems)
        # A file of what a batch says may be older than the batch, or torn: it is written without much ado.
        alone = [path for path in files_in(self._room) if key_of(path) not in in_batches]
        return {**_read(alone, problems), **in_batches}, problems

    def retire(self, keys: Collection[Key]) -> None:
        """Not in force any more, but kept aside (`.leaving`): a later controller must know how to drain it."""
        if self._batches.holds(keys):
            self._batches.settle()
        for key in keys:
            path = path_of(self._room, *key)
            # While a namesake that was deleted before still drains, this one has started nothing that could be left.
            drains = os.path.exists(path + ".leaving")
            remove(path, rename_to=None if drains else path + ".leaving")
        flush({os.path.join(self._room, key.kind) for key in keys})

    def load_leaving(self) -> dict[Key, Accepted]:
        """What was retired and not yet forgotten."""
        return _read(files_in(self._room, LEAVING), [])

    def forget(self, key: Key) -> None:
        """Its last process is gone."""
        remove(path_of(self._room, *key) + ".leaving")

    def _as_file(self, item: Accepted) -> tuple[str, str]:
        return path_of(self._room, *item.key), json_lines(_document(item))


def _read(paths: Iterable[str], problems: list[Problem]) -> dict[Key, Accepted]:
    items = (read_json(path, _from_document, problems) for path in paths)
    return {item.key: item for item in items if item is not None}


def _as_line(item: Accepted) -> str:
    return json.dumps(_document(item), ensure_ascii=False)


def _from_line(line: bytes) -> Accepted:
    return _from_document(json.loads(line))


def _document(item: Accepted) -> dict[str, Any]:
    source = {"home": item.home, "file": item.file, "line": item.line, "suspect": item.suspect}
    return object_document(item, uid=item.uid, generation=item.generation, createdAt=item.created_at, source=source)


def _from_document(document: Any) -> Accepted:
    metadata, source = document["metadata"], document["metadata"]["source"]
    return Accepted(
        **object_fields(document),
        uid=str(metadata["uid"]),
        generation=int(metadata["generation"]),
        home=str(source["home"]),
        file=str(source["file"]),
        suspect=bool(source["suspect"]),
        created_at=float(metadata.get("createdAt", 0.0)),
    )
