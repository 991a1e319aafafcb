"""Framed and shared logs: whole lines, each once, whatever kills the pump, fills the disk or changes meanwhile."""

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import folders
from reconciler.pumping import framer, staging
from reconciler.pumping.conduit import PIPE_BYTES, Conduit
from reconciler.pumping.framing import LINE_BYTES
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.streams import Streams
from support.mortality import MOMENTS, fated
from support.pump_rig import Bench, closing

PREFIX = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+)/(\d+) (out|err) ([|+]) (.*)\n", re.DOTALL)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def said(log: bytes, replica: int | None = None) -> bytes:
    """What stands in a framed log, without its frames; every line must have one."""
    text = b""
    for line in log.splitlines(keepends=True):
        if line.startswith(b"{"):
            parts = json.loads(line)
            whose, end, words = parts["replica"], not parts.get("partial"), parts["message"].encode()
        else:
            match = PREFIX.fullmatch(line)
            assert match, line
            whose, end, words = int(match[2]), match[4] == b"|", match[5]
        if replica in (None, whose):
            text += words + (b"\n" if end else b"")
    return text


def no_room(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_disk(patch: pytest.MonkeyPatch, path: Path, left: int) -> None:
    """So many bytes can still be written to this file."""
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        nonlocal left
        if os.readlink(f"/proc/self/fd/{fd}") != str(path):
            return real_write(fd, data)
        if not left:
            no_room()
        written = real_write(fd, data[:left])
        left -= written
        return written

    patch.setattr(os, "write", write)


def shared(bench: Bench, replica: int, **changes: Any) -> Conduit:
    """A replica of `web` that writes to the log `a`."""
    name = f"web/{replica}/out"
    return bench.conduit(name, path=str(bench.log()), replica=replica, **{"shared": True, **changes})


class TestFramed:
    def test_each_line_says_when_who_and_where(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(framer, "wall", lambda: 1_782_993_600.123)
        conduit = bench.conduit(format="prefix", program="web", replica=3, stream="err")
        bench.pipe().write(b"one\ntwo\n")
        assert conduit.serve() == 8
        assert bench.read() == (b"2026-07-02T12:00:00.123Z web/3 err | one\n2026-07-02T12:00:00.123Z web/3 err | two\n")

    def test_as_json(self, bench: Bench) -> None:
        conduit = bench.conduit(format="json", program="web", replica=3)
        bench.pipe().write(b'say "hi" \xff\n')
        conduit.serve()
        found = json.loads(bench.read())
        assert (found["program"], found["replica"], found["stream"]) == ("web", 3, "out")
        assert found["message"] == 'say "hi" �'

    def test_a_line_is_written_when_its_end_comes(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"half")
        assert conduit.serve() == 4
        assert bench.read() == b""
        assert conduit.serve() == 0
        bench.pipe().write(b" and half\n")
        conduit.serve()
        assert said(bench.read()) == b"half and half\n"

    def test_or_when_its_process_ends(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"last words")
        conduit.mark("r1")
        assert said(bench.read()) == b"last words\n"
        conduit.mark("r2")
        assert said(bench.read()) == b"last words\n"
        assert bench.index() == ["0 W", f"{len(bench.read())} W end r1 0/out"]

    def test_what_comes_after_its_main_process_ended_is_written_too(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"main\n")
        conduit.mark("r1")
        bench.pipe().write(b"left over\n")
        conduit.serve()
        assert said(bench.read()) == b"main\nleft over\n"

    def test_a_line_of_10_mib_is_written_in_pieces_and_never_held_as_a_whole(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix", max_size=3 << 20, max_files=0)
        piece = b"0123456789abcdef" * 2048
        for _ in range(320):
            bench.pipe().write(piece)
            conduit.serve()
            assert os.path.getsize(bench.plumbing.staged_path("a")) < 300_000
        conduit.mark("r")
        log = b"".join(bench.segments())
        assert said(log) == piece * 320 + b"\n"
        assert max(map(len, log.splitlines())) <= LINE_BYTES + 100

    def test_a_pipe_full_of_nothing_but_line_ends(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"\n" * 60_000)
        conduit.drain()
        assert said(bench.read()) == b"\n" * 60_000

    def test_a_large_pipe_is_moved_in_portions_that_leave_others_their_turn(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(format="prefix")
        fcntl.fcntl(bench.pipe().fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        text = b"x" * 99_999 + b"\n"
        bench.pipe().write(text * 4)
        assert conduit.serve(150_000) == 150_000
        assert conduit.serve() == 250_000
        assert said(bench.read()) == text * 4

    def test_rotation_cuts_between_lines_and_counts_what_stands_in_the_file(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix", max_size=100, max_files=0)
        bench.pipe().write(b"one\ntwo\nthree\nfour\nfive\nsix\n")
        conduit.drain()
        assert said(b"".join(bench.segments())) == b"one\ntwo\nthree\nfour\nfive\nsix\n"
        assert all(len(each) <= 100 and each.endswith(b"\n") for each in bench.segments())
        assert len(bench.segments()) == 3

    def test_a_line_larger_than_a_segment_gets_one_of_its_own(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix", max_size=100, max_files=0)
        bench.pipe().write(b"a\n" + b"x" * 300 + b"\nb\n")
        conduit.drain()
        assert [said(each) for each in bench.segments()] == [b"a\n", b"x" * 300 + b"\n", b"b\n"]

    def test_where_renaming_is_impossible_the_file_grows_on(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(format="prefix", max_size=100)
        monkeypatch.setattr(folders, "rename", no_room)
        bench.pipe().write(b"line\n" * 20)
        conduit.drain()
        assert said(bench.read()) == b"line\n" * 20
        assert conduit.complaint == f"cannot rotate {bench.log()}: No space left on device; it grows on"

    def test_staged_bytes_do_not_pile_up(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix", max_size=100_000, max_files=1)
        for _ in range(100):
            bench.pipe().write(b"x" * 99 + b"\n" + b"y" * 30_000 + b"\nbegun")
            conduit.drain()
            bench.pipe().write(b"\n")
            conduit.drain()
            assert os.path.getsize(bench.plumbing.staged_path("a")) < 300_000

    def test_a_log_that_ends_within_a_line_gets_an_end_first(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().write_bytes(b"raw, unfinished")
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"x\n")
        conduit.serve()
        before, line = bench.read().splitlines()
        assert (before, said(line + b"\n")) == (b"raw, unfinished", b"x\n")

    def test_truncated_by_somebody_it_is_written_from_its_start(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"before\n")
        conduit.serve()
        os.truncate(bench.log(), 3)
        bench.pipe().write(b"after\n")
        conduit.serve()
        assert said(bench.read().partition(b"\n")[2]) == b"after\n"


class TestShared:
    @pytest.mark.parametrize("form", ["raw", "prefix", "json"])
    def test_replicas_write_whole_lines_to_one_file(self, bench: Bench, form: str) -> None:
        first, second = shared(bench, 0, format=form), shared(bench, 1, format=form)
        bench.pipe("web/0/out").write(b"a1\na2")
        first.serve()
        bench.pipe("web/1/out").write(b"b1\n")
        second.serve()
        bench.pipe("web/0/out").write(b" ends\n")
        first.serve()
        log = bench.read()
        if form == "raw":
            assert log == b"a1\nb1\na2 ends\n"
        else:
            assert (said(log, 0), said(log, 1), said(log)) == (b"a1\na2 ends\n", b"b1\n", b"a1\nb1\na2 ends\n")

    def test_500_replicas(self, bench: Bench) -> None:
        conduits = [shared(bench, number, format="prefix", max_size=20_000, max_files=0) for number in range(500)]
        for turn in range(3):
            for number, conduit in enumerate(conduits):
                bench.pipe(f"web/{number}/out").write(b"%d of %d\nbegun" % (turn, number))
                conduit.serve()
                bench.pipe(f"web/{number}/out").write(b"\n")
        for conduit in conduits:
            conduit.mark("r")
        log = b"".join(bench.segments())
        for number in (0, 1, 250, 499):
            assert said(log, number) == b"".join(b"%d of %d\nbegun\n" % (turn, number) for turn in range(3))
        assert len(log.splitlines()) == 3000
        assert all(len(each) <= 20_000 for each in bench.segments())

    def test_it_is_rotated_once_for_all(self, bench: Bench) -> None:
        conduits = [shared(bench, number, max_size=10, max_files=0) for number in range(2)]
        for number, conduit in enumerate(conduits):
            bench.pipe(f"web/{number}/out").write(b"12345678\n")
            conduit.serve()
        assert bench.segments() == [b"12345678\n", b"12345678\n"]

    def test_a_line_that_was_begun_by_splicing_is_ended_when_another_joins(self, bench: Bench) -> None:
        first = shared(bench, 0, shared=False)
        bench.pipe("web/0/out").write(b"prompt: ")
        first.serve()
        second = shared(bench, 1, shared=False)
        bench.pipe("web/1/out").write(b"hello\n")
        second.serve()
        bench.pipe("web/0/out").write(b"answer\n")
        first.serve()
        assert bench.read() == b"prompt: \nhello\nanswer\n"

    def test_alone_again_and_between_two_lines_it_is_spliced_again(self, bench: Bench) -> None:
        first, second = shared(bench, 0, shared=False), shared(bench, 1, shared=False)
        bench.pipe("web/0/out").write(b"one\ntw")
        first.serve()
        second.close()
        first.serve()
        assert Path(bench.plumbing.staged_path("web/0/out")).exists()
        bench.pipe("web/0/out").write(b"o\n")
        first.serve()
        assert not Path(bench.plumbing.staged_path("web/0/out")).exists()
        bench.pipe("web/0/out").write(b"three")
        first.serve()
        assert bench.read() == b"one\ntwo\nthree"

    def test_by_another_path_it_is_another_file_and_refused(self, bench: Bench) -> None:
        shared(bench, 0)
        (bench.log().parent / "b.log").hardlink_to(bench.log())
        other = bench.conduit("web/1/out", path=str(bench.log("b")), shared=True)
        assert other.complaint == (
            f"cannot write: {bench.log('b')} is the same file as {bench.log()}, the log of another stream"
        )


class TestChanges:
    def test_of_the_format_take_effect_with_the_next_line(self, bench: Bench) -> None:
        conduit = bench.conduit()
        for form in ("prefix", "raw", "json", "prefix", "raw"):
            bench.pipe().write(b"line\nbegun")
            conduit.serve()
            conduit.adopt(Settings(bench.message(format=form)))
            bench.pipe().write(b" and ended\n")
            conduit.serve()
        log = bench.read()
        assert log.count(b"line") == log.count(b"begun") == log.count(b" and ended") == 5
        assert not Path(bench.plumbing.staged_path("a")).exists()

    def test_of_the_path_take_what_is_begun_along(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"old\nbegun")
        conduit.adopt(Settings(bench.message(format="prefix", path=str(bench.log("new")))))
        bench.pipe().write(b" there\n")
        conduit.serve()
        assert (said(bench.read()), said(bench.read("new"))) == (b"old\n", b"begun there\n")

    def test_of_the_path_end_the_wait_for_a_full_disk(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"one\ntwo\n")
        fill_disk(monkeypatch, bench.log(), 10)
        conduit.serve()
        assert conduit.halted
        conduit.adopt(Settings(bench.message(format="prefix", path=str(bench.log("new")))))
        conduit.serve()
        assert (len(bench.read()), said(bench.read("new"))) == (10, b"one\ntwo\n")

    def test_of_the_bounds_take_effect_at_once_for_all(self, bench: Bench) -> None:
        first, second = shared(bench, 0), shared(bench, 1)
        message = {**second.settings.message, "max_size": 10, "mode": 0o600}
        second.adopt(Settings(message))
        bench.pipe("web/0/out").write(b"12345678\n12345678\n")
        first.drain()
        assert bench.segments() == [b"12345678\n", b"12345678\n"]
        assert bench.log().stat().st_mode & 0o777 == 0o600


class TestTrouble:
    def test_a_full_disk_leaves_half_a_line_which_is_finished_first(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not by whoever shares the file."""
        first, second = shared(bench, 0, format="prefix"), shared(bench, 1, format="prefix")
        bench.pipe("web/0/out").write(b"one\n")
        bench.pipe("web/1/out").write(b"two\n")
        with monkeypatch.context() as patch:
            fill_disk(patch, bench.log(), 20)
            for conduit in (first, second, first):
                conduit.serve()
                assert conduit.complaint == f"cannot write {bench.log()}: No space left on device"
            assert len(bench.read()) == 20
        second.serve()
        first.serve()
        assert said(bench.read()) == b"one\ntwo\n"
        assert first.complaint is second.complaint is None

    def test_a_full_disk_below_the_staged_lines_leaves_the_bytes_in_the_fifo(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"x\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", no_room)
            assert conduit.serve() == 0
            assert conduit.complaint == f"cannot write {bench.plumbing.staged_path('a')}: No space left on device"
        assert conduit.serve() == 2
        assert said(bench.read()) == b"x\n"

    def test_a_line_that_cannot_be_ended_now_is_ended_by_the_next_end(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"begun")
        conduit.serve()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", no_room)
            conduit.mark("r1")
            assert conduit.halted
        conduit.mark("r2")
        assert said(bench.read()) == b"begun\n"

    def test_a_path_too_long_to_be_written_down_is_told(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix", program="x" * 20_000)
        assert conduit.complaint == f"cannot write {bench.plumbing.staged_path('a')}: its path is too long"

    def test_staged_lines_where_none_can_be_are_trouble(self, bench: Bench) -> None:
        Path(bench.plumbing.staged_path("a")).parent.write_text("")
        assert "staged" in (bench.conduit(format="prefix").complaint or "")


class TestLettingGo:
    def test_what_has_begun_is_a_line_and_nothing_is_left(self, bench: Bench) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"one\nbegun")
        assert conduit.part()
        conduit.finish()
        assert said(bench.read()) == b"one\nbegun\n"
        assert not Path(bench.plumbing.staged_path("a")).exists()

    def test_on_a_full_disk_what_is_staged_waits(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit(format="prefix")
        bench.pipe().write(b"one\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", no_room)
            assert not conduit.part()
        conduit.serve()
        assert conduit.is_done
        assert said(bench.read()) == b"one\n"


class TestTakingOver:
    """What a pump finds that another one staged."""

    @pytest.fixture
    def cut_off(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Settings:
        """A pump was killed when 10 bytes of a line stood in the log."""
        conduit = bench.conduit("web/0/out", path=str(bench.log()), format="prefix", program="web")
        bench.pipe("web/0/out").write(b"one\n")
        with monkeypatch.context() as patch:
            fill_disk(patch, bench.log(), 10)
            conduit.serve()
        conduit.close()
        return conduit.settings

    @pytest.fixture
    def taken_over(self, bench: Bench) -> Iterator[Callable[[], Streams]]:
        """The next pump."""
        made: list[Streams] = []

        def take_over() -> Streams:
            made.append(Streams(Plumbing(str(bench.folder), bench.tidier), lambda *_: None))
            return made[-1]

        yield take_over
        for streams in made:
            streams.close()

    def test_it_is_finished_before_anybody_else_writes(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        bench.pipe("web/1/out").write(b"two\n")
        streams = taken_over()
        streams.open(
            Settings({**cut_off.message, "id": "web/1/out", "fifo": str(bench.fifo("web/1/out")), "replica": 1})
        )
        streams.drain(1)
        assert said(bench.read()) == b"one\ntwo\n"

    def test_by_its_own_settings_not_by_those_noted_since(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        (bench.folder / "fifos").mkdir()
        for name, content in (
            ("0.out", ""),
            ("0.out.to", json.dumps({**cut_off.message, "path": str(bench.log("new"))})),
        ):
            (bench.folder / "fifos" / name).write_text(content)
        taken_over()
        assert said(bench.read()) == b"one\n"
        assert not bench.log("new").exists()

    def test_also_when_the_file_cannot_be_opened_at_first(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        bench.log().rename(bench.folder / "aside")
        bench.log().mkdir()
        streams = taken_over()
        bench.log().rmdir()
        (bench.folder / "aside").rename(bench.log())
        streams.open(Settings({**cut_off.message, "id": "web/1/out", "replica": 1}))
        assert said(bench.read()) == b"one\n"

    def test_with_another_path_meanwhile_it_is_written_there(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        bench.log().rename(bench.folder / "aside")
        bench.log().mkdir()
        streams = taken_over()
        streams.open(Settings({**cut_off.message, "path": str(bench.log("new"))}))
        streams.retry()
        assert said(bench.read("new")) == b"one\n"

    def test_a_log_that_somebody_took_away_gets_all_of_the_portion(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        bench.log().rename(bench.folder / "aside")
        taken_over()
        assert said(bench.read()) == b"one\n"

    def test_a_log_in_which_something_else_stands_now_too(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        bench.log().write_bytes(b"changed by somebody")
        taken_over()
        first, line = bench.read().splitlines(keepends=True)
        assert (first, said(line)) == (b"changed by somebody\n", b"one\n")

    def test_a_record_that_a_power_cut_tore_has_all_staged_lines_written_again(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        with open(bench.plumbing.staged_path("web/0/out"), "r+b") as file:
            file.write(b"\xff" * 16)
        taken_over()
        torn, line = bench.read().splitlines(keepends=True)
        assert (len(torn), said(line)) == (11, b"one\n")

    def test_what_nobody_can_tell_apart_waits_for_its_stream_or_goes_with_the_sweep(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams]
    ) -> None:
        staged = Path(bench.plumbing.staged_path("web/0/out"))
        for name, content in (
            ("rubbish", b"?"),
            ("list", b"\0" * 64 + b"[]\n"),
            ("half", b"\0" * 64 + b'{"id":"x"}\n'),
        ):
            (staged.parent / name).write_bytes(content)
        (staged.parent / "folder").mkdir()
        streams = taken_over()
        assert list(streams.conduits) == ["web/0/out"]
        streams.sweep(set())
        assert [path.name for path in staged.parent.iterdir()] == ["folder"]
        assert said(bench.read()) == b"one\n"

    def test_a_stream_that_went_meanwhile_is_written_to_its_end_when_there_is_room(
        self, bench: Bench, cut_off: Settings, taken_over: Callable[[], Streams], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            fill_disk(patch, bench.log(), 0)
            streams = taken_over()
            streams.sweep(set())
            streams.retry()
            assert list(streams.parted) == ["web/0/out"]
            assert streams.retry_at
        streams.retry()
        assert said(bench.read()) == b"one\n"
        assert not streams.parted


# ---- kills ---------------------------------------------------------------------------------------------------------


LONG = b"L" * (LINE_BYTES + 9)
# The line that has begun is as long as those before it. When it takes their place in the staging, only the record of
# the move says that it is another one: by its length it could be what is written already.
TEXTS = (b"a1\na2\nbegins", b"b1\n" + LONG + b"\nb3\n")
AT_ONCE = 60_000  # what fits into a pipe; the rest is written when that has been moved


class Lives:
    """Pumps that come and go: two replicas write to one log, the FIFOs are held, as the keeper does it."""

    def __init__(self, bench: Bench, form: str, size: int) -> None:
        self.bench = bench
        self.messages = [
            bench.message(
                f"web/{replica}/out", path=str(bench.log()), replica=replica, format=form, shared=True, max_size=size,
                max_files=0,
            )
            for replica in range(len(TEXTS))
        ]  # fmt: skip
        self.write(0, AT_ONCE)

    def write(self, start: int, end: int | None = None) -> None:
        for message, text in zip(self.messages, TEXTS, strict=True):
            self.bench.pipe(message["id"]).write(text[start:end])

    def live(self) -> None:
        """One pump, as far as it comes: what its predecessor staged, then the controller's words, then all bytes."""
        streams = Streams(Plumbing(str(self.bench.folder), self.bench.tidier), lambda *_: None)
        try:
            for message in self.messages:
                streams.open(Settings(message))
            streams.drain(5)
            for message in self.messages:
                streams.mark(message["id"], "run")
        finally:
            streams.close()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("form", "size"), [("prefix", 70_000), ("json", 0), ("raw", 100)])
def test_killed_at_any_call_each_line_stands_there_once(
    tmp_path: Path, form: str, size: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_TRIMMED_FROM_BYTES", 5)
    at, struck = 0, True
    while struck:
        at += 1
        (tmp_path / str(at)).mkdir()
        with closing(Bench(tmp_path / str(at))) as bench:
            made = Lives(bench, form, size)
            with fated(at, moment) as fate:
                made.live()
            struck = fate.struck
            with fated(at // 2, moment):  # and once more while it mends that
                made.live()
            made.live()
            made.write(AT_ONCE)
            made.live()
            log = b"".join(bench.segments())
            assert all(each.endswith(b"\n") for each in bench.segments() if each), at
            if form == "raw":
                lines = [b"", b"a1", b"a2", b"begins", b"b1", LONG[: AT_ONCE - 3], LONG[AT_ONCE - 3 :], b"b3"]
                assert sorted(log.split(b"\n")) == sorted(lines), at
            else:
                assert said(log, 0) == TEXTS[0] + b"\n", at
                assert said(log, 1) == TEXTS[1][:AT_ONCE] + b"\n" + TEXTS[1][AT_ONCE:], at
    assert at > 20, "there were few calls to be killed at"
