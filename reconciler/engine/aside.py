"""Objects that are set aside: a controller died over them, or cannot take them over. What runs is left alone.

A Program that is aside keeps its seat, its processes and its memory; exits are written down. Nothing of it is built,
started or rolled, until it is handed in anew, reset or deleted. What is to end (stopped, deleted, drained) does end.
"""

import logging
from typing import Protocol

from reconciler.core.memory import Ledger
from reconciler.engine.controlled import Built
from reconciler.model.manifest import STAND_IN
from reconciler.model.objects import Accepted
from reconciler.model.program import MOST_REPLICAS
from reconciler.model.state import RestartPolicy

DIED = "a controller died over it"

log = logging.getLogger("reconciler")


class Suspects(Protocol):
    """Remembers, over the death of controllers, what each of them was at when it died."""

    def knows(self, accepted: Accepted) -> bool:
        """Whether a controller died over this very generation."""
        ...

    def at(self, accepted: Accepted) -> None:
        """From now on this is what the controller is at."""
        ...

    def over(self) -> None:
        """The end of `at`: it lived."""
        ...

    def clear(self, accepted: Accepted) -> None:
        """Somebody changed it, or says that it shall be tried again."""
        ...


class NoSuspects:
    """For whoever does not fear for its life."""

    def knows(self, accepted: Accepted) -> bool:
        return False

    def at(self, accepted: Accepted) -> None:
        pass

    def over(self) -> None:
        pass

    def clear(self, accepted: Accepted) -> None:
        pass


def placeholder(accepted: Accepted, ledger: Ledger, why: str) -> Built:
    """Stands where the spec cannot be looked at. How ends are judged is taken from it as it is written."""
    log.error("%s is set aside: %s; what runs of it is left alone", accepted.key, why)
    policy = accepted.canonical.get("restartPolicy")
    known = policy if policy in [each.value for each in RestartPolicy] else STAND_IN.restart_policy
    count, run_once = accepted.canonical.get("replicas"), accepted.canonical.get("runOnce") is True
    replicas = count if isinstance(count, int) and 0 <= count <= MOST_REPLICAS else STAND_IN.replicas
    spec = STAND_IN.model_copy(update={"restart_policy": known, "run_once": run_once, "replicas": replicas})
    return Built(spec, ledger.memory.progress_revision, None, (), {}, ())
