"""Which fields are accepted and validated in full, but have no effect in this release.

A user who writes one is told so, never left to find out. A row goes when its behaviour comes.
"""

from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel

from reconciler.model.program import ProgramSpec


class NotYet(NamedTuple):
    """One field without its behaviour: what happens instead, and whether the spec uses it."""

    field: str
    sentence: str
    used: Callable[[ProgramSpec], bool]


def _wrote(part: BaseModel, *path: str) -> bool:
    """Whether the attribute at this path was written, and not to say "none of it"."""
    value: object = part
    for name in path:
        if not isinstance(value, BaseModel) or name not in value.model_fields_set:
            return False
        value = getattr(value, name)
    return value not in (None, "none", ())


NOT_YET = (
    NotYet("startupProbe", "replicas count as started at once", lambda s: _wrote(s, "startup_probe")),
    NotYet("readinessProbe", "replicas count as ready while they run", lambda s: _wrote(s, "readiness_probe")),
    NotYet("livenessProbe", "a replica that hangs is not restarted", lambda s: _wrote(s, "liveness_probe")),
    NotYet("sockets", "no socket is opened or passed on", lambda s: _wrote(s, "sockets")),
    NotYet("dependsOn", "Programs start in no particular order", lambda s: _wrote(s, "depends_on")),
    NotYet("resources", "nothing is measured or bounded", lambda s: _wrote(s, "resources")),
    NotYet("maxLifetime", "processes are not recycled by age", lambda s: _wrote(s, "max_lifetime")),
    NotYet("rolloutOn", "changes of these files roll and signal nothing", lambda s: _wrote(s, "rollout_on")),
    NotYet("preStop", "a stop begins with the stop signal", lambda s: _wrote(s, "pre_stop")),
    NotYet(
        "strategy.maxSurge",
        "a process stops before its successor starts",
        lambda s: not s.strategy.max_surge.is_zero and _wrote(s, "strategy", "max_surge"),
    ),
    NotYet(
        "strategy.onFailure",
        "a rollout that fails pauses, it is not rolled back",
        lambda s: s.strategy.on_failure == "Rollback",
    ),
    NotYet("stdin", "stdin is empty", lambda s: s.stdin == "pipe"),
    NotYet("apiAccess", "processes are not told of the API", lambda s: _wrote(s, "api_access")),
)

SENTENCES = {row.field: row.sentence for row in NOT_YET}


def not_yet_supported(spec: ProgramSpec) -> tuple[str, ...]:
    """Dotted names of the written fields whose behaviour is not there yet; SENTENCES says what happens instead."""
    return tuple(row.field for row in NOT_YET if row.used(spec))
