"""What must hold in every history, stated without asking the code that is tested.

`Checks` is the witness of everything the engine does. It keeps its own books, made of what was written to the journal
and of what the kernel of this world did, and compares:

    at every effect      is this spawn, this signal, this KILL allowed now?
    before every call    would the short pass decide what the full pass decides?
    when all is done     is what runs wanted, is memory what the journal says, is a timer set for what is due?
    at rest              does everything that is waited for come from outside? (else: a hang)
    at a fixed point     does exactly what is wanted run?
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reconciler.core.memory import Ledger
from reconciler.core.records import Departed, Exited, Forgotten, Killed, Record, Reset, StopBegan, Withdrawn
from reconciler.engine.controlled import Controlled
from reconciler.model.identity import Key, ProcessId
from reconciler.model.launch import Launch
from reconciler.model.manifest import understood
from reconciler.model.objects import Accepted
from reconciler.model.program import DEFAULT_GRACE_SECONDS, ProgramSpec
from reconciler.model.revision import ROLLING
from reconciler.model.revision import revision as revision_of
from reconciler.model.state import NEVER, Cause, Outcome, Process
from support.fakes import FakeProcess
from support.sim_books import Book, Drain, Seat, least_backoff, seat_of
from support.sim_passes import a_pass_can_be_repeated, short_pass_is_the_full_one

if TYPE_CHECKING:
    from support.sim_world import World

LEFTOVERS_SECONDS = 30.0  # what a tree without its main process gets where the grace period is `infinity`
LONGEST_START_SECONDS = 10.0
A_MOMENT = 1e-6


@dataclass
class Checks:
    """The witness."""

    world: "World"
    books: dict[Seat, Book] = field(default_factory=dict)
    drains: dict[ProcessId, Drain] = field(default_factory=dict)
    seats: dict[ProcessId, Seat] = field(default_factory=dict)
    disturbed: dict[str, bool] = field(default_factory=dict)  # more than a rollout happened to it
    lossy: bool = False  # this controller knows more than is on disk
    vague: bool = False  # so much was forgotten that nobody can say who has proved itself
    excused: set[str] = field(default_factory=set)  # spawns whose end only a controller may have seen that then died
    forgotten: set[str] = field(default_factory=set)  # spawns that died with a controller who alone knew of them
    untried: dict[ProcessId, tuple[float, float]] = field(default_factory=dict)  # not yet proven: start, minReady

    # --- who is who ---------------------------------------------------------------------------------------------------

    def _controlled(self, uid: str) -> Controlled | None:
        programs = self.world.controller.programs.by_name.values()
        return next((c for c in programs if c.uid == uid), None)

    def _accepted(self, uid: str) -> Accepted | None:
        store = self.world.store
        return next((a for a in (*store.accepted.values(), *store.leaving.values()) if a.uid == uid), None)

    def _spec(self, name: str) -> ProgramSpec | None:
        accepted = self.world.store.accepted.get(Key("Program", name))
        return None if accepted is None else understood(accepted.canonical)[0]

    def _known(self, process: ProcessId) -> Process:
        """The process as the journal knows it, or while the disk takes no records, the controller."""
        for ledger in self._ledgers().values():
            for known in ledger.observed.processes.values():
                if known.id == process:
                    return known
        raise AssertionError(f"{process} is a stranger: nothing in the journal speaks of it")

    def _ledgers(self) -> Mapping[str, Ledger]:
        if not self.lossy:
            return self.world.controller.journal.ledgers
        return {each.uid: each.ledger for each in self.world.controller.programs.by_name.values()}

    def everything(self) -> list[FakeProcess]:
        """All that runs and that somebody can know of. Of a spawn that was forgotten only the main process tells."""
        return [one for one in self.world.table.everything() if one.main or one.spawn_id not in self.forgotten]

    # --- the operator -------------------------------------------------------------------------------------------------

    def edited(self, before: Accepted | None, after: Accepted) -> None:
        """A manifest was accepted."""
        if before is None:
            for seat, book in list(self.books.items()):
                if seat.program == after.name and book.gone_until != NEVER:
                    if self.world.clock.now() >= book.gone_until:
                        del self.books[seat]
                    else:
                        book.gone_until = NEVER
        keys = after.canonical.keys() | (before.canonical.keys() if before else set())
        changed = {k for k in keys if before is None or before.canonical.get(k) != after.canonical.get(k)}
        if changed - ROLLING or before is None:
            self.disturbed[after.name] = True

    def operated(self, name: str, verb: str) -> None:
        """An operator asked for something."""
        self.disturbed[name] = True

    def shaken(self) -> None:
        """All Programs are stopped at once."""
        self.disturbed = dict.fromkeys(self.disturbed, True)

    def rebooted(self) -> None:
        """Times of another boot mean nothing."""
        self.drains.clear()
        self.seats.clear()
        self.untried.clear()  # numbers of processes begin anew, too
        self.shaken()
        for book in self.books.values():
            book.exited_at = book.started_at = -NEVER
            if book.gone_until != NEVER:
                book.gone_until = -NEVER

    def checkpointed(self) -> None:
        """All that is known is on disk."""
        self.lossy = False

    def died(self) -> None:
        """The controller. What was not on disk is forgotten, and so are the books, which know more than they may."""
        if self.lossy:
            self.books.clear()
            self.vague = True
            self.shaken()
            self.excused |= {one.spawn_id for one in self.world.table.spawned}
            known = {p.spawn_id for ledger in self.world.written().values() for p in ledger.observed.processes.values()}
            self.forgotten |= {one.spawn_id for one in self.world.table.everything()} - known
        self.lossy = False

    # --- at every effect ----------------------------------------------------------------------------------------------

    def recorded(self, record: Record, *, on_disk: bool) -> None:
        """A record is being written, or would be."""
        self.lossy |= not on_disk
        match record:
            case Exited():
                self._exited(record)
            case StopBegan():
                self._stop_began(record)
            case Reset():
                for seat, book in self.books.items():
                    if seat.program == self._name(record.uid) and record.ordinal in (-1, seat.ordinal):
                        book.failures, book.finished = 0, False
            case Forgotten():
                self.books.pop(Seat(self._name(record.uid), record.ordinal), None)
            case Departed():
                for seat, book in self.books.items():
                    if seat.program == record.name:
                        self._departed(book, record)
            case Killed():
                self._killed(record)
            case Withdrawn():
                self._withdrawn(record)

    def _name(self, uid: str) -> str:
        return uid.rsplit("-", 1)[0]

    def _exited(self, record: Exited) -> None:
        name, controlled = self._name(record.uid), self._controlled(record.uid)
        ledger = self._ledgers()[record.uid]
        process, intent = ledger.observed.processes.get(record.ordinal), ledger.intent
        run = process if process is not None and not process.ended else intent
        if run is None:
            return
        book = self.books.setdefault(Seat(name, record.ordinal), Book())
        if record.outcome is Outcome.UNKNOWN:
            self._unknown(run.spawn_id)
        spec = controlled.built.spec if controlled else None
        policy = spec.restart_policy if spec else "Always"
        if book.revision != run.revision:
            book.failures = 0  # those were of another revision, however this run ended
        if record.outcome in (Outcome.FAILED, Outcome.NOT_STARTED):
            reset_after = spec.restart_backoff.reset_after if spec else NEVER
            book.failures = book.failures + 1 if record.ran_seconds < reset_after else 1
        elif record.outcome is Outcome.SUCCEEDED:
            book.failures = 0
        book.succeeded = record.outcome is Outcome.SUCCEEDED
        book.finished = book.succeeded and policy != "Always"
        book.finished |= policy == "Never" and record.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        book.revision, book.epoch, book.exited_at = run.revision, run.epoch, record.at
        ordinary = book.succeeded and policy == "Always" and record.empty
        if record.outcome is not Outcome.STOPPED and not ordinary:
            self.disturbed[name] = True

    def _unknown(self, spawn_id: str) -> None:
        """Only where no keeper lived to see it, or it took its time, may an end be unknown."""
        world = self.world
        ran = next((one for one in world.table.spawned if one.spawn_id == spawn_id), None)
        if ran is not None:
            excused = ran.behaviour.report_lost or world.keeper_seconds > 0 or spawn_id in self.excused
            assert excused, f"{seat_of(ran.launch)}: how {ran.id} ended is Unknown, and the keeper saw it"

    def _withdrawn(self, record: Withdrawn) -> None:
        ran = [one.id for one in self.world.table.spawned if one.spawn_id == record.spawn_id]
        seat = Seat(self._name(record.uid), record.ordinal)
        assert not ran, f"{seat}: withdrawn, and it ran as {ran}"
        if seat in self.books:
            self.books[seat].started_at = -NEVER

    def _stop_began(self, record: StopBegan) -> None:
        controlled = self._controlled(record.uid)
        assert controlled is not None
        process = controlled.ledger.observed.processes[record.ordinal]
        spec, desired = controlled.built.spec, controlled.desired
        endless = NEVER if process.run_once else DEFAULT_GRACE_SECONDS
        grace = endless if spec.termination_grace_period is None else spec.termination_grace_period
        if record.cause is Cause.LEFTOVERS and grace == NEVER:
            grace = LEFTOVERS_SECONDS
        kill_from = record.at + (0.0 if desired.kill_now else grace)
        silent = process.run_once and record.cause is not Cause.LEFTOVERS and not desired.kill_now
        self.drains[process.id] = Drain(kill_from, silent, deaths=self.world.deaths)

    def _killed(self, record: Killed) -> None:
        controlled, now = self._controlled(record.uid), self.world.clock.now()
        assert controlled is not None
        process = controlled.ledger.observed.processes[record.ordinal]
        early = self.drains[process.id].kill_from - now
        seat = self.seats[process.id]
        assert early < A_MOMENT or controlled.desired.kill_now, f"{seat}: killed within its grace period, {early:.3f} s"

    def _departed(self, book: Book, record: Departed) -> None:
        """What is remembered counts for a namesake who comes in time. What was finished does not: it is another one."""
        book.finished = False
        if Key("Program", record.name) not in self.world.store.accepted:
            book.gone_until = record.until

    def spawning(self, launch: Launch, spawn_id: str) -> None:
        """A process is about to be started."""
        now, seat = self.world.clock.now(), seat_of(launch)
        there = [one.id for one in self.everything() if seat_of(one.launch) == seat]
        assert not there, f"{seat} is taken by {there}"
        controlled = self.world.controller.programs.by_name[seat.program]
        intent = self._ledgers()[controlled.uid].intent
        assert intent is not None, f"{seat}: started before it was written down"
        assert (intent.spawn_id, intent.ordinal) == (spawn_id, seat.ordinal)
        once = controlled.built.spec.run_once or controlled.built.spec.restart_policy == "Never"
        assert not (self.lossy and once), f"{seat}: begun without a record, and it must not be repeated"
        assert not controlled.deleted, f"{seat}: started although the Program is deleted"
        assert not self.world.draining, f"{seat}: started during a shutdown"
        spec, book = controlled.built.spec, self.books.setdefault(seat, Book())
        floor = book.started_at + spec.min_restart_interval
        assert now >= floor - A_MOMENT, f"{seat}: started {floor - now:.3f} s before minRestartInterval is over"
        same = book.revision == intent.revision and book.epoch >= intent.epoch
        if same and book.failures >= 2:
            due = book.exited_at + least_backoff(spec, book.failures)
            assert now >= due - A_MOMENT, f"{seat}: {due - now:.3f} s too early after {book.failures} failures in a row"
        assert not (same and book.finished and spec.restart_policy != "Always"), f"{seat}: done work is done again"
        self._not_too_many_start(seat, intent.revision)
        book.started_at, book.finished = now, False

    def _not_too_many_start(self, seat: Seat, revision: str) -> None:
        """Beside those that count as starting now there is room for one more, unless it does not count itself."""
        most, now = self.world.most_starting, self.world.clock.now()
        starting = []
        for process in self.world.table.alive():
            since, ready = self.untried.get(process.id, (-NEVER, 0.0))
            spec = self._spec(self.seats[process.id].program)  # it may have been edited since
            least = min(ready, LONGEST_START_SECONDS, spec.min_ready_seconds if spec is not None else 0.0)
            if now < since + least - A_MOMENT:
                starting.append(self.seats[process.id])
        full = bool(most) and len(starting) >= most and not self.vague
        assert not full or self._is_proven(seat, revision), f"{seat} is started while {starting} are starting"

    def _is_proven(self, seat: Seat, revision: str) -> bool:
        spec, book = self._spec(seat.program), self.books.get(seat, Book())
        assert spec is not None
        proven = book.succeeded and book.revision == revision and spec.restart_policy == "Always"
        return proven or spec.min_ready_seconds == 0

    def spawned(self, process: ProcessId, launch: Launch, spawn_id: str) -> None:
        """A process was started."""
        self.seats[process] = seat_of(launch)
        spec = self._spec(seat_of(launch).program)
        if spec is not None and not self._is_proven(seat_of(launch), launch.env["RECONCILER_REVISION"]):
            self.untried[process] = self.world.clock.now(), spec.min_ready_seconds

    def signalling(self, process: ProcessId, number: int) -> None:
        """A stop signal is about to be sent."""
        known = self._known(process)
        assert known.stopping is not None, f"{process}: signalled before its drain was written down"
        drain = self.drains[process]
        drain.signals += 1
        assert not drain.silent, f"{self.seats[process]}: a run-once process was signalled {number}"
        # A controller that dies between a signal and the record of it leaves the next one in doubt.
        allowed = 1 + self.world.deaths - drain.deaths
        assert drain.signals <= allowed, f"{self.seats[process]}: signal {number} for the {drain.signals}. time"

    def killing(self, process: ProcessId) -> None:
        """A tree is about to be killed."""
        known = self._known(process)
        assert known.stopping is not None, f"{process}: killed before its drain was written down"
        assert known.stopping.killed, f"{process}: killed before that was written down"

    # --- before every call --------------------------------------------------------------------------------------------

    def before_call(self) -> None:
        """The engine is about to do the next thing."""
        for controlled in self.world.controller.loop.programs.values():
            short_pass_is_the_full_one(controlled, self.world.clock.now(), bounded=self.world.most_starting > 0)

    # --- when all is done ---------------------------------------------------------------------------------------------

    def at_idle(self) -> None:
        """The engine has nothing to do at this moment."""
        programs = self.world.controller.programs.by_name
        if self.world.journal.writable:
            self._memory_is_what_the_journal_says(programs)
        self._everything_that_runs_is_known(programs)
        for controlled in programs.values():
            self._what_is_not_wanted_is_ending(controlled)
            done, bounded = self.world.journal.writable, self.world.most_starting > 0
            a_pass_can_be_repeated(controlled, self.world.clock.now(), done=done, bounded=bounded)
            self._a_rollout_keeps_its_bound(controlled)

    def _memory_is_what_the_journal_says(self, programs: Mapping[str, Controlled]) -> None:
        ledgers = self.world.controller.journal.ledgers
        for name, controlled in programs.items():
            told, known = ledgers.get(controlled.uid, Ledger()), controlled.ledger
            # How much work waits is no memory: it is read again.
            counted = replace(known, observed=replace(known.observed, work=None))
            assert told == counted, f"{name}: memory is not the fold"
        uids = {controlled.uid for controlled in programs.values()}
        alive = {one.id for one in self.world.table.alive()}
        for uid, ledger in ledgers.items():
            runs = [p.id for p in ledger.observed.processes.values() if p.id in alive]
            assert uid in uids or not runs, f"nobody looks after {uid}: {runs}"

    def _everything_that_runs_is_known(self, programs: Mapping[str, Controlled]) -> None:
        for process in self.world.table.alive():
            program, ordinal = seat_of(process.launch)
            controlled = programs.get(program)
            known = controlled.ledger.observed.processes.get(ordinal) if controlled else None
            assert known is not None, f"{program}/{ordinal} runs, and nobody knows: {process.id}"
            assert known.id == process.id, f"{program}/{ordinal}: {process.id} runs, {known.id} is known"

    def _what_is_not_wanted_is_ending(self, controlled: Controlled) -> None:
        now = self.world.clock.now()
        for ordinal, process in controlled.ledger.observed.processes.items():
            where = f"{controlled.name}/{ordinal}"
            if process.stopping is None:
                assert self._is_wanted(controlled, ordinal), f"{where} is not wanted and not asked to end"
                assert not process.ended, f"{where}: leftovers are not asked to end"
                continue
            overdue = now >= process.stopping.kill_at and not process.stopping.killed
            assert not overdue, f"{where}: not killed {now - process.stopping.kill_at:.3f} s after its grace period"
            drain = self.drains.get(process.id)
            if drain is not None and not drain.silent and not process.stopping.killed:
                assert drain.signals, f"{where}: its stop signal was lost, it does not know that it shall end"

    def _is_wanted(self, controlled: Controlled, ordinal: int) -> bool:
        spec, wishes = self._spec(controlled.name), controlled.overrides
        if spec is None or spec.suspend or controlled.deleted or self.world.draining:
            return False
        if wishes.stop is not None and (wishes.stop.ordinals is None or ordinal in wishes.stop.ordinals):
            return False
        scaled = wishes.scale is not None and wishes.scale.written == spec.replicas
        if controlled.bound is not None:
            # Which ones it means is the engine's choice; how many is not.
            count = wishes.scale.replicas if wishes.scale is not None and scaled else controlled.bound.replicas
            meant = len(controlled.desired.ordinals())
            waits = self.world.controller.choosing.is_looking(controlled) and meant > count
            assert meant == count or waits, f"{controlled.name}: {count} were asked for"
            return controlled.desired.counts(ordinal)
        return ordinal < (wishes.scale.replicas if wishes.scale is not None and scaled else spec.replicas)

    # --- availability -------------------------------------------------------------------------------------------------

    def _a_rollout_keeps_its_bound(self, controlled: Controlled) -> None:
        """Where nothing but the revision changes and nothing fails, at most maxUnavailable are away."""
        spec = controlled.built.spec
        wanted = [o for o in controlled.desired.ordinals() if self._is_wanted(controlled, o)]
        away = [o for o in wanted if not self._is_available(controlled, o)]
        if controlled.bound is not None:
            self.disturbed[controlled.name] = True  # its count changes at any time
            return
        if self.disturbed.get(controlled.name, True):
            self.disturbed[controlled.name] = not wanted or bool(away) or controlled.desired.restart_now
        elif spec.strategy.type == "RollingUpdate":
            bound = spec.max_unavailable(len(wanted))
            assert len(away) <= bound, f"{controlled.name}: {away} away in a rollout, at most {bound} allowed"

    def _is_available(self, controlled: Controlled, ordinal: int) -> bool:
        spec, process = controlled.built.spec, controlled.ledger.observed.processes.get(ordinal)
        book = self.books.get(Seat(controlled.name, ordinal), Book())
        proven = book.succeeded and spec.restart_policy == "Always"
        if process is None:
            return proven
        if process.stopping is not None or process.ended:
            return False
        if proven and book.revision == process.revision:
            return True
        return self.world.clock.now() >= process.started_at + spec.min_ready_seconds

    # --- at rest ------------------------------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """No timer is set and nothing in the world is about to happen: only what is waited for may be missing."""
        hangs = list(self._hangs())
        assert not hangs, f"nothing happens any more at {self.world.clock.now():.3f}, but " + "; ".join(hangs)

    def _hangs(self) -> Iterator[str]:
        programs = self.world.controller.programs.by_name
        names = _programs_in(self.world.store.accepted) | _programs_in(self.world.store.leaving)
        yield from (f"{name} is forgotten" for name in names - programs.keys())
        for name, controlled in programs.items():
            ledger = controlled.ledger
            waits = [o for o, p in ledger.observed.processes.items() if p.stopping and p.stopping.kill_at == NEVER]
            for ordinal, process in ledger.observed.processes.items():
                if process.stopping is not None and ordinal not in waits:
                    yield f"{name}/{ordinal} does not come to its end: {process.stopping}"
                elif process.stopping is None and not waits and self._is_outdated(controlled, ordinal, process):
                    yield f"{name}/{ordinal} waits for its turn in a rollout that goes nowhere"
            for ordinal in controlled.desired.ordinals():
                free = ordinal not in ledger.observed.processes and self._is_wanted(controlled, ordinal)
                if free and not self._is_finished(controlled, ordinal) and not waits:
                    yield f"{name}/{ordinal} waits to be started: {ledger.memory.histories.get(ordinal)}"
            if not waits and not controlled.deleted and not ledger.memory.complete and not self.world.draining:
                yield f"{name}: its rollout is not known to be complete: {ledger.memory}"

    def _is_outdated(self, controlled: Controlled, ordinal: int, process: Process) -> bool:
        return process.revision != controlled.built.revision or process.epoch < controlled.desired.epoch_of(ordinal)

    def _is_finished(self, controlled: Controlled, ordinal: int) -> bool:
        work = controlled.ledger.observed.work
        if work is not None and work <= 0:
            return True  # for now: there is nothing for it to do
        history = controlled.ledger.memory.histories.get(ordinal)
        if history is None or history.done_outcome is None:
            return False
        current = history.done_revision == controlled.built.revision
        return current and controlled.built.spec.restart_policy != "Always"

    # --- at a fixed point ---------------------------------------------------------------------------------------------

    def awaited(self) -> list[ProcessId]:
        """Processes that are waited for without end: they finish their work when the world gets to it."""
        return [
            process.id
            for controlled in self.world.controller.programs.by_name.values()
            for process in controlled.ledger.observed.processes.values()
            if process.stopping is not None and process.stopping.kill_at == NEVER and not process.ended
        ]

    def at_fixed_point(self) -> None:
        """What runs is what is wanted, at the revision that is wanted, and nothing else."""
        self.at_rest()
        programs = self.world.controller.programs.by_name
        assert set(programs) == _programs_in(self.world.store.accepted)
        assert not self.world.store.leaving
        for name, controlled in programs.items():
            running = {o for o, p in controlled.ledger.observed.processes.items() if not p.stopping and not p.ended}
            wanted = {o for o in controlled.desired.ordinals() if self._is_wanted(controlled, o)}
            finished = {o for o in wanted if self._is_finished(controlled, o)}
            assert running | finished == wanted, f"{name}: {sorted(running)} run, {sorted(wanted)} are wanted"
            written = revision_of(controlled.accepted.canonical)
            assert controlled.built.revision == written, f"{name}: the last edit is not in force"

    def told(self) -> str:
        """The state of all Programs in words, for failures."""
        return "; ".join(
            f"{name}: {controlled.ledger.observed.processes}"
            for name, controlled in self.world.controller.programs.by_name.items()
        )


def _programs_in(keys: Iterable[Key]) -> set[str]:
    return {key.name for key in keys if key.kind == "Program"}
