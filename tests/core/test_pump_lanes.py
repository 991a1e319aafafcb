"""Logs on a file system that may hang: a thread of their own waits, and nobody else."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.pumping import lanes
from reconciler.pumping.lanes import Lane
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.streams import Streams
from support.pump_rig import PumpBench, closing

PATIENCE_SECONDS = 30.0


class Table:
    """Mounts on which what lies below `far` may hang."""

    def __init__(self, far: str) -> None:
        self.far = far

    def place(self, path: str) -> str:
        return self.far if path.startswith(self.far) else ""


class Two(Table):
    """Two that may."""

    def __init__(self, *places: str) -> None:
        self.places = places

    def place(self, path: str) -> str:
        return next((place for place in self.places if path.startswith(place)), "")


def refuses(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class LaneBench(PumpBench):
    """A pump with a folder that may hang."""

    def __init__(self, folder: Path) -> None:
        self.far = folder / "far"
        self.far.mkdir(exist_ok=True)
        self.gate = threading.Event()
        super().__init__(folder, Table(str(self.far)))

    @property
    def lane(self) -> Lane:
        return next(iter(self.pump.lanes._lanes.values()))

    def far_message(self, name: str = "a", **changes: Any) -> dict[str, Any]:
        return self.message(name, path=str(self.far / f"{name}.log"), **changes)

    def far_log(self, name: str = "a") -> bytes:
        path = self.far / f"{name}.log"
        return path.read_bytes() if path.exists() else b""

    def hang(self) -> None:
        """Its thread is at something from which it does not come back."""
        self.lane.post(lambda _: self.gate.wait(PATIENCE_SECONDS) and None)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            self.pump.turn(0.01)

    def until_heard(self, kind: str) -> list[dict[str, Any]]:
        """All that was said, up to the first of this kind."""
        found: list[dict[str, Any]] = []
        self.until(lambda: found.extend(self.heard()) or any(each["type"] == kind for each in found))
        return found

    def close(self) -> None:
        self.gate.set()
        self.pump.lanes.drain(0.1)
        super().close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LaneBench]:
    monkeypatch.setattr(lanes, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.02)
    with closing(LaneBench(tmp_path)) as bench:
        bench.pipe()
        bench.connect()
        yield bench


def test_its_bytes_are_moved_by_its_own_thread(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    assert bench.pump.streams.conduits == {}
    bench.pipe().write(b"far\n")
    bench.until(lambda: bench.far_log() == b"far\n")
    for number in range(50):  # while it rests between two moves
        bench.pipe().write(b"%d\n" % number)
        bench.pump.turn(0.0)
    bench.until(lambda: bench.far_log().endswith(b"49\n"))


def test_while_it_hangs_others_are_served_and_what_is_wrong_is_said_once(bench: LaneBench) -> None:
    bench.pipe("b")
    bench.say(bench.far_message(), bench.message("b"))
    bench.pipe().write(b"before\n")
    bench.until(lambda: bench.far_log() == b"before\n")
    bench.hang()
    told = bench.until_heard("trouble")
    assert [each["id"] for each in told] == ["a"]
    assert "a.log: its file system does not answer" in told[0]["message"]
    bench.pipe().write(b"meanwhile\n")
    bench.pipe("b").write(b"b\n")
    bench.until(lambda: bench.read("b") == b"b\n")
    assert bench.heard() == []
    bench.gate.set()
    told = bench.until_heard("healthy")
    assert [each["id"] for each in told] == ["a"]
    bench.until(lambda: bench.far_log() == b"before\nmeanwhile\n")


def test_what_is_opened_while_it_hangs_is_told_so(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.hang()
    bench.until_heard("trouble")
    bench.pipe("c")
    bench.say(bench.far_message("c"))
    assert [each["id"] for each in bench.until_heard("trouble")] == ["c"]
    bench.gate.set()
    bench.pipe("c").write(b"c\n")
    bench.until(lambda: bench.far_log("c") == b"c\n")


def test_a_new_controller_is_told_what_is_wrong(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.hang()
    bench.until_heard("trouble")
    bench.connect()
    assert [each["id"] for each in bench.until_heard("trouble")] == ["a"]


def test_complaints_of_its_files_are_told_as_those_of_others(bench: LaneBench) -> None:
    (bench.far / "a.log").mkdir()
    bench.say(bench.far_message())
    assert "a.log" in bench.until_heard("trouble")[0]["message"]
    (bench.far / "a.log").rmdir()
    bench.until_heard("healthy")


def test_ends_of_runs_are_noted_but_not_piled_up_while_it_hangs(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.pipe().write(b"one\n")
    bench.until(lambda: bench.far_log() == b"one\n")
    bench.say({"type": "mark", "ids": ["a"], "run": "r1", "n": 1})
    assert bench.until_heard("marked")[0]["n"] == 1
    index = bench.far / "a.log.idx"
    bench.until(lambda: index.exists() and "r1" in index.read_text())
    bench.hang()
    bench.until_heard("trouble")
    bench.say(*({"type": "mark", "ids": ["a", "nobody"], "run": f"x{n}", "n": n} for n in range(2, 50)))
    assert bench.lane._inbox.qsize() < 10
    bench.gate.set()


def test_what_is_let_go_is_closed_when_it_is_gone(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.pipe().write(b"last\n")
    bench.say({"type": "close", "id": "a"})
    bench.until_heard("closed")
    assert bench.far_log() == b"last\n"
    bench.say({"type": "close", "id": "a"})
    assert [each["type"] for each in bench.heard()] == ["closed"]


def test_a_log_that_moves_there_and_back_loses_nothing(bench: LaneBench) -> None:
    bench.say(bench.message())
    bench.pipe().write(b"near\n")
    bench.turns()
    bench.say(bench.far_message())
    bench.pipe().write(b"far\n")
    bench.until(lambda: bench.far_log() == b"far\n")
    assert bench.read() == b"near\n"
    bench.say(bench.message())
    bench.lane.post(lambda streams: None)
    bench.until(lambda: bench.lane._streams is not None and "a" not in bench.lane._streams.conduits)
    bench.pipe().write(b"near again\n")
    bench.until(lambda: bench.read() == b"near\nnear again\n")
    assert bench.far_log() == b"far\n"


def test_files_that_were_moved_away_are_opened_anew_and_strangers_swept(bench: LaneBench) -> None:
    bench.pipe("b")
    bench.say(bench.far_message(), bench.far_message("b"))
    bench.pipe().write(b"old\n")
    bench.until(lambda: bench.far_log() == b"old\n")
    (bench.far / "a.log").rename(bench.far / "aside")
    bench.say({"type": "reopen"})
    bench.until((bench.far / "a.log").exists)
    bench.connect()
    bench.say(bench.far_message(), {"type": "sweep"})
    bench.until(lambda: bench.lane._streams is not None and set(bench.lane._streams.conduits) == {"a"})
    assert set(bench.pump.lanes._of) == {"a"}


def test_the_console_is_no_file_of_anybody(bench: LaneBench) -> None:
    bench.pump.lanes._mounts = Table("/dev")  # type: ignore[assignment]
    bench.say(bench.message("b", path="/dev/stdout", format="prefix", fifo=str(bench.pipe().path)))
    assert not bench.pump.lanes._lanes
    bench.say(bench.message("c", path="/dev/shm/c.log", fifo=str(bench.pipe().path)))
    assert not bench.pump.lanes.owns("/dev/stdout")
    assert bench.pump.lanes.owns("/dev/shm/c.log")
    bench.say({"type": "close", "id": "c"})
    Path("/dev/shm/c.log").unlink(missing_ok=True)


def test_without_a_thread_it_is_served_as_all_are(bench: LaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuses)
    bench.say(bench.far_message())
    bench.pipe().write(b"far\n")
    bench.turns()
    assert bench.far_log() == b"far\n"


def test_what_a_pump_before_served_is_taken_over_by_its_thread(tmp_path: Path) -> None:
    (tmp_path / "fifos").mkdir()
    (tmp_path / "far").mkdir()
    writers = []
    for name, folder in (("a", "far"), ("b", "log")):
        fifo = tmp_path / "fifos" / name
        os.mkfifo(fifo)
        writers.append(os.open(fifo, os.O_RDWR))
        note = {"type": "open", "id": f"{name}/0/out", "fifo": str(fifo), "path": str(tmp_path / folder / "x.log")}
        bounds = {"max_size": 0, "max_files": 5, "compress": "none", "mode": 0o640}
        (tmp_path / "fifos" / f"{name}.to").write_text(json.dumps(note | bounds))
        os.write(writers[-1], b"before\n")
    os.mkfifo(tmp_path / "fifos" / "c")
    (tmp_path / "fifos" / "c.to").write_text('{"id": "c"}')
    with closing(LaneBench(tmp_path)) as bench:
        bench.until(lambda: (tmp_path / "far" / "x.log").exists() and (tmp_path / "log" / "x.log").exists())
        assert set(bench.pump.streams.conduits) == {"b/0/out"}
        bench.until(lambda: (tmp_path / "far" / "x.log").read_bytes() == b"before\n")
        for writer in writers:
            os.close(writer)


def test_an_orphan_stays_while_somebody_writes_there(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    os.close(bench.life_writer)
    for _ in range(5):
        bench.pump.turn(0.01)
    assert not bench.pump.leaving
    bench.pipe().close()
    bench.pipes.clear()

    def leaves() -> bool:
        bench.pump.streams.retry_at = time.monotonic() - 1
        return bench.pump.leaving

    bench.until(leaves)


def test_at_the_end_what_waits_is_moved_and_one_that_hangs_is_left(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.until(lambda: bench.lane._streams is not None)
    bench.pipe().write(b"last\n")
    bench.pump.lanes.drain(PATIENCE_SECONDS)
    assert bench.far_log() == b"last\n"
    assert not bench.lane._thread.is_alive()


def test_one_that_hangs_does_not_keep_the_pump_from_ending(bench: LaneBench) -> None:
    bench.say(bench.far_message())
    bench.hang()
    began = time.monotonic()
    bench.pump.lanes.drain(0.1)
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert bench.lane._thread.is_alive()


def test_streams_of_others_are_not_swept(tmp_path: Path) -> None:
    with closing(PumpBench(tmp_path)) as bench:
        others = Streams(bench.plumbing, lambda *_: None, owns=lambda path: False)
        bench.plumbing.make_staged_dir()
        staged = Path(bench.plumbing.staged_path("x"))
        staged.write_bytes(b"")
        others.sweep(set())
        assert staged.exists()
        others.epoll.close()


class TestTurns:
    """The work of the thread, done by the test."""

    @pytest.fixture
    def lane(self, bench: LaneBench) -> Iterator[Lane]:
        lane = Lane(Plumbing(str(bench.folder)), frozenset(), lambda *_: None)
        lane.post(lambda streams: streams.open(Settings(bench.far_message())))
        lane.turn()
        yield lane
        assert lane._streams is not None
        lane._streams.close()

    def test_bytes_wake_it_and_while_it_rests_only_messages_do(self, bench: LaneBench, lane: Lane) -> None:
        streams = lane._streams
        assert streams is not None
        bench.pipe().write(b"one\n")
        streams.rest_until = 0.0
        lane.turn()
        assert bench.far_log() == b"one\n"
        bench.pipe().write(b"two\n")
        streams.rest_until = time.monotonic() + PATIENCE_SECONDS
        lane.post(lambda _: None)
        lane.turn()
        assert bench.far_log() == b"one\n"
        streams.rest_until = 0.0
        lane.turn()
        assert bench.far_log() == b"one\ntwo\n"

    def test_what_could_not_be_done_is_tried_again(self, bench: LaneBench, lane: Lane) -> None:
        streams = lane._streams
        assert streams is not None
        streams.retry_at = time.monotonic() - 1
        lane.turn()
        assert streams.retry_at == 0.0


def test_each_file_system_has_its_own_and_is_complained_of_by_itself(bench: LaneBench) -> None:
    other = bench.folder / "other"
    other.mkdir()
    bench.pump.lanes._mounts = Two(str(bench.far), str(other))  # type: ignore[assignment]
    bench.pipe("b")
    bench.say(bench.far_message(), bench.message("b", path=str(other / "b.log")))
    first, second = bench.pump.lanes._lanes.values()
    assert first is not second
    bench.hang()
    bench.until_heard("trouble")
    bench.pipe("b").write(b"b\n")
    bench.until(lambda: (other / "b.log").exists() and (other / "b.log").read_bytes() == b"b\n")
    bench.gate.set()
    assert [each["id"] for each in bench.until_heard("healthy")] == ["a"]


def test_a_pump_that_starts_without_threads_serves_all_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fifos").mkdir()
    os.mkfifo(tmp_path / "fifos" / "a")
    (tmp_path / "far").mkdir()
    note = {"type": "open", "id": "a", "fifo": str(tmp_path / "fifos" / "a"), "path": str(tmp_path / "far" / "a.log")}
    (tmp_path / "fifos" / "a.to").write_text(
        json.dumps(note | {"max_size": 0, "max_files": 5, "compress": "none", "mode": 0o640})
    )
    monkeypatch.setattr(threading.Thread, "start", refuses)
    with closing(LaneBench(tmp_path)) as bench:
        assert set(bench.pump.streams.conduits) == {"a"}
