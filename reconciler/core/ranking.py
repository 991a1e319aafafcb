"""Which ordinals a count of a bound Program stands for: who goes first when it falls, who comes first when it rises.

Without a binding the lowest ordinals are meant. A queue changes the count all day long, so that the choice matters: the
replica that goes shall be the one that is missed least, and whoever is in the middle of a job is left alone.
"""

from collections.abc import Collection, Iterable, Mapping

from reconciler.core.activity import Activity
from reconciler.model.state import NO_HISTORY, Memory, Observed

NO_ACTIVITY: Mapping[int, Activity] = {}
_IDLE, _UNKNOWN, _WORKING = range(3)


def chosen(
    count: int,
    before: Collection[int] | None,
    observed: Observed,
    memory: Memory,
    activities: Mapping[int, Activity] = NO_ACTIVITY,
) -> frozenset[int]:
    """`count` ordinals: those of `before` (None: nothing is known, what runs stands for it), some less or some more.

    `activities`: what the processes do, of those of which that can be told.
    """
    kept = meant(before, observed)
    if len(kept) > count:
        begun = _by_their_work(activities.values())
        ranked = sorted(kept, key=lambda o: _worth(o, observed, memory, activities, begun), reverse=True)
        return frozenset(ranked[:count])
    more = count - len(kept)
    return kept | frozenset(_vacant(more, kept, observed))


def meant(before: Collection[int] | None, observed: Observed) -> frozenset[int]:
    """The ordinals that the count stood for until now."""
    return frozenset(observed.processes if before is None else before)


def is_a_choice(count: int, before: Collection[int] | None, observed: Observed) -> bool:
    """Whether some of those that run and stay would have to go, and others not: then it matters what they do."""
    return 0 < count < sum(_is_staying(ordinal, observed) for ordinal in meant(before, observed))


def _is_staying(ordinal: int, observed: Observed) -> bool:
    process = observed.processes.get(ordinal)
    return process is not None and process.stopping is None and not process.ended


def _by_their_work(activities: Iterable[Activity]) -> Mapping[str, int]:
    """How much one that works would be missed, by when its work began: it has done most of it that began first."""
    return {since: -place for place, since in enumerate(sorted({each.since for each in activities if each.working}))}


def _worth(
    ordinal: int,
    observed: Observed,
    memory: Memory,
    activities: Mapping[int, Activity],
    begun: Mapping[str, int],
) -> tuple[bool, bool, int, int, float, int]:
    """How much a replica would be missed; the lowest goes first.

    First who does not run (back-off before those that merely have not started yet, then the highest ordinal), then who
    is leaving anyway, then who is idle, then of whom nobody knows, then whose work began last; among equals the
    youngest.
    """
    process = observed.processes.get(ordinal)
    if process is None:
        failing = memory.histories.get(ordinal, NO_HISTORY).failures > 0
        return (False, not failing, _IDLE, 0, 0.0, -ordinal)
    staying, activity = _is_staying(ordinal, observed), activities.get(ordinal)
    if activity is None:
        return (True, staying, _UNKNOWN, 0, -process.started_at, -ordinal)
    if not activity.working:
        return (True, staying, _IDLE, 0, -process.started_at, -ordinal)
    return (True, staying, _WORKING, begun[activity.since], -process.started_at, -ordinal)


def _vacant(count: int, taken: frozenset[int], observed: Observed) -> list[int]:
    """The lowest ordinals at which a process can be started now, then those at which one is still ending."""
    free: list[int] = []
    ending: list[int] = []
    ordinal = 0
    most = len(taken) + len(observed.processes) + count  # so many ordinals hold enough vacant ones in any case
    while len(free) < count and ordinal < most:
        if ordinal not in taken:
            (ending if ordinal in observed.processes else free).append(ordinal)
        ordinal += 1
    return (free + ending)[:count]
