"""Which ordinals a count of a bound Program stands for: who goes first when it falls, who comes first when it rises.

Without a binding the lowest ordinals are meant. A queue changes the count all day long, so that the choice matters: the
replica that goes shall be the one that is missed least, and whoever is in the middle of a job is left alone.
"""

from collections.abc import Collection, Mapping

from reconciler.model.state import NO_HISTORY, Memory, Observed

NO_ACTIVITY: Mapping[int, bool] = {}


def chosen(
    count: int,
    before: Collection[int] | None,
    observed: Observed,
    memory: Memory,
    busy: Mapping[int, bool] = NO_ACTIVITY,
) -> frozenset[int]:
    """`count` ordinals: those of `before` (None: nothing is known, what runs stands for it), some less or some more.

    `busy`: whether a replica is in a job, where that can be told.
    """
    kept = sorted(observed.processes if before is None else before)
    if len(kept) > count:
        ranked = sorted(kept, key=lambda o: _worth(o, observed, memory, busy), reverse=True)
        return frozenset(ranked[:count])
    more = count - len(kept)
    return frozenset(kept) | frozenset(_vacant(more, frozenset(kept), observed))


def _worth(
    ordinal: int, observed: Observed, memory: Memory, busy: Mapping[int, bool]
) -> tuple[bool, bool, bool, float, int]:
    """How much a replica would be missed; the lowest goes first.

    First who does not run (back-off before those that merely have not started yet, then the highest ordinal), then who
    is leaving anyway, then who is idle, then the youngest.
    """
    process = observed.processes.get(ordinal)
    if process is None:
        failing = memory.histories.get(ordinal, NO_HISTORY).failures > 0
        return (False, not failing, False, 0.0, -ordinal)
    staying = process.stopping is None and not process.ended
    return (True, staying, busy.get(ordinal, True), -process.started_at, -ordinal)


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
