"""Bound Programs in the simulated world: the count follows the queue, and nothing that a queue does harms what runs."""

from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.activity import Activity
from reconciler.engine.choosing import PATIENCE_SECONDS
from reconciler.model.identity import Key
from reconciler.model.overrides import Wish
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.state import NEVER
from support.fakes import Behaviour
from support.sim_world import World

QUICK = {"cooldownPeriod": 0, "behavior": {"scaleDown": {"stabilizationWindow": 0}, "scaleUp": {}}}
REFUSED = QueueReadFailed("ConnectionRefused", "nobody listens at 127.0.0.1:6379: is redis running?")


def read(waiting: float, reserved: float = 0) -> QueueReading:
    return QueueReading(waiting, reserved)


def bound(world: World, waiting: float = 0, *, program: dict[str, Any] | None = None, **spec: Any) -> World:
    world.bind("mails", "mail", **{**QUICK, **spec})
    world.apply("mail", **{"minReady": 0, "minRestartInterval": 0, **(program or {})})
    world.queue("mails", read(waiting))
    return world


def running(world: World) -> list[int]:
    ledger = world.controller.programs.by_name["mail"].ledger
    return sorted(o for o, p in ledger.observed.processes.items() if p.stopping is None)


def status(world: World) -> dict[str, Any]:
    found = world.controller.engine.bindings.object("mails")
    assert found is not None
    return dict(found["status"])


def condition(world: World, kind: str) -> tuple[str, str]:
    found = {c["type"]: (c["status"], c["reason"]) for c in status(world)["conditions"]}
    return found.get(kind, ("absent", ""))


def look(world: World, pieces: int) -> None:
    """There is so much to do, and every process has one piece of it."""
    held = min(pieces, len(running(world)))
    world.queue("mails", read(pieces - held, held))


def follow(world: World, pieces: int, seconds: int = 20) -> None:
    """There is so much to do for a while, and the queue is looked at all the time."""
    for _ in range(seconds):
        look(world, pieces)
        world.clock.advance(1.0)
        world.run()
    look(world, pieces)


# ---- processes that go on ----


def test_the_count_follows_the_queue_up_and_down_again() -> None:
    world = bound(World(), 0, program={"replicas": 1})
    follow(world, 5)
    assert len(running(world)) == 5
    follow(world, 20)
    assert len(running(world)) == 8  # maxReplicaCount
    follow(world, 2)
    assert len(running(world)) == 2
    follow(world, 0)
    assert running(world) == []


def test_who_runs_for_longest_stays() -> None:
    world = bound(World(), 0)
    follow(world, 2)
    old = running(world)
    follow(world, 6)
    follow(world, 2)
    assert running(world) == old


IDLE = Activity(False, "12:00")


def working(since: str) -> Activity:
    return Activity(True, since)


def four(**spec: Any) -> World:
    world = bound(World(), 0, **spec)
    follow(world, 4)
    assert running(world) == [0, 1, 2, 3]
    assert world.disk.looks == [], "as long as nobody has to go, nobody is looked at"
    return world


def test_who_is_idle_goes_before_the_younger_that_work_and_last_whoever_has_worked_for_longest() -> None:
    world = four()
    world.disk.activities = {0: IDLE, 1: working("12:05"), 2: working("12:09"), 3: working("12:01")}
    follow(world, 3, 3)
    assert running(world) == [1, 2, 3]
    follow(world, 1, 3)
    assert running(world) == [3]
    assert [[log.ordinal for log in look] for look in world.disk.looks] == [[0, 1, 2, 3], [1, 2, 3]]
    assert world.disk.looks[0][0].path == "/state/logs/mail/0.log"


def test_where_no_log_tells_the_youngest_go_as_ever() -> None:
    world = four()
    follow(world, 2, 3)
    assert running(world) == [0, 1]


def test_when_all_go_nobody_is_looked_at() -> None:
    world = four()
    follow(world, 0, 3)
    assert running(world) == []
    assert world.disk.looks == []


def test_while_they_are_looked_at_the_count_stays_and_a_rise_meanwhile_is_no_fall() -> None:
    world = four()
    world.disk.seconds = 0.2
    world.queue("mails", read(1, 1))
    world.run()
    assert len(world.disk.looks) == 1
    assert status(world)["desiredReplicas"] == 2
    assert running(world) == [0, 1, 2, 3]
    world.queue("mails", read(2, 4))
    world.clock.advance(0.2)
    world.run()
    assert running(world) == [0, 1, 2, 3, 4, 5]
    assert world.controller.programs.by_name["mail"].desired.replicas == 6


@pytest.mark.parametrize("seconds", [NEVER, 3.0])
def test_a_disk_that_takes_too_long_is_not_waited_for_and_not_asked_again_meanwhile(seconds: float) -> None:
    world = four()
    world.disk.activities, world.disk.seconds = {0: IDLE}, seconds
    look(world, 3)
    world.run()
    assert running(world) == [0, 1, 2, 3]
    world.clock.advance(PATIENCE_SECONDS)
    world.run()
    assert running(world) == [0, 1, 2]
    look(world, 2)
    world.run()
    assert (running(world), len(world.disk.looks)) == ([0, 1], 1)
    follow(world, 2, 5)  # what is told too late changes nothing
    assert running(world) == [0, 1]
    world.disk.seconds = 0.01
    follow(world, 1, 3)
    assert running(world) == ([1] if seconds != NEVER else [0])


def test_the_end_of_the_patience_with_one_look_is_not_that_of_the_next() -> None:
    world = four()
    world.disk.activities = {0: IDLE, 1: IDLE}
    look(world, 3)
    world.clock.advance(0.1)
    world.run()
    assert running(world) == [0, 2, 3]
    world.disk.seconds = 0.2
    look(world, 2)
    world.run()
    world.clock.advance(PATIENCE_SECONDS - 0.1)  # by then one would have given up on the first look
    world.run()
    assert running(world) == [0, 2, 3]
    world.clock.advance(0.1)
    world.run()
    assert running(world) == [2, 3]


def test_a_program_that_is_deleted_while_they_are_looked_at_ends() -> None:
    world = four()
    look(world, 2)
    world.run()
    world.delete("mail")
    world.clock.advance(5)
    world.run()
    assert "mail" not in world.controller.programs.by_name


def test_an_operators_count_is_not_kept_waiting_and_a_shared_raw_log_cannot_tell() -> None:
    world = four(program={"logs": {"path": "/var/log/all.log"}})
    follow(world, 3, 1)
    assert (running(world), world.disk.looks) == ([0, 1, 2], [])
    world = four()
    world.operate("mail", "scale", replicas=1, override=True)
    world.run()
    assert (running(world), world.disk.looks) == ([0], [])


def test_nothing_is_started_before_the_queue_has_answered() -> None:
    world = World()
    world.apply("web")
    world.apply("mail", replicas=0)
    world.bind("mails", "mail")
    world.apply("mail", replicas=6)
    assert len(running(world)) == 0
    world.queue("mails", read(3))
    assert len(running(world)) > 0


def test_an_edit_of_the_written_count_moves_nobody() -> None:
    world = bound(World(), 0)
    follow(world, 4)
    world.apply("mail", replicas=1, minReady=0)
    assert len(running(world)) == 4


def test_an_operators_count_goes_before_the_bindings() -> None:
    world = bound(World(), 0)
    follow(world, 4)
    world.operate("mail", "scale", replicas=1)
    assert len(running(world)) == 1
    assert condition(world, "Overridden") == ("True", "OperatorOverride")
    world.operate("mail", "reset")
    look(world, 4)
    assert len(running(world)) == 4


def test_the_next_controller_keeps_the_count_and_every_process() -> None:
    world = bound(World(), 0)
    follow(world, 5)
    before = world.table.alive()
    world.kill_controller()
    assert world.table.alive() == before
    world.queue("mails", read(5))
    assert world.table.alive() == before


def test_a_server_that_is_away_changes_nothing_and_is_told() -> None:
    world = bound(World(), 0)
    follow(world, 5)
    before = world.table.alive()
    world.queue("mails", REFUSED)
    assert (world.table.alive(), condition(world, "Ready")) == (before, ("False", "ConnectionRefused"))
    assert any(event["reason"] == "ConnectionRefused" for event in world.controller.engine.events("mails"))
    world.queue("mails", read(5))
    assert condition(world, "Ready")[0] == "True"


def test_a_thread_that_hangs_is_told_as_a_queue_that_cannot_be_read() -> None:
    world = bound(World(), 0)
    follow(world, 3)
    world.clock.advance(5.0)
    world.run()
    assert condition(world, "Ready") == ("False", "TimedOut")
    assert len(running(world)) == 3


def test_a_shutdown_ends_bound_programs_and_the_next_start_brings_back_their_count() -> None:
    world = bound(World(), 0)
    follow(world, 3)
    world.shut_down_and_start_again()
    world.queue("mails", read(3))
    assert len(running(world)) == 3


# ---- processes that take one piece of work ----


RUN_ONCE = {"runOnce": True}


def test_one_process_is_started_for_each_piece_and_none_for_nothing() -> None:
    world = bound(World(), 0, program=RUN_ONCE)
    assert running(world) == []
    world.queue("mails", read(2))
    assert len(running(world)) == 2
    for process in world.table.alive():
        world.end(process.id)
    assert running(world) == []
    assert condition(world, "Ready")[0] == "True"


def test_the_end_of_the_last_counted_piece_is_a_reason_to_look_again() -> None:
    world = bound(World(), 0, program=RUN_ONCE)
    world.queue("mails", read(2))
    meter = world.controller.meters.meters["mails"]
    before = meter.looks
    world.end(world.table.alive()[0].id)
    assert meter.looks == before + 1


def test_pieces_that_are_in_work_are_not_started_for_again() -> None:
    world = bound(World(), 0, program=RUN_ONCE)
    world.queue("mails", read(3))
    world.queue("mails", read(1, reserved=3))
    assert len(running(world)) == 4
    world.queue("mails", read(0, reserved=4))
    assert len(running(world)) == 4


def test_no_more_run_than_max_replica_count_however_much_waits() -> None:
    world = bound(World(), 100, program=RUN_ONCE, maxReplicaCount=3)
    assert len(running(world)) == 3
    world.end(world.table.alive()[0].id)
    world.queue("mails", read(97, reserved=2))
    assert len(running(world)) == 3


def test_a_piece_of_work_is_never_cut_when_the_queue_is_empty() -> None:
    world = bound(World(), 4, program=RUN_ONCE)
    follow(world, 0)
    assert len(running(world)) == 4
    assert not world.controller.programs.by_name["mail"].ledger.observed.processes[0].stopping


def test_a_program_for_which_no_work_waits_is_available() -> None:
    world = bound(World(), 0, program=RUN_ONCE)
    found = world.controller.engine.object("mail")
    assert found is not None
    assert found["status"]["replicas"] == 0
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]}["Available"] == "True"


# ---- bindings that come and go ----


def test_a_binding_waits_for_its_program() -> None:
    world = World()
    world.bind("mails", "mail", **QUICK)
    assert condition(world, "TargetNotFound") == ("True", "NoSuchProgram")
    world.apply("mail", minReady=0)
    world.queue("mails", read(3))
    assert (len(running(world)), condition(world, "TargetNotFound")[0]) == (3, "absent")


def test_a_second_binding_of_a_program_does_nothing_until_the_first_is_gone() -> None:
    world = bound(World(), 3)
    world.bind("rival", "mail", **QUICK)
    found = world.controller.engine.bindings.object("rival")
    assert found is not None
    assert [c["type"] for c in found["status"]["conditions"]] == ["Conflict"]
    world.queue("rival", read(8))
    assert len(running(world)) == 3
    world.delete("mails", "QueueBinding")
    for _ in range(3):
        world.queue("rival", read(8))
        world.clock.advance(1.5)
    world.queue("rival", read(8))
    assert len(running(world)) == 8


@pytest.mark.parametrize(("on_delete", "left"), [("restore", 1), ("keep", 4)])
def test_without_its_binding_a_program_has_the_written_count_or_keeps_its_own(on_delete: str, left: int) -> None:
    world = bound(World(), 0, onDelete=on_delete, program={"replicas": 1})
    follow(world, 4)
    world.delete("mails", "QueueBinding")
    world.run()
    assert len(running(world)) == left
    assert world.controller.programs.by_name["mail"].ledger.memory.scaled is None
    world.kill_controller()
    assert len(running(world)) == left


def test_another_environment_or_directory_asks_the_queues_anew() -> None:
    world = bound(World(), 1)
    before = world.controller.meters.asked["mails"]
    world.apply("mail", minReady=0, env={"REDIS_HOST": "other"})
    after = world.controller.meters.asked["mails"]
    assert before != after
    assert after[0].environment["REDIS_HOST"] == "other"


# ---- operators ----


def test_a_pause_freezes_the_count_until_it_ends() -> None:
    world = bound(World(), 0)
    follow(world, 3)
    binding = world.controller.bindings.by_name["mails"]
    world.controller.bindings.set_pause(binding, Wish("op", world.clock.wall(), world.clock.wall() + 60))
    follow(world, 8, seconds=10)
    assert (len(running(world)), condition(world, "Overridden")[0]) == (3, "True")
    world.kill_controller()
    follow(world, 8, seconds=10)
    assert len(running(world)) == 3  # it stands in a file
    world.clock.advance(60)
    world.controller.bindings.expire()
    follow(world, 8, seconds=10)
    assert len(running(world)) == 8
    assert Key("QueueBinding", "mails") not in {k for k, text in world.store.overrides.items() if "pause" in text}


# ---- deaths ----


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("run_once", [True, False])
def test_the_controller_may_die_at_every_effect(run_once: bool, before: bool) -> None:
    for strike in range(1, 120):
        world = World()
        world.fate.strike(strike, before=before)
        world.moods["mail"] = Behaviour()
        bound(world, 3, program={"runOnce": run_once, "replicas": 1})
        world.queue("mails", read(3))
        world.queue("mails", read(6) if not run_once else read(3, reserved=3))
        world.queue("mails", read(0))
        world.settle()
        if not world.deaths:
            return
    raise AssertionError("it still dies at the last effect: count further")


def test_a_binding_of_another_release_leaves_the_count_as_it_was() -> None:
    world = bound(World(), 0)
    follow(world, 4)
    key = Key("QueueBinding", "mails")
    strange = replace(world.store.accepted[key], canonical={"scaleTargetRef": {"name": "mail"}, "triggerz": []})
    world.store.accepted[key] = strange
    world.kill_controller()
    world.run()
    assert len(running(world)) == 4
