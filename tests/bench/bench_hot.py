"""What the paths cost that are walked most: a pass, a spawn, a manifest that is read, a status that is written.

    python tests/bench/bench_hot.py                   by CPU time
    python tests/bench/bench_hot.py --instructions    by instructions, with valgrind; minutes, but no noise at all

Instructions are counted in two runs of different length, and the difference is what the more repetitions cost: start
and imports fall out of it.
"""

import gc
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from measuring import Result, cpu_us, show
from worlds_of_many import Engineroom

from reconciler.adapters.clock import BootClock
from reconciler.adapters.documents import parse
from reconciler.adapters.journal import SegmentJournal
from reconciler.adapters.processes import LinuxProcessTable
from reconciler.adapters.statefiles import StateFiles
from reconciler.core.records import Signalled, encode
from reconciler.model.launch import Launch

MANIFEST = (Path(__file__).parents[2] / "manifests" / "send-mail.yaml").read_bytes()
SIZES = ((10, 10), (100, 10), (500, 10), (1, 1000))
REPEATS = 200  # and four times as many, to count instructions


class Case(NamedTuple):
    """Something that is done again and again; `make` prepares it and says what to call."""

    what: str
    make: Callable[[Path, ExitStack], Callable[[], object]]
    times: int
    per: int = 1  # so many things are done by one call
    goal_us: float | None = None
    counted: bool = True  # what waits for other processes has no count of its own


def a_pass(programs: int, replicas: int) -> Case:
    """All replicas of all Programs are looked at, and there is nothing to do."""

    def make(folder: Path, ends: ExitStack) -> Callable[[], object]:
        room = Engineroom(folder, programs, replicas)
        ends.callback(room.journal.close)
        return room.look_at_all

    each = programs * replicas
    return Case(f"full pass, per replica, {programs} x {replicas}", make, max(1, 2000 // each), each, 10)


def spawning(folder: Path, ends: ExitStack) -> Callable[[], object]:
    """A real process, from the launch to the pidfd. Its end, as it has to be gone some time, is part of it."""
    table = LinuxProcessTable(BootClock())
    ends.callback(table.close)
    launch = Launch(argv=("/bin/true",), env={"PATH": "/bin"}, cwd="/")
    ended: list[object] = []
    table.on_exit(ended.append)

    def spawn() -> None:
        count = len(ended)
        process = table.spawn(launch, f"bench-{count}")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        while len(ended) == count:
            table.drain()
        table.leftovers(process, f"bench-{count}")

    return spawn


def parsing(folder: Path, ends: ExitStack) -> Callable[[], object]:
    """A manifest of the demo: YAML to a spec that is checked."""
    return lambda: parse(MANIFEST, "send-mail.yaml", "/")


def showing(folder: Path, ends: ExitStack) -> Callable[[], object]:
    """The status of a Program with ten replicas: made and written, always another one."""
    room = Engineroom(folder, 1, 10)
    ends.callback(room.journal.close)
    store = StateFiles(str(folder))
    (controlled,) = room.loop.programs.values()
    numbers = iter(range(1 << 30))

    def write() -> None:
        document = room.publisher.object(controlled)
        document["metadata"]["generation"] = next(numbers)
        refusal = store.write_status(controlled.accepted.key, document)
        assert refusal is None, refusal

    return write


def writing_down(folder: Path, ends: ExitStack) -> Callable[[], object]:
    """One record in the journal."""
    journal = SegmentJournal(str(folder / "journal"), 1 << 20)
    ends.callback(journal.close)
    record = encode(Signalled("0123456789abcdef", 7))

    def append() -> None:
        if journal.full:
            journal.checkpoint(())
        journal.append(record)

    return append


CASES = {
    **{f"pass-{programs}x{replicas}": a_pass(programs, replicas) for programs, replicas in SIZES},
    "spawn": Case("spawn of a real process, and its end", spawning, 300, counted=False),
    "parse": Case("a manifest is read", parsing, 500),
    "status": Case("a status of 10 replicas is made and written", showing, 500),
    "journal": Case("a record is appended", writing_down, 5000),
}


def prepared(case: Case, ends: ExitStack) -> Callable[[], object]:
    """What to call, in a folder of its own; in memory if there is one, or the disk would be what is measured."""
    folder = tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    ends.callback(shutil.rmtree, folder)
    do = case.make(Path(folder), ends)
    do()
    return do


def timed() -> Iterator[Result]:
    """All cases by CPU time of this process."""
    for case in CASES.values():
        with ExitStack() as ends:
            do = prepared(case, ends)
            gc.collect()
            gc.freeze()
            yield Result(case.what, cpu_us(do, case.times, per=case.per), case.goal_us)


def counted() -> Iterator[Result]:
    """All cases by instructions."""
    for name, case in CASES.items():
        if case.counted:
            few = max(1, REPEATS // case.per)
            instructions = (_instructions(name, 4 * few) - _instructions(name, few)) / (3 * few)
            yield Result(case.what, instructions / case.per / 1000, unit="kInst")


def _instructions(name: str, times: int) -> int:
    """Of a whole run that does it so many times."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, __file__, "--repeat", name, str(times)]
    # Where dictionaries put their keys shall be the same in both runs.
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True
    )
    found = re.search(r"I +refs: +([\d,]+)", ended.stderr)
    assert found is not None, ended.stderr
    return int(found[1].replace(",", ""))


def repeat(name: str, times: int) -> None:
    """For whoever counts from outside."""
    with ExitStack() as ends:
        do = prepared(CASES[name], ends)
        gc.disable()
        for _ in range(times):
            do()


def main(arguments: list[str]) -> None:
    """The command line."""
    logging.disable()
    if arguments[:1] == ["--repeat"]:
        repeat(arguments[1], int(arguments[2]))
    elif arguments == ["--instructions"]:
        if shutil.which("valgrind") is None:
            raise SystemExit("counting instructions needs valgrind (on Debian: apt install valgrind)")
        show(counted())
    else:
        show(timed())


if __name__ == "__main__":
    main(sys.argv[1:])
