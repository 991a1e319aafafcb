"""What earlier revisions were made of: kept for starts in the middle of a rollout, for `history` and for `undo`."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from reconciler.engine.building import Builder
from reconciler.engine.chores import Chores
from reconciler.engine.controlled import Controlled
from reconciler.model.objects import StateWriteFailed
from reconciler.ports import Clock

log = logging.getLogger("reconciler")


class RevisionStore(Protocol):
    """Where they are kept."""

    def write_history(self, program: str, revision: str, document: Mapping[str, Any]) -> None: ...
    def kept_revisions(self, program: str) -> Collection[str]: ...
    def load_history(self, program: str) -> tuple[dict[str, dict[str, Any]], list[Any]]: ...
    def remove_history(self, program: str, revision: str) -> None: ...


class Revisions:
    """Remembers revisions, up to revisionHistoryLimit of a Program."""

    def __init__(self, clock: Clock, store: RevisionStore, builder: Builder, chores: Chores) -> None:
        self._clock, self._store, self._builder, self._chores = clock, store, builder, chores

    def remember(self, controlled: Controlled) -> None:
        """Keep, in a moment, what the current revision was made of; the oldest ones go."""
        document, limit = self._document(controlled), controlled.built.spec.revision_history_limit + 1
        self._chores.add(lambda: self._keep(controlled.name, document, limit))

    def make_sure(self, controlled: Controlled) -> None:
        """The same for a Program whose earlier controller may have died before it came to that."""
        if controlled.built.template is None:
            return  # its revision is the one that it had when it could be started
        name, revision = controlled.name, controlled.built.revision
        document, limit = self._document(controlled), controlled.built.spec.revision_history_limit + 1

        def keep_if_missing() -> None:
            if revision not in self._store.kept_revisions(name):
                self._keep(name, document, limit)

        self._chores.add(keep_if_missing)

    def _document(self, controlled: Controlled) -> dict[str, Any]:
        accepted, revision = controlled.accepted, controlled.built.revision
        about = {"revision": revision, "generation": accepted.generation, "at": self._clock.wall()}
        return {**about, "spec": accepted.canonical}

    def _keep(self, name: str, document: dict[str, Any], limit: int) -> None:
        try:
            self._store.write_history(name, document["revision"], document)
            if len(self._store.kept_revisions(name)) <= limit:
                return
            kept, _ = self._store.load_history(name)
            oldest = sorted(kept, key=lambda r: float(kept[r].get("at", 0)))
            for revision in oldest[: max(0, len(oldest) - limit)]:
                self._store.remove_history(name, revision)
        except (OSError, StateWriteFailed) as error:
            log.warning("program/%s: its history cannot be kept: %s", name, error)

    def restore_templates(self, controlled: Controlled) -> None:
        """Old revisions that are in the middle of a rollout: they can be started as long as they can be rebuilt."""
        ledger = controlled.ledger
        used = {p.revision for p in ledger.observed.processes.values()}
        used |= {h.last_exit.revision for h in ledger.memory.histories.values() if h.last_exit is not None}
        used.discard(controlled.built.revision)
        if not used:
            return
        history, _ = self._store.load_history(controlled.name)
        for revision in used & history.keys():
            built = self._builder.build(replace(controlled.accepted, canonical=history[revision]["spec"]))
            if built.template is not None and built.revision == revision:
                controlled.templates[revision] = built.template
