"""Lines onto the standard output of `run`: whoever reads it may be slow or gone, and the pump goes on."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.pumping import console as console_module
from reconciler.pumping.conduit import Conduit
from reconciler.pumping.console import PORTION_BYTES, STDOUT, Console
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.staging import ROOM_BYTES
from reconciler.pumping.streams import Streams
from support.pump_rig import Bench, PumpBench, closing


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def on_console(bench: Bench, **changes: object) -> Conduit:
    return bench.conduit(path=STDOUT, **{"format": "raw", **changes})


def pass_on(bench: Bench, conduit: Conduit) -> None:
    """The console's thread writes what was handed over, and the pump hears of it, until nothing is left."""
    while bench.console.is_busy:
        bench.console.step()
        assert list(bench.console.settle()) == [conduit.settings.id]
        conduit.serve(0)


def shown(bench: Bench) -> bytes:
    try:
        return os.read(bench.console_reader, 1 << 20)
    except BlockingIOError:
        return b""


def failing(patch: pytest.MonkeyPatch, fd: int, code: int, after: int = 0) -> None:
    """Writes to this descriptor fail when so many bytes were taken."""
    real_write, left = os.write, after

    def write(to: int, data: bytes) -> int:
        nonlocal left
        if to != fd:
            return real_write(to, data)
        if not left:
            raise OSError(code, os.strerror(code))
        written = real_write(to, data[:left])
        left -= written
        return written

    patch.setattr(os, "write", write)


class TestLines:
    def test_are_shown_whole_with_or_without_a_frame(self, bench: Bench) -> None:
        conduit = on_console(bench)
        bench.pipe().write(b"one\ntwo\nbegun")
        conduit.serve()
        pass_on(bench, conduit)
        assert shown(bench) == b"one\ntwo\n"
        conduit.adopt(Settings(bench.message(path=STDOUT, format="prefix", program="web", replica=3)))
        bench.pipe().write(b" and ended\n")
        conduit.serve()
        pass_on(bench, conduit)
        assert shown(bench).endswith(b"Z web/3 out | begun and ended\n")

    def test_that_have_begun_are_shown_when_their_process_ends(self, bench: Bench) -> None:
        conduit = on_console(bench)
        bench.pipe().write(b"last words")
        conduit.mark("r1")
        pass_on(bench, conduit)
        assert shown(bench) == b"last words\n"

    def test_come_in_portions_that_a_pipe_takes_as_a_whole(self, bench: Bench) -> None:
        conduit = on_console(bench)
        line = b"x" * 99 + b"\n"
        bench.pipe().write(line * 100)
        conduit.serve()
        bench.console.step()
        first = shown(bench)
        assert len(first) <= PORTION_BYTES
        assert first == line * (PORTION_BYTES // 100)
        list(bench.console.settle())
        conduit.serve(0)
        pass_on(bench, conduit)
        assert first + shown(bench) == line * 100

    def test_that_are_longer_are_a_portion_of_their_own(self, bench: Bench) -> None:
        conduit = on_console(bench)
        bench.pipe().write(b"x" * 10_000 + b"\nshort\n")
        conduit.serve()
        bench.console.step()
        assert shown(bench) == b"x" * 10_000 + b"\n"


class TestBackpressure:
    def test_until_the_console_takes_them_lines_are_staged_then_wait_in_the_fifo(self, bench: Bench) -> None:
        conduit = on_console(bench)
        moved = 1
        while moved:
            bench.pipe().write(b"x" * 59_999 + b"\n")
            moved = conduit.serve()
        assert conduit.is_stalled
        assert not conduit.halted
        assert os.path.getsize(bench.plumbing.staged_path("a")) < ROOM_BYTES + 100_000
        bench.console.step()
        list(bench.console.settle())
        assert shown(bench) == b"x" * 59_999 + b"\n"
        for _ in range(3):
            conduit.serve(0)
            bench.console.step()
            list(bench.console.settle())
            assert len(shown(bench)) == 60_000
        assert not conduit.is_stalled
        assert conduit.serve() == 60_000

    def test_a_reader_that_takes_nothing_for_long_is_a_complaint(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = on_console(bench)
        bench.pipe().write(b"x\n")
        conduit.serve()
        bench.console._began_at = 1000.0
        monkeypatch.setattr(console_module.time, "monotonic", lambda: 1000.0 + console_module.STUCK_SECONDS)
        conduit.serve()
        assert conduit.complaint is None
        monkeypatch.setattr(console_module.time, "monotonic", lambda: 1000.1 + console_module.STUCK_SECONDS)
        conduit.serve()
        assert conduit.complaint == "cannot write: /dev/stdout: whoever reads it takes nothing"
        monkeypatch.undo()
        pass_on(bench, conduit)
        conduit.serve()
        assert conduit.complaint is None
        assert shown(bench) == b"x\n"


class TestTrouble:
    def test_what_is_not_taken_is_tried_again_without_repeating_the_rest(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = on_console(bench)
        bench.pipe().write(b"one\ntwo\n")
        conduit.serve()
        with monkeypatch.context() as patch:
            failing(patch, bench.console.fd, errno.ENOSPC, after=5)
            for _ in range(3):
                bench.console.step()
                list(bench.console.settle())
                conduit.serve()
                assert conduit.halted
                assert conduit.complaint == "cannot write /dev/stdout: No space left on device"
        pass_on(bench, conduit)
        conduit.serve()
        assert conduit.complaint is None
        assert shown(bench) == b"one\ntwo\n"

    def test_without_a_reader_lines_wait(self, bench: Bench) -> None:
        conduit = on_console(bench)
        os.close(bench.console_reader)
        bench.pipe().write(b"one\n")
        conduit.serve()
        bench.console.step()
        list(bench.console.settle())
        conduit.serve()
        assert conduit.complaint == "cannot write /dev/stdout: Broken pipe"
        assert not conduit.is_done
        bench.console_reader = os.open(os.devnull, os.O_RDONLY)

    def test_where_no_thread_is_to_be_had_it_is_tried_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        conduit = on_console(bench)
        bench.pipe().write(b"one\n")
        thread, bench.console._thread = bench.console._thread, None
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            for _ in range(2):
                conduit.serve()
                assert conduit.complaint == "cannot write: /dev/stdout: can't start new thread"
        bench.console._thread = thread
        conduit.serve()
        pass_on(bench, conduit)
        assert shown(bench) == b"one\n"

    def test_another_place_is_gone_to_at_once(self, bench: Bench) -> None:
        """What a stuck reader may still take is written there, too: never lost."""
        conduit = on_console(bench)
        bench.pipe().write(b"one\n")
        conduit.serve()
        conduit.adopt(Settings(bench.message(format="raw", shared=True)))
        conduit.serve()
        assert bench.read() == b"one\n"
        bench.console.step()
        assert list(bench.console.settle()) == ["a"]
        conduit.serve()
        assert (bench.read(), shown(bench)) == (b"one\n", b"one\n")

    def test_a_pump_without_this_console_refuses(self, bench: Bench) -> None:
        conduit = bench.conduit(path="/dev/stderr")
        assert conduit.complaint == "cannot write: this pump has no /dev/stderr"

    def test_nothing_is_reopened_or_tidied(self, bench: Bench) -> None:
        conduit = on_console(bench)
        conduit.reopen()
        conduit.tidy()
        assert (conduit.complaint, bench.tidier.noted) == (None, [])


def test_after_a_kill_what_was_being_written_is_written_again_and_nothing_is_lost(bench: Bench) -> None:
    conduit = on_console(bench)
    bench.pipe().write(b"one\n")
    conduit.serve()
    pass_on(bench, conduit)
    bench.pipe().write(b"two\nbegun")
    conduit.serve()
    bench.console.step()  # and the pump is killed before it heard of that
    conduit.close()
    reader, writer = os.pipe()
    console = Console(STDOUT, writer)
    console._thread = threading.current_thread()
    streams = Streams(Plumbing(str(bench.folder), bench.tidier, (console,)), lambda *_: None)
    bench.pipe().write(b" three\n")
    streams.open(Settings(bench.message(path=STDOUT)))
    while console.is_busy:
        console.step()
        streams.settle(console.wake_fd)
        if not console.is_busy:
            streams.drain(0.1)
    assert shown(bench) == b"one\ntwo\n"
    assert os.read(reader, 100) == b"two\nbegun three\n"
    streams.close()
    os.close(console.wake_fd)
    os.close(reader)
    os.close(writer)


class TestInThePump:
    @pytest.fixture
    def pump(self, tmp_path: Path) -> Iterator[PumpBench]:
        with closing(PumpBench(tmp_path)) as bench:
            bench.pipe()
            bench.connect()
            bench.say(bench.message(path=STDOUT))
            yield bench

    def test_the_next_portion_goes_when_the_one_before_is_taken(self, pump: PumpBench) -> None:
        pump.pipe().write(b"x" * 3000 + b"\n" + b"y" * 3000 + b"\n")
        pump.turns()
        for letter in (b"x", b"y"):
            pump.console.step()
            pump.turns()
            assert shown(pump) == letter * 3000 + b"\n"
        assert not pump.console.is_busy

    def test_a_stalled_stream_is_not_listened_to_until_there_is_room(self, pump: PumpBench) -> None:
        streams = pump.pump.streams
        while streams.by_fifo:
            pump.pipe().write(b"x" * 59_999 + b"\n")
            pump.turns(1)
        assert not streams.conduits["a"].halted
        while not streams.by_fifo:
            pump.console.step()
            pump.turns(1)
            shown(pump)
        pump.pipe().write(b"y\n")
        pump.turns()
        assert list(streams.by_fifo.values()) == [streams.conduits["a"]]

    def test_what_is_taken_of_a_stream_that_is_gone_wakes_nobody(self, pump: PumpBench) -> None:
        pump.console.hand_over("gone", b"x\n", lambda rest, failure: None)
        pump.console.step()
        pump.turns()
        assert shown(pump) == b"x\n"

    def test_a_stream_that_is_let_go_is_kept_until_its_lines_are_out(self, pump: PumpBench) -> None:
        pump.pipe().write(b"x" * 5000 + b"\nlast")
        pump.say({"type": "close", "id": "a"})
        assert pump.heard() == [{"type": "closed", "id": "a"}]
        for _ in range(2):
            assert pump.pump.streams.parted
            pump.console.step()
            pump.turns()
        assert shown(pump) == b"x" * 5000 + b"\nlast\n"
        assert not pump.pump.streams.parted
        assert not Path(pump.plumbing.staged_path("a")).exists()

    def test_opened_again_before_that_it_goes_on(self, pump: PumpBench) -> None:
        pump.pipe().write(b"one\n")
        pump.say({"type": "close", "id": "a"}, pump.message(path=STDOUT))
        pump.pipe().write(b"two\n")
        pump.turns()
        for _ in range(2):
            pump.console.step()
            pump.turns()
        assert shown(pump) == b"one\ntwo\n"
        assert not pump.pump.streams.parted

    def test_at_the_end_the_console_is_waited_for_as_long_as_it_takes_something(self, pump: PumpBench) -> None:
        pump.pipe().write(b"one\n")
        pump.turns()
        helper = threading.Thread(target=pump.console.step)
        helper.start()
        pump.pump.streams.drain(5)
        helper.join()
        assert shown(pump) == b"one\n"
        assert not pump.console.is_busy

    def test_but_not_longer_than_there_is_time(self, pump: PumpBench) -> None:
        pump.pipe().write(b"one\n")
        pump.turns()
        pump.pump.streams.drain(0.01)
        assert pump.console.is_busy


class TestConsole:
    def test_its_thread_starts_with_the_first_portion(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader, writer = os.pipe()
        console = Console(STDOUT, writer)
        monkeypatch.setattr(console, "_run", console.step)
        ended: list[tuple[bytes, OSError | None]] = []
        console.hand_over("s", b"hello\n", lambda rest, failure: ended.append((rest, failure)))
        assert console._thread is not None
        console._thread.join()
        assert os.read(reader, 10) == b"hello\n"
        assert list(console.settle()) == ["s"]
        assert ended == [(b"", None)]
        assert list(console.settle()) == []
        console.close()
        os.fstat(console.wake_fd)  # the thread may still want to wake us
        for fd in (console.wake_fd, reader, writer):
            os.close(fd)

    def test_without_one_nothing_is_left_open(self) -> None:
        console = Console(STDOUT, 1)
        console.close()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(console.wake_fd)
