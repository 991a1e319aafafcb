"""Reading logs: the right lines, once each, whatever the pump does to the files meanwhile."""

import asyncio
import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.logfiles import LogFile, LogOptions, cursor, log_files, read_logs, reading, spans
from reconciler.adapters.logfiles.cursor import Cursor, Place, open_segment, snapshot
from reconciler.pumping import framing
from reconciler.segments import Tidier
from support.pump_rig import Bench, closing


class Log:
    """A log written by hand: segments with numbers, the open file, and their indexes."""

    def __init__(self, folder: Path, name: str = "a") -> None:
        self.path = folder / f"{name}.log"

    def closed(self, number: int, content: bytes, index: str = "", compressed: bool = False) -> None:
        plain = f"{self.path}.{number:06d}"
        if compressed:
            Path(plain + ".gz").write_bytes(gzip.compress(content))
        else:
            Path(plain).write_bytes(content)
        if index:
            Path(plain + ".idx").write_text(index)

    def open(self, content: bytes, index: str = "") -> None:
        self.path.write_bytes(content)
        if index:
            self.path.with_name(self.path.name + ".idx").write_text(index)

    def add(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)

    def rotate(self, number: int) -> None:
        self.path.rename(f"{self.path}.{number:06d}")

    def compress(self, number: int) -> None:
        plain = Path(f"{self.path}.{number:06d}")
        self.closed(number, plain.read_bytes(), compressed=True)
        plain.unlink()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


async def read(*logs: Log, **options: Any) -> bytes:
    """All that is printed without following."""
    files = [LogFile(f"web/{number}", str(log.path)) for number, log in enumerate(logs)]
    return b"".join([chunk async for chunk in read_logs(lambda: files, LogOptions(**options), asyncio.Event())])


def lines(count: int, word: str = "line") -> bytes:
    return b"".join(f"{word} {number}\n".encode() for number in range(count))


class TestWhole:
    async def test_segments_are_one_stream_compressed_or_not(self, log: Log) -> None:
        log.closed(7, b"one\n", compressed=True)
        log.closed(8, b"two\nthr")
        log.open(b"ee\nfour\n")
        assert await read(log) == b"one\ntwo\nthree\nfour\n"

    async def test_a_log_that_is_not_there_is_empty(self, log: Log) -> None:
        assert await read(log) == b""

    async def test_bytes_pass_as_they_are_and_the_last_line_gets_its_end(self, log: Log) -> None:
        log.open(b"\0\xff\x1b[1m\r\nno end")
        assert await read(log) == b"\0\xff\x1b[1m\r\nno end\n"

    async def test_logs_come_one_after_the_other_with_their_names(self, log: Log, tmp_path: Path) -> None:
        other = Log(tmp_path, "b")
        log.open(b"a\nb\n")
        other.open(b"c")
        assert await read(log, other, prefix=True) == b"[web/0] a\n[web/0] b\n[web/1] c\n"

    async def test_a_line_of_many_blocks_is_whole(self, log: Log) -> None:
        line = b"x" * 300_000 + b"\n"
        log.open(b"short\n" + line + b"short\n")
        assert await read(log) == b"short\n" + line + b"short\n"

    @pytest.mark.parametrize("prefix", [False, True])
    async def test_a_line_beyond_all_measure_is_cut(self, log: Log, prefix: bool) -> None:
        log.closed(1, b"before\n" + b"x" * (reading.LINE_BYTES + 500_000))
        log.open(b"xxx\nafter\n")
        start = b"[web/0] " if prefix else b""
        cut = start + b"x" * reading.LINE_BYTES + reading.CUT
        assert await read(log, prefix=prefix) == b"\n".join([start + b"before", cut, start + b"after", b""])

    async def test_a_damaged_compressed_segment_ends_where_the_damage_is(self, log: Log) -> None:
        log.closed(1, b"lost\n", compressed=True)
        os.truncate(f"{log.path}.000001.gz", 12)
        log.closed(2, b"rubbish")
        os.rename(f"{log.path}.000002", f"{log.path}.000002.gz")
        log.open(b"kept\n")
        assert await read(log) == b"kept\n"

    async def test_a_link_or_a_fifo_in_the_place_of_a_log_is_not_read(self, log: Log, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret\n")
        log.path.symlink_to(tmp_path / "secret")
        other = Log(tmp_path, "b")
        os.mkfifo(other.path)
        assert await read(log, other) == b""

    async def test_what_comes_after_the_request_is_not_waited_for(self, log: Log) -> None:
        log.open(b"x\n" * 100_000)
        files = [LogFile("a", str(log.path))]
        chunks = read_logs(lambda: files, LogOptions(), asyncio.Event())
        first = await anext(chunks)
        log.add(b"later\n")
        assert first + b"".join([chunk async for chunk in chunks]) == b"x\n" * 100_000

    async def test_a_rotation_while_it_is_printed_neither_loses_nor_doubles(self, log: Log) -> None:
        whole = lines(20_000)
        log.open(whole)
        chunks = read_logs(lambda: [LogFile("a", str(log.path))], LogOptions(), asyncio.Event())
        first = await anext(chunks)
        log.rotate(1)
        log.compress(1)
        log.open(b"new\n")
        assert first + b"".join([chunk async for chunk in chunks]) == whole


class TestTail:
    @pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (3, 3), (10, 10), (99, 10)])
    @pytest.mark.parametrize("compressed", [False, True])
    async def test_the_last_lines_from_as_many_segments_as_it_takes(
        self, log: Log, count: int, expected: int, compressed: bool
    ) -> None:
        log.closed(1, lines(3, "a"), compressed=compressed)
        log.closed(2, lines(4, "b"), compressed=compressed)
        log.open(lines(3, "c"))
        whole = (lines(3, "a") + lines(4, "b") + lines(3, "c")).splitlines(keepends=True)
        assert await read(log, tail=count) == b"".join(whole[10 - expected :])

    async def test_a_line_without_end_counts(self, log: Log) -> None:
        log.open(b"a\nb\nc")
        assert await read(log, tail=2) == b"b\nc\n"

    async def test_a_line_over_two_segments_is_one(self, log: Log) -> None:
        log.closed(1, b"a\nlong")
        log.open(b"line\nc\n")
        assert await read(log, tail=2) == b"longline\nc\n"

    async def test_an_open_file_that_is_empty_or_missing_is_no_line(self, log: Log) -> None:
        log.closed(1, b"a\nb\n")
        assert await read(log, tail=1) == b"b\n"
        log.open(b"")
        assert await read(log, tail=1) == b"b\n"

    @pytest.mark.parametrize("compressed", [False, True])
    async def test_only_some_blocks_of_a_large_file_are_read(
        self, log: Log, compressed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spans, "BLOCK_BYTES", 100)
        log.closed(1, lines(1000), compressed=compressed)
        log.open(b"")
        whole = lines(1000).splitlines(keepends=True)
        assert await read(log, tail=50) == b"".join(whole[-50:])

    async def test_a_large_file_is_read_from_its_end(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        log.open(b"")
        os.truncate(log.path, 5 << 30)  # a hole
        log.add(b"\nlast\n")
        seen: list[int] = []
        real = cursor.SegmentFile.read_at

        def counted(self: cursor.SegmentFile, offset: int, count: int) -> bytes:
            seen.append(count)
            return real(self, offset, count)

        monkeypatch.setattr(cursor.SegmentFile, "read_at", counted)
        assert await read(log, tail=1) == b"last\n"
        assert sum(seen) < 1_000_000

    async def test_a_segment_that_is_removed_while_we_look_is_where_it_begins(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log.closed(1, b"gone\n")
        log.closed(2, b"b\n")
        log.open(b"c\n")
        end = snapshot(str(log.path))[1]
        os.unlink(f"{log.path}.000001")
        start = spans.tail_start(str(log.path), spans.Span(Place(1, 0), end), 10)
        reader = Cursor(str(log.path), start)
        assert reader.read(100) + reader.read(100) == b"b\nc\n"
        reader.close()


class TestSince:
    @pytest.fixture
    def three(self, log: Log) -> Log:
        log.closed(1, b"at 100\nat 105\n", "0 100.000\n7 105.000\n")
        log.closed(2, b"at 110\n", "0 110.000\n", compressed=True)
        log.open(b"at 120\nat 125\n", "0 120.000\n7 124.000 end run\n7 125.000\n")
        return log

    @pytest.mark.parametrize(
        ("since", "first"), [(0, 100), (99, 100), (104, 105), (106.5, 110), (110.9, 110), (115, 120), (124.5, 125)]
    )
    async def test_lines_that_came_then_or_later(self, three: Log, since: float, first: int) -> None:
        expected = b"".join(b"at %d\n" % at for at in (100, 105, 110, 120, 125) if at >= first)
        assert await read(three, since=since) == expected

    async def test_nothing_came_since(self, three: Log) -> None:
        assert await read(three, since=200) == b""

    async def test_the_last_lines_of_those(self, three: Log) -> None:
        assert await read(three, since=105, tail=2) == b"at 120\nat 125\n"
        assert await read(three, since=124.5, tail=2) == b"at 125\n"

    async def test_without_index_a_segment_counts_whole_by_its_last_change(self, log: Log) -> None:
        log.closed(1, b"old\n")
        os.utime(f"{log.path}.000001", (50, 50))
        log.closed(2, b"recent\n")
        os.utime(f"{log.path}.000002", (150, 150))
        log.open(b"")
        assert await read(log, since=100) == b"recent\n"

    async def test_torn_records_are_passed_over(self, log: Log) -> None:
        log.open(b"one\ntwo\n", "0 100\n\nx y\n4\n4 1e9x\n99 zz end\n4 200.0\n1 300\n4 20")
        assert await read(log, since=150) == b"two\n"

    async def test_an_index_in_the_place_of_which_something_else_lies_is_as_none(self, log: Log) -> None:
        log.open(b"one\n")
        log.path.with_name("a.log.idx").symlink_to("/etc/passwd")
        assert await read(log, since=1, timestamps=True) == b"- one\n"


class TestPrevious:
    @pytest.fixture
    def runs(self, log: Log) -> Log:
        """Three runs that ended, the second over two segments, and one that goes on."""
        log.closed(1, b"1a\n1b\n2a\n", "0 10.0\n6 11.0 end run-1\n")
        log.open(b"2b\n3a\n4a\n", "0 12.0\n3 13.0 end run-2\n6 14.0 end run-3\n")
        return log

    @pytest.mark.parametrize(
        ("back", "expected"), [(1, b"3a\n"), (2, b"2a\n2b\n"), (3, b"1a\n1b\n"), (4, b""), (0, b"")]
    )
    async def test_runs_are_counted_back_from_the_one_that_ended_last(
        self, runs: Log, back: int, expected: bytes
    ) -> None:
        assert await read(runs, previous=back) == expected

    async def test_it_may_be_cut_to_its_last_lines(self, runs: Log) -> None:
        assert await read(runs, previous=2, tail=1) == b"2b\n"

    async def test_it_is_not_followed(self, runs: Log) -> None:
        assert await read(runs, previous=1, follow=True) == b"3a\n"

    async def test_where_no_run_ended_there_is_none(self, log: Log) -> None:
        log.open(b"x\n", "0 10.0\n")
        assert await read(log, previous=1) == b""

    async def test_the_oldest_that_is_left_begins_where_the_log_does(self, log: Log) -> None:
        log.open(b"rest of it\nnext\n", "0 10.0\n11 11.0 end r\n")
        assert await read(log, previous=1) == b"rest of it\n"


class TestTimestamps:
    async def test_each_line_has_the_time_of_its_first_byte(self, log: Log) -> None:
        log.closed(1, b"a\nb", "0 0.5\n")
        log.open(b"b\nc\nd\n", "2 61.25\n4 3600.0 end run\n")
        assert await read(log, timestamps=True) == (
            b"1970-01-01T00:00:00.500Z a\n1970-01-01T00:00:00.500Z bb\n"
            b"1970-01-01T00:01:01.250Z c\n1970-01-01T01:00:00.000Z d\n"
        )

    async def test_what_is_not_known_is_a_dash(self, log: Log) -> None:
        log.closed(1, b"no index\n")
        log.open(b"before\nabsurd\n", "7 1e300\n")
        assert (
            await read(log, timestamps=True, prefix=True) == b"[web/0] - no index\n[web/0] - before\n[web/0] - absurd\n"
        )


def framed(replica: int, text: str, stream: str = "out", wall: float = 1.0, form: str = "prefix") -> bytes:
    """A line as the pump frames it."""
    return framing.framed(framing.cut(f"{text}\n".encode()), form, "web", replica, stream, int(wall * 1000))


async def read_file(file: LogFile, **options: Any) -> bytes:
    return b"".join([chunk async for chunk in read_logs(lambda: [file], LogOptions(**options), asyncio.Event())])


class TestFramed:
    """Logs whose lines say whose they are."""

    def of(self, log: Log, *whose: tuple[int, str]) -> LogFile:
        return LogFile("web", str(log.path), True, frozenset(whose) or None)

    @pytest.mark.parametrize("form", ["prefix", "json"])
    async def test_lines_are_chosen_by_whose_they_are(self, log: Log, form: str) -> None:
        lines = [framed(n % 3, f"line {n}", "err" if n % 2 else "out", form=form) for n in range(30)]
        log.closed(1, b"".join(lines[:10]), compressed=True)
        log.open(b"".join(lines[10:]))
        assert await read_file(self.of(log, (1, "out"), (1, "err"))) == b"".join(lines[1::3])
        assert await read_file(self.of(log, (1, "out"))) == b"".join(lines[4::6])
        assert await read_file(self.of(log)) == b"".join(lines)

    async def test_lines_of_nobody_are_everybodys_only(self, log: Log) -> None:
        lines = [b"from before\n", framed(0, "a"), b'{"time":"x"}\n', framed(1, "b")]
        log.open(b"".join(lines))
        assert await read_file(self.of(log, (1, "out"))) == lines[3]
        assert await read_file(self.of(log)) == b"".join(lines)

    @pytest.mark.parametrize("tail", [0, 1, 3, 7, 100])
    async def test_of_the_last_lines_only_those_count(self, log: Log, tail: int) -> None:
        lines = [framed(0 if n % 50 else 1, f"line {n}") for n in range(400)]
        log.closed(1, b"".join(lines[:170]), compressed=True)
        log.closed(2, b"".join(lines[170:300]) + b"half of a ")
        log.open(b"line\n" + b"".join(lines[300:]) + b"without end")
        ours = lines[::50]
        assert await read_file(self.of(log, (1, "out")), tail=tail) == b"".join(ours[len(ours) - min(tail, 8) :])

    async def test_a_line_over_two_segments_is_one(self, log: Log) -> None:
        line = framed(1, "x" * 60_000)
        log.closed(1, framed(0, "a") * 2000 + line[:10_000])
        log.open(line[10_000:] + framed(0, "b") * 2000)
        assert await read_file(self.of(log, (1, "out")), tail=1) == line

    async def test_since_is_exact(self, log: Log) -> None:
        log.open(framed(0, "old", wall=100.0) + b"unframed\n" + framed(0, "new", wall=100.002), "0 100.0\n")
        expected = b"unframed\n" + framed(0, "new", wall=100.002)
        assert await read_file(self.of(log), since=100.001) == expected
        assert await read_file(self.of(log, (0, "out")), since=100.001, tail=5) == framed(0, "new", wall=100.002)

    async def test_what_a_line_says_by_itself_is_not_said_again(self, log: Log) -> None:
        log.open(b"raw\n" + framed(0, "a") + framed(0, "b", form="json"), "0 1.0\n")
        assert await read_file(self.of(log), timestamps=True, prefix=True) == (
            b"[web] 1970-01-01T00:00:01.000Z raw\n" + framed(0, "a") + framed(0, "b", form="json")
        )

    async def test_a_previous_run_is_that_of_one_of_them(self, log: Log) -> None:
        lines = [framed(n % 2, f"line {n}") for n in range(8)]
        ends = [len(b"".join(lines[:count])) for count in (3, 4, 7)]
        log.open(
            b"".join(lines), f"{ends[0]} 1.0 end r1 0/out\n{ends[1]} 1.0 end r2 1/out\n{ends[2]} 1.0 end r3 0/out\n"
        )
        file = LogFile("web/0", str(log.path), True, frozenset({(0, "out")}), (0, "out"))
        assert await read_file(file, previous=1) == lines[4] + lines[6]
        assert await read_file(file, previous=2) == lines[0] + lines[2]
        other = LogFile("web/1", str(log.path), True, frozenset({(1, "out")}), (1, "out"))
        assert await read_file(other, previous=1) == lines[1] + lines[3]
        both = [file, other]
        chunks = read_logs(lambda: both, LogOptions(previous=1), asyncio.Event())
        assert b"".join([chunk async for chunk in chunks]) == lines[4] + lines[6] + lines[1] + lines[3]

    async def test_followed_over_rotation_new_replicas_are_chosen_too(self, log: Log) -> None:
        files = [self.of(log, (0, "out"))]
        follower = Follower(lambda: files)
        log.open(framed(0, "a") + framed(1, "b"))
        await follower.sees(framed(0, "a"))
        files[0] = self.of(log, (0, "out"), (1, "out"))
        log.rotate(1)
        log.compress(1)
        log.open(framed(1, "c") + framed(2, "d"))
        await follower.sees(framed(1, "c"))
        await follower.ends_with(b"")


class TestChoosing:
    def stream(self, ordinal: int, path: str, form: str = "prefix", stream: str = "out", wanted: bool = True) -> Any:
        return {
            "program": "web", "ordinal": ordinal, "stream": stream, "path": path, "format": form, "wanted": wanted,
        }  # fmt: skip

    def test_a_log_of_ones_own_is_read_whole(self) -> None:
        streams = [self.stream(0, "/0", "raw"), self.stream(1, "/1", stream="err")]
        assert log_files(streams, of_runs=False) == [LogFile("web/0", "/0"), LogFile("web/1 err", "/1", framed=True)]
        assert log_files(streams, of_runs=True) == log_files(streams, of_runs=False)

    def test_one_of_several_is_read_once(self) -> None:
        streams = [self.stream(0, "/all"), self.stream(1, "/all")]
        assert log_files(streams, of_runs=False) == [LogFile("web", "/all", framed=True)]

    def test_of_a_part_of_them_the_lines_are_chosen(self) -> None:
        streams = [self.stream(n, "/all", wanted=n > 0) for n in range(3)]
        whose = frozenset({(1, "out"), (2, "out")})
        assert log_files(streams, of_runs=False) == [LogFile("web", "/all", True, whose)]
        streams = [self.stream(n, "/all", wanted=n == 1) for n in range(3)]
        assert log_files(streams, of_runs=False) == [LogFile("web/1", "/all", True, frozenset({(1, "out")}))]

    def test_raw_lines_of_several_cannot_be_chosen(self) -> None:
        streams = [self.stream(n, "/all", "raw", wanted=n == 1) for n in range(3)]
        assert log_files(streams, of_runs=False) == [LogFile("web/1", "/all")]

    def test_runs_are_those_of_each(self) -> None:
        streams = [self.stream(n, "/all", wanted=n > 0) for n in range(3)]
        assert log_files(streams, of_runs=True) == [
            LogFile(f"web/{n}", "/all", True, frozenset({(n, "out")}), (n, "out")) for n in (1, 2)
        ]


class TestPlanted:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link somebody else's")
    async def test_a_folder_that_somebody_exchanged_for_a_link_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "secret").mkdir()
        log = Log(tmp_path / "secret")
        log.open(b"secret\n", "0 1.0\n")
        log.closed(1, b"secret\n", "0 1.0\n")
        (tmp_path / "logs").symlink_to("secret")
        os.lchown(tmp_path / "logs", 65534, 65534)
        file = LogFile("web/0", str(tmp_path / "logs" / "a.log"))
        for options in ({}, {"tail": 1}, {"since": 0.5}, {"previous": 1}, {"timestamps": True}):
            assert await read_file(file, **options) == b""


class Follower:
    """`logs -f`, read as far as the test wants."""

    def __init__(self, files: Callable[[], list[LogFile]], **options: Any) -> None:
        self.stop = asyncio.Event()
        self._chunks = read_logs(files, LogOptions(follow=True, **options), self.stop)
        self.seen = b""

    async def sees(self, expected: bytes) -> None:
        """What is printed from now on begins with this, and no more is there yet."""
        while len(self.seen) < len(expected):
            self.seen += await asyncio.wait_for(anext(self._chunks), 30)
        assert self.seen == expected
        self.seen = b""

    async def ends_with(self, expected: bytes) -> None:
        self.stop.set()
        assert b"".join([chunk async for chunk in self._chunks]) == expected


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "POLL_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
class TestFollowing:
    async def test_what_comes_is_printed_line_by_line_and_the_rest_at_the_end(self, log: Log) -> None:
        log.open(b"old 1\nold 2\n")
        follower = Follower(lambda: [LogFile("a", str(log.path))], tail=1)
        await follower.sees(b"old 2\n")
        log.add(b"new\npart")
        await follower.sees(b"new\n")
        log.add(b"ial\nlast")
        await follower.sees(b"partial\n")
        await follower.ends_with(b"last\n")

    async def test_a_log_that_is_not_there_yet_is_waited_for(self, log: Log) -> None:
        asked: list[int] = []

        def files() -> list[LogFile]:
            asked.append(1)
            return [LogFile("a", str(log.path))]

        follower = Follower(files)
        waiting = asyncio.ensure_future(follower.sees(b"x\n"))
        while len(asked) < 5:
            await asyncio.sleep(0)
        log.open(b"x\n")
        await waiting
        await follower.ends_with(b"")

    async def test_rotations_are_followed_even_several_between_two_looks(self, log: Log) -> None:
        log.open(b"a\n")
        follower = Follower(lambda: [LogFile("a", str(log.path))])
        await follower.sees(b"a\n")
        log.add(b"b\n")
        log.rotate(1)
        log.closed(2, b"c\n", compressed=True)
        log.closed(3, b"d\n")
        log.open(b"e\n")
        await follower.sees(b"b\nc\nd\ne\n")
        await follower.ends_with(b"")

    async def test_replicas_that_turn_up_are_followed_from_their_first_line(self, log: Log, tmp_path: Path) -> None:
        late = Log(tmp_path, "b")
        files = [LogFile("web/0", str(log.path))]
        log.open(b"a\n")
        follower = Follower(lambda: files, prefix=True, tail=1)
        await follower.sees(b"[web/0] a\n")
        late.open(b"first\nsecond\n")
        files.append(LogFile("web/1", str(late.path)))
        await follower.sees(b"[web/1] first\n[web/1] second\n")
        await follower.ends_with(b"")

    async def test_of_a_replica_that_comes_back_old_lines_are_not_printed(self, log: Log, tmp_path: Path) -> None:
        late = Log(tmp_path, "b")
        files = [LogFile("web/0", str(log.path))]
        log.open(b"a\n")
        follower = Follower(lambda: files, began=100.0)
        await follower.sees(b"a\n")
        late.open(b"long ago\nnow\n", "0 50.0\n9 100.5\n")
        files.append(LogFile("web/1", str(late.path)))
        await follower.sees(b"now\n")
        await follower.ends_with(b"")

    async def test_timestamps_keep_up_with_an_index_that_comes_later_and_grows(self, log: Log) -> None:
        log.open(b"a\n")
        follower = Follower(lambda: [LogFile("a", str(log.path))], timestamps=True)
        await follower.sees(b"- a\n")
        log.path.with_name("a.log.idx").write_text("2 1.0\n4 2.")
        log.add(b"b\n")
        await follower.sees(b"1970-01-01T00:00:01.000Z b\n")
        log.path.with_name("a.log.idx").write_text("2 1.0\n4 2.0\n")
        log.add(b"c\n")
        await follower.sees(b"1970-01-01T00:00:02.000Z c\n")
        await follower.ends_with(b"")

    async def test_whoever_hangs_up_leaves_nothing_open(self, log: Log) -> None:
        log.open(b"a\n")
        before = len(os.listdir("/proc/self/fd"))
        chunks = read_logs(
            lambda: [LogFile("a", str(log.path))], LogOptions(follow=True, timestamps=True), asyncio.Event()
        )
        assert await anext(chunks) == b"- a\n"
        await chunks.aclose()  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) == before


class TestCursor:
    def test_a_log_that_was_truncated_is_read_from_its_start(self, log: Log) -> None:
        log.open(b"long before\n")
        reader = Cursor(str(log.path), Place(1, 0))
        assert reader.read(100) == b"long before\n"
        log.open(b"new\n")
        assert reader.read(100) == b"new\n"
        reader.close()

    def test_a_log_that_was_removed_goes_on_with_the_next_file_of_its_name(self, log: Log) -> None:
        log.open(b"before\n")
        reader = Cursor(str(log.path), Place(1, 0))
        assert reader.read(100) == b"before\n"
        log.path.unlink()
        assert reader.read(100) == b""
        log.open(b"new\n")
        assert reader.read(100) == b"new\n"
        assert reader.place == Place(1, 4)
        reader.close()

    def test_a_number_that_turned_out_otherwise_is_put_right(self, log: Log) -> None:
        """Somebody removed all closed segments, so the pump began to count anew; or put one there."""
        log.open(b"a\n")
        reader = Cursor(str(log.path), Place(1, 0))
        assert reader.read(100) == b"a\n"
        log.rotate(8)
        log.open(b"b\n")
        assert reader.read(100) == b"b\n"
        assert reader.place == Place(9, 2)
        reader.close()

    def test_what_was_written_just_before_the_closing_is_found(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        log.open(b"a\n")
        reader = Cursor(str(log.path), Place(1, 0))
        assert reader.read(100) == b"a\n"
        real = Cursor._is_current

        def rotate_first(self: Cursor, file: cursor.SegmentFile) -> bool:
            log.add(b"late\n")
            log.rotate(1)
            return real(self, file)

        with monkeypatch.context() as patch:
            patch.setattr(Cursor, "_is_current", rotate_first)
            assert reader.read(100) == b"late\n"
        reader.close()

    def test_segments_removed_before_we_came_to_them_are_left_out(self, log: Log) -> None:
        log.closed(5, b"five\n")
        log.open(b"six\n")
        reader = Cursor(str(log.path), Place(2, 3))
        assert reader.read(100) == b"five\n"
        reader.close()

    def test_a_file_that_is_rotated_while_it_is_opened_is_not_taken_for_its_successor(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log.open(b"first\n")
        real = cursor._open_regular

        def rotate_before(path: str) -> int | None:
            monkeypatch.setattr(cursor, "_open_regular", real)
            log.rotate(1)
            log.open(b"second\n")
            return real(path)

        monkeypatch.setattr(cursor, "_open_regular", rotate_before)
        file = open_segment(str(log.path), 1)
        assert file is not None
        with file:
            assert (file.closed, file.read_at(0, 100)) == (True, b"first\n")

    def test_a_segment_that_cannot_be_opened_is_given_up(self, log: Log) -> None:
        log.closed(1, b"x")
        os.unlink(f"{log.path}.000001")
        os.mkfifo(f"{log.path}.000001")
        assert open_segment(str(log.path), 1) is None

    def test_the_end_of_a_log_rotated_while_we_look_is_the_end_of_that_file(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log.open(b"first\n")
        real = cursor.open_segment

        def rotate_before(path: str, number: int) -> Any:
            log.rotate(1)
            log.compress(1)
            log.open(b"second\n")
            return real(path, number)

        monkeypatch.setattr(cursor, "open_segment", rotate_before)
        assert snapshot(str(log.path)) == (Place(1, 0), Place(1, 6))

    @pytest.mark.parametrize("seed", range(15))
    def test_behind_a_real_pump_every_byte_is_read_once(self, tmp_path: Path, seed: int) -> None:
        dice = random.Random(seed)
        with closing(Bench(tmp_path)) as bench:
            conduit = bench.conduit(max_size=dice.choice([50, 500]))
            tidier = Tidier()
            tidier._start = lambda name, work: None  # type: ignore[method-assign]  # the test is its threads
            reader = Cursor(str(bench.log()), Place(1, 0))
            written = seen = b""
            for number in range(400):
                match dice.randrange(4):
                    case 0:
                        line = b"%d %s\n" % (number, b"x" * dice.randrange(60))
                        bench.pipe().write(line)
                        written += line
                    case 1:
                        conduit.serve()
                    case 2:
                        tidier._requests.put((str(bench.log()), 0, True))
                        dice.choice([tidier.remove, tidier.compress])()
                    case _:
                        seen += reader.read(dice.choice([10, 1000]))
            conduit.drain()
            while data := reader.read(1000):
                seen += data
            reader.close()
        assert seen == written
