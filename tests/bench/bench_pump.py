"""What a byte of output costs on its way from a process to its log: a real pump, rotation included, memory as the disk.

Lines of 100 bytes, written in blocks as a process with a buffer does, and one by one as a process without one. The
pump's own CPU time counts; how fast it went is printed beside it and says as much about the neighbours.

Then several replicas in one file: blocks of each are cut at the ends of lines.

    python tests/bench/bench_pump.py [MEGABYTES]
"""

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import Result, show

from support.pump_real import RealPump

MEGABYTES = 256
ROUNDS = 3
SHARERS = 4
LINE = b"%09d " + b"." * 89 + b"\n"
BLOCK_LINES = 655  # just below 64 KiB
SEGMENT_BYTES = 50_000_000
FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("raw", {}),
    ("prefix", {"format": "prefix"}),
    ("json", {"format": "json"}),
)


class Figures(NamedTuple):
    """Of one run."""

    cpu_seconds: float
    wall_seconds: float


@contextmanager
def pump_in(folder: Path, fifos: list[Path], logs: list[Path], changes: dict[str, Any]) -> Iterator[RealPump]:
    """A pump that serves these streams."""
    for place in (folder / "run", folder / "log"):
        place.mkdir(exist_ok=True)
    pump = RealPump(folder / "run")
    pump.connect()
    for number, (fifo, log) in enumerate(zip(fifos, logs, strict=True)):
        standard = {"id": f"u/{number}/out", "fifo": str(fifo), "path": str(log), "max_size": SEGMENT_BYTES}
        names = {"program": "web", "replica": number, "stream": "out", "format": "raw", "shared": False}
        pump.say(**{"type": "open", **standard, **names, "max_files": 0, "compress": "none", "mode": 0o640, **changes})
    pump.settled()
    try:
        yield pump
    finally:
        pump.close()


def spew(fifo: Path, lines: int, lines_per_write: int) -> int:
    """A process that writes so many lines; its pid."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)
        fd = os.open(fifo, os.O_RDWR)
        block = b"".join(LINE % number for number in range(lines_per_write))
        left = lines * len(block) // lines_per_write
        while left > 0:
            left -= os.write(fd, block[:left])
        os._exit(0)
    return pid


def measured(megabytes: int, writers: int, lines_per_write: int, changes: dict[str, Any], shared: bool) -> Figures:
    """Have so much written, and wait until all of it is moved."""
    lines = megabytes * 1_000_000 // 100 // writers
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="pump-", dir=base) as name:
        folder = Path(name)
        fifos = [folder / f"{number}.fifo" for number in range(writers)]
        held = []
        for fifo in fifos:
            os.mkfifo(fifo)
            held.append(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
        logs = [folder / "log" / ("all.log" if shared else f"{number}.log") for number in range(writers)]
        with pump_in(folder, fifos, logs, {**changes, "shared": shared}) as pump:
            cpu, began = cpu_seconds(pump.process.pid), time.monotonic()
            for pid in [spew(fifo, lines, lines_per_write) for fifo in fifos]:
                os.waitpid(pid, 0)
            pump.say(type="mark", ids=[f"u/{number}/out" for number in range(writers)], run="r", n=1)
            pump.hears("marked")
            figures = Figures(cpu_seconds(pump.process.pid) - cpu, time.monotonic() - began)
            written = sum(count_lines(path) for path in (folder / "log").iterdir() if path.suffix != ".idx")
            assert written == lines * writers, f"{written} of {lines * writers} lines"
        for fd in held:
            os.close(fd)
    return figures


def count_lines(path: Path) -> int:
    count = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count


def cpu_seconds(pid: int) -> float:
    """Of all threads; nanoseconds from the scheduler, which are finer than the ticks of /proc/PID/stat."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def main(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    cases = [(name, 1, BLOCK_LINES, changes, False, megabytes) for name, changes in FORMATS]
    cases += [(f"{name}, each line a write", 1, 1, changes, False, megabytes // 4) for name, changes in FORMATS]
    cases += [
        (f"{name}, {SHARERS} replicas in one file", SHARERS, BLOCK_LINES, c, True, megabytes) for name, c in FORMATS
    ]
    for name, writers, lines_per_write, changes, shared, size in cases:
        runs = [measured(size, writers, lines_per_write, changes, shared) for _ in range(ROUNDS)]
        cpu, wall = min(run.cpu_seconds for run in runs), min(run.wall_seconds for run in runs)
        goal = 1.0 if name == "raw" else None
        show([Result(f"of CPU per GB, {name} ({size / wall:.0f} MB/s)", cpu / size * 1000, goal, "s")])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES)
