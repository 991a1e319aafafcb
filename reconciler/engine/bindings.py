"""The bindings under control: each has its queues asked, asks the core what count follows, and hands it to its Program.

    meter (threads) -> answers -> core/scaling.decide -> count, work -> Programs.bind -> mark

A binding touches no process: it sets a number and, for run-once Programs, says how much work waits. What is wrong with
a queue is a condition of the binding, and its Program's count stays.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from reconciler.core.desired import Bound
from reconciler.core.homes import Accept, Change, Remove
from reconciler.core.scaling import decide
from reconciler.engine.aside import DIED
from reconciler.engine.binding import Binding, Sample, counts_of, questions, staying, work_in
from reconciler.engine.conditions import Finder
from reconciler.engine.controlled import Controlled
from reconciler.engine.programs import Programs
from reconciler.engine.publish import Publisher
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.identity import Key
from reconciler.model.manifest import binding_from_canonical
from reconciler.model.objects import Accepted, StateWriteFailed
from reconciler.model.overrides import ScaleWish, Wish, pause_document
from reconciler.model.queues import QueueReadFailed
from reconciler.model.scaling import Counts, Decision, Look, ScalingMemory
from reconciler.model.state import NEVER, ConditionStatus
from reconciler.ports import Clock, QueueAnswer, QueueMeters, Scheduling

KIND = "QueueBinding"
PROGRAM = "Program"

ANSWER_SECONDS = 3.0
"""How long a meter may take for an answer before that itself is the answer. Drivers have time-outs below it."""

LEAST_WAKE_SECONDS = 0.01
HISTORY_SECONDS = 1.0

WARNINGS = {
    "Ready": ConditionStatus.FALSE,
    "Fallback": ConditionStatus.TRUE,
    "Stalled": ConditionStatus.TRUE,
}
"""Conditions that are an event when they come to this."""

log = logging.getLogger("reconciler")


class BindingStore(Protocol):
    """What is kept on disk of a binding beside its accepted spec."""

    def write_override(self, key: Key, document: Mapping[str, Any]) -> None: ...
    def forget_accepted(self, key: Key) -> None: ...


class Bindings:
    """Keeps one Binding per accepted QueueBinding."""

    def __init__(
        self,
        clock: Clock,
        store: BindingStore,
        meters: QueueMeters,
        scheduling: Scheduling,
        programs: Programs,
        publisher: Publisher,
        sources: Finder,
    ) -> None:
        self._suspects = programs.suspects
        self.sources = sources
        self._clock, self._store, self._meters, self._scheduling = clock, store, meters, scheduling
        self._programs, self._publisher = programs, publisher
        self.by_name: dict[str, Binding] = {}
        self._leaving: list[Accepted] = []
        self._strange: set[str] = set()  # Programs whose binding this release does not understand

    # --- what intake accepts ------------------------------------------------------------------------------------------

    def restore(
        self, accepted: Iterable[Accepted], leaving: Iterable[Accepted], pauses: Mapping[Key, Wish | None]
    ) -> None:
        """Bring under control what an earlier controller had. Nothing is written down, nothing is asked yet.

        `leaving`: deleted, and the earlier controller may not have come to let go of their Programs.
        """
        for item in accepted:
            self._suspects.at(item)
            try:
                if self._suspects.knows(item):
                    raise RuntimeError(DIED)
                self._control(item, pauses.get(item.key))
            except Exception as error:
                # Its Program keeps its count: the record of it stays until somebody hands the binding in again.
                strange = "another release accepted it, this one does not understand it: "
                why = f"{strange if isinstance(error, ValueError) else ''}{error}; change its manifest"
                log.error("%s is set aside: %s", item.key, why)
                self._publisher.event(item.name, "Warning", "SetAside", why, KIND)
                self._strange.add(item.canonical.get("scaleTargetRef", {}).get("name", ""))
            self._suspects.over()
        for binding in self.by_name.values():
            self._claim(binding)
        self._leaving = list(leaving)

    def begin(self) -> None:
        """Everything that runs is known: let go of what nobody binds any more, and ask."""
        for item in self._leaving:
            spec = binding_from_canonical(item.canonical)
            controlled = self._programs.by_name.get(spec.scale_target_ref.name)
            if controlled is not None and controlled.bound is None and (scaled := controlled.ledger.memory.scaled):
                self._programs.bind(controlled, Bound(scaled.replicas, spec.max_replica_count), None, scaled.active_at)
                self._give_back(controlled, spec, item)
            self._forget(item)
        self._leaving = []
        for controlled in self._programs.by_name.values():
            scaled = controlled.ledger.memory.scaled
            if controlled.name in self._strange and scaled is not None and controlled.bound is None:
                self._programs.bind(controlled, Bound(scaled.replicas, scaled.replicas), None, scaled.active_at)
            elif controlled.bound is None and controlled.ledger.memory.scaled is not None:
                self._programs.bind(controlled, None, None, -NEVER)
        self.look_around()

    def settled(self, changes: Sequence[Change]) -> None:
        """Intake accepted or removed something: bindings, or Programs that have one."""
        mine = False
        for change in changes:
            if isinstance(change, Accept) and change.after.kind == KIND:
                self._accept(change)
                mine = True
            elif isinstance(change, Remove) and change.before.kind == KIND:
                self._remove(change.before)
                mine = True
            elif isinstance(change, Accept | Remove):
                mine = mine or bool(self.by_name)
        if mine:
            self.look_around()

    def _accept(self, change: Accept) -> None:
        accepted = change.after
        self._suspects.clear(accepted)
        binding = self.by_name.get(accepted.name)
        if binding is None or binding.accepted.uid != accepted.uid:
            if binding is not None:
                self._let_go(binding)
            self._control(accepted, None)
            self._publisher.event(accepted.name, "Normal", "Accepted", "create", KIND)
            return
        before, binding.accepted = binding.spec, accepted
        binding.spec = binding_from_canonical(accepted.canonical)
        if before.scale_target_ref != binding.spec.scale_target_ref:
            self._release(binding, before)
        if binding.spec != before:
            self._publisher.event(accepted.name, "Normal", "Accepted", "update in place", KIND)
        self._publisher.changed(binding)

    def _control(self, accepted: Accepted, pause: Wish | None) -> Binding:
        spec = binding_from_canonical(accepted.canonical)
        binding = Binding(accepted, spec, ScalingMemory(), pause)
        self.by_name[accepted.name] = binding
        self._publisher.changed(binding)
        return binding

    def _remove(self, before: Accepted) -> None:
        binding = self.by_name.get(before.name)
        if binding is None or binding.accepted.uid != before.uid:
            return
        self._let_go(binding)
        self._publisher.removed(binding)
        self._publisher.event(before.name, "Normal", "Deleted", "deleted", KIND)
        self._forget(before)

    def _forget(self, item: Accepted) -> None:
        if item.name in self.by_name:
            return  # a namesake was accepted since: what is kept under the name is its own
        try:
            self._store.write_override(item.key, {})
            self._store.forget_accepted(item.key)
        except (OSError, StateWriteFailed) as error:
            log.warning("%s: what is kept of it cannot be removed: %s", item.key, error)

    def _let_go(self, binding: Binding) -> None:
        del self.by_name[binding.name]
        self._stop_asking(binding)
        self._release(binding, binding.spec)

    def _release(self, binding: Binding, spec: QueueBindingSpec) -> None:
        """Its Program is on its own again; with `onDelete: keep` at the count that it has, until somebody edits it."""
        controlled = self._programs.by_name.get(spec.scale_target_ref.name)
        if controlled is not None and controlled.bound is not None and not binding.rival:
            self._give_back(controlled, spec, binding.accepted)

    def _give_back(self, controlled: Controlled, spec: QueueBindingSpec, item: Accepted) -> None:
        assert controlled.bound is not None
        kept = spec.on_delete == "keep" and controlled.bound.replicas != controlled.built.spec.replicas
        if kept and controlled.overrides.scale is None:
            self._keep_count(controlled, f"kept by {item.key}, which is deleted")
        self._programs.bind(controlled, None, None, -NEVER)

    def _keep_count(self, controlled: Controlled, reason: str) -> None:
        """The count in force becomes an operator's: visible, and ended by `reset` or the next edit of `replicas`."""
        wish = Wish("reconciler", self._clock.wall(), None, reason)
        scale = ScaleWish(controlled.desired.replicas, controlled.built.spec.replicas, wish)
        try:
            self._programs.wish(controlled, controlled.overrides._replace(scale=scale))
        except (OSError, StateWriteFailed) as error:
            log.warning("program/%s: its count cannot be kept: %s", controlled.name, error)

    def close(self) -> None:
        """Ask no queue any more; what they asked for stays in force."""
        for binding in self.by_name.values():
            self._stop_asking(binding)

    # --- who has which Program ----------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Programs came, went or changed, and so did bindings: let each have what is its own, and ask its queues."""
        for binding in self.by_name.values():
            self._claim(binding)
            self._ask(binding)

    def owner_of(self, program: str) -> Binding | None:
        """The binding that sets this Program's count: the first that was accepted."""
        rivals = [binding for binding in self.by_name.values() if binding.target == program]
        return min(rivals, key=lambda b: (b.accepted.created_at, b.name), default=None)

    def _claim(self, binding: Binding) -> None:
        owner, before = self.owner_of(binding.target), binding.rival
        binding.rival = "" if owner is binding or owner is None else str(owner.accepted.key)
        controlled = self._programs.by_name.get(binding.target)
        if binding.rival != before:
            self._publisher.changed(binding)
        if binding.rival or controlled is None or controlled.bound is not None:
            return
        # Until its queues have answered, or could not be asked, what runs stays and nothing is started.
        scaled, now = controlled.ledger.memory.scaled, self._clock.now()
        running = staying(controlled)
        if scaled is not None:
            binding.memory = ScalingMemory.restored(scaled.replicas, scaled.active_at, now)
        count = min(running if scaled is None else scaled.replicas, binding.spec.max_replica_count)
        self._bind(binding, controlled, count, 0 if controlled.desired.run_once else None)

    def _bind(self, binding: Binding, controlled: Controlled, count: int, work: int | None) -> None:
        bound = Bound(count, binding.spec.max_replica_count, str(binding.accepted.key))
        self._programs.bind(controlled, bound, work, binding.memory.active_at)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, binding: Binding) -> None:
        """Have its queues asked, anew when what to ask has changed."""
        controlled = self._programs.by_name.get(binding.target)
        if binding.rival or controlled is None or controlled.deleted:
            self._stop_asking(binding)
            return
        asked = tuple(questions(binding.spec, *self._programs.surroundings_of(controlled)))
        if binding.meter is not None and asked == binding.asked:
            return
        self._stop_asking(binding)
        binding.asked, binding.looks = asked, (None,) * len(asked)
        interval = binding.spec.polling_interval
        meter = self._meters.open(binding.name, asked, interval, lambda answers: self._answered(binding, answers))
        binding.meter = meter
        self._expect_answer(binding)

    def _stop_asking(self, binding: Binding) -> None:
        for timer in (binding.overdue, binding.timer):
            if timer is not None:
                timer.cancel()
        binding.overdue = binding.timer = None
        if binding.meter is not None:
            binding.meter.close()
            binding.meter = None
        binding.looks = ()

    def _expect_answer(self, binding: Binding) -> None:
        if binding.overdue is not None:
            binding.overdue.cancel()
        interval = binding.meter.polling_seconds if binding.meter is not None else 0.0
        binding.overdue = self._scheduling.later(interval + ANSWER_SECONDS, lambda: self._silent(binding))

    def _silent(self, binding: Binding) -> None:
        """Its thread hangs in a driver, or could not be started: what it says is that nobody knows."""
        binding.overdue = None
        self.look(binding)  # which starts it where it is missing
        silent = QueueReadFailed("TimedOut", f"no answer for more than {ANSWER_SECONDS:g} s")
        self._answered(binding, [silent] * len(binding.asked))

    def _answered(self, binding: Binding, answers: Sequence[QueueAnswer]) -> None:
        if self.by_name.get(binding.name) is not binding or binding.meter is None:
            return
        now = self._clock.now()
        binding.looks = tuple(Look(now, answer) for answer in answers)
        self._expect_answer(binding)
        self._decide(binding)
        listeners, binding.listeners = binding.listeners, []
        for listener in listeners:
            listener()

    def look(self, binding: Binding) -> None:
        """Somebody says that there is something new."""
        if binding.meter is not None:
            binding.meter.look()

    def look_for(self, controlled: Controlled) -> None:
        """A run-once process of this Program ended, and all work that was counted is taken: is there more by now?"""
        binding = self.by_name.get(controlled.bound.by.partition("/")[2]) if controlled.bound else None
        if binding is not None:
            self.look(binding)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, binding: Binding) -> None:
        controlled = self._programs.by_name.get(binding.target)
        if controlled is None or binding.rival:
            return
        spec, now, run_once = binding.spec, self._clock.now(), controlled.desired.run_once
        counts, paused = counts_of(controlled), binding.pause is not None
        self._suspects.at(binding.accepted)
        try:
            decision = decide(spec, binding.looks, counts, binding.memory, now, run_once=run_once, paused=paused)
        finally:
            self._suspects.over()
        before, binding.decision, binding.memory = binding.decision, decision, decision.memory
        if decision.starts is None:
            was = controlled.bound.replicas if controlled.bound else counts.written
            self._bind(binding, controlled, decision.replicas, None)
            if decision.replicas != was:
                text = f"{was} -> {decision.replicas}: {decision.message}"
                self._publisher.event(binding.name, "Normal", "Scaled", text, KIND)
        else:
            # Each takes a single piece: the count follows by itself, from starts that are rationed.
            self._bind(binding, controlled, spec.max_replica_count, decision.starts)
        self._tell(binding, before, decision)
        self._keep_sample(binding, counts)
        self._wake(binding, min(decision.wake_at, decision.due_at))

    def _tell(self, binding: Binding, before: Decision | None, decision: Decision) -> None:
        """Events for what changed; the status follows by itself, at most once a second."""
        self._publisher.changed(binding)
        known = {c.type: (c.status, c.reason) for c in before.conditions} if before else {}
        for condition in decision.conditions:
            news = known.get(condition.type) != (condition.status, condition.reason)
            if news and condition.type in WARNINGS and condition.status is WARNINGS[condition.type]:
                self._publisher.event(binding.name, "Warning", condition.reason, condition.message, KIND)

    def _wake(self, binding: Binding, at: float) -> None:
        if binding.timer is not None:
            binding.timer.cancel()
            binding.timer = None
        if at != NEVER:
            seconds = max(LEAST_WAKE_SECONDS, at - self._clock.now())
            binding.timer = self._scheduling.later(seconds, lambda: self._woken(binding))

    def _woken(self, binding: Binding) -> None:
        """A window or a cool-down is over, or a delayed piece of work is due."""
        binding.timer = None
        self.look(binding)
        self._decide(binding)

    def _keep_sample(self, binding: Binding, counts: Counts) -> None:
        wall, history, decision = self._clock.wall(), binding.history, binding.decision
        if decision is None or (history and 0 <= wall - history[-1].at < HISTORY_SECONDS):
            return
        waiting, reserved = work_in(binding.looks)
        history.append(Sample(wall, waiting, reserved, decision.replicas, counts.running))

    # --- what operators ask -------------------------------------------------------------------------------------------

    def set_pause(self, binding: Binding, pause: Wish | None) -> None:
        """Freeze the count, or let it follow again: on disk first, then in force. Raises StateWriteFailed."""
        self._store.write_override(binding.accepted.key, pause_document(pause))
        binding.pause = pause
        self._decide(binding)
        self._publisher.changed(binding)

    def expire(self) -> None:
        """End the pauses whose time is over."""
        moment = self._clock.moment()
        for binding in self.by_name.values():
            if binding.pause is not None and binding.pause.is_over(moment):
                try:
                    self.set_pause(binding, None)
                except (OSError, StateWriteFailed):
                    continue  # asked again in a second
                self._publisher.event(binding.name, "Normal", "OverrideExpired", "the pause is over", KIND)
