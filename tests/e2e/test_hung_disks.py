"""A file system stops answering under one Program: that one degrades, and says so; nobody else notices."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.daemon import Daemon, Json, eventually
from support.hanging_disk import HangingDisk, hanging_disk, is_there

pytestmark = pytest.mark.skipif(
    not is_there(), reason="needs /dev/fuse; tests/adapters/test_hostmounts.py does without"
)


@pytest.fixture
def disk(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HangingDisk]:
    """Given up before the daemon is asked to end: the daemon was made first."""
    folder = tmp_path_factory.mktemp("disk")
    folder.parent.chmod(0o755)
    with hanging_disk(folder) as disk:
        yield disk
        disk.answer()


def message(daemon: Daemon, name: str) -> str:
    rows: list[Json] = daemon.processes(name)
    return next((row["lastExit"]["message"] for row in rows if row.get("lastExit", {}).get("message")), "")


def others_go_on(daemon: Daemon) -> None:
    """Run-once work is done, a new Program starts, and who asks is answered."""
    daemon.until_written(20)
    name = f"new-{time.monotonic_ns()}"
    daemon.declare(name, "/bin/sleep", "1000", min_ready="0s")
    daemon.until_running(name, 1)
    assert daemon.cli("get", code=0).out


def in_disk(disk: HangingDisk, name: str, content: str, mode: int = 0o644) -> Path:
    path = disk.path / name
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("where", ["working directory", "command", "both", "user"])
def test_what_starts_there_is_not_started_and_says_why(daemon: Daemon, disk: HangingDisk, where: str) -> None:
    script = in_disk(disk, "run.sh", "#!/bin/sh\npwd; exec sleep 1000\n", 0o755)
    folder = daemon.folder if where == "command" else disk.path
    command = ["/bin/sh", "-c", "pwd; exec sleep 1000"] if where in ("working directory", "user") else [str(script)]
    more = {"user": "nobody"} if where == "user" else {}
    for path in (daemon.folder, *daemon.folder.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    backoff = {"initial": "50ms", "max": "200ms"}
    daemon.declare("far", *command, working_dir=str(folder), min_ready="0s", restart_backoff=backoff, **more)
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    pids, controller = daemon.until_running("far", 1), daemon.controller
    eventually(lambda: daemon.log("far") == f"{folder}\n".encode(), "it starts where it shall")
    disk.hang()
    os.kill(pids[0], 9)
    eventually(lambda: "does not answer" in message(daemon, "far"), "it says why")
    others_go_on(daemon)
    disk.answer()
    daemon.until_running("far", 1)
    assert daemon.controller == controller


def test_files_that_are_read_there_keep_what_was_good_last(daemon: Daemon, disk: HangingDisk) -> None:
    env = in_disk(disk, "shop.env", "COLOUR=red\n")
    daemon.declare("far", "/bin/sh", "-c", "echo $COLOUR; exec sleep 1000", env_from=[{"file": str(env)}])
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    pids, controller = daemon.until_running("far", 1), daemon.controller
    disk.hang()
    eventually(lambda: "does not answer" in daemon.condition("far", "CannotStart").get("message", ""), "it says why")
    others_go_on(daemon)
    os.kill(pids[0], 9)
    eventually(lambda: daemon.pids("far").get(0) not in (None, pids[0]), "it is started again, with what was read")
    disk.answer()
    eventually(lambda: not daemon.condition("far", "CannotStart"), "all is well again")
    env.write_text("COLOUR=blue\n")
    eventually(lambda: daemon.log("far") == b"red\nred\nblue\n", "it rolls")
    assert daemon.controller == controller


def test_a_controller_starts_while_it_hangs(daemon: Daemon, disk: HangingDisk) -> None:
    env = in_disk(disk, "shop.env", "COLOUR=red\n")
    daemon.declare("far", "/bin/sleep", "1000", env_from=[{"file": str(env)}], working_dir=str(disk.path))
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    pids = daemon.until_running("far", 1)
    disk.hang()
    daemon.kill_controller()
    others_go_on(daemon)
    assert daemon.pids("far") == pids


PRINTS = "n=0; while :; do echo line $n; n=$((n+1)); sleep 0.01; done"


def lines_without_gaps(content: bytes) -> int:
    """How many, if each is there once and in order."""
    lines = content.decode().splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    return len(lines)


@pytest.mark.parametrize("form", ["raw", "prefix"])
@pytest.mark.parametrize("after", ["it hangs", "the pump is killed as well"])
def test_logs_there_wait_and_come_whole_and_those_of_others_go_on(
    daemon: Daemon, disk: HangingDisk, after: str, form: str
) -> None:
    path = disk.path / "far.log"
    daemon.declare("far", "/bin/sh", "-c", PRINTS, min_ready="0s", logs={"path": str(path), "format": form})
    daemon.declare("near", "/bin/sh", "-c", PRINTS, min_ready="0s")
    daemon.start()
    pids, pump = daemon.until_running("far", 1), daemon.pump
    eventually(lambda: path.exists() and len(path.read_bytes()) > 100, "it is written")
    disk.hang()
    eventually(lambda: "does not answer" in daemon.condition("far", "LogTrouble").get("message", ""), "it says why")
    if after == "it hangs":
        assert daemon.pump == pump
    else:
        daemon.kill_pump()
    daemon.until_printed("near", 1000)
    others = f"new-{after.replace(' ', '-')}"
    daemon.declare(others, "/bin/sh", "-c", PRINTS, min_ready="0s")
    eventually(lambda: daemon.log(others), "one that is new is logged")
    assert not daemon.holds("near", "LogTrouble")
    disk.answer()
    eventually(lambda: not daemon.condition("far", "LogTrouble"), "all is well again")
    before = len(path.read_bytes())
    eventually(lambda: len(path.read_bytes()) > before + 100, "it is written again")
    assert daemon.pids("far") == pids
    daemon.cli("stop", "far")
    daemon.until_at_rest("far")
    if form == "raw":
        assert lines_without_gaps(path.read_bytes()) > 100
    lines_without_gaps(daemon.log("near")[: -len(daemon.log("near").rpartition(b"\n")[2]) or None])


def test_a_count_that_falls_does_not_wait_for_logs_that_lie_there(daemon: Daemon, disk: HangingDisk) -> None:
    """Who works and who is idle would be read from them."""
    asked = daemon.folder / "asked"
    asked.write_text("4")
    trigger = {"type": "exec", "metadata": {"command": ["cat", str(asked)]}}
    spec = {"scaleTargetRef": {"name": "far"}, "maxReplicaCount": 4, "pollingInterval": "100ms", "triggers": [trigger]}
    spec["behavior"] = {"scaleDown": {"stabilizationWindow": 0}}
    document = {"apiVersion": "reconciler/v1", "kind": "QueueBinding", "metadata": {"name": "far"}, "spec": spec}
    daemon.write("binding.yaml", yaml.safe_dump(document))
    script = "trap 'exit 0' TERM; echo '[2026-11-25 17:26:07][1] Processing: App'; while :; do sleep 0.02; done"
    logs = {"path": f"{disk.path}/$(REPLICA).log"}
    daemon.declare("far", "/bin/sh", "-c", script, min_ready="0s", logs=logs)
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    pids = daemon.until_running("far", 4)
    eventually(lambda: all((disk.path / f"{ordinal}.log").stat().st_size for ordinal in range(4)), "all have printed")
    disk.hang()
    asked.write_text("1")
    (kept,) = daemon.until_running("far", 1).items()
    assert kept in pids.items()
    others_go_on(daemon)
    disk.answer()
    asked.write_text("2")
    daemon.until_running("far", 2)
