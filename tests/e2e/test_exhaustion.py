"""Descriptors, processes and memory run out: something is not started and says why, and everybody else goes on."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, Json, always, daemon_in, ending, eventually, is_alive
from support.disks import needs_root

SLEEPS = ("/bin/sleep", "1000")
BOMB = """
# Each starts two others until the limit of processes is reached; those that cannot start one wait.
bomb() { if [ $1 -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; sleep 1000; }
bomb 8
"""
MOST_OF_A_BOMB = 120
CGROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))  # version 1, version 2
PIDS_CGROUP = next((path for path in CGROUPS if os.access(path / "cgroup.procs", os.W_OK)), None)


class Limited(Daemon):
    """A daemon that is started with limits of its own: `--nofile=96:96` and the like."""

    limits: tuple[str, ...] = ()

    def command(self, *arguments: object) -> list[str]:
        command = super().command(*arguments)
        return ["prlimit", *self.limits, "--", *command] if arguments[:1] == ("run",) and self.limits else command


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    with ending(Limited(tmp_path)) as house:
        yield house


def running(daemon: Daemon, name: str) -> int:
    return int(daemon.status(name).get("runningReplicas", 0))


def last_message(daemon: Daemon, name: str) -> str:
    rows: list[Json] = daemon.processes(name)
    return next((row["lastExit"]["message"] for row in rows if row.get("lastExit", {}).get("message")), "")


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_more_processes_than_descriptors_are_not_started_and_say_which_limit_to_raise(limited: Limited) -> None:
    limited.limits = ("--nofile=96:96",)
    limited.declare("few", *SLEEPS, replicas=4, min_ready="0s")
    limited.start()
    pids = limited.until_running("few", 4)
    limited.declare("many", *SLEEPS, replicas=150, min_ready="0s")
    eventually(lambda: "raise the limit of open files" in last_message(limited, "many"), "it says what is missing")
    assert limited.cli("status", code=1).out, "somebody who asks is answered"
    assert limited.pids("few") == pids
    pump = limited.pump
    limited.declare("many", *SLEEPS, replicas=4, min_ready="0s")
    limited.until_running("many", 4)
    limited.cli("reset", "many")
    assert limited.pids("few") == pids
    assert limited.pump == pump, "the pump lived through it"
    assert limited.status("few")["processes"][0]["restarts"] == 0


def test_a_new_pump_has_what_it_needs_whoever_else_wants_a_descriptor(limited: Limited) -> None:
    limited.limits = ("--nofile=96:96",)
    limited.declare("many", *SLEEPS, replicas=150, min_ready="0s")
    limited.start()
    eventually(lambda: "raise the limit of open files" in last_message(limited, "many"), "descriptors ran out")
    limited.kill_pump()
    pump = eventually(lambda: pid if is_alive(pid := limited.pump) else 0, "there is another pump")
    always(lambda: limited.pump == pump, 1.5, "it lives")
    assert "pump: cannot serve" not in limited.output()


def test_a_crowd_of_clients_takes_no_descriptor_that_a_process_needs(limited: Limited) -> None:
    limited.limits = ("--nofile=128:128",)
    limited.declare("mail", *limited.worker("once"), run_once=True)
    limited.start()
    limited.until_available("mail")
    crowd = []
    try:
        for _ in range(120):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(10)
            sock.connect(str(limited.state / "run/reconciler.sock"))
            crowd.append(sock)
        limited.until_written(30)
    finally:
        for sock in crowd:
            sock.close()
    eventually(lambda: limited.status("mail")["processes"], "it answers again")
    assert all(row.get("failures", 0) == 0 for row in limited.processes("mail"))
    assert limited.output().count("Traceback") == 0


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["it stops", "the controller dies and it stops"])
@needs_root
def test_a_fork_bomb_hurts_itself_only_and_is_gone_after_a_stop(daemon: Daemon, after: str) -> None:
    daemon.folder.chmod(0o755)
    for folder in [daemon.folder, *daemon.folder.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    user = str(3_000_000_000 + os.getpid())  # nobody else's, so that nobody else's processes count
    daemon.declare(
        "bomb",
        *("/bin/bash", "-c", BOMB),
        user=user,
        group=user,
        limits={"nproc": MOST_OF_A_BOMB},
        working_dir="/",
        termination_grace_period="1s",
    )
    daemon.declare("web", *daemon.worker("once"), run_once=True)
    daemon.start()

    def fragments() -> list[int]:
        done = subprocess.run(["pgrep", "-u", user], capture_output=True, text=True, check=False)
        return [int(word) for word in done.stdout.split()]

    eventually(lambda: len(fragments()) > MOST_OF_A_BOMB // 2, "it goes off")
    assert len(fragments()) <= MOST_OF_A_BOMB
    daemon.until_written(20)
    if after != "it stops":
        daemon.kill_controller()
    daemon.cli("stop", "bomb")
    eventually(lambda: not fragments(), "not one of it is left")
    daemon.until_at_rest("bomb")
    daemon.until_written(20)


class OfAnother(Daemon):
    """A daemon of a user who may have so many processes and threads: that does not bind root."""

    user = 3_100_000_000 + os.getpid()  # nobody else's, so that nobody else's processes count
    most = 40

    def command(self, *arguments: object) -> list[str]:
        command = super().command(*arguments)
        if arguments[:1] != ("run",):
            return command
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return [*become, "prlimit", f"--nproc={self.most}:{self.most}", "--", *command]


@needs_root
def test_a_user_who_may_have_no_more_processes_has_those_he_has_and_the_rest_is_told_why(tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    backoff = {"initial": "100ms", "max": "500ms"}
    with ending(OfAnother(tmp_path)) as house:
        house.give_to(house.user)
        house.declare("few", *SLEEPS, replicas=3, min_ready="0s", restart_backoff=backoff)
        house.start()
        pids, controller = house.until_running("few", 3), house.controller
        house.declare("many", *SLEEPS, replicas=60, min_ready="0s", restart_backoff=backoff)
        eventually(lambda: "cannot fork: Resource temporarily" in last_message(house, "many"), "it says why")
        house.declare("late", *SLEEPS, min_ready="0s", restart_backoff=backoff)
        eventually(lambda: house.status("late")["processes"], "manifests are read, though no thread can be had")
        house.cli("status", code=None)
        assert house.pids("few") == pids
        house.declare("many", *SLEEPS, replicas=2, min_ready="0s", restart_backoff=backoff)
        house.until_running("many", 2)
        house.until_running("late", 1)
        assert (house.controller, house.pids("few")) == (controller, pids)
        assert "Traceback" not in house.output()


@pytest.mark.skipif(PIDS_CGROUP is None, reason="no cgroup can be made here; the limit of a user is tried above")
def test_where_no_process_can_be_started_it_backs_off_and_goes_on_when_one_can(tmp_path: Path) -> None:
    with daemon_in(tmp_path) as daemon:
        daemon.declare("web", *SLEEPS, replicas=2, min_ready="0s", restart_backoff={"initial": "100ms", "max": "1s"})
        daemon.start()
        pids = daemon.until_running("web", 2)
        assert PIDS_CGROUP
        group = PIDS_CGROUP / f"reconciler-test-{os.getpid()}"
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(str(daemon.controller))
            (group / "pids.max").write_text("1")
            os.kill(pids[0], 9)
            eventually(lambda: "cannot fork: Resource temporarily" in last_message(daemon, "web"), "it says why")
            assert running(daemon, "web") == 1
            assert daemon.cli("status", code=1).out
            daemon.declare("new", *SLEEPS, min_ready="0s")
            eventually(
                lambda: daemon.status("new")["processes"], "a manifest is read although no helper can be started"
            )
            (group / "pids.max").write_text("max")
            assert daemon.until_running("web", 2)[1] == pids[1]
            daemon.until_running("new", 1)
            (group.parent / "cgroup.procs").write_text(str(daemon.controller))
            daemon.quit()
        finally:
            eventually(lambda: not (group / "cgroup.procs").read_text().strip(), "the group is empty")
            group.rmdir()
