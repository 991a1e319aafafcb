"""The pump as a process: killed at any instant it neither loses nor doubles a byte; told to go, it goes."""

import asyncio
import gzip
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.logs import PumpSink
from reconciler.ports import Stream
from reconciler.segments import closed_segments
from support import pump_real
from support.pump_real import LONG_LINE_BYTES, ForgottenPump, RealPump, eventually, expected_lines

KILLS = 25
LIMIT = 100_000
SHORT_BYTES = 250


class Place:
    """A run directory, one stream with its FIFO held, and the pumps that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.held = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.log = folder / "log" / "a.log"
        self.pumps: list[RealPump] = []

    def pump(self, kind: type[RealPump] = RealPump) -> RealPump:
        pump = kind(self.run_dir)
        self.pumps.append(pump)
        return pump

    def opened(self, kind: type[RealPump] = RealPump, **changes: Any) -> RealPump:
        """A pump that serves the stream."""
        pump = self.pump(kind)
        self.open(pump, **changes)
        return pump

    def open(self, pump: RealPump, **changes: Any) -> None:
        """Have it serve the stream."""
        pump.connect()
        standard = {"id": "a", "fifo": str(self.fifo), "path": str(self.log), "max_size": 0, "max_files": 0}
        pump.say(**{"type": "open", **standard, "compress": "none", "mode": 0o640, **changes})

    def write(self, data: bytes) -> None:
        assert os.write(self.held, data) == len(data)

    def let_go(self) -> None:
        """Nobody holds the FIFO any more."""
        os.close(self.held)
        self.held = -1

    def close(self) -> None:
        if self.held >= 0:
            self.let_go()
        for pump in self.pumps:
            pump.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_killed_at_any_instant_it_loses_and_doubles_nothing(place: Place, seed: int, compress: str) -> None:
    dice = random.Random(seed)
    writer = _writer(place.fifo, seed)
    try:
        for _ in range(KILLS):
            pump = place.opened(max_size=LIMIT, compress=compress)
            time.sleep(dice.random() * 0.03)
            pump.kill()
        last = place.opened(max_size=LIMIT, compress=compress)
        eventually(lambda: len(closed_segments(str(place.log))) > KILLS, "many segments")
        writer.terminate()
        output, _ = writer.communicate(timeout=pump_real.DEADLINE_SECONDS)
    finally:
        writer.kill()
        writer.wait()
    last.say(type="mark", ids=["a"], run="r", n=1)
    last.hears("marked")
    if compress == "gzip":
        eventually(
            lambda: sum(segment.compressed for segment in closed_segments(str(place.log))) >= 3, "some compressed"
        )
        last.kill()
    written = itertools.islice(expected_lines(seed), int(output))
    _assert_holds(place, written)


@pytest.mark.parametrize(("form", "replicas"), [("prefix", 1), ("json", 3), ("raw", 3)])
def test_killed_at_any_instant_it_loses_and_doubles_no_line(place: Place, seed: int, form: str, replicas: int) -> None:
    dice = random.Random(seed)
    fifos = [place.fifo, *(place.folder / f"fifo-{number}" for number in range(1, replicas))]
    for fifo in fifos[1:]:
        os.mkfifo(fifo)
    held = [os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in fifos]
    writers = [_writer(fifo, seed + number) for number, fifo in enumerate(fifos)]

    def served() -> RealPump:
        pump = place.pump()
        pump.connect()
        for number, fifo in enumerate(fifos):
            names = {"program": "web", "replica": number, "stream": "out", "format": form, "shared": True}
            bounds = {"max_size": LIMIT, "max_files": 0, "compress": "none", "mode": 0o640, "uid": os.geteuid()}
            pump.say(type="open", id=f"u/{number}/out", fifo=str(fifo), path=str(place.log), **names, **bounds)
        return pump

    try:
        for _ in range(KILLS):
            pump = served()
            time.sleep(dice.random() * 0.05)
            pump.kill()
        last = served()
        for writer in writers:
            writer.terminate()
        counts = [int(writer.communicate(timeout=pump_real.DEADLINE_SECONDS)[0]) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
        for fd in held:
            os.close(fd)
    last.say(type="mark", ids=[f"u/{number}/out" for number in range(replicas)], run="r", n=1)
    last.hears("marked")
    paths = [segment.path for segment in closed_segments(str(place.log))] + [str(place.log)]
    lines = [line for path in paths for line in _whole_lines(Path(path))]
    written = [list(itertools.islice(expected_lines(seed + n), count)) for n, count in enumerate(counts)]
    if form == "raw":  # a long one has become lines: here its beginning stands for it
        assert Counter(line[:SHORT_BYTES] for line in lines if not line.startswith(b"x")) == Counter(
            line[:SHORT_BYTES] for line in itertools.chain(*written)
        )
        assert sum(line.count(b"x") for line in lines) == sum(line.count(b"x") for line in itertools.chain(*written))
    else:
        for number in range(replicas):
            assert list(_unframed(lines, number)) == written[number]


def _writer(fifo: Path, seed: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, pump_real.__file__, str(fifo), str(seed)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    assert content.endswith(b"\n") or not content, path
    return content.splitlines(keepends=True)


def _unframed(lines: list[bytes], replica: int) -> Iterator[bytes]:
    """What this replica wrote; pieces are put together."""
    begun = b""
    for line in lines:
        if line.startswith(b"{"):
            parts = json.loads(line)
            whose, is_end, text = parts["replica"], not parts.get("partial"), parts["message"].encode()
        else:
            _, label, _, mark, text = line.removesuffix(b"\n").split(b" ", 4)
            whose, is_end = int(label.partition(b"/")[2]), mark == b"|"
        if whose == replica:
            begun += text
            if is_end:
                yield begun + b"\n"
                begun = b""


def _assert_holds(place: Place, written: Iterator[bytes]) -> None:
    """The segments hold what was written, each ends at a line end, none exceeds the limit by more than one line."""
    paths = [segment.path for segment in closed_segments(str(place.log))] + [str(place.log)]
    assert len(paths) > KILLS
    longest = 0
    for path in paths:
        content = Path(path).read_bytes()
        content = gzip.decompress(content) if path.endswith(".gz") else content
        lines = content.splitlines(keepends=True)
        assert content.endswith(b"\n") or not content, path
        assert lines == list(itertools.islice(written, len(lines))), path
        # A line whose beginning was moved before its end was there is finished over the limit.
        assert len(content) - (len(lines[-1]) if lines else 0) <= LIMIT, path
        longest = max(longest, len(content))
    assert next(written, None) is None
    assert longest <= LIMIT + LONG_LINE_BYTES + 200


def test_without_its_keeper_it_stays_for_those_who_write_and_leaves_when_the_last_is_gone(place: Place) -> None:
    pump = place.opened()
    pump.settled()
    pump.orphan()
    place.write(b"one\n")
    eventually(lambda: place.log.read_bytes() == b"one\n")
    place.write(b"last\n")
    place.let_go()
    assert pump.process.wait(30) == 0
    assert place.log.read_bytes() == b"one\nlast\n"
    assert not (place.run_dir / "pump.sock").exists()


def test_without_its_keeper_it_leaves_when_the_next_one_says_so_and_nothing_is_lost_on_the_way(place: Place) -> None:
    pump = place.opened()
    pump.settled()
    pump.orphan()
    pump.settled()
    pump.process.send_signal(signal.SIGTERM)
    place.write(b"x" * 60_000)
    assert pump.process.wait(30) == 0
    place.opened().settled()
    assert place.log.read_bytes() == b"x" * 60_000


def test_sigterm_drains_and_ends_it_and_an_interrupt_does_nothing(place: Place) -> None:
    pump = place.opened()
    pump.settled()
    pump.process.send_signal(signal.SIGINT)
    pump.settled()
    place.write(b"x" * 60_000)
    pump.process.terminate()
    assert pump.process.wait(30) == 0
    assert place.log.stat().st_size == 60_000


def test_sigusr2_reopens(place: Place) -> None:
    pump = place.opened()
    pump.settled()
    place.log.rename(place.folder / "moved")
    pump.process.send_signal(signal.SIGUSR2)
    eventually(place.log.exists, "a new file")


def test_a_second_pump_waits_for_the_first_to_leave(place: Place) -> None:
    first = place.opened()
    first.settled()
    second = place.pump()
    place.write(b"one\n")
    first.settled()
    first.orphan()
    first.process.terminate()
    assert first.process.wait(30) == 0
    second.connect()
    assert second.process.poll() is None


def test_a_pump_that_its_keeper_did_not_come_to_note_makes_room_for_the_next_keepers(place: Place) -> None:
    forgotten = place.opened(ForgottenPump)
    forgotten.settled()
    forgotten.orphan()
    place.write(b"one\n")
    eventually(lambda: place.log.read_bytes() == b"one\n", "it stays for who writes")
    second = place.pump()
    eventually(forgotten.has_left, "it makes room")
    place.write(b"two\n")
    place.open(second)
    eventually(lambda: place.log.read_bytes() == b"one\ntwo\n", "the next one goes on")


def test_where_the_disk_takes_no_more_the_bytes_wait_until_it_does(place: Place) -> None:
    """A limit on the size of files stands for the disk."""
    pump = place.opened()
    pump.settled()
    _, hard = resource.prlimit(pump.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pump.process.pid, resource.RLIMIT_FSIZE, (10_000, hard))
    place.write(b"x" * 30_000)
    assert pump.hears("trouble")["message"] == f"cannot write {place.log}: File too large"
    assert place.log.stat().st_size == 10_000
    resource.prlimit(pump.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    pump.hears("healthy")
    assert place.log.read_bytes() == b"x" * 30_000


def test_an_idle_stream_and_a_mark_are_served_at_once(place: Place) -> None:
    """The best of some tries: the machine may be busy, the pump may not."""
    pump = place.opened()
    pump.settled()
    lines, marks = [], []
    for number in range(20):
        time.sleep(0.02)
        began = time.monotonic()
        place.write(b"line\n")
        while place.log.stat().st_size < 5 * (number + 1):
            assert time.monotonic() - began < pump_real.DEADLINE_SECONDS
        lines.append(time.monotonic() - began)
        began = time.monotonic()
        pump.say(type="mark", ids=["a"], run=str(number), n=number)
        pump.hears("marked")
        marks.append(time.monotonic() - began)
    assert min(lines) < 0.005
    assert min(marks) < 0.003


async def test_the_sink_and_the_pump_find_each_other_again(place: Place, tmp_path: Path) -> None:
    held: list[int] = []
    sink = PumpSink(
        str(place.run_dir),
        lambda path: held.append(os.open(path, os.O_RDWR | os.O_NONBLOCK)),
        lambda _: None,
        lambda held_by_now: held_by_now(),
    )
    fifo, log = place.run_dir / "fifos" / "s", tmp_path / "log" / "s.log"
    sink.open(Stream("s", str(fifo), str(log), 0, 0, "none", 0o640, None))
    try:
        for number in range(3):
            pump = await asyncio.to_thread(place.pump)
            os.write(held[0], b"%d\n" % number)
            done = asyncio.Event()
            sink.mark(["s"], f"run-{number}", done.set)
            await asyncio.wait_for(done.wait(), pump_real.DEADLINE_SECONDS)
            assert log.read_bytes() == b"".join(b"%d\n" % each for each in range(number + 1))
            pump.kill()
        await asyncio.to_thread(place.pump)
        sink.close("s")
        while fifo.exists():
            await asyncio.sleep(0.01)
    finally:
        sink.disconnect()
        for fd in held:
            os.close(fd)
