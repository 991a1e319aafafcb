"""A start that comes again goes another way than the first ones. Nobody who is started can tell the difference."""

import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.processes import prepared, procfs
from reconciler.adapters.processes.spawn import Spawner
from reconciler.model.launch import Launch
from reconciler.ports import SpawnFailed

PYTHON = os.path.realpath(sys.executable)
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "STRANGE": "é=\udcff=", "EMPTY": ""}
FINDINGS = """
import json, os, resource, sys
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "umask": os.umask(0), "cwd": os.getcwd(), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "affinity": sorted(os.sched_getaffinity(0)),
    "nnp": status["NoNewPrivs"].strip(), "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16),
    "streams": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)], "argv": sys.argv[1:],
    "flags": [open(f"/proc/self/fdinfo/{fd}").read().split()[3] for fd in range(3)],
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "env": repr(sorted(os.environb.items())),
    "leader": [os.getsid(0), os.getpgid(0)] == [os.getpid()] * 2,
}), file=open("found", "w"))
"""


class House:
    """A spawner, a folder and a time that stands still unless it is moved on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.count = folder, 100.0, 0
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.spawner = Spawner({"nofile": (64, nofile[1])}, marked=True)

    def launch(self, *argv: str, **fields: Any) -> Launch:
        return Launch(argv=argv, env=fields.pop("env", ENV), cwd=str(fields.pop("cwd", self.folder)), **fields)

    def start(self, launch: Launch) -> int:
        self.count += 1
        return self.spawner.spawn(launch, f"spawn-{self.count}", procfs.birthmark(f"spawn-{self.count}"), self.now)

    def run(self, launch: Launch) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.start(launch), 0)[1])

    def found(self, launch: Launch) -> dict[str, Any]:
        """What the process found, but for its own spawn id."""
        assert self.run(launch) == 0
        found: dict[str, Any] = json.loads((self.folder / "found").read_text())
        assert f"spawn-{self.count}'" in found["env"]
        return found | {"env": found["env"].replace(f"spawn-{self.count}'", "")}


def spawn_id_of(pid: int) -> str | None:
    """A start is over a moment before the kernel can show the environment."""
    deadline = time.monotonic() + 30
    while (found := procfs.spawn_id_of(pid)) is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.spawner.close()


@pytest.fixture
def short_cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on the long way is closed."""

    def close() -> None:
        def refuse(*_: object, **__: object) -> int:
            raise AssertionError("this is prepared and goes the long way")

        monkeypatch.setattr(os, "posix_spawn", refuse)

    assert prepared.is_supported()
    return close


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"umask": 0o077},
        {"cpu_affinity": (0,)},
        {"cwd": "fol der"},
        {"env": {procfs.SPAWN_ID: "mine", **ENV}},
        {"stdout": "fifo", "stderr": "fifo"},
        {"stdout": "fifo", "stderr": "other"},
        {"stderr": "other"},
    ],
    ids=repr,
)
def test_the_third_start_finds_what_the_first_one_found(
    house: House, fields: dict[str, Any], short_cut: Callable[[], None]
) -> None:
    (house.folder / "fol der").mkdir()
    fields = fields | {name: str(house.folder / fields[name]) for name in ("stdout", "stderr", "cwd") if name in fields}
    for name in ("fifo", "other"):
        os.mkfifo(house.folder / name)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGUSR1)}
    script = FINDINGS.replace('"found"', repr(str(house.folder / "found")))
    launch = house.launch(PYTHON, "-I", "-S", "-c", script, "a b", "", "é\udcff", **fields)
    try:
        first = house.found(launch)
        assert house.found(launch) == first
        short_cut()
        assert house.found(launch) == first
        assert house.found(launch) == first
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert first["argv"] == ["a b", "", "é\udcff"]
    assert first["nofile"][0] == 64
    assert resource.getrlimit(procfs.MARK) == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert os.getcwd() == "/"


def test_each_start_carries_its_own_birthmark(house: House, short_cut: Callable[[], None]) -> None:
    launch = house.launch("sleep", "600")
    pids = [house.start(launch), house.start(launch)]
    short_cut()
    pids += [house.start(launch), house.start(launch)]
    try:
        marks = [procfs.birthmark_of(pid) for pid in pids]
        assert marks == [procfs.birthmark(f"spawn-{number}") for number in (1, 2, 3, 4)]
        assert [spawn_id_of(pid) for pid in pids] == ["spawn-1", "spawn-2", "spawn-3", "spawn-4"]
        assert len({os.getsid(pid) for pid in pids}) == 4
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_another_launch_of_the_same_words_is_another_one(house: House) -> None:
    one, other = house.launch("sh", "-c", "exit 3"), house.launch("sh", "-c", "exit 4")
    assert [house.run(each) for each in (one, other) * 4] == [3, 4] * 4


def test_a_command_is_looked_up_again_a_second_later(house: House) -> None:
    early, late = house.folder / "early", house.folder / "late"
    for place, code in ((early, 1), (late, 2)):
        place.mkdir()
        (place / "run").write_text(f"#!/bin/sh\nexit {code}\n")
        (place / "run").chmod(0o755)
    launch = house.launch("run", env={"PATH": f"{early}:{late}:/bin"})
    assert [house.run(launch) for _ in range(4)] == [1, 1, 1, 1]
    (early / "run").rename(early / "ran")
    assert house.run(launch) == 2, "what has gone is looked for at once"
    assert [house.run(launch) for _ in range(3)] == [2, 2, 2]
    (early / "ran").rename(early / "run")
    house.now += 2
    assert [house.run(launch) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("lost", "reason"),
    [("place", "cannot enter"), ("place/run", "./run: No such file"), ("fifo", "No such file or directory")],
)
def test_what_is_gone_is_told_as_at_the_first_start(house: House, lost: str, reason: str) -> None:
    place = house.folder / "place"
    place.mkdir()
    os.mkfifo(house.folder / "fifo")
    (place / "run").write_text("#!/bin/sh\nexit 0\n")
    (place / "run").chmod(0o755)
    launch = house.launch("./run", cwd=place, stdout=str(house.folder / "fifo"))
    assert [house.run(launch) for _ in range(3)] == [0, 0, 0]
    (house.folder / lost).rename(house.folder / "away")
    with pytest.raises(SpawnFailed, match=reason):
        house.start(launch)
    (house.folder / "away").rename(house.folder / lost)
    assert [house.run(launch) for _ in range(3)] == [0, 0, 0]
    assert os.getcwd() == "/"


def test_a_nul_byte_is_refused_each_time(house: House) -> None:
    launch = house.launch("sh", "-c", "a\0b")
    for _ in range(3):
        with pytest.raises(SpawnFailed, match="null"):
            house.start(launch)


def test_what_is_remembered_is_bounded_and_lets_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "MOST", 3)
    gone: list[int] = []
    monkeypatch.setattr(prepared.Prepared, "__del__", lambda self: gone.append(id(self)))
    for code in range(8):
        launch = house.launch("sh", "-c", f"exit {code}")
        assert [house.run(launch) for _ in range(3)] == [code] * 3
    assert len(gone) >= 5


def test_a_process_gets_an_open_description_of_its_own(house: House, short_cut: Callable[[], None]) -> None:
    """Nobody's O_NONBLOCK is another's: each start opens the FIFO anew."""
    os.mkfifo(house.folder / "fifo")
    reader = os.open(house.folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    launch = house.launch("sh", "-c", "echo ok", stdout=str(house.folder / "fifo"))
    assert [house.run(launch) for _ in range(2)] == [0, 0]
    short_cut()
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
    assert house.run(launch) == 0
    assert select.select([reader], [], [], 5)[0]
    assert os.read(reader, 100) == b"ok\n" * 3
    os.close(reader)


def test_what_nobody_starts_any_more_is_let_go_of(house: House) -> None:
    launch = house.launch("sh", "-c", "exit 3")
    for _ in range(3):
        assert house.run(launch) == 3
    assert house.spawner._prepared is not None
    known = house.spawner._prepared._known
    assert len(known) == 1
    gone = weakref.ref(launch)
    del launch
    assert gone() is None, "it is held on to by nobody"
    assert not known


def test_what_is_started_once_and_let_go_of_is_prepared_for_nobody(house: House) -> None:
    """Another one may lie at the same place in memory: that is none of its business."""
    assert house.spawner._prepared is not None
    for code in range(5):
        assert house.run(house.launch("sh", "-c", f"exit {code}")) == code
    assert not house.spawner._prepared._known
    assert not house.spawner._prepared._once
