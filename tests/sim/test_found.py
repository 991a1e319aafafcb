"""What the simulator has found, each as the shortest story that shows it. None of it may come back."""

from typing import Any

import pytest

from reconciler.core.records import Killed, StopBegan
from reconciler.model.state import NEVER, Outcome
from reconciler.ports import Trace
from support.fakes import RUNS, Behaviour
from support.sim_world import World

STUBBORN = Behaviour(term_after=NEVER)


def running(world: World, name: str = "web") -> int:
    return sum(1 for process in world.table.alive() if process.launch.env["RECONCILER_PROGRAM"] == name)


def records(world: World, kind: str) -> int:
    return sum(1 for record in world.journal.records if record.startswith(f'["{kind}"'))


def strike_at(world: World, kind: type[StopBegan] | type[Killed]) -> None:
    """The controller dies as soon as this is written down."""
    recorded = world.checks.recorded

    def watching(record: object, *, on_disk: bool) -> None:
        recorded(record, on_disk=on_disk)  # type: ignore[arg-type]
        if isinstance(record, kind):
            world.checks.recorded = recorded  # type: ignore[method-assign]
            world.fate.strike(1, before=True)

    world.checks.recorded = watching  # type: ignore[method-assign]


def test_a_namesake_waits_for_the_end_of_the_deleted_one_also_over_a_death() -> None:
    world = World()
    world.moods["web"] = Behaviour(term_after=10.0)
    world.apply("web", replicas=2)
    world.delete("web")
    world.apply("web", replicas=1)
    world.kill_controller()
    assert running(world) == 2, "the old ones, nothing beside them, and they are looked after"
    world.settle()
    assert running(world) == 1


def test_a_namesake_deleted_in_its_turn_does_not_hide_the_one_that_drains() -> None:
    world = World()
    world.moods["web"] = Behaviour(term_after=10.0)
    world.apply("web", replicas=2)
    for _ in range(2):
        world.delete("web")
        world.apply("web", replicas=1)
    world.delete("web")
    world.kill_controller()
    world.settle()
    assert running(world) == 0


def test_a_timer_that_outlives_its_program_does_not_end_the_namesake() -> None:
    world = World()
    world.apply("web", replicas=1)
    world.delete("web")
    world.apply("web", replicas=1)
    world.settle()
    assert "web" in world.controller.programs.by_name


def test_after_a_reboot_a_death_of_the_controller_gives_up_nothing_that_runs() -> None:
    world = World()
    world.apply("web", replicas=1)
    world.reboot()
    world.kill_controller()
    world.settle()
    assert len(world.table.spawned) == 1


def test_after_a_reboot_nothing_waits_for_a_time_of_the_boot_before() -> None:
    world = World()
    world.apply("web", replicas=1, minRestartInterval=3)
    world.reboot(uptime=5.0)
    assert running(world) == 1


@pytest.mark.parametrize("grace", [10, "infinity"])
def test_a_stop_signal_that_was_only_written_down_is_sent_by_the_next_controller(grace: object) -> None:
    world = World()
    world.apply("web", replicas=1, terminationGracePeriod=grace)
    strike_at(world, StopBegan)
    world.apply("web", replicas=0, terminationGracePeriod=grace)
    assert world.deaths == 1
    assert running(world) == 0, "it was asked once, and it heeds"
    assert [sent.signal for sent in world.table.signals] == [15]


def test_a_kill_that_was_only_written_down_is_sent_by_the_next_controller() -> None:
    world = World()
    world.moods["web"] = STUBBORN
    world.apply("web", replicas=1, terminationGracePeriod=2)
    strike_at(world, Killed)
    world.apply("web", replicas=0, terminationGracePeriod=2)
    world.pass_time()
    assert world.deaths == 1
    assert running(world) == 0


def test_a_signal_that_was_sent_is_not_sent_again_by_the_next_controller() -> None:
    world = World()
    world.moods["web"] = Behaviour(term_after=5.0)
    world.apply("web", replicas=1)
    world.apply("web", replicas=0)
    for _ in range(3):
        world.kill_controller()
    assert [sent.signal for sent in world.table.signals] == [15]


def test_work_that_may_have_been_done_is_not_done_again_at_the_old_revision() -> None:
    world = World()
    world.apply("web", replicas=1, runOnce=True, restartPolicy="Never")
    world.reboot()  # how it ended nobody knows
    world.apply("web", replicas=4, runOnce=True, restartPolicy="Never", command=["work", "v2"])
    assert {process.launch.argv for process in world.table.spawned} == {("work", "v2")}


def test_what_a_run_once_process_leaves_behind_is_not_awaited_for_ever() -> None:
    world = World()
    world.moods["mail"] = Behaviour(exits_after=1.0, leaves=1)
    world.apply("mail", replicas=1, runOnce=True)
    world.apply("mail", replicas=0, runOnce=True)
    world.settle()
    assert not world.table.everything()


@pytest.mark.parametrize("dies", [False, True], ids=["one controller", "another controller"])
def test_delete_and_recreate_is_no_way_around_a_back_off(dies: bool) -> None:
    world = World()
    world.moods["web"] = Behaviour(exits_after=0.1, code=1)
    fields = {"replicas": 1, "restartBackoff": {"initial": 20, "jitter": 0}}
    world.apply("web", **fields)
    for _ in range(4):
        world.pass_time()
    spawned = len(world.table.spawned)
    world.delete("web")
    if dies:
        world.kill_controller()
    world.apply("web", **fields)
    assert len(world.table.spawned) == spawned, "it waits as it did before"


def test_a_finished_program_that_is_deleted_and_recreated_is_another_one() -> None:
    world = World()
    world.moods["web"] = Behaviour(exits_after=1.0)
    world.apply("web", replicas=1, restartPolicy="Never")
    world.pass_time()
    world.delete("web")
    world.apply("web", replicas=1, restartPolicy="Never")
    world.settle()
    assert len(world.table.spawned) == 2


def test_an_edit_that_was_accepted_while_the_host_lacked_something_is_started_once_it_does_not() -> None:
    world = World()
    world.apply("web", replicas=1)
    world.surroundings.lacking.add("web")
    world.fate.strike(2, before=True)  # accepted, and not looked at
    world.apply("web", replicas=1, command=["work", "v2"])
    world.settle()
    assert [process.launch.argv for process in world.table.alive()] == [("work", "v2")]


def test_a_checkpoint_loses_nothing() -> None:
    world = World()
    world.apply("web", replicas=2)
    world.settle()
    world.operate("web", "restart")
    world.controller.loop.checkpoint()
    world.kill_controller()
    world.settle()
    assert world.controller.programs.by_name["web"].ledger.memory.available_revision
    assert records(world, "restored") == 2


def test_a_replica_that_is_done_does_not_hold_up_a_rollout() -> None:
    world = World()
    world.apply("web", replicas=2, restartPolicy="OnFailure")
    world.settle()
    world.apply("web", replicas=3, restartPolicy="OnFailure", command=["work", "v2"])
    world.end(next(process.id for process in world.table.alive() if process.launch.argv == ("work", "v2")))
    world.settle()
    assert {process.launch.argv for process in world.table.alive()} == {("work", "v2")}


def test_failures_of_an_old_revision_delay_nothing_of_the_new_one_however_its_run_ended() -> None:
    """It was the witness that was wrong here: it counted on, where the last run had an end that nobody saw."""
    world = World()
    world.apply("web", replicas=1)
    world.surroundings.lacking.add("web")
    world.reboot()
    world.reboot()
    world.surroundings.lacking.clear()
    world.reboot()
    world.apply("web", replicas=1, command=["work", "v2"])
    world.reboot()
    assert running(world) == 1, "at once, and the witness agrees"
    world.settle()


@pytest.mark.parametrize("ends", [True, False], ids=["ends unseen", "runs"])
def test_a_start_that_a_death_interrupted_is_known_with_its_end(ends: bool) -> None:
    world = World()
    world.moods["web"] = Behaviour(exits_after=0.0, code=3) if ends else RUNS
    world.fate.strike(1, before=False, kind="spawn")
    world.apply("web", replicas=1, runOnce=True, restartPolicy="Never")
    history = world.controller.programs.by_name["web"].ledger.memory.histories[0]
    assert world.deaths == 1
    assert history.runs == 1
    assert (history.last_exit and history.last_exit.code) == (3 if ends else None)
    assert running(world) == (0 if ends else 1)


def test_a_start_that_ends_between_the_keepers_last_word_and_our_look_is_known_with_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    trace = world.table.trace

    def ends_before(*arguments: Any) -> Trace:
        monkeypatch.undo()
        for process in world.table.alive():
            world.table.end(process.id, 3)
        world.table.drain()
        return trace(*arguments)

    monkeypatch.setattr(world.table, "trace", ends_before)
    world.fate.strike(1, before=False, kind="spawn")
    world.apply("web", replicas=1, runOnce=True, restartPolicy="Never")
    history = world.controller.programs.by_name["web"].ledger.memory.histories[0]
    assert history.runs == 1
    assert history.last_exit
    assert history.last_exit.code == 3
    assert running(world) == 0


def test_a_start_that_never_came_to_it_is_made_up_for_also_where_nothing_is_done_twice() -> None:
    world = World()
    world.fate.strike(1, before=True, kind="spawn")
    world.apply("web", replicas=1, runOnce=True, restartPolicy="Never")
    assert world.deaths == 1
    assert running(world) == 1


def test_where_the_keeper_may_have_missed_an_end_nobody_can_say_what_became_of_an_intent() -> None:
    world = World()
    world.fate.strike(1, before=True, kind="spawn")
    world.reaps_since = NEVER
    world.apply("web", replicas=1, runOnce=True, restartPolicy="Never")
    assert running(world) == 0
    assert world.controller.programs.by_name["web"].ledger.memory.histories[0].done_outcome is Outcome.UNKNOWN


def test_a_spec_of_another_release_is_looked_after_and_not_started() -> None:
    world = World()
    world.apply("web", replicas=2)
    world.apply("web", replicas=2, frobnicate=True)  # as if a newer release had accepted it
    world.kill_controller()
    assert running(world) == 2
    world.end(world.table.alive()[0].id)
    assert running(world) == 1, "without the field it might run as somebody else"
    found = world.controller.engine.object("web")
    assert found is not None
    said = {c["type"]: c["message"] for c in found["status"]["conditions"]}
    assert "frobnicate" in said["CannotStart"]
    world.apply("web", replicas=2)
    world.settle()
    assert running(world) == 2


def test_a_start_that_is_held_back_asks_for_no_time() -> None:
    """The witness was wrong here, too: it asked for the time that a start would need which was not made."""
    world = World(most_starting=1)
    world.moods["web"] = Behaviour(exits_after=1.0, leaves=1, leaves_for=1.0, leaves_heed=False)
    world.apply("web", replicas=3)
    world.end(world.table.alive()[0].id)
    world.kill_controller()
    world.settle()
    assert running(world) == 3


def test_who_started_before_a_reboot_is_not_starting_after_it() -> None:
    """And here it took a process for one of the same number before the reboot."""
    world = World(most_starting=1)
    world.apply("mail", replicas=2)
    world.reboot()
    world.end(world.table.alive()[0].id)
    world.reboot()
    world.settle()
    assert running(world, "mail") == 2


def test_a_start_that_the_journal_does_not_take_asks_for_no_time_either() -> None:
    """And once more: where nothing may be started, neither may what does not count as starting."""
    world = World()
    world.apply("web", replicas=4, runOnce=True, minReady=0, terminationGracePeriod="infinity")
    world.journal.refuse = True
    world.operate("web", "stop", ordinals=[0, 2], now=True)
    world.shut_down_and_start_again()
    world.journal.refuse = False
    world.settle()
    assert running(world) == 2
