"""What earlier revisions were made of: kept for starts in the middle of a rollout, for `history` and for `undo`."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.model.objects import StateWriteFailed
from reconciler.ports import Clock

log = logging.getLogger("reconciler")


class RevisionStore(Protocol):
    """Where they are kept."""

    def write_history(self, program: str, revision: str, document: Mapping[str, Any]) -> None: ...
    def load_history(self, program: str) -> tuple[dict[str, dict[str, Any]], list[Any]]: ...
    def remove_history(self, program: str, revision: str) -> None: ...


class Revisions:
    """Remembers revisions, up to revisionHistoryLimit of a Program."""

    def __init__(self, clock: Clock, store: RevisionStore, builder: Builder) -> None:
        self._clock, self._store, self._builder = clock, store, builder

    def remember(self, controlled: Controlled) -> None:
        """Keep what the current revision was made of; the oldest ones go."""
        accepted = controlled.accepted
        document = {
            "revision": controlled.built.revision,
            "generation": accepted.generation,
            "at": self._clock.wall(),
            "spec": accepted.canonical,
        }
        try:
            self._store.write_history(accepted.name, controlled.built.revision, document)
            kept, _ = self._store.load_history(accepted.name)
            limit = controlled.built.spec.revision_history_limit + 1
            oldest = sorted(kept, key=lambda r: float(kept[r].get("at", 0)))
            for revision in oldest[: max(0, len(oldest) - limit)]:
                self._store.remove_history(accepted.name, revision)
        except (OSError, StateWriteFailed) as error:
            log.warning("program/%s: its history cannot be kept: %s", accepted.name, error)

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
