"""The keeper's decisions, without a process: every cell of its table, and the stories that the cells tell together."""

import json
import signal
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import wire
from reconciler.keeping.decisions import TABLE, WHY_KILLED, Keeping
from reconciler.keeping.services import Event, Limits, Service, State, restart_delay

FOREVER = float("inf")


class World:
    """Notes the effects that the keeper asks for, and hands out pids."""

    def __init__(self) -> None:
        self.did: list[tuple[object, ...]] = []
        self.lines: list[str] = []
        self.notices: list[str] = []
        self.startable = True
        self._last_pid = 100

    def start(self, name: str, safe_mode: bool) -> int | None:
        self.did.append(("start", name, "safe") if safe_mode else ("start", name))
        self._last_pid += 1
        return self._last_pid if self.startable else None

    def signal(self, pid: int, name: str) -> None:
        self.did.append(("signal", pid, name))

    def hang_up(self) -> None:
        self.did.append(("hang up",))

    def hold(self, path: str) -> None:
        self.did.append(("hold", path))

    def release(self, path: str) -> None:
        self.did.append(("release", path))

    def notify(self, state: str) -> None:
        self.notices.append(state)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def take(self) -> list[tuple[object, ...]]:
        did, self.did = self.did, []
        return did


class Story:
    """A keeper, its world and a clock that only the test moves."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.world = World()
        self.keeping = Keeping(self.world, limits or Limits(), keeper_pid=1)
        self.now = 1000.0

    @property
    def controller(self) -> Service:
        return self.keeping.controller

    @property
    def pump(self) -> Service:
        return self.keeping.pump

    def wait(self, seconds: float = 0.0) -> None:
        """Move the clock, stopping wherever the keeper wanted to be woken."""
        end = self.now + seconds
        for _ in range(10_000):
            self.now = max(self.now, min(end, self.keeping.wake_at))
            self.keeping.pass_time(self.now)
            if self.now >= end and self.keeping.wake_at > end:
                return
        raise AssertionError("the keeper never comes to rest")

    def say(self, kind: str, **fields: object) -> None:
        self.keeping.received({"type": kind, **fields}, self.now)

    def greet(self) -> wire.Message:
        self.say("hello", wire=wire.VERSION, pid=self.controller.pid)
        return self.heard()[0]

    def heard(self) -> list[wire.Message]:
        """All that the controller is told now."""
        return list(iter(self.keeping.next_message, None))

    def heard_types(self) -> list[str]:
        return [message["name"] if message["type"] == "signal" else message["type"] for message in self.heard()]

    def dies(self, service: Service, status: int = 1 << 8) -> None:
        self.keeping.ended(service.pid, 1, status, self.now)

    def orphan_ends(self, pid: int, status: int = 0) -> None:
        self.keeping.ended(pid, pid * 10, status, self.now)


@pytest.fixture
def story() -> Story:
    story = Story()
    story.wait()
    story.world.take()
    return story


@pytest.fixture
def up(story: Story) -> Story:
    story.greet()
    return story


# ---- the table ----


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(State)
    assert {len(row) for row in TABLE.values()} == {len(Event)}


def test_the_table_names_every_action_and_no_other() -> None:
    named = {action for row in TABLE.values() for action in row}
    assert all(callable(getattr(Keeping, f"_{action}")) for action in named)
    actions = {
        name.removeprefix("_")
        for name, method in vars(Keeping).items()
        if callable(method) and method.__code__.co_varnames[:3] == ("self", "service", "now")
    }
    assert named == actions


LEADS_TO = {
    # what each action makes of its state; of actions that branch: what it makes in this test
    "ignore": None,
    "start": State.STARTING,
    "greet": State.UP,
    "pulse": State.UP,
    "kill": State.KILLED,
    "retire": State.RETIRING,
    "replace": State.KILLED,
    "bury": State.DOWN,
    "mute": State.MUTE,
    "dismiss": State.LEAVING,
    "doom": State.DOOMED,
    "rest": State.GONE,
    "give_up": State.GONE,
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_event_in_every_state_leads_where_the_table_says(state: State, event: Event) -> None:
    story = Story()
    service = story.controller
    service.state, service.pid = state, 50
    action = TABLE[state][list(Event).index(event)]

    story.keeping._step(service, event, story.now)

    assert service.state is (LEADS_TO[action] or state)
    if service.state in (State.STARTING, State.UP, State.MUTE, State.LEAVING, State.DOOMED) and action != "ignore":
        assert service.due > story.now, "it would sit there for ever"
    if service.state in (State.KILLED, State.GONE) and action != "ignore":
        assert service.due == FOREVER


def test_every_state_that_kills_when_due_says_why() -> None:
    killing = {state for state in State if TABLE[state][0] in ("kill", "pulse")}
    assert set(WHY_KILLED) == killing


# ---- starting and starting again ----


def test_the_pump_is_started_before_the_controller() -> None:
    story = Story()
    story.wait()
    assert story.world.take() == [("start", "pump"), ("start", "controller")]


@pytest.mark.parametrize(
    ("score", "delay"), [(0, 0), (1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5), (100, 5), (10**6, 5)]
)
def test_the_first_restart_is_immediate_and_the_following_wait_up_to_a_bound(score: int, delay: float) -> None:
    assert restart_delay(score, Limits()) == pytest.approx(delay)


@pytest.mark.parametrize("which", ["pump", "controller"])
def test_deaths_in_a_row_are_answered_more_and_more_slowly(story: Story, which: str) -> None:
    service: Service = getattr(story, which)
    waits = []
    for _ in range(5):
        story.wait(0.05)
        story.dies(service)
        waits.append(service.due - story.now)
        story.wait(waits[-1])
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8])


def test_a_life_of_ten_seconds_is_forgiven_all_deaths_before_it(up: Story) -> None:
    for _ in range(4):
        up.dies(up.pump)
        up.wait(5)
    up.wait(10)
    up.dies(up.pump)
    assert up.pump.due == up.now


def test_what_cannot_be_started_is_tried_again_like_what_dies_at_once() -> None:
    story = Story()
    story.world.startable = False
    story.wait(0.35)
    assert story.world.take().count(("start", "pump")) == 4  # at once, at once again, after 0.1 s, after 0.2 s more
    story.world.startable = True
    story.wait(5)
    assert story.pump.state is State.UP
    assert story.greet()["deaths"] == 4


def test_three_deaths_within_a_minute_make_the_next_controller_careful_until_one_lived_for_a_minute(
    story: Story,
) -> None:
    for _ in range(2):
        story.dies(story.controller)
        story.wait(1)
    assert ("start", "controller", "safe") not in story.world.take()

    story.dies(story.controller)
    story.wait(59)
    assert story.world.take()[-1] == ("start", "controller", "safe")
    story.greet()
    story.dies(story.controller)  # the earlier deaths are long past, but it never lived for a minute
    story.wait(1)
    assert story.world.take()[-1] == ("start", "controller", "safe")
    assert story.greet()["safe_mode"] is True

    story.keeping._limits.unanswered_pings = 1000
    story.wait(60)
    story.dies(story.controller)
    story.wait()
    assert story.world.take()[-1] == ("start", "controller")


def test_deaths_of_the_pump_make_no_controller_careful(up: Story) -> None:
    for _ in range(5):
        up.dies(up.pump)
        up.wait(1)
    up.dies(up.controller)
    up.wait()
    assert up.world.take()[-1] == ("start", "controller")


# ---- other code ----


def make_room(story: Story) -> None:
    """Both leave, as they were asked to."""
    for service in (story.pump, story.controller):
        story.dies(service, 0)
    story.wait()


def test_usr1_has_the_controller_write_what_it_has_to_and_starts_the_next_ones_at_once(up: Story) -> None:
    for _ in range(4):
        controller, pump = up.controller.pid, up.pump.pid
        up.keeping.signalled("USR1", up.now)
        assert up.world.take() == [("signal", pump, "KILL")]
        assert up.heard() == [{"type": "leave"}]

        make_room(up)

        assert up.world.take() == [("hang up",), ("start", "pump"), ("start", "controller")]
        assert {up.controller.pid, up.pump.pid}.isdisjoint({controller, pump})
        assert up.greet()["deaths"] == 0


def test_the_next_one_is_started_when_the_former_is_gone_and_not_before(up: Story) -> None:
    up.keeping.signalled("USR1", up.now)
    up.wait(1)
    assert ("start", "controller") not in up.world.take()
    assert up.heard_types() == ["leave"]  # no pings: it has other things to do


def test_who_does_not_make_room_in_five_seconds_is_killed_and_that_is_no_death_either(up: Story) -> None:
    controller = up.controller.pid
    up.keeping.signalled("USR1", up.now)
    up.world.take()
    up.wait(4.9)
    assert up.world.take() == []
    up.wait(0.2)
    assert up.world.take() == [("signal", controller, "KILL")]
    make_room(up)
    assert up.greet()["deaths"] == 0


def test_a_controller_that_has_not_even_said_hello_has_nothing_to_write(story: Story) -> None:
    story.keeping.signalled("USR1", story.now)
    assert ("signal", story.controller.pid, "KILL") in story.world.take()
    make_room(story)
    assert story.greet()["deaths"] == 0


def test_what_happens_while_it_makes_room_is_told_to_the_next(up: Story) -> None:
    up.keeping.signalled("USR1", up.now)
    up.heard()
    up.orphan_ends(7)
    up.keeping.signalled("HUP", up.now)
    up.keeping.signalled("TERM", up.now)
    up.say("ack", exits=[])  # its last words are heard
    up.keeping.lost("", up.now)
    make_room(up)
    up.say("hello", wire=1, pid=1)
    assert up.heard_types() == ["welcome", "TERM", "HUP", "exits", "told"]


def test_a_quit_while_it_makes_room_is_the_end(up: Story) -> None:
    up.keeping.signalled("USR1", up.now)
    up.say("quit", code=0)
    up.dies(up.pump, 0)
    up.dies(up.controller, 0)
    assert up.keeping.finished


def test_a_request_to_replace_ends_the_wait_for_the_next_start(story: Story) -> None:
    for _ in range(2):
        story.dies(story.controller)
        story.wait()
    story.dies(story.controller)
    assert story.controller.state is State.DOWN
    story.keeping.signalled("USR1", story.now)
    assert story.controller.state is State.STARTING


def test_a_request_to_replace_ends_safe_mode_and_forgets_the_deaths_that_led_to_it(story: Story) -> None:
    for _ in range(3):
        story.dies(story.controller)
        story.wait(1)
    assert story.greet()["safe_mode"] is True
    story.keeping.signalled("USR1", story.now)
    make_room(story)
    assert story.greet()["safe_mode"] is False
    for _ in range(2):
        story.dies(story.controller)
        story.wait(1)
    assert story.greet()["safe_mode"] is False
    assert story.pump.score == 0


# ---- other code in the keeper's own place ----


def hand_over(story: Story) -> None:
    """Another keeper goes on from what this one knows, as it comes out of a file."""
    document = json.loads(json.dumps(story.keeping.document()))
    story.keeping = Keeping(story.world, story.keeping._limits, keeper_pid=1, former=document)


def test_the_keeper_hands_over_when_the_controller_is_gone_and_before_the_next_is_started(up: Story) -> None:
    up.say("replace", keeper=True)
    assert not up.keeping.may_hand_over
    assert up.heard_types() == ["leave"]
    up.dies(up.controller, 0)
    assert up.keeping.may_hand_over
    assert ("start", "controller") not in up.world.take()


@pytest.mark.parametrize("keeper", [False, None, 1, "yes"])
def test_the_keeper_stays_unless_it_is_meant(up: Story, keeper: object) -> None:
    up.say("replace", keeper=keeper)
    up.dies(up.controller, 0)
    assert not up.keeping.may_hand_over
    up.wait()
    assert up.controller.state is State.STARTING


def test_who_asks_for_less_a_moment_later_takes_nothing_back(up: Story) -> None:
    up.say("replace", keeper=True)
    up.say("replace", keeper=False)
    up.dies(up.controller, 0)
    assert up.keeping.may_hand_over


def test_a_keeper_that_is_leaving_hands_nothing_over(up: Story) -> None:
    up.say("quit", code=0)
    up.say("replace", keeper=True)
    assert not up.keeping.handing_over
    assert up.controller.state is State.LEAVING


def test_the_next_keeper_knows_whom_it_has_and_what_is_still_to_be_told(up: Story) -> None:
    up.keeping.signalled("INT", up.now)
    up.heard()
    up.orphan_ends(7, 256)
    up.orphan_ends(8)
    up.say("ack", exits=[[8, 80]])
    up.say("replace", keeper=True)
    up.keeping.signalled("HUP", up.now)
    up.dies(up.controller, 0)
    pump = up.pump.pid
    up.world.take()

    hand_over(up)

    assert not up.keeping.handing_over
    up.wait()
    assert up.world.take() == [("start", "controller")], "the pump is still making room"
    up.dies(up.pump, 0)
    up.wait()
    assert (up.world.take(), up.pump.pid != pump) == ([("start", "pump")], True)
    up.say("hello", wire=1, pid=1)
    welcome, *others = up.heard()
    assert (welcome["deaths"], welcome["handovers"], welcome["pump"]) == (0, 1, up.pump.pid)
    assert others[0] == {"type": "signal", "name": "INT"}
    assert others[1] == {"type": "signal", "name": "HUP"}
    assert others[2] == {"type": "exits", "exits": [[7, 70, 256, 0]]}


def test_deaths_before_count_on_and_a_pump_that_waits_goes_on_waiting(story: Story) -> None:
    story.dies(story.controller)
    story.wait()
    story.greet()
    for _ in range(3):
        story.dies(story.pump)
        story.wait(0.05)
    story.say("replace", keeper=True)  # which also ends the pump's wait
    story.dies(story.controller, 0)
    hand_over(story)
    assert story.pump.state is State.UP
    story.wait()
    assert story.greet()["deaths"] == 1
    hand_over(story)
    assert story.controller.state is State.UP


def test_a_controller_that_could_never_work_under_one_keeper_may_under_the_next(up: Story) -> None:
    up.say("replace", keeper=True)
    up.dies(up.controller, 0)
    hand_over(up)
    up.wait()
    up.say("refuse", code=2)
    assert up.keeping.exit_code is None


# ---- arguments that make no sense ----


def test_a_first_controller_that_cannot_work_with_its_arguments_ends_the_keeper_with_its_code(story: Story) -> None:
    story.say("refuse", code=2)
    story.dies(story.pump, 0)
    story.dies(story.controller, 2 << 8)
    assert (story.keeping.finished, story.keeping.exit_code) == (True, 2)


def test_a_later_one_is_started_again_until_what_it_read_is_mended(up: Story) -> None:
    up.dies(up.controller)
    up.wait()
    up.say("refuse", code=2)
    up.dies(up.controller, 2 << 8)
    assert up.keeping.exit_code is None
    assert "processes are left alone" in up.world.lines[-2]
    up.wait(1)
    assert up.controller.state is State.STARTING


# ---- what the service manager hears ----


def test_it_hears_of_readiness_reloading_and_the_end(story: Story) -> None:
    notices = story.world.notices
    story.greet()
    assert notices == []
    story.say("ready")
    story.keeping.signalled("HUP", story.now)
    story.say("ready")
    story.keeping.signalled("USR1", story.now)
    story.heard()
    make_room(story)
    story.greet()
    story.say("ready")
    story.say("replace", keeper=False)
    assert notices == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "RELOADING=1"]
    del notices[:]
    story.keeping.signalled("TERM", story.now)
    story.say("quit", code=0)
    story.keeping.signalled("USR1", story.now)
    story.say("replace", keeper=True)
    assert notices == ["STOPPING=1", "STOPPING=1"]


def test_an_end_over_the_api_is_told_to_the_manager_and_to_later_controllers(up: Story) -> None:
    up.say("stop")
    assert up.world.notices == ["STOPPING=1"]
    assert up.heard() == [], "it knows"
    up.dies(up.controller)
    up.wait()
    up.say("hello", wire=1, pid=1)
    assert up.heard_types() == ["welcome", "TERM", "told"]


# ---- is it alive? ----


def test_a_controller_gets_a_minute_to_say_hello(story: Story) -> None:
    pid = story.controller.pid
    story.wait(59)
    assert story.controller.state is State.STARTING
    story.wait(2)
    assert ("signal", pid, "KILL") in story.world.take()
    assert story.controller.state is State.KILLED
    story.dies(story.controller, signal.SIGKILL)
    story.wait()
    assert story.controller.state is State.STARTING


def test_a_controller_is_pinged_every_two_seconds_and_killed_after_fifteen_without_a_word(up: Story) -> None:
    pid = up.controller.pid
    pings = []
    for _ in range(15):
        up.wait(2)
        pings += [message["n"] for message in up.heard()]
    assert pings == list(range(1, 16))
    up.wait(2)
    assert up.world.take() == [("signal", pid, "KILL")]


@pytest.mark.parametrize("word", [{"type": "pong", "n": 1}, {"type": "ready"}, {"type": "news from later"}])
def test_any_word_is_a_sign_of_life(up: Story, word: wire.Message) -> None:
    for _ in range(40):
        up.wait(2)
        up.keeping.received(word, up.now)
    assert up.controller.state is State.UP


def test_a_machine_that_slept_for_hours_is_no_reason_to_kill(up: Story) -> None:
    up.now += 8 * 3600
    up.keeping.pass_time(up.now)
    assert up.controller.state is State.UP


def test_a_controller_that_takes_no_messages_does_not_make_the_keeper_grow(up: Story) -> None:
    up.wait(20)
    assert up.heard_types() == ["ping"]


def test_rubbish_and_a_lost_connection_get_a_second_to_leave_then_sigkill(up: Story) -> None:
    pid = up.controller.pid
    up.keeping.lost("not JSON", up.now)
    assert up.world.take() == [("hang up",)]
    assert up.heard() == []
    up.wait(0.9)
    assert up.world.take() == []
    up.wait(0.2)
    assert up.world.take() == [("signal", pid, "KILL")]


def test_an_end_without_words_is_not_worth_a_line_the_exit_is(up: Story) -> None:
    up.world.lines.clear()
    pid = up.controller.pid
    up.keeping.lost("", up.now)
    up.dies(up.controller, signal.SIGSEGV)
    assert up.world.lines == [f"controller (pid {pid}) was killed by signal 11 after 0.0 s"]


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "hello"},
        {"type": "ack"},
        {"type": "ack", "exits": 7},
        {"type": "ack", "exits": [[1, 2, 3]]},
        {"type": "ack", "exits": [[[], {}]]},
        {"type": "hold"},
        {"type": "release"},
        {"type": "quit"},
        {"type": "quit", "code": None},
        {"type": "quit", "code": "x"},
        {"type": "replace"},
        {"type": "sync"},
    ],
)
def test_a_message_that_breaks_the_contract_costs_the_connection_and_nothing_else(
    up: Story, broken: wire.Message
) -> None:
    up.keeping.received(broken, up.now)
    assert up.controller.state is State.MUTE
    assert up.keeping.exit_code is None


@pytest.mark.parametrize("kind", ["", "step", "_init__", "hello ", "take_hello", "x" * 1000])
def test_an_unknown_message_is_noted_and_passed_over(up: Story, kind: str) -> None:
    up.keeping.received({"type": kind}, up.now)
    assert up.controller.state is State.UP
    assert len(up.world.lines[-1]) < 120


def test_another_version_of_the_wire_is_welcome_and_noted(story: Story) -> None:
    story.say("hello", wire=99, pid=1)
    assert story.heard()[0]["wire"] == wire.VERSION
    assert "wire 99" in story.world.lines[-1]


# ---- exits ----


def exits(messages: list[wire.Message]) -> list[list[int]]:
    return [entry for message in messages if message["type"] == "exits" for entry in message["exits"]]


def test_exits_wait_for_a_hello_and_are_told_again_to_each_controller_until_acknowledged(story: Story) -> None:
    story.orphan_ends(7, 256)
    story.orphan_ends(8, 9)
    assert story.heard() == []
    story.say("hello", wire=1, pid=1)
    assert exits(story.heard()) == [[7, 70, 256, 0], [8, 80, 9, 0]]
    assert story.heard() == []

    story.say("ack", exits=[[7, 70], [1, 1]])
    story.dies(story.controller)
    story.wait()
    story.orphan_ends(9)
    story.say("hello", wire=1, pid=1)
    assert exits(story.heard()) == [[8, 80, 9, 0], [9, 90, 0, 0]]


def test_an_exit_while_the_controller_is_up_is_told_at_once(up: Story) -> None:
    up.orphan_ends(7)
    assert exits(up.heard()) == [[7, 70, 0, 0]]


def test_an_exit_acknowledged_before_it_was_told_again_is_not_told(up: Story) -> None:
    up.orphan_ends(7)
    up.say("ack", exits=[[7, 70]])
    assert up.heard() == []


def test_many_exits_come_in_messages_of_legal_size(story: Story) -> None:
    for pid in range(2500):
        story.keeping.ended(4_000_000 + pid, 10**18, 65280, story.now, 2**61 - 1)
    story.say("hello", wire=1, pid=1)
    messages = story.heard()[1:-1]
    assert [len(message["exits"]) for message in messages] == [1000, 1000, 500]
    assert all(len(wire.encode(message)) < wire.MESSAGE_LIMIT_BYTES for message in messages)


def test_memory_is_bounded_the_oldest_exits_go_first_and_the_log_says_so() -> None:
    limits = Limits()
    limits.kept_exits = 5
    story = Story(limits)
    story.wait()
    for pid in range(1, 9):
        story.orphan_ends(pid)
    story.say("hello", wire=1, pid=1)
    assert [pid for pid, *_ in exits(story.heard())] == [4, 5, 6, 7, 8]
    assert sum("dropped" in line for line in story.world.lines) == 1


def test_once_all_exits_of_before_are_told_that_is_said_and_since_when_none_was_missed(story: Story) -> None:
    story.keeping.reaps(5.0)
    story.orphan_ends(7)
    story.say("hello", wire=1, pid=1)
    *_, last = story.heard()
    assert last == {"type": "told", "reaps_since": 5.0}
    story.orphan_ends(8)
    assert story.heard_types() == ["exits"], "it is said once"


def test_an_exit_that_was_dropped_is_one_that_was_missed() -> None:
    limits = Limits()
    limits.kept_exits = 1
    story = Story(limits)
    story.keeping.reaps(5.0)
    story.wait()
    for pid in (1, 2):
        story.orphan_ends(pid)
    story.say("hello", wire=1, pid=1)
    assert story.heard()[-1]["reaps_since"] == story.now


# ---- signals ----


def test_a_welcome_comes_first_then_signals_then_exits(story: Story) -> None:
    story.orphan_ends(7)
    for name in ("HUP", "TERM", "HUP"):
        story.keeping.signalled(name, story.now)
    story.say("hello", wire=1, pid=1)
    assert story.heard_types() == ["welcome", "TERM", "HUP", "exits", "told"]


def test_a_hello_said_twice_tells_everything_again(up: Story) -> None:
    up.orphan_ends(7)
    up.heard()
    up.say("hello", wire=1, pid=1)
    assert up.heard_types() == ["welcome", "exits", "told"]


def test_repeated_signals_that_nobody_took_yet_are_one(up: Story) -> None:
    for name in ("TERM", "TERM", "HUP", "TERM"):
        up.keeping.signalled(name, up.now)
    assert up.heard_types() == ["TERM", "HUP"]
    up.keeping.signalled("TERM", up.now)
    assert up.heard_types() == ["TERM"]


def test_quit_from_the_terminal_is_a_wish_to_stop(up: Story) -> None:
    up.keeping.signalled("QUIT", up.now)
    assert up.heard_types() == ["TERM"]


def test_every_later_controller_hears_of_the_wish_to_stop_once(up: Story) -> None:
    for name in ("TERM", "INT"):  # a second INT would kill what the next controller shall drain
        up.keeping.signalled(name, up.now)
    up.heard()
    up.dies(up.controller)
    up.wait()
    up.say("hello", wire=1, pid=1)
    assert up.heard_types() == ["welcome", "TERM", "told"]


def test_usr2_goes_to_a_pump_that_runs(up: Story) -> None:
    up.keeping.signalled("USR2", up.now)
    assert up.world.take() == [("signal", up.pump.pid, "USR2")]
    up.dies(up.pump)
    up.keeping.signalled("USR2", up.now)
    assert up.world.take() == []


def test_a_new_pump_is_told_to_a_controller_that_is_up(up: Story) -> None:
    up.dies(up.pump)
    up.wait()
    assert up.heard() == [{"type": "pump", "pid": up.pump.pid}]


def test_hold_and_release_are_handed_on(up: Story) -> None:
    up.say("hold", fifo="/a")
    up.say("release", fifo="/a")
    assert up.world.take() == [("hold", "/a"), ("release", "/a")]


def test_it_says_when_all_that_was_said_before_is_done(up: Story) -> None:
    up.say("hold", fifo="/a")
    up.say("sync", n=7)
    assert up.world.take() == [("hold", "/a")]
    assert up.heard() == [{"type": "synced", "n": 7}]


# ---- leaving ----


def test_quit_ends_the_pump_first_then_hangs_up_on_the_controller(up: Story) -> None:
    up.say("quit", code=3)
    assert up.world.take() == [("signal", up.pump.pid, "TERM")]
    up.dies(up.pump, 0)
    assert up.world.take() == [("hang up",)]
    assert not up.keeping.finished
    up.dies(up.controller, 0)
    assert up.keeping.finished
    assert up.keeping.exit_code == 3
    assert up.keeping.wake_at == FOREVER


def test_where_processes_are_kept_the_pump_stays_with_them(up: Story) -> None:
    up.say("quit", code=0, keep=True)
    assert up.world.take() == [("hang up",)]
    up.dies(up.controller, 0)
    assert up.keeping.finished


def test_nothing_is_started_again_while_leaving_and_signals_and_quits_change_nothing(up: Story) -> None:
    up.say("quit", code=256 + 4)
    up.world.take()
    for name in ("TERM", "HUP", "USR1", "USR2"):
        up.keeping.signalled(name, up.now)
    up.say("quit", code=9)
    up.keeping.lost("", up.now)
    up.dies(up.controller)
    up.wait(1)
    assert up.world.take() == [("hang up",)]
    assert up.keeping.exit_code == 4


def test_exits_are_still_collected_while_leaving(up: Story) -> None:
    up.say("quit", code=0)
    up.orphan_ends(7)
    assert up.heard() == []


def test_who_does_not_leave_in_five_seconds_is_killed_and_who_cannot_be_killed_is_left_behind(up: Story) -> None:
    up.say("quit", code=0)
    up.world.take()
    up.wait(4.9)
    assert up.world.take() == []
    up.wait(0.2)
    assert up.world.take() == [("signal", up.pump.pid, "KILL"), ("signal", up.controller.pid, "KILL")]
    assert not up.keeping.finished
    up.wait(1)
    assert up.keeping.finished


@pytest.mark.parametrize("which", ["pump", "controller"])
def test_quit_while_one_of_them_waits_for_its_next_start_does_not_start_it(up: Story, which: str) -> None:
    up.dies(getattr(up, which))
    up.say("quit", code=0)
    other = up.controller if which == "pump" else up.pump
    up.dies(other)
    assert up.keeping.finished
    assert ("start", which) not in up.world.take()


def test_a_stop_in_a_crash_loop_before_any_hello_leaves_after_five_seconds(story: Story) -> None:
    def crash() -> None:
        if story.controller.pid:
            story.dies(story.controller)

    story.keeping.signalled("INT", story.now)
    step(story, 4.9, crash)
    assert story.keeping.exit_code is None
    step(story, 0.2, crash)
    assert story.keeping.exit_code == 1
    story.dies(story.pump)
    crash()
    assert story.keeping.finished


def test_a_stop_while_a_controller_hangs_before_hello_leaves_too(story: Story) -> None:
    story.keeping.signalled("TERM", story.now)
    story.wait(5)
    assert story.keeping.exit_code == 1
    story.dies(story.pump)
    story.wait(6)
    assert story.keeping.finished


def test_a_controller_that_is_up_takes_the_time_it_needs_to_drain(up: Story) -> None:
    up.keeping.signalled("TERM", up.now)
    for _ in range(3600):
        up.wait(2)
        up.say("pong", n=0)
    assert up.keeping.exit_code is None


def test_a_stop_outlives_a_crash_while_draining_and_the_next_controller_has_its_time(up: Story) -> None:
    up.keeping.signalled("TERM", up.now)
    for _ in range(3):
        up.wait(20)  # a steady life each
        up.dies(up.controller)
        up.wait(1)
        assert up.greet()["type"] == "welcome"
    assert up.keeping.exit_code is None


def test_a_stop_with_controllers_that_say_hello_and_die_ends_after_a_minute(up: Story) -> None:
    up.keeping.signalled("TERM", up.now)

    def hello_and_die() -> None:
        if up.controller.state is State.STARTING:
            up.greet()
        if up.controller.pid:
            up.dies(up.controller)

    hello_and_die()
    step(up, 59, hello_and_die)
    assert up.keeping.exit_code is None
    step(up, 6, hello_and_die)
    assert up.keeping.exit_code == 1


def step(story: Story, seconds: float, meanwhile: Callable[[], None]) -> None:
    end = story.now + seconds
    while story.now < end:
        meanwhile()
        story.wait(0.1)


# ---- whatever happens ----


EVENTS = st.sampled_from(
    [
        *("dies", "pump dies", "orphan", "hello", "ack", "lost", "ready", "replace", "hand over", "wait", "wait long"),
        *("TERM", "INT", "HUP", "USR1", "USR2"),
    ]
)


@given(st.lists(EVENTS, max_size=40), st.booleans())
def test_whatever_happens_it_comes_to_rest_and_a_quit_ends_it(events: list[str], startable: bool) -> None:
    story = Story()
    story.world.startable = startable
    for event in events:
        happens(story, event)
        if story.keeping.exit_code is None:
            for service in (story.controller, story.pump):
                assert (service.pid == 0) == (service.state is State.DOWN)
    story.say("quit", code=0)
    story.wait(10)
    assert story.keeping.finished


def happens(story: Story, event: str) -> None:
    match event:
        case "dies" | "pump dies":
            service = story.controller if event == "dies" else story.pump
            if service.pid:
                story.dies(service)
        case "orphan":
            story.orphan_ends(7)
        case "hello":
            if story.controller.state in (State.STARTING, State.UP):
                story.greet()
        case "ack" | "ready" | "replace":
            story.say(event, exits=[[7, 70]], keeper=True)
        case "lost":
            story.keeping.lost("", story.now)
        case "hand over":
            if story.keeping.may_hand_over:
                hand_over(story)
        case "wait" | "wait long":
            story.wait(1 if event == "wait" else 100)
        case _:
            story.keeping.signalled(event, story.now)
