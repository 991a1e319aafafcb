"""What every ProcessTable does: one suite for the fake and for the real one."""

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from reconciler.adapters.clock import BootClock
from reconciler.adapters.processes import LinuxProcessTable
from reconciler.model.identity import ProcessId
from reconciler.model.launch import Launch
from reconciler.model.state import NEVER
from reconciler.ports import ExitReport, SpawnFailed, Trace
from support.fakes import Behaviour, FakeClock, FakeProcessTable

KILL, TERM = 9, 15
READY = "echo > ready; "

# What a shell does, and what the fake is told that it does.
SCRIPTS = {
    "exit 0": Behaviour(exits_after=0.0),
    "exit 3": Behaviour(exits_after=0.0, code=3),
    "kill -9 $$": Behaviour(exits_after=0.0, signal=KILL),
    READY + "exec sleep 1000": Behaviour(),
    "trap '' TERM; " + READY + "while :; do sleep 1000; done": Behaviour(term_after=NEVER),
    "trap 'exit 7' TERM; " + READY + "while :; do sleep 0.05; done": Behaviour(term_code=7),
    "sleep 1000 & exit 0": Behaviour(exits_after=0.0, leaves=1),
    "(trap '' TERM; " + READY + "sleep 1000; sleep 1000) & while [ ! -e ready ]; do sleep 0.01; done": Behaviour(
        exits_after=0.0, leaves=2, leaves_heed=False
    ),
}
EXITS_0, EXITS_3, DIES_BY_KILL, RUNS, IGNORES_TERM, HANDLES_TERM, LEAVES_ONE, LEAVES_STUBBORN = SCRIPTS


class Table(Protocol):
    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId: ...
    def adopt(self, process: ProcessId) -> bool: ...
    def trace(self, spawn_id: str, since: float, reports: Sequence[ExitReport]) -> Trace: ...
    def signal(self, process: ProcessId, signal: int, scope: str) -> bool: ...
    def kill_tree(self, process: ProcessId, spawn_id: str) -> None: ...
    def leftovers(self, process: ProcessId, spawn_id: str) -> object: ...
    def on_exit(self, exited: Callable[[ExitReport], None]) -> None: ...
    def report(self, process: ProcessId, code: int | None, signal: int | None) -> None: ...
    def drain(self) -> int: ...


class World:
    """A table, what it told, and how to wait in it."""

    def __init__(self, table: Table, cwd: str, wait: Callable[[], None], now: Callable[[], float]) -> None:
        self.table = table
        self.now = now
        self.cwd = cwd
        self.exits: list[ExitReport] = []
        self._wait = wait
        self._spawned: list[tuple[ProcessId, str]] = []
        table.on_exit(self.exits.append)

    def spawn(self, script: str, spawn_id: str = "") -> ProcessId:
        spawn_id = spawn_id or f"{self.cwd}-{len(self._spawned)}"
        launch = Launch(argv=("/bin/sh", "-c", script), env={"PATH": "/usr/bin:/bin"}, cwd=self.cwd)
        process = self.table.spawn(launch, spawn_id)
        self._spawned.append((process, spawn_id))
        if READY in script and "&" not in script:
            self.until(lambda: isinstance(self.table, FakeProcessTable) or os.path.exists(f"{self.cwd}/ready"))
        return process

    def id_of(self, process: ProcessId) -> str:
        return dict(self._spawned)[process]

    def left(self, process: ProcessId) -> object:
        return self.table.leftovers(process, self.id_of(process))

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "in vain"
            self._wait()
            self.table.drain()

    def clean(self) -> None:
        for process, spawn_id in self._spawned:
            self.table.kill_tree(process, spawn_id)
        self.until(lambda: len(self.exits) >= len(self._spawned))


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        clock = FakeClock()
        table = FakeProcessTable(clock, lambda launch, _: SCRIPTS[launch.argv[-1]])
        yield World(table, str(tmp_path), lambda: clock.advance(0.01), clock.now)
        return
    clock = BootClock()
    real = LinuxProcessTable(clock)
    world = World(real, str(tmp_path), lambda: select.select([real], [], [], 0.02) and None, clock.now)
    try:
        yield world
        world.clean()
    finally:
        real.close()


def test_an_exit_code_is_told(world: World) -> None:
    process = world.spawn(EXITS_3)
    world.until(lambda: world.exits)
    assert world.exits == [ExitReport(process, 3, None)]


def test_a_death_by_signal_is_told(world: World) -> None:
    process = world.spawn(DIES_BY_KILL)
    world.until(lambda: world.exits)
    assert world.exits == [ExitReport(process, None, KILL)]


def test_nothing_is_told_during_a_call(world: World) -> None:
    process = world.spawn(RUNS)
    world.table.signal(process, KILL, "process")
    assert world.exits == []


def test_each_of_many_exits_is_told_once(world: World) -> None:
    processes = [world.spawn(EXITS_0) for _ in range(30)]
    world.until(lambda: len(world.exits) >= 30)
    world.table.drain()
    assert sorted(report.process for report in world.exits) == sorted(processes)


def test_the_stop_signal_ends_a_process(world: World) -> None:
    process = world.spawn(RUNS)
    assert world.table.signal(process, TERM, "process")
    world.until(lambda: world.exits)
    assert world.exits == [ExitReport(process, None, TERM)]


def test_a_process_may_answer_the_stop_signal_with_an_exit_code(world: World) -> None:
    process = world.spawn(HANDLES_TERM)
    assert world.table.signal(process, TERM, "process")
    world.until(lambda: world.exits)
    assert world.exits == [ExitReport(process, 7, None)]


def test_who_ignores_the_stop_signal_is_killed_with_its_tree(world: World) -> None:
    process = world.spawn(IGNORES_TERM)
    assert world.table.signal(process, TERM, "tree")
    assert world.exits == []
    world.table.kill_tree(process, world.id_of(process))
    world.until(lambda: world.exits)
    assert world.exits == [ExitReport(process, None, KILL)]
    world.until(lambda: not world.left(process))


def test_nobody_is_left_to_be_signalled_after_the_end(world: World) -> None:
    process = world.spawn(EXITS_0)
    world.until(lambda: world.exits)
    assert not world.left(process)
    assert not any(world.table.signal(process, TERM, scope) for scope in ("process", "group", "tree"))


def test_leftovers_are_found_and_heed_a_signal_to_the_tree(world: World) -> None:
    process = world.spawn(LEAVES_ONE)
    world.until(lambda: world.exits)
    assert world.left(process)
    assert not world.table.signal(process, TERM, "process")
    assert world.table.signal(process, TERM, "tree")
    world.until(lambda: not world.left(process))


def test_stubborn_leftovers_are_killed(world: World) -> None:
    process = world.spawn(LEAVES_STUBBORN)
    world.until(lambda: world.exits)
    world.table.signal(process, TERM, "group")
    assert world.left(process)
    world.table.kill_tree(process, world.id_of(process))
    world.until(lambda: not world.left(process))


def test_a_stranger_with_a_reused_pid_is_neither_signalled_nor_adopted_nor_killed(world: World) -> None:
    process = world.spawn(RUNS)
    gone = ProcessId(process.pid, process.start_ticks - 1)
    assert not any(world.table.signal(gone, KILL, scope) for scope in ("process", "group", "tree"))
    assert not world.table.adopt(gone)
    world.table.kill_tree(gone, "of the one before")
    world.table.report(gone, 0, None)
    assert not world.table.leftovers(gone, "of the one before")
    assert world.table.signal(process, 0, "process")
    assert world.exits == []


def test_a_spawn_is_traced_to_its_process_while_that_lives(world: World) -> None:
    spawn_id, began = f"{world.cwd}-wanted", world.now()
    process = world.spawn(RUNS, spawn_id)
    assert world.table.trace(spawn_id, began, []).process == process
    assert world.table.trace(f"{spawn_id}-not", began, []) == Trace(None, certain=True)
    world.table.signal(process, KILL, "process")
    world.until(lambda: world.exits)
    assert world.table.trace(spawn_id, began, []).process is None


def test_who_is_older_than_the_intent_is_not_its_process(world: World) -> None:
    spawn_id = f"{world.cwd}-wanted"
    world.spawn(RUNS, spawn_id)
    assert world.table.trace(spawn_id, world.now() + 1, []) == Trace(None, certain=True)


def test_a_report_without_a_mark_leaves_it_open_whether_a_spawn_came_to_nothing(world: World) -> None:
    began = world.now()
    process = ProcessId(4711, int(began * 100) + 1)
    assert world.table.trace("wanted", began, [ExitReport(process, 0, None)]) == Trace(None, certain=False)


def test_a_report_about_a_process_of_ours_is_not_believed(world: World) -> None:
    process = world.spawn(RUNS)
    world.table.report(process, 0, None)
    assert world.exits == []
    assert world.table.signal(process, 0, "process")


def test_a_spawn_that_fails_says_why(tmp_path: Path) -> None:
    reason = "no-such-command: command not found"
    launch = Launch(argv=("no-such-command",), env={"PATH": "/usr/bin:/bin"}, cwd=str(tmp_path))
    real = LinuxProcessTable(BootClock())
    fake = FakeProcessTable(FakeClock(), lambda *_: Behaviour(fails=reason))
    for table in (real, fake):
        with pytest.raises(SpawnFailed, match=reason):
            table.spawn(launch, "1")
    real.close()


def test_a_crash_hands_processes_and_zombies_of_the_fake_to_the_keeper() -> None:
    clock = FakeClock()
    table = FakeProcessTable(clock, lambda launch, _: SCRIPTS[launch.argv[-1]])
    world = World(table, "/", lambda: clock.advance(0.01), clock.now)
    lives, zombie = world.spawn(RUNS), world.spawn(EXITS_3)

    def die(_: ExitReport) -> None:
        raise KeyboardInterrupt

    table.on_exit(die)
    with pytest.raises(KeyboardInterrupt):
        table.drain()
    table.crash()
    assert [report[:3] for report in table.take_reports()] == [(zombie, 3, None)]
    assert not table.adopt(zombie)
    assert table.adopt(lives)
    table.on_exit(world.exits.append)
    table.end(lives, code=5)
    table.drain()
    assert table.unreported() == (lives,)
    for report in table.take_reports() * 2:
        table.report(*report[:3])
    assert world.exits == [ExitReport(lives, 5, None)]
