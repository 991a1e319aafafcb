"""What revisions were made of is kept as a chore: what a crash leaves undone the next controller does."""

import pytest

from reconciler.engine.chores import BUSY_SECONDS
from reconciler.engine.revisions import Revisions
from support.sim_world import World


def kept(world: World, name: str = "web") -> list[str]:
    return world.store.kept_revisions(name)


def later(world: World) -> None:
    world.pass_time(BUSY_SECONDS + 1)
    world.settle()


def test_each_revision_is_kept(world: World) -> None:
    world.apply("web", replicas=1, env={"A": "1"})
    later(world)
    assert len(kept(world)) == 1
    world.apply("web", replicas=1, env={"A": "2"})
    later(world)
    assert len(kept(world)) == 2


def test_the_oldest_ones_go(world: World) -> None:
    for number in range(6):
        world.apply("web", replicas=1, revisionHistoryLimit=2, env={"A": str(number)})
        later(world)
    assert len(kept(world)) == 3
    specs = world.store.load_history("web")[0].values()
    assert sorted(spec["spec"]["env"]["A"] for spec in specs) == ["3", "4", "5"]


def test_what_a_controller_did_not_come_to_the_next_one_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Revisions, "_keep", lambda *_: None)
    world.apply("web", replicas=1)
    later(world)
    assert kept(world) == []
    monkeypatch.undo()
    world.kill_controller()
    later(world)
    assert len(kept(world)) == 1


@pytest.fixture
def world() -> World:
    return World()
