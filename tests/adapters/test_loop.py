"""The engine's loop, beside what the simulator shows of it."""

from typing import Any

import pytest

from reconciler.core.desired import Phase
from reconciler.engine import loop, programs
from reconciler.engine.loop import RETRY_SECONDS, Loop
from reconciler.model.state import Cause
from reconciler.ports import ExitReport
from support.sim_world import World


def conditions(world: World, name: str) -> list[str]:
    found: Any = world.controller.engine.object(name)
    return [condition["type"] for condition in found["status"]["conditions"]]


def test_a_fault_of_ours_over_one_program_is_a_condition_of_that_program(monkeypatch: pytest.MonkeyPatch) -> None:
    world, decide = World(), loop.reconcile
    real = world.controller.loop
    # The simulator takes every fault as a defect, and work left undone, too.
    monkeypatch.setattr(real, "_fail", Loop._fail.__get__(real))
    monkeypatch.setattr(world.checks, "at_idle", lambda: None)

    def refuses(desired: Any, *state: Any) -> Any:
        if desired.name == "bad":
            raise ZeroDivisionError("planted")
        return decide(desired, *state)

    monkeypatch.setattr(loop, "reconcile", refuses)
    world.apply("bad", replicas=1)
    world.apply("good", replicas=1)
    world.run()
    assert "InternalError" in conditions(world, "bad")
    assert "InternalError" not in conditions(world, "good")
    assert len(world.table.alive()) == 1

    monkeypatch.setattr(loop, "reconcile", decide)
    world.pass_time(RETRY_SECONDS + 1)
    world.settle()
    assert "InternalError" not in conditions(world, "bad")
    assert len(world.table.alive()) == 2


def test_whoever_is_about_to_leave_starts_nothing_but_still_writes_down_what_ends() -> None:
    world = World()
    world.apply("web", replicas=1)
    (process,) = world.table.alive()
    engine = world.controller.engine
    engine.hold()
    world.table.end(process.id, 7)
    world.controller.loop.after(world.table.drain)
    while world.controller.schedule.ready:
        world.controller.schedule.ready.popleft()()
    assert len(world.table.spawned) == 1
    assert engine.object("web")["status"]["processes"][0]["lastExit"]["code"] == 7  # type: ignore[index]


def test_what_the_keeper_tells_one_who_has_left_already_is_told_again_to_the_next() -> None:
    world = World()
    world.apply("web", replicas=1)
    (process,) = world.table.alive()
    world.kill_controller()  # the next one has adopted it: that it ends, and how, is the keeper's to say
    world.table.close()
    assert world.controller.loop.observer.reported([ExitReport(process.id, 7, None)]) == []


def test_a_drain_begins_where_something_runs_and_reaches_the_rest_by_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PORTION", 2)
    world = World()
    for number in range(7):
        world.apply(f"idle-{number}", replicas=0)
    world.apply("web", replicas=1)
    controlled = world.controller.programs.by_name
    world.controller.programs.enter(Phase(draining=True))
    drained = {name for name, each in controlled.items() if each.desired.stop_cause is Cause.SHUTTING_DOWN}
    assert "web" in drained
    assert len(drained) == 3, "in this turn no more than one portion of the others"
    world.run()
    assert {each.desired.stop_cause for each in controlled.values()} == {Cause.SHUTTING_DOWN}
