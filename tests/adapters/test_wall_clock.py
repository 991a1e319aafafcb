"""A wall clock that jumps: what was asked for an hour lasts an hour, whatever somebody sets the clock to."""

import pytest

from support.sim_world import World

HOUR = 3600.0


def scaled(world: World) -> bool:
    return world.controller.programs.by_name["web"].desired.replicas == 5


def asked_for_an_hour() -> World:
    world = World()
    world.apply("web", replicas=1)
    world.operate("web", "scale", replicas=5, **{"for": HOUR})
    assert scaled(world)
    return world


def pass_seconds(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    world.run()


@pytest.mark.parametrize("jump", [-30 * 24 * HOUR, -2 * HOUR, 2 * HOUR, 30 * 24 * HOUR])
@pytest.mark.parametrize("dies", [False, True], ids=["one controller", "another controller"])
def test_a_wish_lasts_as_long_as_was_asked_whatever_the_clock_on_the_wall_says(jump: float, dies: bool) -> None:
    world = asked_for_an_hour()
    world.clock.jump_wall(jump)
    if dies:
        world.kill_controller()
    pass_seconds(world, HOUR - 10)
    assert scaled(world), "it ended too early"
    pass_seconds(world, 20)
    pass_seconds(world, 2)
    assert not scaled(world), "it did not end"


def test_over_a_reboot_only_the_wall_clock_can_say_how_long_it_was() -> None:
    world = asked_for_an_hour()
    world.reboot(uptime=5.0)
    assert scaled(world)
    world.clock.jump_wall(2 * HOUR)
    pass_seconds(world, 2)
    assert not scaled(world)


def test_a_machine_that_boots_with_a_clock_that_stands_still_keeps_the_wish_until_the_clock_is_set() -> None:
    world = asked_for_an_hour()
    world.clock.jump_wall(-10 * 365 * 24 * HOUR)
    world.reboot(uptime=5.0)
    pass_seconds(world, 60)
    assert scaled(world)
    world.clock.jump_wall(10 * 365 * 24 * HOUR + HOUR)
    pass_seconds(world, 2)
    assert not scaled(world)


def test_how_long_the_controller_is_up_does_not_jump() -> None:
    world = World()
    world.clock.advance(10)
    world.clock.jump_wall(HOUR)
    assert world.controller.engine.daemon_status()["upSeconds"] == 10
