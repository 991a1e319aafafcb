"""The engine as the servers see it: objects to read, verbs to carry out. Everything a user asks comes through here.

It parses and validates what the verbs were given and hands on: manifests to intake, wishes to the override files, and
both to the loop. No verb touches a process.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from reconciler.core.desired import Phase
from reconciler.core.effects import NO_EFFECT, Effect
from reconciler.core.homes import Accept, Change, Remove
from reconciler.engine import bindings
from reconciler.engine.applying import Prepared
from reconciler.engine.binding_verbs import BindingVerbs
from reconciler.engine.bindings import Bindings
from reconciler.engine.conditions import Conditions
from reconciler.engine.controlled import Controlled
from reconciler.engine.intake import Intake
from reconciler.engine.loop import Loop
from reconciler.engine.programs import KIND, Programs
from reconciler.engine.publish import Message, Publisher
from reconciler.engine.wishes import VERBS, Asked, after_verb
from reconciler.model.identity import Key
from reconciler.model.objects import StateWriteFailed
from reconciler.model.problems import ApiError
from reconciler.model.state import NEVER
from reconciler.ports import Clock, Scheduling

POLL_SECONDS = 1.0
QUIET_SECONDS = 2.0
FORETOLD_AT_ONCE, MERGED_AT_ONCE = 20, 500  # others have their turn in between

log = logging.getLogger("reconciler")


@dataclass(frozen=True)
class Settings:
    """How this controller was asked to run."""

    state_dir: str
    version: str
    pid: int
    shutdown_timeout: float = 300.0
    safe_mode: bool = False


class Engine:
    """All Programs of one controller, and what may be asked of them."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        scheduling: Scheduling,
        intake: Intake,
        loop: Loop,
        programs: Programs,
        publisher: Publisher,
        conditions: Conditions,
        bindings: Bindings,
    ) -> None:
        self._settings, self._clock, self._scheduling = settings, clock, scheduling
        self._intake, self._loop = intake, loop
        self._programs, self._publisher, self._conditions = programs, publisher, conditions
        self._bindings = bindings
        loop.observer.is_free = bindings.look_for
        self.bindings = BindingVerbs(clock, bindings, programs, publisher)
        self._drained: Callable[[], None] | None = None
        self._started_at, self._began_at = clock.wall(), clock.now()
        self.ready = False

    def begin(self) -> None:
        """Everything that runs is known: decide from now on."""
        self._bindings.begin()
        self._loop.release()
        self.ready = True
        self._scheduling.later(POLL_SECONDS, self._poll)

    def settled(self, changes: Sequence[Change]) -> None:
        """Intake has something new."""
        self._programs.settled(changes)
        self._bindings.settled(changes)

    def _poll(self) -> None:
        """What no event tells of: wishes that expire, files and links that specs read."""
        self._scheduling.later(POLL_SECONDS, self._poll)
        self._loop.observer.look_around()
        self._programs.expire()
        self._bindings.expire()
        now = self._clock.now()
        for controlled in self._programs.by_name.values():
            if controlled.built.fingerprint and self._programs.look_at_surroundings(controlled, now, QUIET_SECONDS):
                self._bindings.look_around()

    # --- reading ----------------------------------------------------------------------------------------------------

    def objects(self) -> Iterator[dict[str, Any]]:
        """All objects of this moment, by name; each as it is when its turn comes."""
        known = sorted(self._programs.by_name.items())
        return (self._publisher.object(controlled) for _, controlled in known)

    def object(self, name: str) -> dict[str, Any] | None:
        """One object, or None."""
        controlled = self._programs.by_name.get(name)
        return None if controlled is None else self._publisher.object(controlled)

    def effective_spec(self, name: str) -> dict[str, Any]:
        """The spec over the defaults of the configuration."""
        return self._programs.effective(self._controlled(name).accepted.canonical)

    def processes(self) -> Iterator[dict[str, Any]]:
        """One row per replica of all Programs, of each as it is when its turn comes."""
        known = sorted(self._programs.by_name.items())
        return (
            {"program": name, **row}
            for name, controlled in known
            for row in self._publisher.status(controlled)["processes"]
        )

    def problems(self) -> list[dict[str, Any]]:
        """All that is wrong with what the sources hold."""
        return [problem.as_dict() for problem in self._intake.problems()]

    def sources(self) -> list[dict[str, Any]]:
        """The watched directories and applied sets."""
        return self._intake.sources()

    def watch(self) -> AbstractContextManager[asyncio.Queue[Message]]:
        """Changes of objects from now on."""
        return self._publisher.watch()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The last events."""
        return self._publisher.events(name)

    def watch_events(self) -> AbstractContextManager[asyncio.Queue[dict[str, Any]]]:
        """Events from now on."""
        return self._publisher.watch_events()

    def daemon_status(self) -> dict[str, Any]:
        """The controller itself."""
        return {
            "version": self._settings.version,
            "pid": self._settings.pid,
            "stateDir": self._settings.state_dir,
            "startedAt": self._started_at,
            "upSeconds": round(self._clock.now() - self._began_at, 3),
            "ready": self.ready,
            "safeMode": self._settings.safe_mode,
            "draining": self._drained is not None,
            "programs": len(self._programs.by_name),
            "processes": self._programs.running(),
            "spawns": self._loop.actuator.spawns,
            "exits": self._loop.observer.exits,
            "passes": self._loop.passes,
            "starting": self._loop.starts.starting(self._clock.now()),
            "maxStarting": self._loop.starts.most,
            **self._conditions.daemon(),
        }

    def log_files(self, name: str) -> list[dict[str, Any]]:
        """The log files of a Program's replicas: ordinal, stream, path."""
        return self._programs.log_files(self._controlled(name))

    # --- verbs ------------------------------------------------------------------------------------------------------

    async def apply(self, body: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        """Accept manifests: all or none. Answers with a result per object."""
        prepared = await self._prepared(body)
        answer = await self._answer(prepared)
        if not dry_run:
            final = await self._intake.commit(prepared)
            said = {(result["kind"], result["name"]): result for result in final.results}
            for result in answer["results"]:
                # Something else may have been accepted in between: the word and the number are those of the commit.
                result.update(said.get((result["kind"], result["name"]), {}))
        return answer

    async def diff(self, body: dict[str, Any]) -> dict[str, Any]:
        """What apply would do, per object."""
        return await self._answer(await self._prepared(body))

    async def _prepared(self, body: dict[str, Any]) -> Prepared:
        prepared = await self._intake.prepare_apply(body)
        self.bindings.refuse_rivals(prepared.changes)
        return prepared

    async def _answer(self, prepared: Prepared) -> dict[str, Any]:
        foretold: dict[Key, Effect] = {}
        for number, change in enumerate(prepared.changes):
            if number % FORETOLD_AT_ONCE == FORETOLD_AT_ONCE - 1:
                await asyncio.sleep(0)
            foretold[change.after.key if isinstance(change, Accept) else change.before.key] = self._foretell(change)
        answer = prepared.as_answer()
        answer["warnings"] += await asyncio.to_thread(self._warnings, prepared)
        for number, result in enumerate(answer["results"]):
            if number % MERGED_AT_ONCE == MERGED_AT_ONCE - 1:
                await asyncio.sleep(0)
            effect = foretold.get(Key(result["kind"], result["name"]), NO_EFFECT)
            controlled = self._programs.by_name.get(result["name"]) if result["kind"] == KIND else None
            overridden = "; ".join(controlled.overrides.texts()) if controlled else ""
            result.update(effect=effect.text, change=effect.change, fields=list(effect.fields), overridden=overridden)
        return answer

    def _warnings(self, prepared: Prepared) -> list[dict[str, Any]]:
        return [warning.as_dict() for warning in self._conditions.warnings(prepared, self._programs.effective)]

    def _foretell(self, change: Accept | Remove) -> Effect:
        subject = change.after if isinstance(change, Accept) else change.before
        if subject.kind != KIND:
            return self.bindings.foretell(change)
        if isinstance(change, Remove):
            return self._programs.foretell(change.before, None)
        return self._programs.foretell(change.before, change.after)

    async def delete_binding(self, name: str, *, dry_run: bool) -> dict[str, Any]:
        """The same for a binding: its Program then has the written count, or keeps the one it has (onDelete)."""
        key = Key(bindings.KIND, name)
        if self.bindings.object(name) is None:
            raise ApiError(404, 3, "NotFound", f"{key} not found")
        await self._intake.delete(key, dry_run=dry_run)
        return {"kind": key.kind, "name": name, "verb": "deleted", "message": "", "generation": 0}

    async def delete(self, name: str, *, dry_run: bool) -> dict[str, Any]:
        """Delete an applied object; one from a watched directory is deleted by deleting its file."""
        controlled = self._controlled(name)
        generation = controlled.accepted.generation
        effect = self._programs.foretell(controlled.accepted, None)
        await self._intake.delete(controlled.accepted.key, dry_run=dry_run)
        return {"kind": KIND, "name": name, "verb": "deleted", "message": effect.text, "generation": generation}

    async def operate(
        self, name: str, verb: str, body: dict[str, Any], *, dry_run: bool, by: str = ""
    ) -> dict[str, Any]:
        """One of the verbs that become an override."""
        controlled = self._controlled(name)
        if verb not in VERBS:
            raise ApiError(404, 2, "UnknownVerb", f"no verb {verb!r}; there are {', '.join(VERBS)}")
        asked = Asked(by, self._clock.moment(), controlled.bound is not None)
        answer = after_verb(controlled.overrides, verb, body, controlled.built.spec.replicas, asked)
        if not dry_run and answer.verb != "unchanged":
            try:
                self._programs.wish(controlled, answer.overrides)
            except (OSError, StateWriteFailed) as error:
                raise ApiError(507, 1, "StateWriteFailed", f"nothing was changed: {error}") from error
            if verb == "reset":
                self._programs.forgive(controlled)
            text = f"{answer.verb} by {by or 'an operator'}" + (f": {answer.message}" if answer.message else "")
            self._publisher.event(name, "Normal", answer.verb.capitalize(), text)
        return {
            "kind": KIND,
            "name": name,
            "verb": answer.verb,
            "message": answer.message,
            "generation": controlled.accepted.generation,
        }

    async def rescan(self) -> dict[str, Any]:
        """Read all manifests now."""
        return await self._intake.rescan()

    # --- leaving ----------------------------------------------------------------------------------------------------

    def drain(self, drained: Callable[[], None]) -> None:
        """Stop everything in order; call `drained` when nothing runs any more."""
        if self._drained is not None:
            return
        self._drained = self._once(drained)
        log.info("draining %d processes", self._programs.running())
        self._programs.enter(Phase(draining=True))
        self._scheduling.later(self._settings.shutdown_timeout, self.kill_all)
        self._look_whether_drained()

    def kill_all(self) -> None:
        """Nobody waits any longer: KILL to every tree."""
        if self._drained is not None and not self._programs.phase.kill_now:
            log.warning("killing %d processes that are still there", self._programs.running())
            self._programs.enter(Phase(draining=True, kill_now=True))

    def _look_whether_drained(self) -> None:
        if self._drained is None:
            return
        if self._programs.running():
            self._scheduling.later(0.02, self._look_whether_drained)
        else:
            self._drained()

    def _once(self, call: Callable[[], None]) -> Callable[[], None]:
        left = [call]

        def once() -> None:
            if left:
                left.pop()()

        return once

    def hold(self) -> None:
        """Start and stop nothing any more: this controller is about to leave."""
        self._loop.hold()

    def leave(self, within: float = NEVER) -> None:
        """Ask no queue any more, and write what is still to be written, for at most so many seconds."""
        self._bindings.close()
        self._publisher.flush_all(within)
        self._loop.checkpoint()

    def _controlled(self, name: str) -> Controlled:
        controlled = self._programs.by_name.get(name)
        if controlled is None:
            raise ApiError(404, 3, "NotFound", f'program "{name}" is not known', ())
        return controlled
