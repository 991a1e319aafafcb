"""The state directory's objects: accepted/, incoming/, manifests/, applysets/, overrides/, history/, status/, events.

It writes so that a crash at any instant leaves the old or the new content, and reads so that a broken file is set
aside and reported, never fatal. It decides nothing. A disk that does not take a write raises StateWriteFailed; status
and events, which can be made anew, answer with a text instead. All content is JSON-compatible YAML; what has to be
read back is read as JSON.

Blocking; bulk calls belong into a thread (one writer per folder at a time).
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from reconciler.adapters.statefiles.accepted import AcceptedFiles
from reconciler.adapters.statefiles.events import EventLog
from reconciler.adapters.statefiles.files import read_json, remove, replace_all, replace_quickly
from reconciler.adapters.statefiles.incoming import IncomingFiles
from reconciler.adapters.statefiles.layout import (
    API_VERSION,
    ENDING,
    files_in,
    json_lines,
    key_of,
    names_in,
    path_of,
)
from reconciler.model.emit import to_yaml
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, Declaration, Inventory, SetChange, StateWriteFailed
from reconciler.model.problems import Problem

T = TypeVar("T")


class StateFiles:
    """Reads and writes below one state directory. One process at a time: the keeper holds its lock."""

    def __init__(self, state_dir: str) -> None:
        self._root = state_dir
        self._accepted = AcceptedFiles(os.path.join(state_dir, "accepted"))
        self._incoming = IncomingFiles(state_dir)
        self._status_written: dict[Key, str] = {}
        self._events = EventLog(os.path.join(state_dir, "events.jsonl"))

    # accepted/: what is in force

    def write_accepted(self, items: Sequence[Accepted]) -> None:
        """Put these in place, durably: all of them or, when the disk refuses, none."""
        self._accepted.write(items)

    def load_accepted(self) -> tuple[dict[Key, Accepted], list[Problem]]:
        """All that is in force, and what could not be read."""
        return self._accepted.load()

    def retire_accepted(self, keys: Collection[Key]) -> None:
        """Not in force any more, but kept aside: a later controller must know how to drain it."""
        self._accepted.retire(keys)

    def load_leaving(self) -> dict[Key, Accepted]:
        """What was retired and not yet forgotten."""
        return self._accepted.load_leaving()

    def forget_accepted(self, key: Key) -> None:
        """Its last process is gone."""
        self._accepted.forget(key)

    # what was written at once, and is to have files of its own

    @property
    def has_unsettled(self) -> bool:
        """Whether there is something of that."""
        return self._accepted.has_batches or self._incoming.waits

    def settle(self, most: int) -> bool:
        """Give files of their own to so many objects that were accepted or applied together; whether there are more."""
        return self._accepted.settle(most) or self._incoming.settle(most)

    # incoming/: the commit point of an apply; manifests/ and applysets/: what it becomes

    def commit_incoming(self, change: SetChange) -> None:
        """Write down a whole change of applied sets: from here on it will happen, whatever happens."""
        self._incoming.commit(change)

    def replay_incoming(self) -> list[Problem]:
        """Carry over to manifests/ and applysets/ what was committed, by this controller or an earlier one."""
        return self._incoming.replay()

    def load_applied(self) -> tuple[dict[str, Inventory], dict[str, dict[Key, Declaration]], list[Problem]]:
        """Inventories and stored objects by applied set, and what could not be read."""
        return self._incoming.load_applied()

    # overrides/ and history/: written for the engine, which gives the content its meaning

    def write_override(self, key: Key, document: Mapping[str, Any]) -> None:
        """Put an object's override in place, durably; an empty one removes the file."""
        path = self._path("overrides", *key)
        if document:
            head = {"apiVersion": API_VERSION, "kind": "Override", "metadata": {"name": key.name, "for": key.kind}}
            replace_all([(path, json_lines({**head, "spec": dict(document)}))])
        else:
            remove(path)

    def load_overrides(self, kind: str, read: Callable[[Mapping[str, Any]], T]) -> tuple[dict[Key, T], list[Problem]]:
        """All overrides of objects of this kind, as `read` understands them, and what could not be read."""
        problems: list[Problem] = []
        found: dict[Key, T] = {}
        for path in self._files(f"overrides/{kind}", ".yaml"):
            override = read_json(path, lambda doc: read(dict(doc["spec"])), problems)
            if override is not None:
                found[key_of(path)] = override
        return found, problems

    def write_history(self, program: str, revision: str, document: Mapping[str, Any]) -> None:
        """Keep what a revision of a Program was made of. Not durable: thousands are written at a first load."""
        path = self._path("history", f"Program/{program}", revision)
        try:
            replace_quickly(path, json_lines(document))
        except OSError as error:
            raise StateWriteFailed(path, error.strerror or str(error)) from error

    def kept_revisions(self, program: str) -> list[str]:
        """The names of the kept revisions of a Program."""
        return names_in(self._folder("history", "Program", program))

    def load_history(self, program: str) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
        """The kept revisions of a Program."""
        problems: list[Problem] = []
        found: dict[str, dict[str, Any]] = {}
        for path in self._files(f"history/Program/{program}", ".yaml"):
            document = read_json(path, dict, problems)
            if document is not None:
                found[os.path.basename(path).removesuffix(".yaml")] = document
        return found, problems

    def remove_history(self, program: str, revision: str) -> None:
        """Let a revision go."""
        remove(self._path("history", f"Program/{program}", revision))

    # status/ and events.jsonl: for readers only; a failure is told, and nothing else depends on it

    def write_status(self, key: Key, document: Mapping[str, Any]) -> str | None:
        """Show an object's status. Not durable: after a crash it is written anew. Returns what went wrong."""
        text = to_yaml(document)
        if self._status_written.get(key) == text:
            return None
        path = self._path("status", *key)
        try:
            replace_quickly(path, text)
        except OSError as error:
            self._status_written.pop(key, None)
            return f"cannot write {path}: {error.strerror}"
        self._status_written[key] = text
        return None

    def remove_status(self, key: Key) -> str | None:
        """The object is gone."""
        self._status_written.pop(key, None)
        path = self._path("status", *key)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # never shown
        except OSError as error:
            return f"cannot remove {path}: {error.strerror}"
        return None

    def append_event(self, event: Mapping[str, Any]) -> str | None:
        """Add a line to events.jsonl. Returns what went wrong."""
        return self._events.append(event)

    def load_events(self) -> Iterator[dict[str, Any]]:
        """The events of the newest file, oldest first: one by one, since all at once are megabytes."""
        return self._events.load()

    def close(self) -> None:
        """Let the event file go; the next event opens it again."""
        self._events.close()

    # how it is done

    def _folder(self, *parts: str) -> str:
        return os.path.join(self._root, *(part for part in parts if part))

    def _path(self, room: str, kind: str, name: str) -> str:
        return path_of(self._folder(room), kind, name)

    def _files(self, room: str, ending: str = ENDING) -> Iterator[str]:
        return files_in(self._folder(room), ending)
