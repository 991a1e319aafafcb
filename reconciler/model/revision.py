"""The revision: which fields a process is started with, and what an edit of a spec means for those that run.

A versioned hash of the fields as written. What is absent never enters it, so a release of ours with another default,
or a new field, rolls nothing.
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from reconciler.model.digests import blake2b

VERSION = 1
"""Of the hash. A change of it rolls every process of every user once: don't."""

ROLLING = frozenset(
    {
        "command",
        "workingDir",
        "followLinks",
        "runOnce",
        "env",
        "envFrom",
        "inheritEnv",
        "user",
        "group",
        "supplementaryGroups",
        "umask",
        "nice",
        "limits",
        "cpuAffinity",
        "oomScoreAdjust",
        "noNewPrivileges",
        "rolloutOn",
        "sockets",
        "stdin",
    }
)
"""Fields that a running process cannot be given: changing one replaces the processes."""

IN_PLACE = frozenset(
    {
        "suspend",
        "restartPolicy",
        "successExitCodes",
        "restartBackoff",
        "minRestartInterval",
        "maxLifetime",
        "stopSignal",
        "terminationGracePeriod",
        "stopScope",
        "preStop",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "minReady",
        "strategy",
        "progressDeadline",
        "revisionHistoryLimit",
        "dependsOn",
        "logs",
        "resources",
        "processName",
        "apiAccess",
    }
)
"""Fields that take effect on running processes, or from the next start on, without replacing one."""

SCALING = "replicas"
"""Neither of both: processes come or go."""

DEFAULT_REPLICAS = 1
_COUNT_IN_JSON = re.compile(r"\$\$|\$\(REPLICAS\)")
_NO_DIGESTS: Mapping[str, str] = MappingProxyType({})


class Changes(NamedTuple):
    """What an edit changed, by the names that users write."""

    rolling: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    scale: tuple[int, int] | None = None

    @property
    def any(self) -> bool:
        """Whether there is a difference at all."""
        return bool(self.rolling or self.in_place or self.scale)


def revision(
    canonical: Mapping[str, Any], digests: Mapping[str, str] = _NO_DIGESTS, replicas: int | None = None
) -> str:
    """8 hex digits for what a process is started with.

    `digests`: of what the spec reads from outside (files, targets of links), by any stable name. `replicas`: the count
    in force, when it is not the written one; it matters only where `$(REPLICAS)` is used.
    """
    fields = {name: canonical[name] for name in canonical.keys() & ROLLING}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    outside: dict[str, Any] = {}
    if digests:
        outside["digests"] = dict(digests)
    if _mentions_count(text):
        outside["replicas"] = _replicas(canonical) if replicas is None else replicas
    if outside:
        text += json.dumps(outside, sort_keys=True, separators=(",", ":"))
    return blake2b(f"{VERSION}\n{text}".encode(), digest_size=4).hexdigest()


def uses_count(canonical: Mapping[str, Any]) -> bool:
    """Whether a change of the count replaces the processes, because they are told the count."""
    return _mentions_count(json.dumps({name: canonical[name] for name in canonical.keys() & ROLLING}))


def _mentions_count(text: str) -> bool:
    return "$(REPLICAS)" in text and any(match != "$$" for match in _COUNT_IN_JSON.findall(text))


def _replicas(canonical: Mapping[str, Any]) -> int:
    return int(canonical.get(SCALING, DEFAULT_REPLICAS))


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """What differs between two canonical specs. Replicas stand apart, unless the processes are told their count."""
    names = sorted(name for name in old.keys() | new.keys() if name != SCALING and _differs(name, old, new))
    before, after = _replicas(old), _replicas(new)
    scale = (before, after) if before != after else None
    rolling = [name for name in names if name in ROLLING]
    if scale and uses_count(new):
        rolling.append(SCALING)
    return Changes(tuple(rolling), tuple(name for name in names if name not in ROLLING), scale)


def _differs(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return (name in old) != (name in new) or old.get(name) != new.get(name)
