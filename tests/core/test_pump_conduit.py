"""A conduit moves every byte once, closes segments at line ends, and complains instead of failing."""

import errno
import fcntl
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import folders
from reconciler.pumping import conduit as conduit_module
from reconciler.pumping import logfile, plumbing
from reconciler.pumping.conduit import LONG_LINE_BYTES, PIPE_BYTES, Conduit
from reconciler.pumping.plumbing import Settings
from support.descriptors import descriptors
from support.pump_rig import Bench, closing

STRANGER = 65534


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def failing(error: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


class TestMoving:
    def test_bytes_go_to_the_file_as_they_are(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"one\n\0\xff two")
        assert conduit.serve() == 10
        assert bench.read() == b"one\n\0\xff two"
        assert conduit.serve() == 0

    def test_a_log_that_is_there_is_continued(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().write_bytes(b"before\n")
        conduit = bench.conduit()
        bench.pipe().write(b"after\n")
        conduit.serve()
        assert bench.read() == b"before\nafter\n"

    def test_missing_folders_are_made_and_the_mode_is_the_wanted_one_whatever_the_umask(self, bench: Bench) -> None:
        before = os.umask(0o077)
        try:
            bench.conduit(path=str(bench.folder / "x/y/a.log"), mode=0o644)
        finally:
            os.umask(before)
        assert (bench.folder / "x/y/a.log").stat().st_mode & 0o777 == 0o644

    def test_a_portion_is_bounded_so_that_others_have_their_turn(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"x" * 50_000)
        assert conduit.serve(budget=20_000) == 20_000
        assert conduit.serve(budget=100_000) == 30_000

    def test_draining_ends_although_the_writer_does_not(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit()
        served = []

        def always_more(self: Conduit, budget: int = 0) -> int:
            served.append(1)
            return PIPE_BYTES

        monkeypatch.setattr(Conduit, "serve", always_more)
        conduit.drain()
        assert len(served) == conduit_module.DRAIN_BYTES // PIPE_BYTES

    def test_only_a_busy_stream_gets_a_large_pipe(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"line\n")
        conduit.serve()
        assert fcntl.fcntl(bench.pipe().fd, fcntl.F_GETPIPE_SZ) == 65536
        bench.pipe().write(b"x" * 60_000)
        conduit.serve()
        assert fcntl.fcntl(bench.pipe().fd, fcntl.F_GETPIPE_SZ) == PIPE_BYTES

    def test_a_kernel_that_allows_no_large_pipe_is_no_trouble(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"x" * 60_000)
        monkeypatch.setattr(fcntl, "fcntl", failing(errno.EPERM))
        assert conduit.serve() == 60_000
        assert conduit.complaint is None

    def test_a_fifo_without_writers_gives_nothing_and_is_no_trouble(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=1000)
        bench.pipes.pop("a").close()
        assert conduit.serve() == 0
        assert not conduit.halted


class TestRotation:
    def test_a_segment_ends_at_the_last_line_end_that_fits(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=10)
        bench.pipe().write(b"aaaa\nbbbb\ncc\ndddddd\n")
        conduit.drain()
        assert bench.segments() == [b"aaaa\nbbbb\n", b"cc\ndddddd\n"]

    def test_the_open_file_is_closed_only_when_more_comes(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=10)
        bench.pipe().write(b"aaaa\nbbbb\n")
        conduit.drain()
        assert bench.segments() == [b"aaaa\nbbbb\n"]
        bench.pipe().write(b"c\n")
        conduit.drain()
        assert bench.segments() == [b"aaaa\nbbbb\n", b"c\n"]

    def test_numbers_go_on_after_those_that_are_there(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().with_name("a.log.000041").write_bytes(b"old\n")
        conduit = bench.conduit(max_size=3)
        bench.pipe().write(b"x\ny\n")
        conduit.drain()
        assert bench.log().with_name("a.log.000042").read_bytes() == b"x\n"

    def test_a_line_longer_than_a_segment_gets_one_of_its_own(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=10)
        bench.pipe().write(b"a\n" + b"L" * 40 + b"\nb\nc\n")
        conduit.drain()
        assert bench.segments() == [b"a\n", b"L" * 40 + b"\n", b"b\nc\n"]

    def test_a_line_whose_end_comes_later_is_finished_over_the_limit(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=10)
        bench.pipe().write(b"12345678")
        conduit.drain()
        bench.pipe().write(b"9abc\nx\n")
        conduit.drain()
        assert bench.segments() == [b"123456789abc\n", b"x\n"]

    def test_a_line_without_end_is_cut_somewhere(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=10)
        for _ in range(LONG_LINE_BYTES // 50_000 + 2):
            bench.pipe().write(b"x" * 50_000)
            conduit.drain()
        sizes = [len(segment) for segment in bench.segments()]
        assert len(sizes) == 2
        assert LONG_LINE_BYTES <= sizes[0] <= LONG_LINE_BYTES + 100_000

    def test_far_from_the_limit_nothing_is_looked_at(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit(max_size=1_000_000)
        monkeypatch.setattr(conduit_module, "_waiting_bytes", failing(errno.EIO))
        bench.pipe().write(b"x\n" * 1000)
        assert conduit.serve() == 2000

    def test_when_the_peek_shows_less_than_fits_all_of_it_is_moved(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it is when the bytes lie in many small buffers."""
        conduit = bench.conduit(max_size=10)
        peek = bench.plumbing.peek
        monkeypatch.setattr(bench.plumbing, "peek", lambda fifo, count: peek(fifo, min(count, 3)))
        bench.pipe().write(b"aaaa\nbbbb\ncc\n")
        conduit.drain()
        assert b"".join(bench.segments()) == b"aaaa\nbbbb\ncc\n"
        assert all(segment.endswith(b"\n") for segment in bench.segments())

    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_comes_in_whatever_portions_segments_hold_it_once_and_end_at_lines(
        self, bench: Bench, seed: int
    ) -> None:
        dice = random.Random(seed)
        limit = dice.choice([20, 100, 5000, 70_000])
        conduit = bench.conduit(max_size=limit)
        written, longest = b"", 0
        for _ in range(60):
            line = bytes(dice.choices(b"abc \0\xff", k=dice.choice([0, 3, 30, 3000]))) + b"\n"
            longest = max(longest, len(line))
            for part in (line[: len(line) // 2], line[len(line) // 2 :]):
                bench.pipe().write(part)
                written += part
                if dice.random() < 0.5:
                    conduit.serve(dice.choice([10, 1000, 100_000]))
            if dice.random() < 0.1:  # a pump that was killed, and its successor
                conduit.close()
                conduit = bench.conduit(max_size=limit)
        while conduit.serve():
            pass
        assert b"".join(bench.segments()) == written
        assert all(segment.endswith(b"\n") for segment in bench.segments())
        assert max(map(len, bench.segments())) <= limit + longest

    def test_where_renaming_is_impossible_the_file_grows_on_with_a_complaint(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(max_size=5)
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", failing(errno.EACCES))
            bench.pipe().write(b"aaaa\nbbbb\ncccc\n")
            conduit.drain()
        assert bench.read() == b"aaaa\nbbbb\ncccc\n"
        assert conduit.complaint == f"cannot rotate {bench.log()}: Permission denied; it grows on"
        assert not conduit.halted
        monkeypatch.setattr(logfile, "_clock", lambda: 1e12)  # later
        bench.pipe().write(b"dddd\n")
        conduit.drain()
        assert bench.segments() == [b"aaaa\nbbbb\ncccc\n", b"dddd\n"]
        assert conduit.complaint is None

    def test_a_log_that_somebody_moved_is_not_renamed_but_left(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=5)
        bench.pipe().write(b"aaaa\n")
        conduit.drain()
        bench.log().rename(bench.folder / "moved")
        bench.pipe().write(b"bbbb\n")
        conduit.drain()
        assert (bench.folder / "moved").read_bytes() == b"aaaa\n"
        assert bench.segments() == [b"bbbb\n"]


class TestWhatOthersDoToTheFile:
    def test_removed_it_is_made_again_even_with_its_folder(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.log().unlink()
        bench.log().parent.rmdir()
        bench.pipe().write(b"x\n")
        conduit.serve()
        assert bench.read() == b"x\n"

    def test_truncated_it_is_written_from_its_start_without_a_hole(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"before\n")
        conduit.serve()
        os.truncate(bench.log(), 0)
        bench.pipe().write(b"after\n")
        conduit.serve()
        assert bench.read() == b"after\n"
        assert bench.index() == ["0 W"]

    def test_what_somebody_adds_stays(self, bench: Bench) -> None:
        conduit = bench.conduit()
        with bench.log().open("ab") as file:
            file.write(b"foreign\n")
        bench.pipe().write(b"x\n")
        conduit.serve()
        assert bench.read() == b"foreign\nx\n"

    def test_after_reopen_the_file_that_has_the_path_is_written(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.log().rename(bench.folder / "moved")
        conduit.reopen()
        bench.pipe().write(b"x\n")
        conduit.serve()
        assert bench.read() == b"x\n"


class TestTrouble:
    def test_a_symbolic_link_is_refused(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        (bench.folder / "secret").write_bytes(b"")
        bench.log().symlink_to(bench.folder / "secret")
        conduit = bench.conduit()
        bench.pipe().write(b"x\n")
        assert conduit.serve() == 0
        assert conduit.halted
        assert conduit.complaint == f"cannot write: {bench.log()} is a symbolic link"
        assert (bench.folder / "secret").read_bytes() == b""

    def test_what_is_no_regular_file_is_refused(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        os.mkfifo(bench.log())
        assert bench.conduit().complaint == f"cannot write: {bench.log()} is not a regular file"

    def test_a_folder_in_the_place_of_the_log_is_a_complaint(self, bench: Bench) -> None:
        bench.log().mkdir(parents=True)
        assert bench.conduit().complaint == f"cannot write {bench.log()}: Is a directory"

    def test_a_file_in_the_place_of_a_folder_is_a_complaint(self, bench: Bench) -> None:
        bench.log().parent.write_bytes(b"")
        assert bench.conduit().complaint == f"cannot write {bench.log()}: Not a directory"

    def test_what_is_no_fifo_is_refused(self, bench: Bench) -> None:
        (bench.folder / "plain").write_bytes(b"")
        conduit = bench.conduit(fifo=str(bench.folder / "plain"))
        assert conduit.complaint == f"cannot write: {bench.folder / 'plain'} is not a FIFO"

    def test_another_program_with_the_same_log_is_refused_until_the_first_lets_go(self, bench: Bench) -> None:
        first = bench.conduit()
        second = bench.conduit("b", path=str(bench.log("a")))
        assert second.complaint == (
            f"cannot write: {bench.log()} is the log of another Program; give each a path of its own"
        )
        first.close()
        bench.pipe("b").write(b"x\n")
        assert second.serve() == 2
        assert second.complaint is None

    def test_a_full_disk_leaves_the_bytes_in_the_fifo(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"x\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", failing(errno.ENOSPC))
            assert conduit.serve() == 0
        assert conduit.halted
        assert conduit.complaint == f"cannot write {bench.log()}: No space left on device"
        assert conduit.serve() == 2
        assert not conduit.halted
        assert conduit.complaint is None

    def test_streams_leave_the_last_descriptors_to_what_all_of_them_need(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = len(descriptors())
        with monkeypatch.context() as patch:
            patch.setattr(folders, "SPARE_DESCRIPTORS", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            conduit = bench.conduit()
            assert conduit.halted
            assert (conduit.complaint or "").endswith(": Too many open files")
            assert len(descriptors()) <= before + 1, "nothing is left open but the test's own FIFO"
        bench.pipe().write(b"x\n")
        assert conduit.serve() == 2
        assert conduit.complaint is None

    def test_a_fifo_for_which_no_descriptor_is_left_is_opened_later(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept: list[int] = []

        def keep(fd: int) -> int:
            kept.append(fd)
            if len(kept) == 2:  # the log had one
                os.close(fd)
                failing(errno.EMFILE)()
            return fd

        with monkeypatch.context() as patch:
            patch.setattr(folders, "keep", keep)
            conduit = bench.conduit()
            assert conduit.halted
        bench.pipe().write(b"x\n")
        assert conduit.serve() == 2

    def test_without_a_limit_every_descriptor_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
        assert folders.keep(7) == 7

    def test_a_new_file_that_cannot_be_opened_after_rotation_halts_and_loses_nothing(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit(max_size=5)
        bench.pipe().write(b"aaaa\nbbbb\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "lseek", failing(errno.EIO))
            conduit.serve()
        assert conduit.halted
        conduit.drain()
        assert bench.segments() == [b"aaaa\n", b"bbbb\n"]

    def test_a_path_that_comes_and_goes_is_given_up(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def open_or_not(path: str, flags: int, mode: int = 0) -> int:
            raise FileExistsError if flags & os.O_CREAT else FileNotFoundError

        monkeypatch.setattr(folders, "open_file", open_or_not)
        assert bench.conduit().complaint == f"cannot write: {bench.log()} comes and goes"

    def test_a_peek_that_fails_halts(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit(max_size=2)
        bench.pipe().write(b"x\ny\n")
        monkeypatch.setattr(bench.plumbing, "_tee", lambda *_: -1)
        monkeypatch.setattr(plumbing.ctypes, "get_errno", lambda: errno.EIO)
        conduit.serve()
        assert conduit.complaint == f"cannot write {bench.log()}: Input/output error"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file or folder somebody else's."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        else:
            other = os.geteuid() + 1  # then what is ours is a stranger's, but for what comes after
            monkeypatch.setattr(os, "geteuid", lambda: other)

    return give


class TestOthersInTheSameFolder:
    """A daemon that is root writes to paths whose folders belong to the users of its Programs, or to everybody."""

    def test_a_file_that_a_stranger_put_there_is_refused(self, bench: Bench, stranger: Callable[[Path], None]) -> None:
        bench.log().parent.mkdir()
        bench.log().touch(0o666)
        stranger(bench.log())
        complaint = bench.conduit(uid=STRANGER + 1).complaint
        owner = bench.log().stat().st_uid
        assert complaint == (
            f"cannot write: {bench.log()} belongs to user {owner}, who is not the user of its processes"
        )

    def test_a_file_of_its_own_user_is_written(self, bench: Bench, stranger: Callable[[Path], None]) -> None:
        bench.log().parent.mkdir()
        bench.log().touch()
        stranger(bench.log())
        assert bench.conduit(uid=bench.log().stat().st_uid).complaint is None

    def test_a_file_of_whom_the_folder_belongs_to_is_written(
        self, bench: Bench, stranger: Callable[[Path], None]
    ) -> None:
        bench.log().parent.mkdir()
        bench.log().touch()
        for path in (bench.log(), bench.log().parent):
            stranger(path)
        assert bench.conduit().complaint is None

    def test_a_file_of_ours_that_somebody_gave_this_name_is_refused(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().parent.chmod(0o1777)
        (bench.folder / "secret").touch()
        bench.log().hardlink_to(bench.folder / "secret")
        complaint = bench.conduit().complaint
        assert complaint == (
            f"cannot write: {bench.log()} has other names, and others than us may have given it this one"
        )

    def test_other_names_that_only_we_can_have_given_are_no_matter(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().touch()
        (bench.folder / "backup").hardlink_to(bench.log())
        assert bench.conduit().complaint is None

    def test_a_folder_that_was_exchanged_for_a_link_is_not_written_to(
        self, bench: Bench, stranger: Callable[[Path], None]
    ) -> None:
        """Neither at first, nor when the log is to be rotated, nor by the index."""
        conduit = bench.conduit(max_size=5)
        bench.pipe().write(b"aaaa\n")
        conduit.serve()
        (bench.folder / "secret").mkdir()
        bench.log().parent.rename(bench.folder / "aside")
        (bench.folder / "log").symlink_to("secret")
        stranger(bench.folder / "log")
        bench.pipe().write(b"bbbb\n")
        conduit.serve()
        conduit.mark("r1")
        assert list((bench.folder / "secret").iterdir()) == []
        assert "log on the way to" in (conduit.complaint or "")
        assert "is a symbolic link that belongs to user" in (bench.conduit("b").complaint or "")
        assert list((bench.folder / "secret").iterdir()) == []


class TestSettings:
    def test_another_path_takes_what_comes_from_now_on(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"old\n")
        conduit.adopt(Settings(bench.message(path=str(bench.log("new")))))
        bench.pipe().write(b"new\n")
        conduit.serve()
        assert (bench.read(), bench.read("new")) == (b"old\n", b"new\n")

    def test_another_mode_takes_effect_at_once(self, bench: Bench) -> None:
        conduit = bench.conduit(mode=0o640)
        conduit.adopt(Settings(bench.message(mode=0o600)))
        assert bench.log().stat().st_mode & 0o777 == 0o600

    def test_a_mode_that_cannot_be_set_is_left(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit(mode=0o640)
        monkeypatch.setattr(os, "fchmod", failing(errno.EPERM))
        conduit.adopt(Settings(bench.message(mode=0o600)))
        assert conduit.complaint is None

    def test_the_mode_of_a_file_that_is_there_is_left_as_somebody_made_it(self, bench: Bench) -> None:
        bench.log().parent.mkdir()
        bench.log().touch(0o600)
        bench.conduit(mode=0o644)
        assert bench.log().stat().st_mode & 0o777 == 0o600

    def test_the_same_settings_change_nothing(self, bench: Bench) -> None:
        conduit = bench.conduit()
        log = bench.log_of(conduit)
        fds = (conduit.fifo, log.fd)
        conduit.adopt(Settings(bench.message()))
        assert (conduit.fifo, log.fd) == fds

    def test_a_fifo_that_was_made_anew_is_the_one_to_read(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"old\n")
        old = bench.pipes.pop("a")
        old.path.unlink()
        bench.pipe().write(b"new\n")
        conduit.adopt(Settings(bench.message()))
        old.close()
        conduit.serve()
        assert bench.read() == b"old\nnew\n"

    def test_a_fifo_that_is_gone_is_waited_for(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.fifo("a").unlink()
        conduit.adopt(Settings(bench.message()))
        assert conduit.complaint == f"cannot write {bench.fifo('a')}: No such file or directory"

    def test_a_conduit_without_a_file_adopts_a_mode_for_later(self, bench: Bench) -> None:
        bench.log().parent.write_bytes(b"")
        conduit = bench.conduit()
        bench.log().parent.unlink()
        conduit.adopt(Settings(bench.message(mode=0o600)))
        assert bench.log().stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("path", ["a\0b", "\ud800"])
    def test_what_can_be_no_path_is_a_value_error(self, bench: Bench, path: str) -> None:
        with pytest.raises(ValueError, match=r"NUL|surrogate"):
            Settings(bench.message(path=path))


class TestIndex:
    def test_the_first_bytes_and_those_after_a_second_get_a_record(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conduit = bench.conduit()
        for wall in (1000.0, 1000.9, 1001.0, 999.0):
            monkeypatch.setattr(logfile, "wall", lambda wall=wall: wall)
            bench.pipe().write(b"x\n")
            conduit.serve()
        lines = bench.log().with_name("a.log.idx").read_text().splitlines()
        assert lines == ["0 1000.000", "4 1001.000", "6 999.000"]

    def test_a_fast_stream_gets_some_in_between(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        conduit = bench.conduit()
        for wall in (1000.0, 1000.1, 1000.2, 1000.22):
            monkeypatch.setattr(logfile, "wall", lambda wall=wall: wall)
            bench.pipe().write(b"x" * 40_000)
            conduit.serve()
        assert bench.index() == ["0 W", "80000 W"]

    def test_the_end_of_a_run_is_noted_where_it_ended(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"first\n")
        conduit.mark("run-1")
        bench.pipe().write(b"second\n")
        conduit.mark("run 2")
        assert bench.index() == ["0 W", "6 W end run-1", "13 W end run_2"]

    def test_runs_that_wrote_nothing_leave_no_record(self, bench: Bench) -> None:
        conduit = bench.conduit()
        bench.pipe().write(b"x\n")
        for number in range(100):
            conduit.mark(f"r{number}")
        assert bench.index() == ["0 W", "2 W end r0"]

    def test_a_run_whose_log_cannot_be_written_is_not_noted(self, bench: Bench) -> None:
        bench.log().mkdir(parents=True)
        bench.conduit().mark("r")
        assert not bench.log().with_name("a.log.idx").exists()

    def test_it_goes_with_its_segment(self, bench: Bench) -> None:
        conduit = bench.conduit(max_size=7)
        bench.pipe().write(b"first\nsecond\n")
        conduit.mark("r")
        assert bench.index("a.log.000001") == ["0 W"]
        assert bench.index() == ["0 W", "7 W end r"]
