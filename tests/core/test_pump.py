"""The pump: serves streams fairly, obeys the newest controller, reports what is wrong once, and leaves when told."""

import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import pump, wire
from reconciler.pumping import conduit, logfile, streams
from reconciler.pumping.streams import rest_seconds
from support.descriptors import descriptors
from support.pump_rig import PumpBench, closing


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[PumpBench]:
    with closing(PumpBench(tmp_path)) as bench:
        yield bench


@pytest.fixture
def opened(bench: PumpBench) -> PumpBench:
    """A bench with a controller that opened stream `a`."""
    bench.pipe()
    bench.connect()
    bench.say(bench.message())
    return bench


class TestTakingOver:
    @pytest.fixture
    def fifos(self, tmp_path: Path) -> Path:
        (tmp_path / "fifos").mkdir()
        return tmp_path / "fifos"

    def test_a_pump_that_starts_serves_what_is_noted_beside_the_fifos_before_anybody_told_it(self, fifos: Path) -> None:
        os.mkfifo(fifos / "a")
        note = {"type": "open", "id": "u/0/out", "fifo": str(fifos / "a"), "path": str(fifos.parent / "log" / "a.log")}
        bounds = {"max_size": 0, "max_files": 5, "compress": "none", "mode": 0o640}
        (fifos / "a.to").write_text(json.dumps(note | bounds))
        writer = os.open(fifos / "a", os.O_RDWR)
        os.write(writer, b"before anybody was there\n")
        with closing(PumpBench(fifos.parent)) as bench:
            os.write(writer, b"and after\n")
            bench.turns()
            os.close(writer)
            assert bench.read() == b"before anybody was there\nand after\n"

    @pytest.mark.parametrize("note", ["", "[]", "7", '{"id": "u/0/out"}', '{"id": 1, "fifo": null, "path": "\\u0000"}'])
    def test_a_note_that_says_nothing_is_passed_over(self, fifos: Path, note: str) -> None:
        os.mkfifo(fifos / "a")
        (fifos / "a.to").write_text(note)
        (fifos / "gone.to").write_text(note)
        with closing(PumpBench(fifos.parent)) as bench:
            bench.turns()
            assert bench.pump.streams.conduits == {}


class TestStreams:
    def test_what_a_process_writes_is_in_the_file_after_the_next_turn(self, opened: PumpBench) -> None:
        opened.pipe().write(b"line\n")
        opened.pump.turn(0.0)
        assert opened.read() == b"line\n"

    def test_a_stream_that_writes_without_end_does_not_keep_others_from_being_served(self, opened: PumpBench) -> None:
        opened.pipe("b")
        opened.say(opened.message("b"))
        opened.pipe("a").fill()
        opened.pipe("b").write(b"b\n")
        opened.pump.turn(0.0)
        assert opened.read("b") == b"b\n"

    def test_a_mark_is_answered_after_what_was_written_before_it_is_moved(self, opened: PumpBench) -> None:
        opened.pipe().write(b"last words\n")
        opened.say({"type": "mark", "ids": ["a", "unknown"], "run": "r1", "n": 7})
        assert opened.heard() == [{"type": "marked", "n": 7}]
        assert opened.read() == b"last words\n"
        assert opened.index() == ["0 W", "11 W end r1"]

    def test_closing_drains_and_lets_go_of_every_descriptor(self, opened: PumpBench) -> None:
        opened.pipe().write(b"last\n")
        before = len(descriptors())
        opened.say({"type": "close", "id": "a"}, {"type": "close", "id": "unknown"})
        assert opened.heard() == [{"type": "closed", "id": "a"}, {"type": "closed", "id": "unknown"}]
        assert opened.read() == b"last\n"
        assert len(descriptors()) == before - 2

    def test_opened_again_with_another_path_it_goes_there(self, opened: PumpBench) -> None:
        opened.say(opened.message(path=str(opened.log("new"))))
        opened.pipe().write(b"x\n")
        opened.turns()
        assert opened.read("new") == b"x\n"

    def test_all_are_reopened_on_request(self, opened: PumpBench) -> None:
        opened.log().rename(opened.folder / "moved")
        opened.say({"type": "reopen"})
        opened.pipe().write(b"x\n")
        opened.turns()
        assert opened.read() == b"x\n"

    def test_a_sweep_lets_go_of_what_this_controller_did_not_open(self, opened: PumpBench) -> None:
        opened.pipe("b")
        opened.say(opened.message("b"))
        opened.pipe("a").write(b"still\n")
        opened.connect()
        opened.say(opened.message("b"), {"type": "sweep"})
        assert opened.read("a") == b"still\n"
        assert list(opened.pump.streams.conduits) == ["b"]

    def test_a_stream_that_nobody_holds_is_looked_at_once_a_second_and_comes_back(
        self, opened: PumpBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened.pipes.pop("a").close()
        opened.turns()
        assert not opened.pump.streams.by_fifo
        fd = os.open(opened.folder / "a.fifo", os.O_RDWR)
        os.write(fd, b"back\n")
        opened.pump.streams.retry_at = time.monotonic()
        opened.turns()
        assert opened.read() == b"back\n"
        os.close(fd)


class TestPace:
    def test_a_line_after_some_quiet_costs_no_rest(self, opened: PumpBench) -> None:
        opened.pipe().write(b"x\n")
        opened.pump.turn(0.0)
        assert opened.pump.streams.rest_until == opened.pump.streams.busy_at

    def test_the_next_one_right_after_it_rests_the_streams_for_the_longest_time(self, opened: PumpBench) -> None:
        opened.pump.streams.busy_at = time.monotonic()
        opened.pipe().write(b"x\n")
        opened.pump.turn(0.0)
        assert opened.pump.streams.rest_until - opened.pump.streams.busy_at == pytest.approx(
            streams.REST_AT_MOST_SECONDS
        )

    @pytest.mark.parametrize(
        ("fullest", "since", "rest"),
        [
            (0.0001, 0.0001, 0.004),  # a trickle
            (0.25, 0.001, 0.002),  # half full again after 2 ms
            (0.3, 0.001, 0.001),  # whole milliseconds only
            (1.0, 0.001, 0.0),  # its writer waits
            (0.06, 0.0001, 0.0),  # it will soon
            (0.0001, streams.IDLE_SECONDS, 0.0),  # nobody was busy
        ],
    )
    def test_streams_rest_until_the_fullest_pipe_is_half_full_again(
        self, fullest: float, since: float, rest: float
    ) -> None:
        assert rest_seconds(fullest, since) == rest

    def test_messages_are_heard_while_streams_rest(self, opened: PumpBench) -> None:
        opened.pump.streams.rest_until = time.monotonic() + 1000
        opened.pipe().write(b"x\n")
        wire.send(opened.controllers[0], {"type": "mark", "ids": [], "run": "r", "n": 1})
        opened.pump.turn(-1.0)
        assert opened.heard() == [{"type": "marked", "n": 1}]
        assert opened.read() == b""


class TestTrouble:
    @pytest.fixture
    def troubled(self, opened: PumpBench, monkeypatch: pytest.MonkeyPatch) -> PumpBench:
        """The disk is full: until the patch is undone."""

        def full(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "splice", full)
        opened.pipe().write(b"waits\n")
        opened.turns()
        return opened

    def test_it_is_told_once_and_when_it_is_over(self, troubled: PumpBench, monkeypatch: pytest.MonkeyPatch) -> None:
        message = f"cannot write {troubled.log()}: No space left on device"
        assert troubled.heard() == [{"type": "trouble", "id": "a", "message": message}]
        troubled.pump.streams.retry_at = time.monotonic()
        troubled.turns()
        assert troubled.heard() == []
        monkeypatch.undo()
        troubled.pump.streams.retry_at = time.monotonic()
        troubled.turns()
        assert troubled.heard() == [{"type": "healthy", "id": "a"}]
        assert troubled.read() == b"waits\n"

    def test_it_is_tried_again_within_a_second(self, troubled: PumpBench) -> None:
        now = time.monotonic()
        assert 0 < troubled.pump.streams.until_retry(now, -1.0) <= logfile.RETRY_SECONDS
        assert troubled.pump.streams.until_retry(now, 0.0) == 0.0

    def test_without_trouble_nothing_wakes_an_idle_pump(self, opened: PumpBench) -> None:
        assert opened.pump.streams.until_retry(time.monotonic(), -1.0) == -1.0

    def test_a_new_controller_is_told_of_it(self, troubled: PumpBench) -> None:
        troubled.connect()
        assert [each["type"] for each in troubled.heard()] == ["trouble"]

    def test_a_stream_that_is_closed_has_none_any_more(self, troubled: PumpBench) -> None:
        troubled.heard()
        troubled.say({"type": "close", "id": "a"})
        assert troubled.heard() == [{"type": "closed", "id": "a"}]

    def test_other_streams_are_not_affected(self, bench: PumpBench) -> None:
        bench.pipe("a")
        bench.pipe("b")
        bench.log("a").mkdir(parents=True)
        bench.connect()
        bench.say(bench.message("a"), bench.message("b"))
        for word in (b"fine\n", b"still fine\n"):
            bench.pipe("b").write(word)
            bench.turns()
            bench.pump.streams.retry_at = time.monotonic()
        assert [each["type"] for each in bench.heard()] == ["trouble"]
        assert bench.read("b") == b"fine\nstill fine\n"

    def test_a_log_that_cannot_be_reopened_is_tried_again(self, opened: PumpBench) -> None:
        opened.log().unlink()
        opened.log().mkdir()
        opened.say({"type": "reopen"})
        assert [each["type"] for each in opened.heard()] == ["trouble"]
        opened.log().rmdir()
        opened.pump.streams.retry_at = time.monotonic()
        opened.turns()
        assert [each["type"] for each in opened.heard()] == ["healthy"]


class TestController:
    def test_the_newest_is_the_only_one(self, opened: PumpBench) -> None:
        first = opened.controllers[0]
        opened.connect()
        with pytest.raises(wire.Closed):
            list(wire.waiting(first))
        opened.say({"type": "mark", "ids": [], "run": "r", "n": 1})
        assert opened.heard() == [{"type": "marked", "n": 1}]

    def test_when_it_goes_streams_flow_on(self, opened: PumpBench) -> None:
        opened.controllers[0].close()
        opened.pipe().write(b"x\n")
        opened.turns()
        assert opened.read() == b"x\n"
        opened.log().unlink()
        opened.log().mkdir()
        opened.pump._handle_signal(signal.SIGUSR2)  # trouble that nobody is there to hear of

    @pytest.mark.parametrize(
        "rubbish",
        [b"{", b'{"type":"open"}', b'{"type":"mark","ids":7,"run":"r","n":1}', b'{"type":"close","id":[]}',
         b'{"type":"mark","ids":[[]],"run":"r","n":1}', b'{"type":"close"}'],
    )  # fmt: skip
    def test_one_that_talks_rubbish_is_not_heard_any_further(self, opened: PumpBench, rubbish: bytes) -> None:
        wire.send_bytes(opened.controllers[0], rubbish)
        opened.turns()
        with pytest.raises(wire.Closed):
            opened.heard()
        opened.connect()
        opened.pipe().write(b"x\n")
        opened.turns()
        assert opened.read() == b"x\n"

    def test_words_of_a_newer_one_are_passed_over(self, opened: PumpBench) -> None:
        opened.say({"type": "levitate"}, {"type": "mark", "ids": [], "run": "r", "n": 1})
        assert opened.heard() == [{"type": "marked", "n": 1}]

    def test_answers_that_it_has_no_time_to_read_wait_for_it_in_order(self, opened: PumpBench) -> None:
        heard: list[int] = []
        for number in range(2000):
            while not wire.send(opened.controllers[0], {"type": "mark", "ids": [], "run": "r", "n": number}):
                opened.turns(1)
        opened.turns(80)
        assert opened.pump._unsent
        while len(heard) < 2000:
            heard += [message["n"] for message in wire.waiting(opened.controllers[0])]
            opened.turns(1)
        assert heard == list(range(2000))
        assert not opened.pump._unsent

    def test_answers_to_one_that_went_are_dropped(self, opened: PumpBench, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(*_: object) -> bool:
            raise wire.Closed

        with monkeypatch.context() as patch:
            patch.setattr(wire, "send_bytes", gone)
            opened.pump._send({"type": "marked", "n": 1})
        assert not opened.pump._unsent

    def test_one_that_left_before_it_was_accepted_does_no_harm(
        self, bench: PumpBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without descriptors it is the same: the listener would wake the pump without end."""

        class Exhausted:
            fileno = bench.pump._listener.fileno

            def accept(self) -> None:
                raise OSError(errno.EMFILE, "too many")

        listener = bench.pump._listener
        monkeypatch.setattr(bench.pump, "_listener", Exhausted())
        bench.connect()
        assert bench.pump._urgent.poll(0) == []
        monkeypatch.setattr(bench.pump, "_listener", listener)
        bench.pump.streams.retry_at = time.monotonic()
        bench.turns()
        bench.say({"type": "mark", "ids": [], "run": "r", "n": 1})
        assert bench.heard() == [{"type": "marked", "n": 1}]

    def test_an_event_of_a_connection_that_was_replaced_is_passed_over(self, opened: PumpBench) -> None:
        opened.pump._handle_urgent(99_999, 1)
        opened.pump._hang_up()
        opened.pump._handle_urgent(99_999, 1)
        opened.pump._receive()


class TestLeaving:
    def test_when_the_keeper_is_gone_it_stays_as_long_as_somebody_writes(self, opened: PumpBench) -> None:
        writer = opened.pipe()
        os.close(opened.life_writer)
        opened.turns()
        writer.write(b"what nobody else holds\n")
        opened.pump.streams.retry_at = time.monotonic()
        opened.turns()
        assert opened.read() == b"what nobody else holds\n"
        assert not opened.pump.leaving
        writer.write(b"last\n")
        opened.pipes.pop("a").close()
        opened.pump.streams.retry_at = time.monotonic()
        opened.pump.run()
        assert opened.read() == b"what nobody else holds\nlast\n"
        assert opened.pump.drain_seconds < 1

    def test_an_orphan_without_writers_leaves_at_once(self, bench: PumpBench) -> None:
        os.close(bench.life_writer)
        bench.pump.run()
        assert bench.pump.drain_seconds < 1

    def test_told_by_the_next_keeper_an_orphan_leaves_to_it_what_is_not_moved(self, opened: PumpBench) -> None:
        opened.pipe()
        os.close(opened.life_writer)
        opened.turns()
        os.write(opened.signals_writer, bytes([signal.SIGTERM]))
        opened.turns()
        assert opened.pump.leaving
        assert opened.pump.drain_seconds == pump.HANDED_OVER_SECONDS

    def test_what_the_keeper_may_say_on_the_life_descriptor_means_nothing(self, opened: PumpBench) -> None:
        os.write(opened.life_writer, b"?")
        opened.turns()
        assert not opened.pump.leaving

    def test_told_to_end_it_drains_and_leaves(self, opened: PumpBench) -> None:
        written = opened.pipe().fill()
        os.write(opened.signals_writer, bytes([signal.SIGTERM]))
        opened.pump.run()
        assert opened.read() == written
        assert opened.pump.drain_seconds == pump.TERM_DRAIN_SECONDS

    def test_a_writer_that_does_not_end_is_not_waited_for_too_long(
        self, opened: PumpBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter(range(100))
        monkeypatch.setattr(conduit.Conduit, "serve", lambda self: 1)
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
        opened.pump.streams.drain(5)
        monkeypatch.undo()

    def test_usr2_reopens(self, opened: PumpBench) -> None:
        opened.log().rename(opened.folder / "moved")
        os.write(opened.signals_writer, bytes([signal.SIGUSR2, signal.SIGCHLD]))
        opened.turns()
        assert opened.log().exists()


class TestProcess:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[int, int]]:
        ends = os.pipe()
        yield ends
        for fd in ends:
            try:
                os.close(fd)
            except OSError:
                pass

    @pytest.fixture
    def no_signals(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """`main` without its hold on the signals of the test's own process, nor on its limits and its umask."""
        reader, writer = os.pipe()
        monkeypatch.setattr(pump, "catch_signals", lambda: reader)
        monkeypatch.setattr(pump.resource, "setrlimit", lambda *_: None)
        monkeypatch.setattr(os, "umask", lambda mask: 0o022)
        return [reader, writer]

    @pytest.mark.parametrize("arguments", [[], ["--run-dir", "x"], ["--run-dir", "x", "--life-fd", "seven"]])
    def test_a_wrong_command_line_is_a_usage_error(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert pump.main(arguments) == 2
        assert "usage: " in capsys.readouterr().err

    def test_it_runs_until_its_keeper_is_gone_and_removes_its_socket(
        self, tmp_path: Path, ends: tuple[int, int], no_signals: list[int]
    ) -> None:
        os.close(ends[1])
        assert pump.main(["--run-dir", str(tmp_path), "--life-fd", str(ends[0])]) == 0
        assert [each.name for each in tmp_path.iterdir()] == ["pump.lock"]

    def test_it_waits_for_the_pump_before_it_to_leave_but_not_longer_than_its_keeper_lives(
        self, tmp_path: Path, ends: tuple[int, int], no_signals: list[int]
    ) -> None:
        with (tmp_path / "pump.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            os.close(ends[1])
            assert pump.main(["--run-dir", str(tmp_path), "--life-fd", str(ends[0])]) == 0
        assert not (tmp_path / "pump.sock").exists()

    def test_where_nothing_can_be_opened_it_says_why_and_ends(
        self, ends: tuple[int, int], no_signals: list[int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert pump.main(["--run-dir", "/nowhere", "--life-fd", str(ends[0])]) == 1
        assert "pump: cannot serve: [Errno 2] No such file or directory" in capsys.readouterr().err

    def test_a_disk_that_takes_nothing_does_not_keep_it_from_leaving(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        bench = PumpBench(tmp_path)
        monkeypatch.setattr(os, "unlink", read_only)
        bench.close()
        assert bench.pump._listener.fileno() == -1

    @pytest.fixture
    def lock(self, tmp_path: Path) -> Iterator[int]:
        fd = os.open(tmp_path / "pump.lock", os.O_RDWR | os.O_CREAT)
        yield fd
        os.close(fd)

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
        """Who is told to leave; nobody really is."""
        told: list[tuple[int, int, int]] = []
        monkeypatch.setattr(pump, "signal_stranger", lambda *whom: told.append(whom))
        return told

    def test_the_lock_is_tried_again_and_its_holder_is_told_to_leave_once(
        self,
        lock: int,
        told: list[tuple[int, int, int]],
        ends: tuple[int, int],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        tries: list[int] = []

        def third_time_lucky(fd: int, how: int) -> None:
            tries.append(how)
            if len(tries) < 3:
                raise BlockingIOError

        stranger = os.getppid()  # no sibling of ours
        os.write(lock, f"pump {stranger} {wire.start_ticks(stranger)}\n".encode())
        monkeypatch.setattr(fcntl, "flock", third_time_lucky)
        assert pump.claim(lock, ends[0])
        assert len(tries) == 3
        assert told == [(stranger, wire.start_ticks(stranger), signal.SIGTERM)]
        assert (tmp_path / "pump.lock").read_text() == f"pump {os.getpid()} {wire.start_ticks(os.getpid())}\n"

    def test_a_pump_of_the_same_keeper_and_whoever_is_gone_is_told_nothing(
        self, told: list[tuple[int, int, int]]
    ) -> None:
        own = os.getpid()
        for holder in ("", "rubbish", f"pump {2**22 + 1} 1", f"pump {own} 1", f"pump {own} {wire.start_ticks(own)}"):
            assert not pump.ask_to_leave(holder)
        assert told == []

    def test_a_lock_on_a_disk_that_takes_nothing_holds_without_a_name(self, tmp_path: Path, lock: int) -> None:
        readable = os.open(tmp_path / "pump.lock", os.O_RDONLY)
        pump.note_holder(readable)
        os.close(readable)
        assert (tmp_path / "pump.lock").read_text() == ""

    def test_signals_arrive_as_bytes_and_interrupts_not_at_all(self) -> None:
        numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        old_wakeup = signal.set_wakeup_fd(-1)
        reader = pump.catch_signals()
        try:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                os.kill(os.getpid(), number)
            assert os.read(reader, 64) == bytes([signal.SIGUSR2])
        finally:
            os.close(signal.set_wakeup_fd(old_wakeup))
            os.close(reader)
            for number, handler in before.items():
                signal.signal(number, handler)

    def test_its_socket_is_for_nobody_else(self, bench: PumpBench) -> None:
        assert (bench.folder / "pump.sock").stat().st_mode & 0o777 == 0o600
        assert bench.pump._listener.type == socket.SOCK_SEQPACKET
