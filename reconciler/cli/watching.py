"""`get -w` of any kind: prints what there is, then every change of it, over restarts of the controller too."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from reconciler.cli.output import note, say
from reconciler.cli.tables import Table

Json = dict[str, Any]

_RECONNECT_SECONDS = 0.2


class Form(NamedTuple):
    """How things are printed. Each has parts, which are the rows: (key, part).

    `cells(part, gone)`: for `table`; None: `line(part)` is printed. `face`: what has to differ for a part to be printed
    again.
    """

    parts: Callable[[Json], Iterable[tuple[str, Json]]]
    table: Table | None
    cells: Callable[[Json, bool], list[str]]
    line: Callable[[Json], str]
    face: Callable[[Json], object] = lambda part: part


def watch(events: Callable[[], Iterable[Json]], wanted: Callable[[Json], bool], form: Form) -> NoReturn:
    """Go on until somebody interrupts. `events` begins a stream of `{type, object}`: all, then SYNCED, then changes."""
    shown = _Shown(form)
    while True:
        first: list[tuple[Json, bool]] | None = []
        for event in events():
            if event.get("type") == "SYNCED":
                shown.show(first or [])
                first = None
                continue
            thing = event.get("object") or {}
            if not wanted(thing):
                continue
            change = (thing, event.get("type") == "DELETED")
            if first is None:
                shown.show([change])
            else:
                first.append(change)
        note("the controller ended the watch; watching again")
        time.sleep(_RECONNECT_SECONDS)


class _Shown:
    """What was printed, of which only what differs is printed again."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._faces: dict[str, object] = {}
        self._headed = False

    def show(self, things: Iterable[tuple[Json, bool]]) -> None:
        """Things, and whether each is gone."""
        changed = [each for thing, gone in things for each in self._changed(thing, gone)]
        if not changed:
            return
        form = self._form
        if form.table is not None:
            rows = [form.cells(part, gone) for part, gone in changed]
            say(form.table.render(rows, headed=not self._headed))
            self._headed = True
        else:
            for part, _ in changed:
                say(form.line(part))
        sys.stdout.flush()

    def _changed(self, thing: Json, gone: bool) -> Iterable[tuple[Json, bool]]:
        for key, part in self._form.parts(thing):
            face = self._form.face(part)
            if gone or self._faces.get(key) != face:
                yield part, gone
            self._faces[key] = None if gone else face
