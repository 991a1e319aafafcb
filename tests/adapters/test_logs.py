"""The log sink: FIFOs are made and held, and a pump that comes and goes is always told all it has to know."""

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.logs import PumpSink, fifos, sink
from reconciler.ports import LogSink, Stream
from support.pump_puppet import PumpPuppet


class World:
    """A sink, the keeper's hands, and a pump on strings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: list[str] = []
        self.released: list[str] = []
        self.told: list[tuple[str, str | None]] = []
        self.asked: list[Callable[[], None]] = []  # to be called when the keeper holds what it was told to
        self.sink = PumpSink(str(folder), self.held.append, self.released.append, self.asked.append)
        self.sink.on_trouble = lambda stream_id, message: self.told.append((stream_id, message))
        self.pump = PumpPuppet(folder)

    def stream(self, name: str = "a", **changes: Any) -> Stream:
        standard = {
            "id": f"u1/0/{name}", "fifo": str(self.folder / "fifos" / name), "path": f"/log/{name}", "max_size": 100,
            "max_files": 5, "compress": "gzip", "mode": 0o640, "owner": None,
        }  # fmt: skip
        return Stream(**{**standard, **changes})

    def fifos(self) -> list[str]:
        """The FIFOs that are there, by name."""
        folder = self.folder / "fifos"
        return sorted(path.name for path in folder.iterdir() if path.is_fifo())

    def open_fifos(self) -> list[str]:
        """Names of the FIFOs that this process has open."""
        found = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        links = (Path(os.readlink(link)) for link in found if os.path.lexists(link))
        return sorted(path.name for path in links if path.parent == self.folder / "fifos")

    def restart_pump(self) -> None:
        self.pump.die()
        self.pump = PumpPuppet(self.folder)

    async def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until something has come about; a test that waits in vain is ended by its time limit."""
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    world.sink.disconnect()
    world.pump.die()


def test_it_is_a_log_sink(world: World) -> None:
    sink: LogSink = world.sink
    assert sink is world.sink


class TestOpening:
    async def test_the_fifo_is_made_for_its_owner_alone_held_and_the_pump_told(self, world: World) -> None:
        world.sink.open(world.stream())
        found = (world.folder / "fifos" / "a").stat()
        assert stat.S_ISFIFO(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert world.held == [world.stream().fifo]
        (message,) = await world.pump.hears("open")
        assert message == {
            "type": "open", "id": "u1/0/a", "fifo": world.stream().fifo, "path": "/log/a", "max_size": 100,
            "max_files": 5, "compress": "gzip", "mode": 0o640, "uid": os.geteuid(), "format": "raw", "program": "",
            "replica": 0, "stream": "out", "shared": False,
        }  # fmt: skip

    async def test_opened_again_as_it_is_nothing_is_said(self, world: World) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.sink.open(world.stream())
        await world.pump.hears_nothing()
        assert len(world.held) == 1

    async def test_a_change_is_said_and_the_fifo_stays(self, world: World) -> None:
        world.sink.open(world.stream())
        inode = os.stat(world.stream().fifo).st_ino
        world.sink.open(world.stream(path="/log/other"))
        _, message = await world.pump.hears("open", "open")
        assert message["path"] == "/log/other"
        assert os.stat(world.stream().fifo).st_ino == inode

    async def test_a_fifo_of_an_earlier_controller_is_kept_with_what_is_in_it(self, world: World) -> None:
        fifo = world.stream().fifo
        os.mkdir(os.path.dirname(fifo))
        os.mkfifo(fifo, 0o644)
        inode = os.stat(fifo).st_ino
        world.sink.open(world.stream())
        assert os.stat(fifo).st_ino == inode
        assert os.stat(fifo).st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("what", ["file", "folder", "link"])
    async def test_anything_else_in_its_place_is_replaced(self, world: World, what: str) -> None:
        fifo = Path(world.stream().fifo)
        (world.folder / "innocent").write_text("x")
        fifo.parent.mkdir()
        if what == "file":
            fifo.write_text("x")
        elif what == "folder":
            (fifo / "deep").mkdir(parents=True)
        else:
            fifo.symlink_to(world.folder / "innocent")
        world.sink.open(world.stream())
        assert fifo.is_fifo()
        assert (world.folder / "innocent").read_text() == "x"

    async def test_a_fifo_that_somebody_removed_is_made_again_held_and_said(self, world: World) -> None:
        world.sink.open(world.stream())
        os.unlink(world.stream().fifo)
        world.sink.open(world.stream())
        await world.pump.hears("open", "open")
        assert len(world.held) == 2

    async def test_the_owner_gets_it(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[tuple[object, ...]] = []
        monkeypatch.setattr(os, "chown", lambda *what: given.append(what))
        world.sink.open(world.stream(owner=(33, 34)))
        assert given == [(world.stream().fifo, 33, 34)]

    async def test_another_fifo_takes_the_place_of_the_old_one(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.open(world.stream(fifo=str(world.folder / "fifos" / "z")))
        assert world.fifos() == ["z"]
        assert world.released == [world.stream().fifo]

    async def test_where_no_fifo_can_be_made_that_is_trouble_and_tried_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sink, "RETRY_SECONDS", 0.0)
        (world.folder / "fifos").write_text("in the way")
        world.sink.open(world.stream())
        message = world.sink.trouble("u1/0/a")
        assert message == f"cannot make the FIFO {world.stream().fifo}: Not a directory"
        (world.folder / "fifos").unlink()
        await world.pump.hears("open")
        assert world.sink.trouble("u1/0/a") is None
        assert world.told == [("u1/0/a", message), ("u1/0/a", None)]

    async def test_a_stream_without_fifo_that_is_closed_is_not_tried_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sink, "RETRY_SECONDS", 0.0)
        (world.folder / "fifos").write_text("in the way")
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        await world.pump.hears("close")
        await world.pump.hears_nothing()
        assert world.sink.trouble("u1/0/a") is None


class TestUntilTheKeeperHolds:
    """A process may be faster than the keeper: what it printed is in a FIFO that somebody has to have open."""

    async def test_what_a_quick_process_printed_is_kept(self, world: World) -> None:
        world.sink.open(world.stream())
        with open(world.stream().fifo, "r+b", buffering=0) as quick:
            quick.write(b"all that it said\n")
        keeper = os.open(world.stream().fifo, os.O_RDWR | os.O_NONBLOCK)
        world.asked.pop()()
        assert os.read(keeper, 100) == b"all that it said\n"
        os.close(keeper)

    async def test_then_it_is_let_go(self, world: World) -> None:
        for name in "abc":
            world.sink.open(world.stream(name))
        assert world.open_fifos() == ["a", "b", "c"]
        assert len(world.asked) == 1, "what comes meanwhile is asked about together"
        world.asked.pop()()
        assert world.open_fifos() == ["b", "c"]
        world.asked.pop()()
        assert world.open_fifos() == []
        world.sink.open(world.stream("d"))
        assert len(world.asked) == 1

    async def test_a_keeper_that_does_not_know_the_question_is_not_waited_for_without_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fifos, "HELD_SECONDS", 0.0)
        world.sink.open(world.stream("a"))
        world.sink.open(world.stream("b"))
        await world.until(lambda: not world.open_fifos())
        assert len(world.asked) == 2
        for late in world.asked:
            late()

    async def test_without_descriptors_it_is_done_without(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> int:
            raise OSError(errno.EMFILE, "too many")

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            world.sink.open(world.stream())
        assert world.held == [world.stream().fifo]
        assert world.asked == []

    async def test_at_the_end_nothing_is_left_open(self, world: World) -> None:
        world.sink.open(world.stream("a"))
        world.sink.open(world.stream("b"))
        world.sink.disconnect()
        assert world.open_fifos() == []


class TestClosing:
    async def test_the_fifo_goes_when_the_pump_has_let_go(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        await world.pump.hears("open", "close")
        assert os.path.exists(world.stream().fifo)
        world.pump.say(type="closed", id="u1/0/a")
        await world.until(lambda: world.released)
        assert not os.path.exists(world.stream().fifo)

    async def test_opened_again_before_that_it_stays(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        world.sink.open(world.stream())
        await world.pump.hears("open", "close", "open")
        world.pump.say(type="closed", id="u1/0/a")
        world.pump.say(type="trouble", id="u1/0/a", message="after that")
        await world.until(lambda: world.told)
        assert os.path.exists(world.stream().fifo)
        assert world.released == []

    async def test_of_two_closings_the_last_answer_counts(self, world: World) -> None:
        for _ in range(2):
            world.sink.open(world.stream())
            world.sink.close("u1/0/a")
        await world.pump.hears("open", "close", "open", "close")
        world.pump.say(type="closed", id="u1/0/a")
        world.sink.open(world.stream("b"))
        world.pump.say(type="trouble", id="u1/0/b", message="a sign that the first answer was heard")
        await world.until(lambda: world.told)
        assert os.path.exists(world.stream().fifo)
        world.pump.say(type="closed", id="u1/0/a")
        await world.until(lambda: world.released)

    async def test_reopened_elsewhere_the_old_fifo_goes_at_once(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        world.sink.open(world.stream(fifo=str(world.folder / "fifos" / "z")))
        assert world.fifos() == ["z"]

    async def test_a_stream_that_only_an_earlier_controller_knew_is_closed_too(self, world: World) -> None:
        world.sink.close("unknown")
        await world.pump.hears("close")
        world.pump.say(type="closed", id="unknown")
        world.pump.say(type="closed", id="never asked for")
        await world.pump.hears_nothing()

    async def test_a_fifo_that_is_gone_already_is_no_matter(self, world: World) -> None:
        world.sink.open(world.stream())
        os.unlink(world.stream().fifo)
        world.sink.close("u1/0/a")
        await world.pump.hears("open", "close")
        world.pump.say(type="closed", id="u1/0/a")
        await world.until(lambda: world.released)

    async def test_a_sweep_has_the_pump_empty_what_nobody_opened_and_then_removes_it(self, world: World) -> None:
        world.sink.open(world.stream())
        left = world.folder / "fifos" / "u7-3-out"
        os.mkfifo(left)
        world.sink.sweep()
        *_, message = await world.pump.hears("open", "sweep", "close")
        assert message["id"] == "u7/3/out"
        assert world.fifos() == ["a", "u7-3-out"]
        world.pump.say(type="closed", id="u7/3/out")
        await world.until(lambda: world.released == [str(left)])
        assert world.fifos() == ["a"]

    async def test_a_sweep_removes_what_is_no_fifo_and_notes_about_none(self, world: World) -> None:
        world.sink.open(world.stream())
        for name in ("file", "gone.to"):
            (world.folder / "fifos" / name).write_text("{}")
        world.sink.sweep()
        assert sorted(os.listdir(world.folder / "fifos")) == ["a", "a.to"]

    async def test_a_sweep_leaves_what_is_still_being_drained(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        world.sink.close("unknown")
        world.sink.sweep()
        assert world.fifos() == ["a"]


class TestNotes:
    """Beside each FIFO stands what it is for, so that a pump needs nobody to tell it."""

    async def test_the_note_is_what_the_pump_is_told(self, world: World) -> None:
        world.sink.open(world.stream())
        (message,) = await world.pump.hears("open")
        assert json.loads((world.folder / "fifos" / "a.to").read_text()) == message

    async def test_it_follows_the_settings_and_goes_with_the_fifo(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.open(world.stream(max_size=77))
        assert json.loads((world.folder / "fifos" / "a.to").read_text())["max_size"] == 77
        world.sink.close("u1/0/a")
        await world.pump.hears("open", "open", "close")
        world.pump.say(type="closed", id="u1/0/a")
        await world.until(lambda: world.released)
        assert os.listdir(world.folder / "fifos") == []

    async def test_what_is_left_is_closed_by_the_name_that_its_note_says(self, world: World) -> None:
        world.sink.open(world.stream())
        os.mkfifo(world.folder / "fifos" / "x")
        (world.folder / "fifos" / "x.to").write_text('{"id": "u-9/1/err"}')
        world.sink.sweep()
        *_, message = await world.pump.hears("open", "sweep", "close")
        assert message["id"] == "u-9/1/err"

    async def test_where_it_cannot_be_written_the_stream_is_opened_all_the_same(self, world: World) -> None:
        (world.folder / "fifos" / "a.to").mkdir(parents=True)
        world.sink.open(world.stream())
        await world.pump.hears("open")


class TestMarks:
    async def test_done_is_called_when_the_pump_has_noted_it(self, world: World) -> None:
        done: list[str] = []
        world.sink.mark(["x", "y"], "run-7", lambda: done.append("run-7"))
        (message,) = await world.pump.hears("mark")
        assert (message["ids"], message["run"]) == (["x", "y"], "run-7")
        assert done == []
        world.pump.say(type="marked", n=message["n"])
        await world.until(lambda: done)
        world.pump.say(type="marked", n=message["n"])
        await world.pump.hears_nothing()
        assert done == ["run-7"]

    async def test_without_a_pump_they_are_bounded_and_nobody_waits_for_ever(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sink, "MARKS_AT_MOST", 2)
        world.pump.die()
        done: list[int] = []
        for number in range(4):
            world.sink.mark(["x"], "r", lambda number=number: done.append(number))
        assert done == [0, 1]

    async def test_whoever_is_called_back_may_say_the_next_thing_or_the_last(self, world: World) -> None:
        world.sink.mark(["x"], "r", world.sink.disconnect)
        (message,) = await world.pump.hears("mark")
        world.pump.say(type="marked", n=message["n"])
        world.pump.say(type="marked", n=0)
        await world.until(lambda: world.pump.connection is None)


class TestPumpThatComesAndGoes:
    async def test_the_next_one_is_told_all_again(self, world: World) -> None:
        done: list[int] = []
        world.sink.open(world.stream("a"))
        world.sink.open(world.stream("b"))
        world.sink.close("u1/0/b")
        world.sink.mark(["u1/0/a"], "r", lambda: done.append(1))
        await world.pump.hears("open", "open", "close", "mark")
        world.restart_pump()
        opened, _, mark = await world.pump.hears("open", "close", "mark")
        assert opened["id"] == "u1/0/a"
        world.pump.say(type="marked", n=mark["n"])
        world.pump.say(type="closed", id="u1/0/b")
        await world.until(lambda: done and world.released)

    async def test_a_sweep_is_repeated_since_nothing_else_can_be_there(self, world: World) -> None:
        world.sink.sweep()
        await world.pump.connected()
        world.restart_pump()
        await world.pump.hears("sweep")

    async def test_one_that_is_not_there_yet_is_waited_for(self, world: World) -> None:
        world.pump.die()
        world.sink.open(world.stream())
        world.sink.reopen()
        world.pump = PumpPuppet(world.folder)
        await world.pump.hears("open")

    async def test_attempts_grow_rarer(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sink, "RECONNECT_MAX_SECONDS", 0.04)
        world.pump.die()
        world.sink.open(world.stream())
        await world.until(lambda: world.sink._reconnect_seconds == 0.04)
        world.pump = PumpPuppet(world.folder)
        await world.pump.hears("open")
        assert world.sink._reconnect_seconds == sink.RECONNECT_MIN_SECONDS

    @pytest.mark.parametrize("rubbish", [b"}", b'{"type":"marked"}', b'{"type":"trouble"}', b'{"type":"closed"}'])
    async def test_one_that_talks_rubbish_is_left_and_called_again(self, world: World, rubbish: bytes) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.pump.say_bytes(rubbish)
        await world.pump.hears("open")

    async def test_words_of_a_newer_one_are_passed_over(self, world: World) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.pump.say(type="sings")
        world.sink.reopen()
        await world.pump.hears("reopen")

    async def test_one_that_is_slow_gets_everything_in_order(self, world: World) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.pump.pause()
        for number in range(2000):
            world.sink.mark(["x"], str(number), lambda: None)
        assert world.sink._unsent
        world.pump.resume()
        messages = await world.pump.hears(*["mark"] * 2000)
        assert [message["run"] for message in messages] == [str(number) for number in range(2000)]
        assert not world.sink._unsent

    async def test_one_that_dies_while_we_speak_is_called_again(self, world: World) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.pump.drop()
        world.sink.reopen()
        await world.pump.hears("open")


class TestTrouble:
    async def test_it_is_known_until_it_is_over(self, world: World) -> None:
        world.sink.open(world.stream())
        await world.pump.hears("open")
        world.pump.say(type="trouble", id="u1/0/a", message="disk full")
        world.pump.say(type="trouble", id="u1/0/a", message="disk full")
        await world.until(lambda: world.sink.trouble("u1/0/a") == "disk full")
        world.pump.say(type="healthy", id="u1/0/a")
        await world.until(lambda: world.sink.trouble("u1/0/a") is None)
        assert world.told == [("u1/0/a", "disk full"), ("u1/0/a", None)]

    async def test_of_streams_that_are_closed_it_is_not_kept(self, world: World) -> None:
        world.sink.open(world.stream())
        world.sink.close("u1/0/a")
        await world.pump.hears("open", "close")
        world.pump.say(type="trouble", id="u1/0/a", message="disk full")
        world.pump.say(type="closed", id="u1/0/a")
        await world.until(lambda: world.released)
        assert world.sink.trouble("u1/0/a") is None

    async def test_after_a_restart_of_the_pump_it_stays_only_if_it_is_repeated(self, world: World) -> None:
        for name in ("a", "b"):
            world.sink.open(world.stream(name))
            await world.pump.hears("open")
            world.pump.say(type="trouble", id=f"u1/0/{name}", message="disk full")
        await world.until(lambda: len(world.told) == 2)
        world.restart_pump()
        number = await world.pump.barrier()
        world.pump.say(type="trouble", id="u1/0/b", message="disk full")
        world.pump.say(type="marked", n=number)
        await world.until(lambda: len(world.told) == 3)
        assert world.sink.trouble("u1/0/a") is None
        assert world.sink.trouble("u1/0/b") == "disk full"
