"""The files of a log: names carry all state; tidying keeps what is wanted and never harms what is being written."""

import errno
import gzip
import os
import threading
from pathlib import Path

import pytest

from reconciler import segments
from reconciler.segments import Index, Tidier, closed_segments, next_number, segment_path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


def put(log: Path, *names: str) -> None:
    """Files beside the log; each holds its name."""
    for name in names:
        log.with_name(name).write_bytes(name.encode())


def names(log: Path) -> list[str]:
    return sorted(each.name for each in log.parent.iterdir())


def wanted(log: Path, max_files: int, *, compress: bool) -> Tidier:
    """A tidier that was asked, and whose threads are the test."""
    tidier = Tidier()
    tidier._start = lambda name, work: None  # type: ignore[method-assign]
    tidier._requests.put((str(log), max_files, compress))
    return tidier


def tidy(log: Path, max_files: int, compress: bool = False) -> Tidier:
    """A tidier that has done all it was asked for, without a thread."""
    tidier = wanted(log, max_files, compress=compress)
    tidier.remove()
    tidier.compress()
    return tidier


class TestNames:
    def test_segments_are_found_oldest_first_and_nothing_else_is_taken_for_one(self, log: Path) -> None:
        put(log, "a.log", "a.log.idx", "a.log.000010", "a.log.000009.gz", "a.log.000009.idx", "a.log.1234567")
        put(
            log,
            "a.log.000011.gz.tmp",
            "a.log.12",
            "a.log.old",
            "b.log.000001",
            "a.log-000001",
            "a.log.00000x",
            "a.logs",
        )
        found = [(each.number, each.compressed) for each in closed_segments(str(log))]
        assert found == [(9, True), (10, False), (1234567, False)]

    def test_a_number_that_is_there_twice_counts_once_and_compressed(self, log: Path) -> None:
        put(log, "a.log.000001", "a.log.000001.gz")
        assert [each.path for each in closed_segments(str(log))] == [f"{log}.000001.gz"]

    def test_the_first_number_is_one(self, log: Path) -> None:
        assert next_number(str(log)) == 1

    def test_the_next_is_one_more_than_the_greatest(self, log: Path) -> None:
        put(log, "a.log.000007", "a.log.000002")
        assert next_number(str(log)) == 8

    def test_numbers_outgrow_their_six_digits(self, log: Path) -> None:
        assert segment_path("a", 1_000_000) == "a.1000000"

    def test_a_directory_that_is_not_there_holds_no_segments(self, log: Path) -> None:
        assert closed_segments(str(log / "x" / "y")) == []

    def test_a_log_without_a_directory_lies_in_the_current_one(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(log.parent)
        put(log, "a.log.000003")
        assert next_number("a.log") == 4


class TestPruning:
    def test_the_oldest_go_with_their_indexes_until_max_files_are_left_the_open_one_included(self, log: Path) -> None:
        put(log, "a.log", "a.log.000001", "a.log.000001.idx", "a.log.000002.gz", "a.log.000002.idx", "a.log.000003")
        put(log, "a.log.000004", "a.log.000004.idx")
        tidy(log, 3)
        assert names(log) == ["a.log", "a.log.000003", "a.log.000004", "a.log.000004.idx"]

    def test_zero_keeps_all(self, log: Path) -> None:
        put(log, *(f"a.log.{number:06d}" for number in range(1, 30)))
        tidy(log, 0)
        assert len(names(log)) == 29

    def test_one_keeps_the_open_file_alone(self, log: Path) -> None:
        put(log, "a.log", "a.log.000001")
        tidy(log, 1)
        assert names(log) == ["a.log"]

    def test_other_logs_in_the_directory_are_left_alone(self, log: Path) -> None:
        put(log, "a.log.000001", "a.log.000002", "b.log.000001", "a.log2.000001")
        tidy(log, 2)
        assert names(log) == ["a.log.000002", "a.log2.000001", "b.log.000001"]

    def test_logs_of_one_directory_are_tidied_together(self, log: Path) -> None:
        put(log, "a.log.000001", "b.log.000001")
        tidier = Tidier()
        for name in ("a.log", "b.log"):
            tidier._requests.put((str(log.with_name(name)), 1, False))
        tidier.remove()
        assert names(log) == []

    def test_a_vanished_directory_harms_nothing(self, log: Path) -> None:
        tidy(log / "gone" / "a.log", 1)


class TestCompressing:
    def test_closed_segments_are_compressed_and_keep_mode_and_index(self, log: Path) -> None:
        put(log, "a.log", "a.log.000001", "a.log.000001.idx")
        log.with_name("a.log.000001").chmod(0o604)
        tidy(log, 5, compress=True)
        assert names(log) == ["a.log", "a.log.000001.gz", "a.log.000001.idx"]
        assert gzip.decompress(log.with_name("a.log.000001.gz").read_bytes()) == b"a.log.000001"
        assert log.with_name("a.log.000001.gz").stat().st_mode & 0o777 == 0o604

    def test_a_large_one_is_compressed_in_blocks(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(segments, "_BLOCK_BYTES", 10)
        log.with_name("a.log.000001").write_bytes(b"0123456789" * 9 + b"x")
        tidy(log, 5, compress=True)
        assert gzip.decompress(log.with_name("a.log.000001.gz").read_bytes()) == b"0123456789" * 9 + b"x"

    def test_without_compression_they_are_left(self, log: Path) -> None:
        put(log, "a.log.000001")
        tidy(log, 5)
        assert names(log) == ["a.log.000001"]

    def test_what_a_killed_pump_left_unfinished_is_done_again(self, log: Path) -> None:
        put(log, "a.log.000001", "a.log.000001.gz.tmp", "a.log.000007.gz.tmp")
        tidy(log, 5, compress=True)
        assert names(log) == ["a.log.000001.gz"]

    def test_what_is_whole_beside_its_compressed_self_goes(self, log: Path) -> None:
        put(log, "a.log.000001", "a.log.000001.gz")
        tidy(log, 5, compress=True)
        assert log.with_name("a.log.000001.gz").read_bytes() == b"a.log.000001.gz"
        assert names(log) == ["a.log.000001.gz"]

    def test_a_full_disk_leaves_the_segment_readable_as_it_is(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(fd: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        put(log, "a.log.000001")
        monkeypatch.setattr(os, "fsync", fail)
        tidy(log, 5, compress=True)
        assert names(log) == ["a.log.000001"]

    def test_a_link_in_the_place_of_a_segment_is_not_followed(self, log: Path) -> None:
        put(log, "secret")
        log.with_name("a.log.000001").symlink_to(log.with_name("secret"))
        tidy(log, 5, compress=True)
        assert names(log) == ["a.log.000001", "secret"]

    def test_a_segment_that_is_removed_meanwhile_does_not_come_back(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A large segment takes its time; removing does not wait for it, nor does it take what is being written."""
        put(log, "a.log", "a.log.000001", "a.log.000001.idx")
        tidier = wanted(log, 5, compress=True)
        tidier.remove()
        real_read, seen = os.read, []

        def read_and_remove(fd: int, count: int) -> bytes:
            tidier._requests.put((str(log), 5, True))
            tidier.remove()
            seen.append(names(log))
            put(log, "a.log.000002", "a.log.000003")
            tidier._requests.put((str(log), 3, False))
            tidier.remove()
            return real_read(fd, count)

        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read_and_remove)
            tidier.compress()
        assert "a.log.000001.gz.tmp" in seen[0]
        assert not [name for name in names(log) if name.startswith("a.log.000001")]

    def test_a_segment_that_is_gone_before_its_turn_is_passed_over(self, log: Path) -> None:
        put(log, "a.log", "a.log.000001", "a.log.000002")
        tidier = wanted(log, 5, compress=True)
        tidier.remove()
        log.with_name("a.log.000001").unlink()
        tidier.compress()
        assert names(log) == ["a.log", "a.log.000002.gz"]

    def test_where_no_thread_is_to_be_had_the_next_request_tries_again(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        put(log, "a.log", "a.log.000001")
        tidier = Tidier()
        monkeypatch.setattr(threading.Thread, "start", fail)
        tidier.request(str(log), 5, True)
        tidier.request(str(log), 5, True)
        assert not tidier._threads
        tidier.remove()
        tidier.compress()
        assert names(log) == ["a.log", "a.log.000001.gz"]

    def test_a_request_starts_what_does_it_once(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(log, "a.log.000001", "a.log.000002")
        started: list[str] = []
        monkeypatch.setattr(Tidier, "_remove_for_ever", lambda tidier: started.append("remove"))
        monkeypatch.setattr(Tidier, "_compress_for_ever", lambda tidier: started.append("compress"))
        tidier = Tidier()
        tidier.request(str(log), 5, False)
        tidier.request(str(log), 5, True)
        tidier.remove()
        for thread in tidier._threads.values():
            thread.join()
        assert sorted(started) == ["compress", "remove"]


class TestIndex:
    def test_a_torn_last_record_does_not_spoil_the_next(self, log: Path) -> None:
        log.with_name("a.log.idx").write_text("0 17")
        Index(str(log), 0o640).note(5, 20.0)
        assert log.with_name("a.log.idx").read_text() == "0 17\n5 20.000\n"

    def test_a_record_that_the_disk_did_not_take_whole_is_followed_by_an_empty_line(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = Index(str(log), 0o640)
        real_write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, data: real_write(fd, data[:3]))
            index.note(0, 10.0)
        index.note(1, 20.0)
        index.note(2, 30.0)
        assert log.with_name("a.log.idx").read_text() == "0 1\n1 20.000\n2 30.000\n"

    def test_what_cannot_be_written_is_left_out(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "full")

        index = Index(str(log), 0o640)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            index.note(0, 10.0)
        index.note(1, 20.0)
        assert log.with_name("a.log.idx").read_text() == "1 20.000\n"

    def test_a_link_in_its_place_is_not_followed(self, log: Path) -> None:
        log.with_name("a.log.idx").symlink_to(log.with_name("secret"))
        Index(str(log), 0o640).note(0, 10.0)
        assert names(log) == ["a.log.idx"]

    def test_a_segment_whose_index_is_gone_is_closed_without_one(self, log: Path) -> None:
        Index(str(log), 0o640).rename(segment_path(str(log), 1))
        assert names(log) == []

    def test_an_index_left_by_a_rotation_cut_short_goes_to_its_segment(self, log: Path) -> None:
        put(log, "a.log", "a.log.idx", "a.log.000001", "a.log.000001.idx", "a.log.000002")
        Index(str(log), 0o640).settle()
        assert names(log) == ["a.log", "a.log.000001", "a.log.000001.idx", "a.log.000002", "a.log.000002.idx"]

    def test_an_index_of_a_removed_log_goes(self, log: Path) -> None:
        put(log, "a.log", "a.log.idx", "a.log.000001", "a.log.000001.idx")
        Index(str(log), 0o640).settle()
        assert names(log) == ["a.log", "a.log.000001", "a.log.000001.idx"]

    def test_a_new_log_without_an_index_has_nothing_to_settle(self, log: Path) -> None:
        Index(str(log), 0o640).settle()
        assert names(log) == []
