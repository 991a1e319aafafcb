"""What processes do, by the ends of their logs: of the present run, of the right process, no more than a bound."""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reconciler.adapters.logfiles import worklogs
from reconciler.adapters.logfiles.worklogs import END_BYTES, WorkLogThreads, activities
from reconciler.core.activity import Activity
from reconciler.ports import WorkLog
from reconciler.pumping.framing import cut, framed

BEGUN = b"[2026-11-25 17:26:07][1] Processing: App\\Mail\n"
DONE = b"[2026-11-25 17:26:09][1] Processed:  App\\Mail\n"
WORKING, IDLE = Activity(True, "2026-11-25 17:26:07"), Activity(False, "2026-11-25 17:26:09")


def told(path: Path, ordinal: int = 0, *, framed: bool = False, shared: bool = False) -> Activity | None:
    return activities([WorkLog(ordinal, str(path), framed, shared)]).get(ordinal)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


def test_the_newest_line_that_tells_counts(path: Path) -> None:
    path.write_bytes(b"hello\n" + BEGUN + b"of the application\n")
    assert told(path) == WORKING
    path.write_bytes(BEGUN + DONE + b"[2026-11-25 17:26:10][1] Proces")
    assert told(path) == IDLE


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\n\n\n", b"\xff\xfe\n", b"Processing: "])
def test_where_none_does_nothing_is_known(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert told(path) is None


def test_what_an_earlier_run_said_tells_nothing_of_this_one(path: Path) -> None:
    """It was killed in the middle of its work; its successor has printed nothing yet."""
    path.write_bytes(BEGUN)
    assert told(path) == WORKING
    index = path.with_name("0.log.idx")
    index.write_text(f"0 1795627567.5\n{len(BEGUN)} 1795627569.0 end a1b2-7\n")
    assert told(path) is None
    path.write_bytes(BEGUN + DONE)
    assert told(path) == IDLE
    index.write_text(
        "x\n" * 9000 + f"{len(BEGUN)} 1795627569.0 end a1b2-7\n{len(BEGUN + DONE)} 1795627570 end a1b2-8\n"
    )
    assert told(path) is None


@pytest.mark.parametrize("form", ["prefix", "json"])
@pytest.mark.parametrize("shared", [False, True])
def test_frames_are_seen_through_and_of_a_shared_log_only_ones_own_lines_count(
    path: Path, form: str, shared: bool
) -> None:
    def line(text: bytes, replica: int, stream: str = "out") -> bytes:
        return framed(cut(text), form, "mails", replica, stream, 1795627567500)

    path.write_bytes(line(BEGUN, 0))
    assert told(path, framed=True, shared=shared) == WORKING
    if shared:
        path.write_bytes(line(BEGUN, 0) + line(DONE, 1) + line(DONE, 0, "err") + DONE)
        logs = [WorkLog(ordinal, str(path), True, True) for ordinal in range(3)]
        assert activities(logs) == {0: WORKING, 1: IDLE}
        path.with_name("0.log.idx").write_text("90 1795627569.0 end a1b2-7 0/out\n")
        assert activities(logs) == {1: IDLE}


def test_no_more_is_read_than_a_bound(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(BEGUN + b"talk\n" * END_BYTES)
    assert told(path) is None
    path.write_bytes(b"talk\n" * END_BYTES + DONE)
    assert told(path) == IDLE
    path.write_bytes(DONE[5:] + b"x" * (END_BYTES - len(DONE) + 5))  # begins in the middle of a line, which is no line
    assert told(path) is None
    monkeypatch.setattr(worklogs, "MOST_BYTES", 3 * len(BEGUN))
    logs = []
    for ordinal in range(5):
        (tmp_path / f"{ordinal}.log").write_bytes(BEGUN)
        logs.append(WorkLog(ordinal, str(tmp_path / f"{ordinal}.log")))
    assert activities(logs) == dict.fromkeys(range(3), WORKING)


def test_what_is_no_log_tells_nothing(path: Path, tmp_path: Path) -> None:
    assert told(path) is None
    assert told(tmp_path) is None
    assert told(Path("/dev/stdout")) is None
    os.mkfifo(path)
    assert told(path) is None
    path.unlink()
    (tmp_path / "real").write_bytes(BEGUN)
    path.symlink_to(tmp_path / "real")
    assert told(path) is None, "the pump writes to no link"


class TestThreads:
    def look(self, logs: list[WorkLog]) -> Mapping[int, Activity]:
        calls: queue.Queue[Callable[[], None]] = queue.Queue()
        found: list[Mapping[int, Activity]] = []
        WorkLogThreads(calls.put).look(logs, found.append)
        call = calls.get(timeout=30)
        assert not found, "only the loop is told"
        call()
        return found[0]

    def test_what_was_found_is_told_in_the_loop(self, path: Path) -> None:
        path.write_bytes(BEGUN)
        assert self.look([WorkLog(0, str(path))]) == {0: WORKING}

    def test_a_fault_is_no_hint_and_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fault(logs: list[WorkLog]) -> Mapping[int, Activity]:
            raise ZeroDivisionError

        monkeypatch.setattr(worklogs, "activities", fault)
        assert self.look([]) == {}
        assert "cannot be told from their logs" in caplog.text

    def test_a_host_without_room_for_a_thread_tells_nothing_later(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        path.write_bytes(BEGUN)
        assert self.look([WorkLog(0, str(path))]) == {}

    def test_no_more_look_at_once_than_a_bound_however_many_hang(self, monkeypatch: pytest.MonkeyPatch) -> None:
        disk, hanging = threading.Event(), threading.Semaphore(0)

        def hang(logs: list[WorkLog]) -> Mapping[int, Activity]:
            hanging.release()
            disk.wait(30)
            return {0: IDLE}

        monkeypatch.setattr(worklogs, "activities", hang)
        calls: queue.Queue[Callable[[], None]] = queue.Queue()
        threads, found = WorkLogThreads(calls.put), list[Mapping[int, Activity]]()
        for _ in range(worklogs.MOST_AT_ONCE + 1):
            threads.look([], found.append)
        for _ in range(worklogs.MOST_AT_ONCE):
            assert hanging.acquire(timeout=30)
        calls.get(timeout=30)()
        assert found == [{}]
        disk.set()
        for _ in range(worklogs.MOST_AT_ONCE):
            calls.get(timeout=30)()
        threads.look([], found.append)
        calls.get(timeout=30)()
        assert found == [{}] + [{0: IDLE}] * (worklogs.MOST_AT_ONCE + 1)

    def test_a_loop_that_is_gone_is_told_nothing(self, path: Path) -> None:
        refused: queue.Queue[None] = queue.Queue()

        def refuse(call: Callable[[], None]) -> None:
            refused.put(None)
            raise RuntimeError("Event loop is closed")

        WorkLogThreads(refuse).look([WorkLog(0, str(path))], lambda told: None)
        refused.get(timeout=30)
