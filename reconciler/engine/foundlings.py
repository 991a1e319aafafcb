"""Processes that run although nothing written down speaks of them: they are taken in, not started a second time.

A disk that takes no records blocks no start. If the controller then dies, the next one reads a journal that ends before
the last starts. What is missing in it the processes tell themselves, by the environment that they were given.
"""

import logging
from collections.abc import Mapping

from reconciler.core.records import Intended
from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.engine.observe import Observer
from reconciler.model.state import Cause
from reconciler.ports import Foundling

log = logging.getLogger("reconciler")


def take_in(programs: Mapping[str, Controlled], observer: Observer, builder: Builder) -> None:
    """Give each foundling the seat it was started for; to be called when all that is written down was adopted."""
    for found in observer.foundlings(_known(programs)):
        name, ordinal = found.environment.get("RECONCILER_PROGRAM", ""), found.environment.get("RECONCILER_REPLICA", "")
        controlled = programs.get(name)
        taken = (
            controlled is not None
            and ordinal.isdecimal()
            and _is_its_user(controlled, found)
            and observer.take_in(controlled, _intent(controlled, int(ordinal), found, builder), found.process)
        )
        if taken:
            log.warning("program/%s: %s runs as pid %d, and the journal did not know", name, ordinal, found.process.pid)
        else:
            log.warning("pid %d was started for program/%s %s and is left alone: it has no place there now",
                        found.process.pid, name[:80], ordinal[:20])  # fmt: skip


def _known(programs: Mapping[str, Controlled]) -> frozenset[str]:
    return frozenset(
        process.spawn_id for each in programs.values() for process in each.ledger.observed.processes.values()
    )


def _is_its_user(controlled: Controlled, found: Foundling) -> bool:
    """Anybody could have written that environment: only who runs as the Program's user may sit in its seat.

    Whose seat it is cannot be told while the host lacks something; a process too few would then be one too many later.
    """
    template = controlled.built.template
    if template is None:
        return True
    credentials = template.settings.credentials
    return found.own_uid if credentials is None else found.uid == credentials.uid


def _intent(controlled: Controlled, ordinal: int, found: Foundling, builder: Builder) -> Intended:
    revision = found.environment.get("RECONCILER_REVISION", "")
    epoch = controlled.desired.epoch_of(ordinal)  # a restart that was asked for meanwhile is not known to be due
    return Intended(
        controlled.uid,
        ordinal,
        found.spawn_id,
        revision,
        epoch,
        Cause.PROCESS_EXITED,
        found.started_at,
        builder.run_once(controlled, revision),
    )
