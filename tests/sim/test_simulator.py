"""Random histories of a machine, and a controller that dies at every point of well-known ones.

`make sim` runs long ones; SEED=n repeats. A history that fails is shrunk and printed step by step: it goes, as a story
in plain calls, to test_found.py.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from support.fakes import Behaviour
from support.sim_machine import BoundHistories, Histories
from support.sim_world import World

BOUNDS = settings(stateful_step_count=30, suppress_health_check=list(HealthCheck), deadline=None)


def test_what_must_hold_holds_in_every_history(sim_seed: int) -> None:
    run_state_machine_as_test(seed(sim_seed)(Histories), settings=settings(BOUNDS))


def test_what_must_hold_holds_in_long_histories(sim_seed: int) -> None:
    """Fewer, but longer: what only a Program with a past can do."""
    bounds = settings(BOUNDS, stateful_step_count=100, max_examples=max(1, BOUNDS.max_examples // 5))
    run_state_machine_as_test(seed(sim_seed)(Histories), settings=bounds)


def test_what_must_hold_holds_when_queues_set_the_counts(sim_seed: int) -> None:
    run_state_machine_as_test(seed(sim_seed)(BoundHistories), settings=BOUNDS)


# --- a death at every effect ------------------------------------------------------------------------------------------


def first_start(world: World) -> None:
    world.apply("web", replicas=2)


def rollout(world: World) -> None:
    world.apply("web", replicas=2, command=["work", "v2"])
    for _ in range(6):
        world.pass_time()


def scale_down(world: World) -> None:
    world.apply("web", replicas=1)


def stubborn_stop(world: World) -> None:
    """KILL is needed."""
    world.moods["web"] = Behaviour(term_after=1e9, leaves=1, leaves_heed=False)
    world.operate("web", "restart", now=True)
    world.apply("web", replicas=0, terminationGracePeriod=2)
    for _ in range(6):
        world.pass_time()


def delete_and_recreate(world: World) -> None:
    world.delete("web")
    world.apply("web", replicas=2, command=["work", "v3"])


def recreate_while_it_drains(world: World) -> None:
    world.table.alive()[0].behaviour = Behaviour(term_after=5.0)
    world.delete("web")
    world.apply("web", replicas=1)
    world.delete("web")
    world.apply("web", replicas=2)
    world.pass_time()


def crash_loop(world: World) -> None:
    world.moods["web"] = Behaviour(exits_after=0.2, code=1)
    world.operate("web", "restart", now=True)
    for _ in range(12):
        world.pass_time()


def failing_start(world: World) -> None:
    world.moods["web"] = Behaviour(fails="command not found")
    world.operate("web", "restart", now=True)
    for _ in range(4):
        world.pass_time()


def shutdown(world: World) -> None:
    world.shut_down_and_start_again()


STORIES: list[Callable[[World], None]] = [
    first_start,
    rollout,
    scale_down,
    stubborn_stop,
    delete_and_recreate,
    recreate_while_it_drains,
    crash_loop,
    failing_start,
    shutdown,
]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_controller_may_die_at_every_effect_of(story: Callable[[World], None], before: bool) -> None:
    effect, died = 0, True
    while died:
        effect += 1
        world = World()
        if story is not first_start:
            world.apply("web", replicas=2)
            world.pass_time()
        world.fate.strike(effect, before=before)
        story(world)
        died = world.deaths > 0
        world.settle()
    assert effect > 5, "the story has effects"
