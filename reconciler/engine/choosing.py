"""Who is meant by the count of a bound Program, when it falls and some of those that run have to go.

    the count falls -> the ends of their logs are looked at, in a thread -> core/ranking.chosen, with what they tell

Until they have told the count stays as it was. A disk may hang: when they take too long, the choice is made without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reconciler.core.activity import Activity
from reconciler.core.ranking import NO_ACTIVITY, chosen, is_a_choice, meant
from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.model.state import Desired
from reconciler.ports import Scheduling, Timer, WorkLog, WorkLogs

PATIENCE_SECONDS = 0.25
RAW, OUT, NONE = "raw", "out", "none"


@dataclass(slots=True, eq=False)
class _Look:
    """One that is under way. `timer` None: it came too late, and is still not over."""

    timer: Timer | None


class Choosing:
    """Puts the ordinals into what is desired of bound Programs."""

    def __init__(self, scheduling: Scheduling, builder: Builder, logs: WorkLogs) -> None:
        self._scheduling, self._builder, self._logs = scheduling, builder, logs
        self._looks: dict[Controlled, _Look] = {}
        self._told: dict[Controlled, Mapping[int, Activity]] = {}  # while a choice is made by it
        self.can_choose: Callable[[Controlled], None] = lambda controlled: None
        """Called when all is known that `choose` has waited for, and never while it waits."""

    def choose(self, controlled: Controlled, desired: Desired) -> Desired:
        """`desired`, with those that its count means. Where that has to be found out first, the count is the old one.

        An operator's own count is not kept waiting.
        """
        if controlled.bound is None or controlled.overrides.scale is not None:
            return self.at_once(controlled, desired)
        before, observed = controlled.desired.chosen, controlled.ledger.observed
        if controlled not in self._told and is_a_choice(desired.replicas, before, observed):
            if controlled not in self._looks:
                self._begin_to_look(controlled)
            if self.is_looking(controlled):
                as_before = meant(before, observed)
                return replace(desired, replicas=len(as_before), chosen=as_before)
        return self.at_once(controlled, desired)

    def at_once(self, controlled: Controlled, desired: Desired) -> Desired:
        """The same, with what is known."""
        if controlled.bound is None:
            return desired
        ledger, activities = controlled.ledger, self._told.get(controlled, NO_ACTIVITY)
        ordinals = chosen(desired.replicas, controlled.desired.chosen, ledger.observed, ledger.memory, activities)
        return replace(desired, chosen=ordinals)

    def is_looking(self, controlled: Controlled) -> bool:
        """Whether `choose` waits, for this Program."""
        look = self._looks.get(controlled)
        return look is not None and look.timer is not None

    def _begin_to_look(self, controlled: Controlled) -> None:
        """At the logs of all that run, where there are any that could tell."""
        logs = [log for ordinal in controlled.ledger.observed.processes if (log := self._log(controlled, ordinal))]
        if logs:
            look = self._looks[controlled] = _Look(None)
            look.timer = self._scheduling.later(PATIENCE_SECONDS, lambda: self._late(controlled, look))
            self._logs.look(logs, lambda told: self._over(controlled, look, told))

    def _log(self, controlled: Controlled, ordinal: int) -> WorkLog | None:
        for stream in self._builder.streams(controlled, controlled.built.revision, ordinal):
            if stream.stream == OUT and not (stream.shared and stream.format == RAW):
                return WorkLog(ordinal, stream.path, stream.format != RAW, stream.shared)
        return None

    def _over(self, controlled: Controlled, look: _Look, told: Mapping[int, Activity]) -> None:
        del self._looks[controlled]
        if look.timer is not None:
            look.timer.cancel()
            self._decide(controlled, told)

    def _late(self, controlled: Controlled, look: _Look) -> None:
        look.timer = None
        self._decide(controlled, NO_ACTIVITY)

    def _decide(self, controlled: Controlled, told: Mapping[int, Activity]) -> None:
        if controlled.deleted:
            return  # and with it all of its processes go
        self._told[controlled] = told
        try:
            self.can_choose(controlled)
        finally:
            del self._told[controlled]
