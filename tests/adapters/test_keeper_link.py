"""The controller's end of the line to the keeper; the test is the keeper."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from reconciler import wire
from reconciler.adapters.keeper import KeeperLink
from reconciler.model.identity import ProcessId
from reconciler.model.state import NEVER
from reconciler.ports import ExitReport


class Line:
    """A link, what it told its owner, and the keeper's end of it."""

    def __init__(self) -> None:
        self.keeper, controller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = controller.detach()
        os.set_inheritable(self.fd, True)
        self.link = KeeperLink(self.fd, asyncio.get_running_loop())
        self.told: list[object] = []
        self.link.on_exits = lambda exits: self.told.append(list(exits))
        self.link.on_signal = self.told.append
        self.link.on_welcome = self.told.append
        self.link.on_pump = self.told.append
        self.link.on_leave = lambda: self.told.append("leave")
        self.link.on_told = self.told.append
        self.link.on_lost = lambda: self.told.append("lost")

    def heard(self) -> list[wire.Message]:
        return list(wire.waiting(self.keeper, at_most=10_000))

    async def say(self, *messages: wire.Message) -> None:
        for message in messages:
            wire.send(self.keeper, message)
        await self.settle()

    async def settle(self) -> None:
        """Let the loop do all that is ready."""
        for _ in range(4):
            await asyncio.sleep(0)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.link.close()
    line.keeper.close()


async def test_says_what_the_wire_knows(line: Line) -> None:
    link = line.link
    link.hello()
    link.ready()
    link.hold("/a")
    link.release("/a")
    link.ack([ProcessId(1, 2), ProcessId(3, 4)])
    link.stop()
    link.replace(keeper=True)
    link.refuse(2)
    link.quit(5)
    assert link.idle
    assert line.heard() == [
        {"type": "hello", "wire": wire.VERSION, "pid": os.getpid()},
        {"type": "ready"},
        {"type": "hold", "fifo": "/a"},
        {"type": "release", "fifo": "/a"},
        {"type": "ack", "exits": [[1, 2], [3, 4]]},
        {"type": "stop"},
        {"type": "replace", "keeper": True},
        {"type": "refuse", "code": 2},
        {"type": "quit", "code": 5},
    ]


async def test_the_descriptor_does_not_go_on_to_processes(line: Line) -> None:
    assert not os.get_inheritable(line.fd)


async def test_hands_on_what_it_hears_and_answers_pings(line: Line) -> None:
    welcome = {"type": "welcome", "wire": 1, "keeper": 1, "pump": 2, "safe_mode": False, "deaths": 0}
    await line.say(welcome, {"type": "ping", "n": 7}, {"type": "signal", "name": "TERM"}, {"type": "pump", "pid": 9})
    await line.say({"type": "leave"})
    assert line.told == [welcome, "TERM", 9, "leave"]
    assert line.heard() == [{"type": "pong", "n": 7}]


async def test_what_was_said_is_done_when_the_keeper_says_so(line: Line) -> None:
    done: list[str] = []
    line.link.hold("/a")
    line.link.sync(lambda: done.append("a"))
    line.link.sync(lambda: done.append("b"))
    assert line.heard()[1:] == [{"type": "sync", "n": 1}, {"type": "sync", "n": 2}]
    await line.say({"type": "synced", "n": 2}, {"type": "synced", "n": 2}, {"type": "synced", "n": 9})
    assert done == ["b"]
    await line.say({"type": "synced", "n": 1})
    assert done == ["b", "a"]


async def test_exits_come_as_codes_and_signals(line: Line) -> None:
    await line.say({"type": "exits", "exits": [[1, 10, 0, 0], [2, 20, 3 << 8, 7], [3, 30, 9, 8], [4, 40, 11 | 128, 9]]})
    assert line.told == [
        [
            ExitReport(ProcessId(1, 10), 0, None),
            ExitReport(ProcessId(2, 20), 3, None, 7),
            ExitReport(ProcessId(3, 30), None, 9, 8),
            ExitReport(ProcessId(4, 40), None, 11, 9),
        ]
    ]


async def test_the_end_of_what_came_before_says_since_when_nothing_was_missed(line: Line) -> None:
    await line.say({"type": "told", "reaps_since": 12.5}, {"type": "told", "reaps_since": None})
    assert line.told == [12.5, NEVER]


async def test_many_acknowledgements_are_messages_of_legal_size(line: Line) -> None:
    processes = [ProcessId(4_000_000, 10**18 + number) for number in range(2500)]
    line.link.ack(processes)
    await line.settle()
    heard = line.heard()
    assert [len(message["exits"]) for message in heard] == [1000, 1000, 500]
    assert [ProcessId(*pair) for message in heard for pair in message["exits"]] == processes
    line.link.ack([])
    assert line.heard() == []


async def test_what_the_keeper_does_not_take_now_goes_later_in_order(line: Line) -> None:
    paths = [f"/fifo/{number}" for number in range(5000)]
    for path in paths:
        line.link.hold(path)
    assert not line.link.idle
    heard: list[str] = []
    while len(heard) < len(paths):
        heard += [message["fifo"] for message in line.heard()]
        await line.settle()
    assert heard == paths
    assert line.link.idle


@pytest.mark.parametrize(
    "rubbish",
    [
        b"{",
        b'{"type": "exits"}',
        b'{"type": "told", "reaps_since": "now"}',
        b'{"type": "exits", "exits": [[1]]}',
        b'{"type": "exits", "exits": [[1, 2, 4991, 0]]}',
        b'{"type": "signal"}',
        b'{"type": "pump", "pid": "x"}',
    ],
)
async def test_rubbish_is_the_end_of_the_line(line: Line, rubbish: bytes) -> None:
    line.keeper.send(rubbish)
    await line.settle()
    assert line.told == ["lost"]


async def test_the_end_is_told_once_after_what_was_said_before_it_and_calls_after_it_do_nothing(line: Line) -> None:
    wire.send(line.keeper, {"type": "signal", "name": "HUP"})
    line.keeper.close()
    line.link.hello()  # nobody takes it any more
    await line.settle()
    assert line.told == ["HUP", "lost"]
    line.link.ready()
    line.link.quit(0)
    line.link.close()
    assert line.told == ["HUP", "lost"]


async def test_an_end_while_messages_wait_for_room_is_told_too(line: Line) -> None:
    for number in range(5000):
        line.link.hold(f"/{number}")
    line.keeper.close()
    await line.settle()
    assert line.told == ["lost"]


async def test_a_callback_may_close_the_link(line: Line) -> None:
    line.link.on_signal = lambda name: line.link.close()
    await line.say({"type": "signal", "name": "TERM"}, {"type": "pump", "pid": 9})
    assert line.told == []


async def test_news_of_a_later_keeper_are_passed_over(line: Line) -> None:
    await line.say({"type": "news"}, {"type": "pump", "pid": 9})
    assert line.told == [9]


async def test_without_callbacks_nothing_happens_and_nothing_breaks() -> None:
    keeper, controller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broken: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    KeeperLink(controller.detach(), asyncio.get_running_loop())
    wire.send(keeper, {"type": "exits", "exits": [[1, 2, 0, 0]]})
    wire.send(keeper, {"type": "signal", "name": "TERM"})
    wire.send(keeper, {"type": "welcome"})
    wire.send(keeper, {"type": "pump", "pid": 1})
    keeper.close()
    for _ in range(4):
        await asyncio.sleep(0)
    assert broken == []
