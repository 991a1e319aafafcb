"""The Programs under control: made, changed and let go as intake accepts and removes objects and operators wish.

What is accepted is on disk before it comes here, and what an operator wishes is on disk before it counts. Whatever
happens here ends in a mark: the loop does the rest.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from reconciler.core.desired import Bound, Identity, Phase, desired_program
from reconciler.core.effects import Edit, Effect, effect_of
from reconciler.core.homes import Accept, Change, Remove
from reconciler.core.memory import Ledger
from reconciler.core.records import Departed, Reset, Restored, ScaledTo
from reconciler.engine.aside import NoSuspects, Suspects
from reconciler.engine.building import Builder, keep_templates
from reconciler.engine.choosing import Choosing
from reconciler.engine.controlled import Built, Controlled, count_in_force
from reconciler.engine.findings import found_about
from reconciler.engine.loop import Loop
from reconciler.engine.publish import Publisher
from reconciler.engine.revisions import Revisions, RevisionStore
from reconciler.model.identity import Key
from reconciler.model.launch import Credentials
from reconciler.model.objects import Accepted, StateWriteFailed
from reconciler.model.overrides import Overrides
from reconciler.model.revision import changed_fields, uses_count
from reconciler.model.state import Desired, Observed
from reconciler.ports import Clock

KIND = "Program"
NO_PROCESSES = Observed()
UNBOUND = -1
PORTION = 100  # of what can be looked at a little later: nobody shall notice
ACTIVE_SECONDS = 5.0
"""How exactly a crash remembers when work was last seen: a record a tick would be too many."""

log = logging.getLogger("reconciler")


class ProgramStore(RevisionStore, Protocol):
    """What is kept on disk of a Program beside its accepted spec."""

    def write_override(self, key: Key, document: Mapping[str, Any]) -> None: ...
    def forget_accepted(self, key: Key) -> None: ...


class Programs:
    """Keeps one Controlled per accepted Program."""

    def __init__(
        self,
        clock: Clock,
        store: ProgramStore,
        builder: Builder,
        loop: Loop,
        publisher: Publisher,
        choosing: Choosing,
        suspects: Suspects | None = None,
    ) -> None:
        self._clock, self._store, self._builder, self._choosing = clock, store, builder, choosing
        self.suspects = suspects or NoSuspects()
        self._loop, self._publisher = loop, publisher
        self.by_name = loop.programs
        self.revisions = Revisions(clock, store, builder, publisher.chores)
        self.successors: dict[str, Accepted] = {}  # accepted while a deleted namesake still drains
        self._found: set[str] = set()  # names about which intake had something to say last
        self.phase = Phase()
        loop.emptied, choosing.can_choose = self._emptied, self._follow
        loop.observer.failed = publisher.failed

    # --- what intake accepts --------------------------------------------------------------------------------------

    def settled(self, changes: Sequence[Change]) -> None:
        """Intake accepted, removed or found something wrong."""
        for change in changes:
            if isinstance(change, Accept) and change.after.kind == KIND:
                self._take(change.after)
            elif isinstance(change, Remove) and change.before.kind == KIND:
                self._remove(change.before)
        # Findings have no end of their own: who had one before is looked at, too.
        found = {key.name for change in changes for key in found_about(change)}
        for name in found | self._found:
            if name in self.by_name:
                self._publisher.changed(self.by_name[name])
        self._found = found

    def _take(self, accepted: Accepted) -> None:
        """One that trips us must not keep the others from being heard: it is on disk, and nothing of it changes."""
        self.suspects.at(accepted)
        try:
            self._accept(accepted)
        except Exception as fault:
            log.exception("program/%s: what was accepted cannot be put in force", accepted.name)
            if accepted.name in self.by_name:
                self.by_name[accepted.name].fault = repr(fault)
        finally:
            self.suspects.over()

    def _accept(self, accepted: Accepted) -> None:
        existing = self.by_name.get(accepted.name)
        if existing is None:
            self._create(accepted)
        elif existing.deleted and existing.uid != accepted.uid:
            self.successors[accepted.name] = accepted
        else:
            self._update(existing, accepted)

    def _create(self, accepted: Accepted) -> None:
        controlled = self.control(accepted, Ledger(), Overrides())
        self.inherit(controlled)
        effect = effect_of(None, controlled.desired, NO_PROCESSES, Edit())
        self._announce(controlled, effect)
        self.revisions.remember(controlled)
        self._loop.mark(controlled)

    def inherit(self, controlled: Controlled) -> None:
        """Delete and re-create is no way around a back-off. What was done is another matter: this is a new object."""
        departed = self._loop.departed.pop(controlled.name, None)
        if departed is None or departed.departed is None or self._clock.now() >= departed.departed.until:
            return
        known = controlled.ledger.memory.histories
        for ordinal, history in departed.memory.histories.items():
            if ordinal not in known:  # a controller may have died half-way through this
                left = history._replace(done_revision="", done_epoch=0, done_outcome=None)
                self._loop.observer.record(controlled, Restored(controlled.uid, ordinal, left, None))

    def control(self, accepted: Accepted, ledger: Ledger, overrides: Overrides) -> Controlled:
        """Give it a seat, with what is remembered of it."""
        built = self._builder.build(accepted, count_in_force(overrides, None))
        if built.template is None and ledger.memory.progress_revision:
            # Content that is missing now was part of the revision: nothing is stopped for one that cannot start.
            built.revision = ledger.memory.progress_revision
        templates = {} if built.template is None else {built.revision: built.template}
        desired = self.desired(accepted, built, overrides, templates, self.phase, None)
        controlled = Controlled(accepted, built, desired, ledger, overrides, templates=templates)
        self.by_name[accepted.name] = controlled
        return controlled

    def _update(self, controlled: Controlled, accepted: Accepted) -> None:
        before, old = controlled.desired, controlled.accepted
        built = self._builder.build(accepted, controlled.count)
        self.suspects.clear(accepted)
        controlled.accepted, controlled.deleted, controlled.aside = accepted, False, ""
        digests, controlled.built = controlled.built.digests, built
        self.refresh(controlled)
        edit = self.edit(old, accepted, digests, controlled.built.digests)
        self._loop.actuator.refresh_streams(controlled)
        self._announce(controlled, effect_of(before, controlled.desired, controlled.ledger.observed, edit))
        self.revisions.remember(controlled)
        self._end_answered_wishes(controlled)
        self._loop.mark(controlled)

    def _end_answered_wishes(self, controlled: Controlled) -> None:
        """An edit of the written count ends a count that was overridden."""
        left = controlled.overrides.in_force(self._clock.moment(), controlled.built.spec.replicas)
        if left != controlled.overrides:
            controlled.overrides = left
            try:
                self._store.write_override(controlled.accepted.key, left.as_document())
            except (OSError, StateWriteFailed) as error:
                log.warning("program/%s: an answered override stays in its file: %s", controlled.name, error)

    def _remove(self, before: Accepted) -> None:
        self.successors.pop(before.name, None)
        controlled = self.by_name.get(before.name)
        if controlled is None or controlled.uid != before.uid:
            return
        effect = effect_of(controlled.desired, None, controlled.ledger.observed, Edit())
        controlled.deleted = True
        self.refresh(controlled)
        self._announce(controlled, effect)
        self._loop.mark(controlled)

    def _emptied(self, controlled: Controlled) -> None:
        """The last process of a deleted Program is gone."""
        name, until = controlled.name, self._clock.now() + controlled.desired.backoff.reset_after
        self._loop.observer.record(controlled, Departed(controlled.uid, name, until))
        self._loop.remember(name, controlled.ledger)
        self._loop.actuator.close_streams(controlled)
        self._loop.forget(controlled)
        del self.by_name[name]
        self._builder.forget(name)
        try:
            self._store.write_override(controlled.accepted.key, {})
            self._store.forget_accepted(controlled.accepted.key)
        except (OSError, StateWriteFailed) as error:
            # What stays behind is drained once more by the next controller, which finds nothing to drain.
            log.warning("program/%s: what is kept of it cannot be removed: %s", name, error)
        self._publisher.removed(controlled)
        self._publisher.event(name, "Normal", "Deleted", "deleted, nothing of it runs any more")
        successor = self.successors.pop(name, None)
        if successor is not None:
            self._create(successor)

    def _announce(self, controlled: Controlled, effect: Effect) -> None:
        if effect.change:
            self._publisher.event(controlled.name, "Normal", "Accepted", effect.text)
        for problem in controlled.built.problems:
            self._publisher.event(controlled.name, "Warning", "CannotStart", problem)
        self._publisher.changed(controlled)

    # --- what lies over the specs ---------------------------------------------------------------------------------

    def wish(self, controlled: Controlled, overrides: Overrides) -> Effect:
        """An operator's wishes are now these: on disk first, then in force. Raises StateWriteFailed."""
        self._store.write_override(controlled.accepted.key, overrides.as_document())
        before, scaled = controlled.desired, overrides.scale != controlled.overrides.scale
        controlled.overrides = overrides
        if scaled and uses_count(controlled.accepted.canonical):
            controlled.built = self._rebuilt(controlled)
        self._follow(controlled)
        return effect_of(before, controlled.desired, controlled.ledger.observed, Edit())

    def bind(self, controlled: Controlled, bound: Bound | None, work: int | None, active_at: float) -> Effect:
        """A binding asks for this count, and counts so much work for run-once processes; None: it has let go."""
        before, ledger, now = controlled.desired, controlled.ledger, self._clock.now()
        known, count = ledger.memory.scaled, UNBOUND if bound is None else bound.replicas
        if count != (UNBOUND if known is None else known.replicas):
            self._loop.observer.record(controlled, ScaledTo(controlled.uid, count, now, active_at))
        elif known is not None and active_at >= known.active_at + ACTIVE_SECONDS:
            self._loop.observer.record(controlled, ScaledTo(controlled.uid, count, known.at, active_at))
        if bound != controlled.bound:
            controlled.bound = bound
            if uses_count(controlled.accepted.canonical):
                controlled.built = self._rebuilt(controlled)
            self._follow(controlled)
        if work != ledger.observed.work:
            ledger.observed.work = work
            self._loop.mark(controlled)
        return effect_of(before, controlled.desired, ledger.observed, Edit())

    def _rebuilt(self, controlled: Controlled) -> Built:
        return controlled.built if controlled.aside else self._builder.build(controlled.accepted, controlled.count)

    def expire(self) -> None:
        """End the wishes whose time is over."""
        moment = self._clock.moment()
        for controlled in self.by_name.values():
            if controlled.overrides.is_over(moment):
                left = controlled.overrides.in_force(moment, controlled.built.spec.replicas)
                try:
                    effect = self.wish(controlled, left)
                except (OSError, StateWriteFailed):
                    continue  # asked again in a second
                self._publisher.event(controlled.name, "Normal", "OverrideExpired", f"override expired: {effect.text}")

    def reread(self, controlled: Controlled) -> None:
        """Files or links that the spec reads have changed: the revision may have, too."""
        before, old = controlled.desired, controlled.built
        digests = old.digests
        controlled.built = self._builder.build(controlled.accepted, controlled.count)
        if controlled.built.template is None:
            controlled.built.revision, controlled.built.template = old.revision, old.template
        self.refresh(controlled)
        edit = self.edit(controlled.accepted, controlled.accepted, digests, controlled.built.digests)
        self._announce(controlled, effect_of(before, controlled.desired, controlled.ledger.observed, edit))
        self._loop.mark(controlled)

    def look_at_surroundings(self, controlled: Controlled, now: float, quiet_seconds: float) -> bool:
        """Files and links that the spec reads: read again once they have been quiet for a while. Whether it did."""
        fingerprint = self._builder.fingerprint(controlled.name)
        if fingerprint == controlled.built.fingerprint:
            controlled.surroundings = None
        elif controlled.surroundings is None or controlled.surroundings[0] != fingerprint:
            controlled.surroundings = (fingerprint, now)
        elif now - controlled.surroundings[1] >= quiet_seconds:
            controlled.surroundings = None
            self.reread(controlled)
            return True
        return False

    def forgive(self, controlled: Controlled) -> None:
        """Forget failures and recorded successes: everything is started anew, at once; what is aside is tried again."""
        if controlled.aside:
            self._take(controlled.accepted)
        self._loop.observer.record(controlled, Reset(controlled.uid, -1))
        self._loop.mark(controlled)

    def foretell(self, before: Accepted | None, after: Accepted | None) -> Effect:
        """What accepting `after` instead of `before` would do, in the words that the log would use."""
        controlled = self.by_name.get((before or after).name) if before or after else None  # type: ignore[union-attr]
        if controlled is not None and before is None:
            before = None if controlled.deleted else controlled.accepted
        observed = controlled.ledger.observed if controlled else NO_PROCESSES
        old = controlled.desired if controlled and before else None
        if after is None:
            return effect_of(old, None, observed, Edit())
        if controlled is None:  # what it would be started with, and whether it could be, makes no difference
            bare = Built(self._builder.spec(after), "", None, (), {}, ())
            return effect_of(None, self.desired(after, bare, Overrides(), (), self.phase, None), NO_PROCESSES, Edit())
        overrides, bound = controlled.overrides, controlled.bound
        built = self._builder.build(after, count_in_force(overrides, bound))
        new = self.desired(after, built, overrides, controlled.templates, self.phase, bound)
        new = self._choosing.at_once(controlled, new)
        if before is None:
            return effect_of(None, new, NO_PROCESSES, Edit())
        edit = self.edit(before, after, controlled.built.digests, built.digests)
        return effect_of(old, new, observed, edit)

    def surroundings_of(self, controlled: Controlled) -> tuple[str, Mapping[str, str], Credentials | None]:
        """Where its processes start, the variables and ids they get, as far as no ordinal is needed to tell."""
        return self._builder.surroundings_of(controlled)

    def effective(self, canonical: Mapping[str, Any]) -> dict[str, Any]:
        """The spec as written, over the defaults of the configuration."""
        return self._builder.effective(canonical)

    def log_files(self, controlled: Controlled) -> list[dict[str, Any]]:
        """Where the output of each replica goes, and how it looks there."""
        ordinals = sorted(controlled.ledger.memory.histories.keys() | set(controlled.desired.ordinals()))
        return [row for ordinal in ordinals for row in self._builder.log_rows(controlled, ordinal)]

    def enter(self, phase: Phase) -> None:
        """Drain everything, or stop waiting: at once where something runs, by portions where nothing does."""
        self.phase = phase
        idle = []
        for controlled in self.by_name.values():
            if controlled.ledger.observed.processes:
                self._enter(controlled)
            else:
                idle.append(controlled)
        self._enter_some(idle)

    def _enter_some(self, controlled: list[Controlled]) -> None:
        for each in controlled[:PORTION]:
            self._enter(each)
        if len(controlled) > PORTION:
            self._loop.soon(lambda: self._enter_some(controlled[PORTION:]))

    def _enter(self, controlled: Controlled) -> None:
        self.refresh(controlled)
        self._loop.mark(controlled)

    def running(self) -> int:
        """How many replicas are occupied by a process."""
        return sum(len(controlled.ledger.observed.processes) for controlled in self.by_name.values())

    # --- desired ----------------------------------------------------------------------------------------------------

    def desired(
        self,
        accepted: Accepted,
        built: Built,
        overrides: Overrides,
        startable: Iterable[str],
        phase: Phase,
        bound: Bound | None,
    ) -> Desired:
        in_force = overrides.in_force(self._clock.moment(), built.spec.replicas)
        identity = Identity(accepted.name, accepted.uid, accepted.generation)
        return desired_program(identity, built.spec, built.revision, startable, in_force, phase, bound)

    def refresh(self, controlled: Controlled) -> None:
        """Merge again whatever has a say; what changes is looked at by the next pass."""
        keep_templates(controlled)
        phase = self.phase._replace(deleted=controlled.deleted)
        desired = self.desired(
            controlled.accepted, controlled.built, controlled.overrides, controlled.templates, phase, controlled.bound
        )
        before, controlled.desired = controlled.desired, self._choosing.choose(controlled, desired)
        controlled.settled = False
        if before.replicas != controlled.desired.replicas and self._builder.streams_follow_count(controlled):
            self._loop.actuator.refresh_streams(controlled)

    def _follow(self, controlled: Controlled) -> None:
        """What has a say has changed: merge it, and let it be carried out and shown."""
        self.refresh(controlled)
        self._loop.mark(controlled)
        self._publisher.changed(controlled)

    def edit(
        self, old: Accepted, new: Accepted, old_digests: Mapping[str, str], new_digests: Mapping[str, str]
    ) -> Edit:
        changes = changed_fields(self._builder.effective(old.canonical), self._builder.effective(new.canonical))
        content = {n for n in {*old_digests, *new_digests} if old_digests.get(n) != new_digests.get(n)}
        rolling = (*changes.rolling, *sorted(content - set(changes.rolling)))
        return Edit(rolling, changes.in_place, labels=dict(old.labels) != dict(new.labels))
