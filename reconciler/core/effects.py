"""What an edit does to the processes that run, in the words that `diff` foretells and the log then uses.

One function for both, so they cannot differ.
"""

from typing import NamedTuple

from reconciler.core.buckets import is_outdated
from reconciler.model.state import Desired, Observed


class Effect(NamedTuple):
    """The effect of one object's edit: a line of text, whether anything differs, and which fields do."""

    text: str
    change: bool
    fields: tuple[str, ...] = ()


NO_EFFECT = Effect("none", change=False)


class Edit(NamedTuple):
    """Which fields of the spec differ, as the user writes them; external content by its name, `envFrom[0]`."""

    rolling: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    labels: bool = False


def effect_of(before: Desired | None, after: Desired | None, observed: Observed, edit: Edit) -> Effect:
    """The effect of going from one desired state to another while these processes run."""
    running = {o: p for o, p in observed.processes.items() if p.stopping is None}
    if after is None:
        return NO_EFFECT if before is None else Effect("delete" + _count(", stop", len(running)), change=True)
    if before is None:
        return Effect("create" + _count(", start", after.replicas), change=True)
    stopped = [o for o in running if not after.wants(o)]
    started = [o for o in after.ordinals() if after.wants(o) and not before.wants(o)]
    rolled = [
        o for o, p in running.items() if after.wants(o) and is_outdated(after, o, p) and not is_outdated(before, o, p)
    ]
    parts = []
    if before.replicas != after.replicas:
        parts.append(f"scale {before.replicas} -> {after.replicas}")
    if stopped:
        parts.append(f"stop {len(stopped)}")
    if started:
        parts.append(f"start {len(started)}")
    if before.revision != after.revision:
        parts.append(f"roll {len(rolled)}{_fields(edit.rolling)}")
    elif rolled:
        parts.append(f"roll {len(rolled)} (restart)")
    in_place = (*edit.in_place, *(("labels",) if edit.labels else ()))
    if in_place:
        parts.append(f"update in place{_fields(in_place)}")
    if not parts:
        return NO_EFFECT
    return Effect(", ".join(parts), change=True, fields=(*edit.rolling, *in_place))


def _count(text: str, count: int) -> str:
    return f"{text} {count}" if count else ""


def _fields(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names)})" if names else ""
