"""A whole machine in memory: kernel, keeper, state directory, operator, and one controller after the other.

The controller is the real engine. The world gives it ports that may kill it at every effect (sim_ports.py), a witness
that looks at everything it does (sim_checks.py), and time:

    Time moves only to the next timer that the engine asked for, or to something that the world itself does next.

So a timer that was forgotten is no delay here but a hang: nothing happens any more, and the witness says which Program
waits for what. The once-a-second poll of the engine and the flush of status files are not counted as timers. They run
when time passes for another reason, or else every Program would be saved by a poll that is not meant for it.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from reconciler.core.homes import Accept, Remove
from reconciler.core.memory import Ledger
from reconciler.engine.bindings import Bindings
from reconciler.engine.building import Builder
from reconciler.engine.choosing import Choosing
from reconciler.engine.chores import Chores
from reconciler.engine.conditions import Conditions
from reconciler.engine.controlled import Controlled
from reconciler.engine.engine import Engine, Settings
from reconciler.engine.loop import Loop, Ports
from reconciler.engine.observe import open_ledgers
from reconciler.engine.programs import Programs
from reconciler.engine.publish import Publisher
from reconciler.engine.takeover import Takeover
from reconciler.model.identity import Key, ProcessId
from reconciler.model.launch import Launch
from reconciler.model.objects import Accepted
from reconciler.model.overrides import Overrides, pause_from
from reconciler.model.state import NEVER, Condition, Process
from reconciler.ports import ExitReport, QueueAnswer, Scheduling
from support.fakes import RUNS, Behaviour, FakeClock, FakeLogSink, FakeProcessTable, MemoryJournal
from support.sim_checks import Checks
from support.sim_meters import FakeMeters, Queues
from support.sim_ports import (
    ControllerDied,
    Fate,
    MemoryStore,
    MemorySurroundings,
    MortalJournal,
    MortalSink,
    MortalTable,
    folded,
)
from support.sim_schedule import Schedule
from support.sim_worklogs import Disk, FakeWorkLogs

SHUTDOWN_SECONDS = 20.0
CALLS_PER_MOMENT = 2000
"""So many calls without time passing, and the engine is going round in circles."""

MOMENTS_TO_SETTLE = 400
"""So many steps of time without faults, and there should have been a fixed point."""


class Sources:
    """The intake as far as Programs are shown with it."""

    def conditions(self, accepted: Accepted) -> list[Condition]:
        return []


class Controller:
    """The engine, put together as app.py does it, on the ports of this world."""

    def __init__(self, world: "World", number: int) -> None:
        clock, fate = world.clock, world.fate
        self.schedule = Schedule(clock)
        self.journal = MortalJournal(world.journal, fate, world.checks)
        table = MortalTable(world.table, fate, world.checks)
        sink: Any = MortalSink(world.sink, fate)
        scheduling = Scheduling(self.schedule.soon, self.schedule.later)
        polling = Scheduling(self.schedule.soon, self.schedule.poll_later)
        builder = Builder(world.surroundings, "/state", {})
        ports, most = Ports(clock, self.journal, table, sink), world.most_starting
        self.loop = Loop(ports, scheduling, builder, f"c{number}-", most_starting=most)
        self.loop._fail = _fail  # type: ignore[method-assign]
        conditions = Conditions(
            Sources(), self.journal, lambda _: None, running_as_root=False, safe_mode=False, daemon=dict
        )
        later = self.schedule.poll_later
        chores = Chores(clock, later, self.loop.is_busy)
        publisher = Publisher(clock, world.store, builder, conditions.of, later, chores)
        self.loop.publisher = publisher
        self.choosing = Choosing(scheduling, builder, FakeWorkLogs(world.disk, self.schedule))
        self.programs = Programs(clock, world.store, builder, self.loop, publisher, self.choosing)
        self.takeover = Takeover(self.programs, self.loop, builder)
        settings = Settings("/state", "0", number, shutdown_timeout=SHUTDOWN_SECONDS)
        intake: Any = None  # what it would announce, the world says directly
        self.meters = FakeMeters(world.queues)
        self.bindings = Bindings(clock, world.store, self.meters, polling, self.programs, publisher, Sources())
        parts = (self.loop, self.programs, publisher, conditions, self.bindings)
        self.engine = Engine(settings, clock, polling, intake, *parts)

    def take_over(self, store: MemoryStore, tell: Callable[[], None]) -> None:
        """As in app.py: accepted specs, overrides, journal, processes, what the keeper tells; then begin."""
        documents = {key: json.loads(text) for key, text in store.overrides.items()}
        programs = [item for item in store.accepted.values() if item.kind == "Program"]
        leaving = [item for item in store.leaving.values() if item.kind == "Program"]
        overrides = {k: Overrides.from_document(d) for k, d in documents.items() if k.kind == "Program"}
        self.takeover.restore(programs, leaving, overrides, open_ledgers(self.journal))
        pauses = {key: pause_from(document) for key, document in documents.items() if key.kind == "QueueBinding"}
        bindings = [item for item in store.accepted.values() if item.kind == "QueueBinding"]
        unbound = [item for item in store.leaving.values() if item.kind == "QueueBinding"]
        self.bindings.restore(bindings, unbound, pauses)
        self.takeover.adopt(same_boot=not self.journal.boot_changed)
        tell()
        self.engine.begin()


def _fail(controlled: Controlled, fault: Exception) -> None:
    """A pass that fails is tried again by the engine; here it is a defect, and the exception is on its way already."""
    raise  # noqa: PLE0704


class World:
    """One machine. Everything a history can do to it is a method; `run` lets the engine answer."""

    def __init__(self, most_starting: int = 0) -> None:
        self.most_starting = most_starting
        self.clock = FakeClock()
        self.fate = Fate()
        self.table = FakeProcessTable(self.clock, self._behave)
        self.journal = MemoryJournal(limit=120)  # small: checkpoints are part of every history
        self.sink = FakeLogSink()
        self.store = MemoryStore(self.fate)
        self.surroundings = MemorySurroundings()
        self.disk = Disk()
        self.queues: Queues = {}  # binding -> what its queues would answer
        self.moods: dict[str, Behaviour] = {}  # Program -> what its processes do from their start on
        self.reaps_since = 0.0  # since then the keeper has missed no exit
        self.keeper_seconds = 0.0  # how long the keeper takes to report an exit; NEVER: it does not
        self._kept: dict[ProcessId, ExitReport] = {}  # by the keeper, until a controller acknowledges
        self._untold: dict[ProcessId, float] = {}  # of them, what this controller is told, and when
        self._uids = self._controllers = self.deaths = 0
        self.draining = self.drained = False
        self.checks = Checks(self)
        self.controller: Controller
        self._start_controller()
        self.run()

    # --- what the engine does with its time --------------------------------------------------------------------------

    def run(self) -> None:
        """Let happen all that can happen without time passing, whoever dies of it."""
        for _ in range(CALLS_PER_MOMENT):
            try:
                if not self._call_next():
                    self.checks.at_idle()
                    return
            except ControllerDied:
                self._bury()
        raise AssertionError(f"{CALLS_PER_MOMENT} calls and no end at {self.clock.now():.3f}")

    def _call_next(self) -> bool:
        schedule = self.controller.schedule
        if schedule.ready:
            self.checks.before_call()
            schedule.ready.popleft()()
            return True
        if self.table.drain() or self._keeper_tells():
            return True
        call = schedule.due()
        if call is not None:
            call()
        return call is not None

    def next_moment(self) -> float:
        """When something happens next if nobody interferes. NEVER: all is at rest."""
        alarm = self.controller.schedule.next_alarm(polls=self._polls_matter())
        return min(alarm, self.table.next_event(), min(self._untold.values(), default=NEVER))

    def _polls_matter(self) -> bool:
        """What only a poll finds.

        An exit that nobody reports, the end of a tree, who outran the KILL to it, and another state of the host.
        """
        trees = (
            process.ended and (_is_killed(process) or not self.table.leftovers(process.id, process.spawn_id))
            for controlled in self.controller.programs.by_name.values()
            for process in controlled.ledger.observed.processes.values()
        )
        return self.surroundings.news() or bool(self.table.unreported()) or any(trees)

    @property
    def at_rest(self) -> bool:
        """Nothing will happen unless somebody comes."""
        return self.next_moment() == NEVER

    def pass_time(self, at_most: float = NEVER) -> None:
        """Let time pass to what happens next, or to something that the operator does before."""
        moment = min(self.next_moment(), self.clock.now() + at_most)
        if moment != NEVER:
            self.clock.advance_to(max(moment, self.clock.now()))
        self.run()
        if self.at_rest:
            self.checks.at_rest()

    # --- the operator -------------------------------------------------------------------------------------------------

    def apply(self, name: str, **spec: Any) -> None:
        """Accept a manifest, as intake does: on disk, then announced."""
        key = Key("Program", name)
        before = self.store.accepted.get(key)
        generation, uid = (before.generation + 1, before.uid) if before else (1, self._next_uid(name))
        canonical = {"command": ["work"], "workingDir": "/srv", **spec}
        after = Accepted("Program", name, uid, generation, canonical, {}, {}, "dir:/etc/m", f"/etc/m/{name}.yaml")
        self.checks.edited(before, after)
        how = "configured" if before else "created"

        def accept() -> None:
            self.store.write_accepted([after])
            self.controller.engine.settled([Accept(how, after, before)])

        self._ask(accept)

    def bind(self, name: str, program: str, **spec: Any) -> None:
        """Accept a QueueBinding of one queue."""
        key = Key("QueueBinding", name)
        before = self.store.accepted.get(key)
        generation, uid = (before.generation + 1, before.uid) if before else (1, self._next_uid(name))
        canonical = {"scaleTargetRef": {"name": program}, "maxReplicaCount": 8, **spec}
        canonical.setdefault("triggers", [{"type": "redis", "metadata": {"key": name}}])
        after = Accepted("QueueBinding", name, uid, generation, canonical, {}, {}, "dir:/etc/m", f"/etc/m/{name}.yaml")

        def accept() -> None:
            self.store.write_accepted([after])
            self.controller.engine.settled([Accept("configured" if before else "created", after, before)])

        self._ask(accept)

    def queue(self, name: str, *answers: QueueAnswer) -> None:
        """The queues of a binding hold this from now on, and are looked at."""
        self.queues[name] = answers
        self.clock.advance(0.001)  # no two looks are at the same moment
        self._ask(lambda: self.controller.meters.answer(name))

    def delete(self, name: str, kind: str = "Program") -> None:
        """The manifest is gone."""
        before = self.store.accepted.get(Key(kind, name))
        if before is None:
            return  # nobody came to accept it

        def remove() -> None:
            self.store.retire_accepted([before.key])
            self.controller.engine.settled([Remove(before)])

        self._ask(remove)

    def operate(self, name: str, verb: str, **body: Any) -> None:
        """One of the operator's verbs."""
        self.checks.operated(name, verb)
        request = self.controller.engine.operate(name, verb, body, dry_run=False, by="op")

        def call() -> None:
            try:
                request.send(None)
            except StopIteration:
                pass

        if name in self.controller.programs.by_name:
            self._ask(call)
        else:
            request.close()

    def _ask(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ControllerDied:
            self._bury()
        self.run()

    def _next_uid(self, name: str) -> str:
        self._uids += 1
        return f"{name}-{self._uids}"

    # --- processes and the host ---------------------------------------------------------------------------------------

    def _behave(self, launch: Launch, _spawn_id: str) -> Behaviour:
        return self.moods.get(launch.env["RECONCILER_PROGRAM"], RUNS)

    def end(self, process: ProcessId, code: int | None = 0, signal: int | None = None) -> None:
        """A process ends by itself."""
        self.table.end(process, code, signal)
        self.run()

    # --- deaths -------------------------------------------------------------------------------------------------------

    def kill_controller(self) -> None:
        """SIGKILL, while it is waiting for something to happen."""
        self._bury()
        self.run()

    def _bury(self) -> None:
        """The controller died; the keeper starts the next one, which may die while it takes over."""
        while True:
            self.deaths += 1
            self.table.crash()
            self._collect()
            try:
                self._start_controller()
            except ControllerDied:
                continue
            return

    def _start_controller(self) -> None:
        self._controllers += 1
        self.checks.died()
        self.journal.reopen()
        self.controller = Controller(self, self._controllers)
        self._untold.clear()
        self.controller.take_over(self.store, self._tell_all)
        if self.draining:
            self._drain()  # the keeper remembers that it was asked to end

    def _tell_all(self) -> None:
        """What no controller has acknowledged is told again, and then that this was all."""
        told: list[ProcessId] | None = None
        while told is None:
            self._collect()
            self._untold.clear()  # for it is now
            for process in self.controller.loop.observer.reported(list(self._kept.values())):
                del self._kept[process]
            told = self.controller.takeover.told(self.reaps_since)
        for process in told:
            del self._kept[process]

    def written(self) -> dict[str, Ledger]:
        """What a controller would know that took over now."""
        return folded(self.journal.replay())

    def _collect(self) -> None:
        for report in self.table.take_reports():
            self._kept[report.process] = report
            self._untold[report.process] = self.clock.now() + self.keeper_seconds

    def _keeper_tells(self) -> bool:
        """The keeper reports exits of processes that another controller started; what is journaled it forgets."""
        self._collect()
        due = [process for process, at in self._untold.items() if at <= self.clock.now()]
        if not due:
            return False
        for process in due:
            del self._untold[process]
        reports: Sequence[ExitReport] = [self._kept[process] for process in due]
        for process in self.controller.loop.observer.reported(reports):
            del self._kept[process]
        return True

    def keeper_takes(self, seconds: float) -> None:
        """How long the keeper takes to report an exit from now on, also one that it has not got to yet."""
        self.keeper_seconds = seconds
        at = self.clock.now() + seconds
        self._untold = {process: min(due, at) for process, due in self._untold.items()}

    def lose_keeper(self, away_seconds: float = 0.0) -> None:
        """The keeper dies, so the controller leaves. What ends meanwhile, or later as an orphan, nobody can explain."""
        self._leave()
        for process in self.table.alive():
            process.behaviour = _unexplained(process.behaviour)
        self._kept.clear()
        self._untold.clear()
        self.clock.advance(away_seconds)
        self.table.drain()
        self.table.take_reports()
        self.reaps_since = self.clock.now()
        self.draining = self.drained = False
        self._revive()

    def _leave(self) -> None:
        try:
            self.controller.engine.leave()
        except ControllerDied:
            pass  # it was leaving anyway
        self.table.crash()

    def _revive(self) -> None:
        try:
            self._start_controller()
        except ControllerDied:
            self._bury()
        self.run()

    def shut_down_and_start_again(self) -> None:
        """TERM to the keeper, all is drained; then somebody starts it again."""
        self.draining = True
        self.checks.shaken()
        self._ask(self._drain)
        for _ in range(MOMENTS_TO_SETTLE):
            if self.drained:
                break
            moment = min(self.next_moment(), self.clock.now() + 1.0)  # the engine polls for the end of a drain
            self.clock.advance_to(max(moment, self.clock.now()))
            self.run()
        assert self.drained, "the drain does not end"
        left = self.checks.everything()
        assert not left, f"still there after the drain: {left}"
        self._leave()
        self._collect()
        self._kept.clear()  # a new keeper knows nothing of the old one's
        self._untold.clear()
        self.draining = self.drained = False
        self._revive()

    def _drain(self) -> None:
        def done() -> None:
            self.drained = True

        self.controller.engine.drain(done)

    def reboot(self, uptime: float = 5.0) -> None:
        """Power off and on: no process is left, and time begins anew."""
        wall = self.clock.wall()
        self.clock = FakeClock(uptime, wall + 60, f"{self.clock.boot}+")
        self.table = FakeProcessTable(self.clock, self._behave)
        self.journal.boot_changed = True
        self._kept.clear()
        self._untold.clear()
        self.reaps_since = self.clock.now()
        self.draining = self.drained = False
        self.checks.rebooted()
        self._revive()

    # --- calm ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Faults stop, work that is waited for gets done: now there must be a fixed point, soon."""
        self.moods.clear()
        self.surroundings.lacking.clear()
        self.fate.relent()
        self.keeper_takes(0.0)
        self.journal.refuse = False
        self.run()
        for _ in range(MOMENTS_TO_SETTLE):
            if not self.at_rest:
                self.pass_time()
                continue
            awaited = self.checks.awaited()
            if not awaited:
                self.checks.at_fixed_point()
                return
            for process in awaited:
                self.table.end(process)
            self.run()
        raise AssertionError(f"no fixed point after {MOMENTS_TO_SETTLE} steps: {self.checks.told()}")


def _is_killed(process: Process) -> bool:
    return process.stopping is not None and process.stopping.killed


def _unexplained(behaviour: Behaviour) -> Behaviour:
    fields = {name: getattr(behaviour, name) for name in Behaviour.__dataclass_fields__}
    return Behaviour(**{**fields, "report_lost": True})
