"""Programs come and go, are edited and restarted: after sixty times the engine holds no more than after ten."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.engine.publish import EVENTS_KEPT
from support.sim_world import World

BOUNDED = {"Publisher._events"}  # by a bound of its own


def held(root: object) -> Counter[str]:
    """How many items each container holds that can be reached from here, by the attribute in which it is."""
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    waiting = deque([("", root)])
    while waiting:
        place, each = waiting.popleft()
        if id(each) in seen or place in BOUNDED:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            sizes[place] += len(each)
            waiting.extend((place, part) for item in each.items() for part in item)
        elif isinstance(each, list | tuple | set | frozenset | deque):
            sizes[place] += len(each)
            waiting.extend((place, part) for part in each)
        elif type(each).__module__.startswith("reconciler."):
            waiting.extend((f"{type(each).__name__}.{name}", value) for name, value in attributes(each))
    return sizes


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    names = {*getattr(thing, "__dict__", ())}
    for kind in type(thing).__mro__:
        names.update(getattr(kind, "__slots__", ()))
    names.discard("__weakref__")
    yield from ((name, getattr(thing, name)) for name in sorted(names) if hasattr(thing, name))


def comes_and_goes(world: World, number: int) -> None:
    name = f"guest-{number}"
    world.apply(name, replicas=2)
    world.pass_time(1.0)
    world.delete(name)


def is_replaced_by_a_namesake(world: World, number: int) -> None:
    world.apply("guest", replicas=1, env={"N": str(number)})
    world.pass_time(1.0)
    world.delete("guest")


def is_edited(world: World, number: int) -> None:
    world.apply("web", replicas=2, env={"N": str(number)})


def is_scaled(world: World, number: int) -> None:
    world.apply("web", replicas=2 + number % 2)


def is_restarted(world: World, number: int) -> None:
    world.operate("web", "restart")


def fails(world: World, number: int) -> None:
    for process in list(world.table.alive()):
        world.end(process.id, 1)


def is_bound_and_let_go(world: World, number: int) -> None:
    name = f"queue-{number}"
    world.bind(name, "web")
    world.pass_time(1.0)
    world.delete(name, "QueueBinding")


@pytest.mark.parametrize(
    "happens",
    [comes_and_goes, is_replaced_by_a_namesake, is_edited, is_scaled, is_restarted, fails, is_bound_and_let_go],
)
def test_what_happened_often_is_held_no_more_than_what_happened_a_few_times(
    happens: Callable[[World, int], None],
) -> None:
    world = World()
    world.journal.limit = 1_000_000  # nothing is put in order by a checkpoint
    world.apply("web", replicas=2)

    def repeat(numbers: range) -> Counter[str]:
        for number in numbers:
            happens(world, number)
            for _ in range(4):
                world.pass_time(30.0)
        return held(vars(world.controller))

    early = repeat(range(10))
    late = repeat(range(10, 60))
    assert sum(early.values()) > 50
    assert {place: (early[place], size) for place, size in late.items() if size > early[place] + 2} == {}
    assert len(world.controller.engine.events(None)) <= EVENTS_KEPT
