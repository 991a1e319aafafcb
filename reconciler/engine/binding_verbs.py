"""The bindings as the servers see them: objects to read, verbs to carry out, edits to foretell."""

import asyncio
from collections.abc import Iterable
from typing import Any

from reconciler.core.binding_status import BindingFacts, binding_status
from reconciler.core.effects import NO_EFFECT, Effect
from reconciler.core.homes import Accept, Remove
from reconciler.core.status import View
from reconciler.engine.binding import Binding, staying
from reconciler.engine.bindings import ANSWER_SECONDS, KIND, PROGRAM, Bindings
from reconciler.engine.programs import Programs
from reconciler.engine.publish import Publisher
from reconciler.engine.wishes import Asked, wish_from
from reconciler.model.identity import Key
from reconciler.model.manifest import binding_from_canonical
from reconciler.model.objects import StateWriteFailed
from reconciler.model.overrides import pause_text
from reconciler.model.problems import ApiError, Problem
from reconciler.model.state import Condition, ConditionStatus
from reconciler.ports import Clock

CONDITIONS: dict[str, str] = {
    "TargetNotFound": "There is no Program of the name in scaleTargetRef; the binding waits for it.",
    "Conflict": "Another binding sets the count of the same Program already; this one does nothing.",
    "Overridden": "An operator paused the binding, or gave its Program a count.",
}
"""Conditions of a binding that the scaling core does not know of; the docs list them from here."""


class BindingVerbs:
    """Reads and operates the bindings of one controller."""

    def __init__(self, clock: Clock, bindings: Bindings, programs: Programs, publisher: Publisher) -> None:
        self._clock, self._bindings, self._programs, self._publisher = clock, bindings, programs, publisher
        publisher.show(KIND, self._status)

    # --- reading ------------------------------------------------------------------------------------------------------

    def objects(self) -> list[dict[str, Any]]:
        """All bindings, by name."""
        return [self._publisher.object(binding) for _, binding in sorted(self._bindings.by_name.items())]

    def object(self, name: str) -> dict[str, Any] | None:
        """One binding, or None."""
        binding = self._bindings.by_name.get(name)
        return None if binding is None else self._publisher.object(binding)

    def history(self, name: str) -> list[dict[str, Any]]:
        """What waited and how many replicas there were, a sample a second, oldest first."""
        return [sample._asdict() for sample in self._binding(name).history]

    def _status(self, binding: Binding, view: View) -> dict[str, Any]:
        controlled = self._programs.by_name.get(binding.target)
        facts = BindingFacts(
            generation=binding.accepted.generation,
            target=binding.target,
            written=None if controlled is None else controlled.built.spec.replicas,
            running=0 if controlled is None else staying(controlled),
            decision=None if controlled is None or binding.rival else binding.decision,
            extra=tuple(self._conditions(binding)),
        )
        return binding_status(facts, view)

    def _conditions(self, binding: Binding) -> Iterable[Condition]:
        controlled = self._programs.by_name.get(binding.target)
        yield from self._bindings.sources.conditions(binding.accepted)
        if controlled is None:
            yield _true("TargetNotFound", "NoSuchProgram", f"there is no {Key(PROGRAM, binding.target)} yet")
        if binding.rival:
            yield _true("Conflict", "BoundAlready", f"{binding.rival} sets the count of {binding.target}")
        said = [pause_text(binding.pause)] if binding.pause else []
        if controlled is not None and controlled.overrides.scale is not None:
            said += [text for text in controlled.overrides.texts() if text.startswith("replicas")]
        if said:
            yield _true("Overridden", "OperatorOverride", "; ".join(said))

    # --- verbs --------------------------------------------------------------------------------------------------------

    async def operate(
        self, name: str, verb: str, body: dict[str, Any], *, dry_run: bool, by: str = ""
    ) -> dict[str, Any]:
        """pause, resume or poke."""
        binding = self._binding(name)
        word, message = "poked", ""
        if verb == "pause":
            pause = wish_from(body, Asked(by, self._clock.moment()))
            word, message = "paused", f"{binding.target} stays at {self._count(binding)}"
            if not dry_run:
                self._write(lambda: self._bindings.set_pause(binding, pause))
        elif verb == "resume":
            word = "resumed" if binding.pause else "unchanged"
            message = "" if binding.pause else "it is not paused"
            if binding.pause and not dry_run:
                self._write(lambda: self._bindings.set_pause(binding, None))
        elif not dry_run:
            self._bindings.look(binding)
        if verb != "poke" and word != "unchanged" and not dry_run:
            text = f"{word} by {by or 'an operator'}" + (f": {message}" if message else "")
            self._publisher.event(name, "Normal", word.capitalize(), text, KIND)
        return _result(binding, word, message)

    async def test(self, name: str) -> dict[str, Any]:
        """Ask its queues now, and show what they say and what follows."""
        binding = self._binding(name)
        if binding.meter is not None:
            answered = asyncio.Event()
            binding.listeners.append(answered.set)
            self._bindings.look(binding)
            try:
                await asyncio.wait_for(answered.wait(), ANSWER_SECONDS + 1.0)
            except TimeoutError:
                pass  # the status then says that there was no answer
        return self._publisher.object(binding)

    def _count(self, binding: Binding) -> int:
        if binding.decision is not None:
            return binding.decision.replicas
        controlled = self._programs.by_name.get(binding.target)
        return 0 if controlled is None else controlled.desired.replicas

    def _write(self, write: Any) -> None:
        try:
            write()
        except (OSError, StateWriteFailed) as error:
            raise ApiError(507, 1, "StateWriteFailed", f"nothing was changed: {error}") from error

    def _binding(self, name: str) -> Binding:
        binding = self._bindings.by_name.get(name)
        if binding is None:
            raise ApiError(404, 3, "NotFound", f"queuebinding/{name[:80]} not found")
        return binding

    # --- edits --------------------------------------------------------------------------------------------------------

    def foretell(self, change: Accept | Remove) -> Effect:
        """What an edit of a binding does, in the words of `diff`. What it does to processes, its queues decide."""
        if isinstance(change, Remove):
            return Effect("delete", change=True)
        before, after = change.before, change.after
        if before is None:
            return Effect("create", change=True)
        names = before.canonical.keys() | after.canonical.keys()
        fields = [name for name in sorted(names) if before.canonical.get(name) != after.canonical.get(name)]
        if dict(before.labels) != dict(after.labels):
            fields.append("labels")
        if not fields:
            return NO_EFFECT
        return Effect(f"update in place ({', '.join(fields)})", change=True, fields=tuple(fields))

    def refuse_rivals(self, changes: Iterable[Accept | Remove]) -> None:
        """Two bindings of one Program cannot both be right. Raises ApiError with every pair of them."""
        edits = list(changes)
        after: dict[str, str] = {name: binding.target for name, binding in self._bindings.by_name.items()}
        touched: dict[str, Accept] = {}
        for change in edits:
            if isinstance(change, Accept) and change.after.kind == KIND:
                after[change.after.name] = binding_from_canonical(change.after.canonical).scale_target_ref.name
                touched[change.after.name] = change
            elif isinstance(change, Remove) and change.before.kind == KIND:
                after.pop(change.before.name, None)
        problems = []
        for name, change in sorted(touched.items()):
            rivals = sorted(other for other, target in after.items() if target == after[name] and other != name)
            if rivals:
                message = f"{Key(KIND, rivals[0])} sets the count of {after[name]} already"
                hint = "several queues of one Program are several triggers of one binding"
                item = change.after
                problems.append(Problem(item.file, item.line, 1, "spec.scaleTargetRef.name", message, hint))
        if problems:
            raise ApiError(409, 6, "Conflict", "a Program has one binding", problems)


def _result(binding: Binding, verb: str, message: str) -> dict[str, Any]:
    generation = binding.accepted.generation
    return {"kind": KIND, "name": binding.name, "verb": verb, "message": message, "generation": generation}


def _true(kind: str, reason: str, message: str) -> Condition:
    return Condition(kind, ConditionStatus.TRUE, reason, message)
