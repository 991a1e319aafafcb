"""Takes over what an earlier controller had: Programs, their memory, and the processes that run.

In this order: `restore` (accepted specs, overrides, journal), `adopt` (processes), `told` (the keeper has said all it
knows of the time before us). Nothing is decided here; what cannot be taken over is set aside, and the rest goes on.
"""

from collections.abc import Iterable, Mapping

from reconciler.core.memory import Ledger
from reconciler.engine.aside import DIED, placeholder
from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.engine.foundlings import take_in
from reconciler.engine.loop import Loop
from reconciler.engine.programs import Programs
from reconciler.model.identity import Key, ProcessId
from reconciler.model.objects import Accepted
from reconciler.model.overrides import Overrides


class Takeover:
    """Brings Programs under control that another controller has left."""

    def __init__(self, programs: Programs, loop: Loop, builder: Builder) -> None:
        self._programs, self._loop, self._builder = programs, loop, builder

    def restore(
        self,
        accepted: Iterable[Accepted],
        leaving: Iterable[Accepted],
        overrides: Mapping[Key, Overrides],
        ledgers: dict[str, Ledger],
    ) -> None:
        """Give all a seat, with what is remembered of them. Nothing is written down."""
        programs, suspects = self._programs, self._programs.suspects
        # Those that leave come first: what was accepted under their name is their successor, and waits for their end.
        for item, deleted in [*((item, True) for item in leaving), *((item, False) for item in accepted)]:
            if item.name in programs.by_name:
                programs.successors[item.name] = item
                continue
            suspects.at(item)
            controlled = self._seated(item, ledgers.pop(item.uid, Ledger()), overrides.get(item.key, Overrides()))
            controlled.deleted = deleted
            if deleted or controlled.aside or len(controlled.templates) > 1:  # else it is all in already
                programs.refresh(controlled)
            suspects.over()
        for ledger in ledgers.values():
            if ledger.departed is not None:
                self._loop.departed[ledger.departed.name] = ledger  # the last one of a name is the youngest

    def _seated(self, item: Accepted, ledger: Ledger, overrides: Overrides) -> Controlled:
        """One that cannot be taken over as it is, or is deadly, must not keep the others waiting."""
        programs = self._programs
        if programs.suspects.knows(item):
            why = DIED
        else:
            try:
                controlled = programs.control(item, ledger, overrides)
                programs.revisions.restore_templates(controlled)
                programs.revisions.make_sure(controlled)
                return controlled
            except Exception as fault:
                why = f"it cannot be taken over: {fault!r}"
        built = placeholder(item, ledger, why)
        desired = programs.desired(item, built, overrides, (), programs.phase, None)
        controlled = Controlled(item, built, desired, ledger, overrides, aside=why)
        programs.by_name[item.name] = controlled
        return controlled

    def adopt(self, *, same_boot: bool) -> None:
        """Take over the processes that run; those of an earlier boot can only be declared gone."""
        observer, actuator = self._loop.observer, self._loop.actuator
        for controlled in self._programs.by_name.values():
            if same_boot:
                self._programs.inherit(controlled)
                actuator.resume_streams(controlled)
                observer.adopt(controlled)
                actuator.resume_ends(controlled)
            else:
                observer.lose(controlled)
        if not same_boot:
            self._loop.departed.clear()  # their time was of that boot
            # What is appended from here on is of this boot, or the next controller would give up what we start.
            self._loop.checkpoint()

    def told(self, reaps_since: float) -> list[ProcessId] | None:
        """The keeper has told all it knows of the time before us: now every start has an outcome.

        Which ends are written down only now. None: it has to tell all once more.
        """
        programs = self._programs.by_name
        settled = self._loop.observer.told(programs.values(), reaps_since)
        if settled is None:
            return None
        take_in(programs, self._loop.observer, self._builder)
        for controlled in programs.values():
            self._loop.actuator.resume_streams(controlled)  # of a process that was not known before
        return settled
