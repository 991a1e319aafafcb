"""accepted/batches/: what was accepted at once, by hundreds or thousands, as one file with a line for each object.

Written whole and durably, and taken apart a little at a time: when all of it stands in files of its own, the batch
goes. Until then it outdoes those files, and a later batch an earlier one. So nothing that a batch `holds` may be
written or taken away but by a later batch, or after `settle`.
"""

import json
import os
from collections.abc import Callable, Collection, Sequence

from reconciler.adapters.statefiles.files import flush, remove, replace_all, replace_each_quickly, sync_all
from reconciler.adapters.statefiles.layout import API_VERSION, files_in
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, StateWriteFailed
from reconciler.model.problems import Problem

BATCH = ".jsonl"
BROKEN = ".broken"
KIND = "AcceptedBatch"


class Batches:
    """The batches of one folder. One thread at a time."""

    def __init__(
        self,
        folder: str,
        as_line: Callable[[Accepted], str],
        from_line: Callable[[bytes], Accepted],
        as_file: Callable[[Accepted], tuple[str, str]],
    ) -> None:
        """`as_file`: path and text of the file of its own that an object is to have."""
        self._folder, self._as_line, self._from_line, self._as_file = folder, as_line, from_line, as_file
        self._files: list[str] = []  # oldest first
        self._damaged: set[str] = set()
        self._held: set[Key] = set()  # said by one of these files
        self._waiting: dict[Key, Accepted] = {}  # what is still to have a file of its own

    def __bool__(self) -> bool:
        return bool(self._files)

    def holds(self, keys: Collection[Key]) -> bool:
        """Whether the last word about one of these is a batch's."""
        return not self._held.isdisjoint(keys)

    def write(self, items: Sequence[Accepted]) -> None:
        """Put all of these on disk at once: when this returns, they are durable."""
        number = int(os.path.basename(self._files[-1]).removesuffix(BATCH)) + 1 if self._files else 1
        path = os.path.join(self._folder, f"{number:010d}{BATCH}")
        head = json.dumps({"apiVersion": API_VERSION, "kind": KIND, "items": len(items)})
        self._make_folder()
        replace_all([(path, "\n".join([head, *map(self._as_line, items), ""]))])
        self._files.append(path)
        self._take(items)

    def _make_folder(self) -> None:
        if os.path.isdir(self._folder):
            return
        try:
            os.makedirs(self._folder, mode=0o700)
        except OSError as error:
            raise StateWriteFailed(self._folder, error.strerror or str(error)) from error
        room = os.path.dirname(self._folder)
        flush([room, os.path.dirname(room)])

    def _take(self, items: Sequence[Accepted]) -> None:
        told = {item.key: item for item in items}
        self._held |= told.keys()
        self._waiting.update(told)

    def load(self, problems: list[Problem]) -> dict[Key, Accepted]:
        """All that batches say. A damaged line costs that line; such a batch is set aside when the rest is settled."""
        self._files, self._damaged, self._held, self._waiting = [], set(), set(), {}
        for path in files_in(self._folder, BATCH):
            try:
                with open(path, "rb") as file:
                    lines = file.read().split(b"\n")
            except OSError as error:
                problems.append(_set_aside(path, error))
                continue
            self._files.append(path)
            items, told = self._read(path, lines)
            if told:
                self._damaged.add(path)
            problems += told
            self._take(items)
        return dict(self._waiting)

    def _read(self, path: str, lines: Sequence[bytes]) -> tuple[list[Accepted], list[Problem]]:
        items: list[Accepted] = []
        problems: list[Problem] = []
        expected = 0
        for number, line in enumerate(lines, 1):
            try:
                if number == 1:
                    expected = int(json.loads(line)["items"])
                elif line:
                    items.append(self._from_line(line))
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
                problems.append(Problem(path, number, 1, "", f"this line is damaged: {error}", severity="warning"))
        missing = expected - len(items) - len(problems)
        if missing > 0:
            problems.append(Problem(path, 0, 1, "", f"{missing} of {expected} lines are missing", severity="warning"))
        return items, problems

    def settle(self, most: int | None = None) -> bool:
        """Give files of their own to as many as `most` of those that wait; whether there is more to do.

        With the last one the batches go. What a crash in between leaves is done again.
        """
        keys = list(self._waiting)[:most]
        replace_each_quickly([self._as_file(self._waiting[key]) for key in keys])
        for key in keys:
            del self._waiting[key]
        if self._waiting:
            return True
        if self._files:
            sync_all(os.path.dirname(self._folder))
        # The oldest first, and for good, before the next: one that came back would outdo what was written since.
        while self._files:
            remove(self._files[0], self._files[0] + BROKEN if self._files[0] in self._damaged else None)
            flush([self._folder])
            self._damaged.discard(self._files.pop(0))
        self._held.clear()
        return False


def _set_aside(path: str, error: OSError) -> Problem:
    """What cannot be read must not be read later, when its objects stand in files of their own again."""
    message = f"cannot be read: {error.strerror}"
    try:
        os.rename(path, path + BROKEN)
        message += f"; it was set aside as {os.path.basename(path)}{BROKEN}"
    except OSError:
        pass  # a read-only disk: nothing is written later, either
    return Problem(path, 0, 1, "", message)
