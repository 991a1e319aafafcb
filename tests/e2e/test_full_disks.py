"""A state directory that is full, or takes no writes at all: what runs runs on, is replaced, and is never doubled."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, daemon_in, eventually, is_alive
from support.disks import Disk, ext4_disk, needs_root, small_disk

pytestmark = needs_root

PRINTS = ("/bin/sh", "-c", "while :; do echo a line of some length, so that it takes some room; sleep 0.05; done")


class House:
    """A daemon whose state directory is a disk of its own."""

    def __init__(self, daemon: Daemon, disk: Disk) -> None:
        self.daemon, self.disk = daemon, disk


@pytest.fixture
def full(tmp_path: Path) -> Iterator[House]:
    with small_disk(tmp_path / "state") as disk, daemon_in(tmp_path) as daemon:
        yield House(daemon, disk)
        disk.free()


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[House]:
    with ext4_disk(tmp_path / "state", tmp_path / "image") as disk, daemon_in(tmp_path) as daemon:
        yield House(daemon, disk)


def kill(daemon: Daemon, name: str, replica: int = 0) -> int:
    """One process ends by KILL; the pid of its successor."""
    pid = daemon.pids(name)[replica]
    os.kill(pid, signal.SIGKILL)
    return eventually(lambda: (new := daemon.pids(name).get(replica)) not in (None, pid) and new, "it is replaced") or 0


def of(daemon: Daemon, command: tuple[str, ...]) -> set[int]:
    """The pids of all processes with this command."""
    return {proc.pid for proc in daemon.everybody() if proc.command == " ".join(command).strip()}


def wrong(daemon: Daemon) -> str:
    return " ".join(problem["message"] for problem in daemon.problems())


# --- full -------------------------------------------------------------------------------------------------------------


def test_started_on_a_full_disk_it_waits_for_room_and_says_so(full: House) -> None:
    daemon = full.daemon
    daemon.declare("web", *daemon.worker("steady"))
    daemon.declare("never", *daemon.worker("once"), restart_policy="Never")
    full.disk.fill()
    daemon.start()
    eventually(lambda: "No space left on device" in wrong(daemon), "it says what is wrong")
    assert not daemon.ledger(), "what is not on disk is not in force"
    full.disk.free()
    daemon.until_available("web")
    eventually(lambda: daemon.status("never").get("processes", [{}])[0].get("state") == "Succeeded", "it ran")
    eventually(lambda: not wrong(daemon), "nothing is wrong any more")
    assert len(daemon.ledger("start")) == 2


def test_what_runs_when_the_disk_becomes_full_is_replaced_and_restarted_as_ever(full: House) -> None:
    daemon = full.daemon
    daemon.declare("web", *PRINTS, replicas=2)
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    daemon.until_available("web")
    full.disk.fill()
    eventually(lambda: daemon.holds("web", "LogTrouble"), "it says that it cannot write the log")
    kill(daemon, "web")
    daemon.until_written(20)  # run-once work goes on: its records have their room
    assert not daemon.holds("mail", "JournalUnwritable")
    controller, pump = daemon.controller, daemon.pump
    daemon.kill_controller()
    daemon.kill_pump()
    assert daemon.until_running("web", 2)
    assert of(daemon, PRINTS) == set(daemon.pids("web").values()), "none is doubled"
    daemon.until_written(20)
    kill(daemon, "web", 1)
    assert not is_alive(controller)
    assert not is_alive(pump)
    full.disk.free()
    eventually(lambda: not daemon.holds("web", "LogTrouble"), "the logs are written again")
    daemon.until_printed("web", 1000, (0, 1))


def test_what_is_asked_for_on_a_full_disk_is_refused_or_waits_and_nothing_is_half_done(full: House) -> None:
    daemon = full.daemon
    daemon.declare("web", *daemon.worker("steady"), replicas=2)
    daemon.start()
    pids = daemon.until_running("web", 2)
    full.disk.fill()
    (daemon.folder / "mail.yaml").write_text(daemon.manifest("mail", *daemon.worker("steady")))
    refused = daemon.cli("apply", "-f", daemon.folder / "mail.yaml", code=1)
    assert refused.err.startswith("error: nothing was applied: cannot write ")
    assert refused.err.endswith("No space left on device\n")
    refused = daemon.cli("scale", "web", "--replicas=3", code=1)
    assert refused.err.startswith("error: nothing was changed: cannot write ")
    daemon.declare("web", *daemon.worker("steady"), replicas=3)
    said = eventually(lambda: daemon.condition("web", "StateUnwritable"), "a changed manifest is not in force")
    assert "No space left on device" in said["message"]
    assert daemon.pids("web") == pids
    full.disk.free()
    assert daemon.until_running("web", 3).items() >= pids.items()
    eventually(lambda: not daemon.holds("web", "StateUnwritable"), "it is")
    assert not list(daemon.state.rglob(".*.new")), "nothing half-written is left"
    assert not list(daemon.state.glob("incoming/*"))


def test_the_status_that_a_full_disk_did_not_take_is_written_when_there_is_room(full: House) -> None:
    daemon = full.daemon
    daemon.declare("web", *daemon.worker("steady"), replicas=40)  # its status takes more than a page
    daemon.start()
    daemon.until_available("web")
    path = daemon.state / "status/Program/web.yaml"
    full.disk.fill()
    pid = kill(daemon, "web")
    said = eventually(lambda: daemon.condition("web", "StateUnwritable"), "it says that its status cannot be written")
    assert "status/Program/web.yaml" in said["message"]
    assert str(pid) not in path.read_text()
    full.disk.free()
    eventually(lambda: str(pid) in path.read_text(), "the status is written")
    eventually(lambda: not daemon.holds("web", "StateUnwritable"), "nothing is wrong any more")


def test_a_full_disk_is_told_once_not_each_time_it_is_tried(full: House) -> None:
    daemon = full.daemon
    daemon.start()
    full.disk.fill()
    daemon.declare("web", *daemon.worker("steady"))
    eventually(lambda: "nothing that changed meanwhile is in force" in daemon.output(), "the log says what is wrong")
    told = daemon.output().count("No space left on device")
    for replicas in range(2, 7):  # each has it tried again
        daemon.declare("web", *daemon.worker("steady"), replicas=replicas)
        daemon.client.rescan()
    assert daemon.output().count("No space left on device") == told


# --- broken -----------------------------------------------------------------------------------------------------------


def test_on_a_disk_that_takes_nothing_processes_are_replaced_and_a_new_controller_takes_them_over(
    broken: House,
) -> None:
    daemon = broken.daemon
    daemon.declare("web", *PRINTS, replicas=2)
    daemon.declare("mail", *daemon.worker("once"), run_once=True, replicas=1)
    daemon.start()
    daemon.until_available("web")
    broken.disk.break_down()
    daemon.kill_controller()  # it had its journal open; the next one cannot even open it
    eventually(lambda: daemon.holds("mail", "JournalUnwritable"), "it says that it takes no records")
    runs = len(daemon.ledger("start"))
    kill(daemon, "web")
    newest = kill(daemon, "web", 1)
    daemon.kill_controller()
    pids = daemon.until_running("web", 2)
    assert pids[1] == newest, "it is taken over although nothing was written down of it"
    assert of(daemon, PRINTS) == set(pids.values()), "none is doubled"
    assert len(daemon.ledger("start")) <= runs + 1, "run-once work is not begun without a record"
    assert daemon.quit() == 0
    assert "Traceback" not in daemon.output()


def test_a_pump_that_dies_on_a_disk_that_takes_nothing_says_why_it_cannot_come_back(broken: House) -> None:
    daemon = broken.daemon
    daemon.declare("web", *PRINTS)
    daemon.start()
    daemon.until_available("web")
    broken.disk.break_down()
    os.kill(daemon.pump, signal.SIGKILL)
    eventually(lambda: "pump: cannot serve" in daemon.output(), "it says why")
    assert daemon.until_running("web", 1)
    assert "Traceback" not in daemon.output()


def test_on_a_read_only_disk_it_does_not_start_and_says_why(broken: House) -> None:
    daemon = broken.daemon
    broken.disk.break_down()
    assert daemon.launch().wait(30) == 1
    assert "cannot use the state directory" in daemon.output()
    assert "Read-only file system" in daemon.output()
