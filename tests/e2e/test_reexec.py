"""Other code under the same processes: `reexec`, its signals, `shutdown --keep`, and upgrades that go wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import Any

import pytest

import reconciler
from reconciler import wire
from support.daemon import Daemon, always, eventually, is_alive
from support.installed import SOURCE, Installed

SMALL_SEGMENTS = {"maxSize": "64Ki", "maxFiles": 200, "compress": "none"}


@pytest.fixture
def installed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(daemon, monkeypatch)


def about(daemon: Daemon) -> dict[str, Any]:
    return daemon.client.daemon()


class TestReexec:
    def test_controller_and_pump_are_replaced_and_no_process_notices(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=6)
        daemon.start()
        pids, before = daemon.until_running("web", 6), about(daemon)
        metadata = daemon.object("web")["metadata"]
        told = daemon.cli("reexec")
        after = about(daemon)
        assert told.out == (
            f"reexec: controller {before['pid']} -> {after['pid']}, pump {before['pumpPid']} -> {after['pumpPid']},"
            " 6 processes kept\n"
        )
        assert (after["keeperPid"], after["keeperReplaced"], after["controllerDeaths"]) == (daemon.keeper, 0, 0)
        assert not is_alive(before["pid"])
        assert not is_alive(before["pumpPid"])
        assert daemon.until_running("web", 6) == pids
        assert len(daemon.ledger()) == 6
        assert daemon.object("web")["metadata"] == metadata
        assert [row["runs"] for row in daemon.processes("web")] == [1] * 6

    def test_the_whole_daemon_is_replaced_in_place(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        daemon.start()
        pids, began = daemon.until_running("web", 3), wire.start_ticks(daemon.keeper)
        for count in (1, 2):
            told = daemon.cli("reexec", "--keeper")
            assert f"keeper {daemon.keeper} in place, 3 processes kept" in told.out
            assert about(daemon)["keeperReplaced"] == count
        assert wire.start_ticks(daemon.keeper) == began
        assert daemon.until_running("web", 3) == pids
        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: len(daemon.ledger("start")) == 4, "who is a process of an earlier controller is missed, too")
        assert daemon.until_running("web", 3)[2] == pids[2]
        refused = daemon.cli("run", "-f", daemon.manifests, code=6)
        assert f"already runs on {daemon.state} (pid {daemon.keeper})" in refused.err
        daemon.cli("shutdown", "--wait")
        assert daemon.wait() == 0
        assert not any(map(is_alive, pids.values()))

    def test_a_dry_run_replaces_nothing(self, daemon: Daemon) -> None:
        daemon.start()
        before = about(daemon)
        told = daemon.cli("reexec", "--keeper", "--dry-run")
        assert f"controller {before['pid']}, pump {before['pumpPid']}, keeper {daemon.keeper} would be" in told.out
        always(lambda: about(daemon)["pid"] == before["pid"], 0.3)
        assert about(daemon)["pumpPid"] == before["pumpPid"]

    @pytest.mark.parametrize("options", [(), ("--keeper",)])
    def test_how_processes_end_meanwhile_is_known_exactly(self, daemon: Daemon, options: tuple[str, ...]) -> None:
        ends = {"seven": ("7", 7, None), "killed": ("KILL", None, "KILL"), "zero": ("0", 0, None)}
        for name, (how, _, _) in ends.items():
            command = daemon.worker("piece", daemon.folder / "go", how)
            daemon.declare(name, *command, replicas=4, restart_policy="Never")
        daemon.start()
        for name in ends:
            daemon.until_running(name, 4)
        changing = subprocess.Popen(
            daemon.command("reexec", *options), env=daemon.environment(), cwd=daemon.folder, stderr=subprocess.PIPE
        )
        assert changing.stderr is not None
        changing.stderr.readline()  # it was tried out; from here on nobody controls
        (daemon.folder / "go").touch()
        assert (changing.communicate(timeout=60)[0], changing.returncode) == (None, 0)
        for name, (_, code, killed_by) in ends.items():
            eventually(
                lambda name=name: all("lastExit" in row for row in daemon.processes(name)), "their ends are known"
            )
            for row in daemon.processes(name):
                assert (row["lastExit"]["code"], row["lastExit"]["signal"]) == (code, killed_by)
                assert (row["state"], row["runs"]) == ("Succeeded" if code == 0 else "Failed", 1)
        assert len(daemon.ledger("start")) == 12

    def test_run_once_work_is_neither_doubled_nor_lost(self, daemon: Daemon) -> None:
        daemon.declare("mail", *daemon.worker("once"), replicas=4, run_once=True, min_restart_interval="0s")
        daemon.start()
        for options in ((), ("--keeper",), ()):
            daemon.until_written(40)
            daemon.cli("reexec", *options)
        daemon.until_written(40)
        daemon.cli("stop", "mail")
        daemon.until_at_rest("mail")
        for replica in range(4):
            words = [(entry.what, entry.pid) for entry in daemon.ledger() if entry.replica == replica]
            starts, ends = words[::2], words[1::2]
            assert [pid for _, pid in starts] == [pid for _, pid in ends], f"two at once at ordinal {replica}"
            assert ({what for what, _ in starts}, {what for what, _ in ends}) == ({"start"}, {"end"})
        assert about(daemon)["controllerDeaths"] == 0

    def test_no_log_byte_is_lost_or_doubled(self, daemon: Daemon) -> None:
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, replicas=3, restart_policy="Never", logs=SMALL_SEGMENTS)
        daemon.start()
        for options in ((), ("--keeper",), ("--keeper",)):
            daemon.until_printed("talk", 60_000, range(3))
            daemon.cli("reexec", *options)
        daemon.until_printed("talk", 60_000, range(3))
        assert_all_was_logged_once(daemon, "talk", 3)

    def test_who_asks_meanwhile_is_answered_by_the_next(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        daemon.until_running("web", 2)
        first = daemon.controller
        daemon.client.reexec(keeper=True)
        asked = 0
        while about(daemon)["pid"] == first or asked < 20:
            assert len(daemon.client.processes()) == 2
            asked += 1

    def test_overrides_back_off_and_rollouts_go_on(self, daemon: Daemon) -> None:
        daemon.declare("sick", *daemon.worker("once", 1), restart_backoff={"initial": "1h", "max": "1h", "jitter": 0})
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        eventually(lambda: "nextStartAt" in daemon.processes("sick")[0] if daemon.processes("sick") else False)
        before = daemon.processes("sick")[0]
        daemon.cli("scale", "web", "--replicas", 3)
        daemon.until_running("web", 3)
        daemon.cli("reexec", "--keeper")
        after = daemon.processes("sick")[0]
        assert (after["failures"], after["state"], after["nextStartAt"][:18]) == (
            2,
            "BackOff",
            before["nextStartAt"][:18],
        )
        assert daemon.holds("web", "Overridden")
        assert len(daemon.until_running("web", 3)) == 3
        assert len(daemon.ledger("start")) == 5

    def test_a_drain_that_was_asked_for_goes_on(self, daemon: Daemon) -> None:
        daemon.declare("slow", *daemon.worker("stubborn"), termination_grace_period="1h")
        daemon.start()
        daemon.until_running("slow", 1)
        daemon.cli("shutdown")
        eventually(lambda: about(daemon)["draining"], "it drains")
        daemon.kill_controller()
        eventually(lambda: about(daemon)["draining"], "the next one drains, too")
        daemon.cli("reexec", "--keeper")
        eventually(lambda: about(daemon)["draining"], "and so does the one after a change of everything")
        daemon.cli("stop", "slow", "--now")
        assert daemon.wait() == 0


class TestSignals:
    def test_usr1_does_the_same_without_a_rehearsal(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, before = daemon.until_running("web", 2), about(daemon)
        os.kill(daemon.keeper, signal.SIGUSR1)
        eventually(lambda: not is_alive(before["pid"]) and not is_alive(before["pumpPid"]), "both have left")
        assert daemon.until_running("web", 2) == pids
        after = about(daemon)
        assert (after["controllerDeaths"], after["keeperReplaced"]) == (0, 0)

    def test_usr2_reopens_logs_that_somebody_moved_away(self, daemon: Daemon) -> None:
        daemon.declare("talk", "/bin/sh", "-c", "while :; do echo line; sleep 0.01; done")
        daemon.start()
        log = daemon.state / "logs" / "talk" / "0.log"
        daemon.until_printed("talk", 50)
        log.rename(log.with_name("moved"))
        os.kill(daemon.keeper, signal.SIGUSR2)
        eventually(lambda: log.exists() and log.stat().st_size > 20, "a new file is written")

    def test_hup_reads_all_manifests(self, daemon: Daemon) -> None:
        daemon.start()
        os.kill(daemon.keeper, signal.SIGHUP)
        eventually(lambda: daemon.output().count("is ready after") == 2, "it says when all is read")


class TestServiceManager:
    def test_it_hears_how_things_are(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        import socket

        before, address = daemon.environment, f"\0reconciler-{os.getpid()}-{id(daemon)}"
        monkeypatch.setattr(daemon, "environment", lambda: before() | {"NOTIFY_SOCKET": "@" + address[1:]})
        daemon.declare("web", "/bin/sh", "-c", "env > env; exec sleep 1000", inherit_env=["NOTIFY_SOCKET"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(30)
            daemon.start()
            assert manager.recv(1000) == b"READY=1"
            daemon.cli("reexec", "--keeper")
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(1000))
            assert manager.recv(1000) == b"READY=1"
            os.kill(daemon.keeper, signal.SIGHUP)
            assert manager.recv(1000).startswith(b"RELOADING=1\n")
            assert manager.recv(1000) == b"READY=1"
            daemon.cli("shutdown")
            assert manager.recv(1000) == b"STOPPING=1"
            assert daemon.wait() == 0
        environment = (daemon.manifests / "env").read_text(encoding="utf-8")
        assert "NOTIFY_SOCKET" not in environment


class TestKeep:
    def test_processes_live_on_and_the_next_run_takes_them_over(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        daemon.start()
        pids, before = daemon.until_running("web", 3), about(daemon)
        told = daemon.cli("shutdown", "--keep", "--wait")
        assert told.out == "reconciler is shutting down, 3 processes kept\n"
        assert daemon.wait() == 0
        assert not is_alive(before["pid"])
        assert is_alive(before["pumpPid"]), "it stays with those who write"
        assert all(map(is_alive, pids.values()))
        assert daemon.cli("get", code=5).out == ""
        daemon.start()
        assert daemon.until_running("web", 3) == pids
        assert len(daemon.ledger()) == 3
        assert not is_alive(before["pumpPid"])
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        assert daemon.until_running("web", 2) == {0: pids[0], 1: pids[1]}

    def test_what_they_print_meanwhile_is_logged_and_the_pump_goes_with_the_last_of_them(self, daemon: Daemon) -> None:
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, replicas=2, restart_policy="Never", logs=SMALL_SEGMENTS)
        daemon.start()
        daemon.until_running("talk", 2)
        pump = daemon.pump
        daemon.cli("shutdown", "--keep")
        assert daemon.wait() == 0
        daemon.until_printed("talk", 100_000, range(2))
        assert_all_was_logged_once(daemon, "talk", 2)
        eventually(lambda: not is_alive(pump), "nobody writes any more")

    def test_no_byte_is_lost_or_doubled_when_the_next_run_takes_over_from_that_pump(self, daemon: Daemon) -> None:
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, replicas=2, restart_policy="Never", logs=SMALL_SEGMENTS)
        daemon.start()
        for _ in range(2):
            daemon.until_printed("talk", 60_000, range(2))
            daemon.cli("shutdown", "--keep")
            assert daemon.wait() == 0
            daemon.start()
        daemon.until_printed("talk", 60_000, range(2))
        assert_all_was_logged_once(daemon, "talk", 2)

    def test_an_end_meanwhile_is_no_success_and_nothing_is_repeated(self, daemon: Daemon) -> None:
        daemon.declare("work", *daemon.worker("piece", daemon.folder / "go", "0"), restart_policy="Never")
        daemon.start()
        pid = daemon.until_running("work", 1)[0]
        daemon.cli("shutdown", "--keep")
        assert daemon.wait() == 0
        (daemon.folder / "go").touch()
        eventually(lambda: not is_alive(pid))
        daemon.start()
        # Where nobody reaped it (a container without an init), the zombie still tells.
        eventually(
            lambda: daemon.processes("work")[0]["state"] in {"Unknown", "Succeeded"}, "it may have done its work"
        )
        always(lambda: len(daemon.ledger("start")) == 1, 0.3)

    def test_a_drain_may_still_be_left_to_the_next_run(self, daemon: Daemon) -> None:
        daemon.declare("slow", *daemon.worker("stubborn"), termination_grace_period="1h")
        daemon.start()
        pid = daemon.until_running("slow", 1)[0]
        daemon.cli("shutdown")
        eventually(lambda: about(daemon)["draining"])
        daemon.cli("shutdown", "--keep")
        assert daemon.wait() == 0
        assert is_alive(pid)
        os.killpg(pid, signal.SIGKILL)


class TestUpgrade:
    def test_the_new_version_takes_over_what_the_old_one_started(self, daemon: Daemon, installed: Installed) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=4)
        daemon.start()
        pids = daemon.until_running("web", 4)
        installed.upgrade_to("7.0.0")
        assert daemon.cli("version").out.startswith("reconciler 7.0.0 ")
        told = daemon.cli("status", "--daemon")
        assert "version 7.0.0 is installed here: `reconciler reexec`" in told.err
        assert about(daemon)["version"] == reconciler.__version__

        told = daemon.cli("reexec")

        assert told.err == f"version {reconciler.__version__} -> 7.0.0: tried out, changing over\n"
        assert (about(daemon)["version"], about(daemon)["keeperVersion"]) == ("7.0.0", reconciler.__version__)
        assert "version           7.0.0\n" in daemon.cli("status", "--daemon").out
        daemon.cli("reexec", "--keeper")
        assert about(daemon)["keeperVersion"] == "7.0.0"
        assert daemon.until_running("web", 4) == pids
        assert len(daemon.ledger()) == 4

    def test_half_an_upgrade_harms_nothing_that_runs(self, daemon: Daemon, installed: Installed) -> None:
        """All code is in memory: what the disk holds meanwhile matters to nobody who was started before."""
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids = daemon.until_running("web", 2)
        shutil.rmtree(installed.package)
        installed.package.mkdir()
        (installed.package / "__init__.py").write_text("raise SystemExit('half an upgrade')\n")
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: len(daemon.ledger("start")) == 3, "what ends is started again")
        daemon.declare("more", *daemon.worker("steady"))
        document = {
            "file": "/x/later.yaml",
            "text": daemon.manifest("later", *daemon.worker("steady"), working_dir="/"),
        }
        assert daemon.client.apply({"documents": [document]})["results"]
        daemon.declare("bad", "a", restart_polcy="x")
        for name in ("more", "later"):
            daemon.until_running(name, 1)
        for verb, body in (("scale", {"replicas": 3}), ("restart", {}), ("stop", {}), ("start", {}), ("reset", {})):
            daemon.client.operate("later", verb, body)
        assert b"".join(daemon.client.logs("web")) == b""
        eventually(daemon.problems, "a bad manifest is told")
        for number in range(40):  # so many are parsed by processes of their own, which would be of the new code
            daemon.declare(f"p{number}", "sleep", "1", replicas=0)
        eventually(lambda: len(daemon.client.programs()["items"]) == 43, "all are read")
        assert [problem["file"] for problem in daemon.problems()] == [str(daemon.manifests / "bad.yaml")]
        assert daemon.client.status()["items"]
        assert daemon.client.delete("later")
        assert "InternalError" not in json.dumps(daemon.client.programs())
        assert "Traceback" not in daemon.output()

    def test_an_upgrade_that_would_not_start_is_refused_and_nothing_is_replaced(
        self, daemon: Daemon, installed: Installed
    ) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, before = daemon.until_running("web", 2), about(daemon)
        for name, options in (("engine/loop.py", ()), ("pump.py", ()), ("keeping/decisions.py", ("--keeper",))):
            installed.break_(name)
            told = subprocess.run(
                [sys.executable, "-m", "reconciler", "--state-dir", daemon.state, "reexec", *options],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (told.returncode, told.stdout) == (1, "")
            assert told.stderr.startswith("error: the installed code would not work: SyntaxError: ")
            assert f"{name}, line 1). Nothing was replaced" in told.stderr
            installed.mend(name)
        assert [about(daemon)[key] for key in ("pid", "pumpPid", "keeperReplaced")] == [
            before["pid"],
            before["pumpPid"],
            0,
        ]
        daemon.cli("reexec", "--keeper")
        assert daemon.until_running("web", 2) == pids

    def test_code_that_breaks_under_it_is_tried_again_until_it_is_mended(
        self, daemon: Daemon, installed: Installed
    ) -> None:
        """USR1 asks for no rehearsal, nor does the death of a controller."""
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, first = daemon.until_running("web", 2), about(daemon)
        for name in ("engine/loop.py", "pumping/conduit.py"):
            installed.break_(name)
        os.kill(daemon.keeper, signal.SIGUSR1)
        tried = re.compile(r"controller \(pid \d+\) exited with 1")
        eventually(lambda: len(tried.findall(daemon.output())) >= 3, "it is tried again and again")
        assert re.search(r"pump \(pid \d+\) exited with 1", daemon.output())
        assert all(map(is_alive, (daemon.keeper, *pids.values())))
        assert not is_alive(first["pid"])
        for name in ("engine/loop.py", "pumping/conduit.py"):
            installed.mend(name)
        daemon.await_ready()
        assert daemon.until_running("web", 2) == pids
        assert about(daemon)["safeMode"] is True
        told = daemon.cli("status", "--daemon", code=1)
        assert "`reconciler reexec` ends safe mode" in told.err
        daemon.cli("reexec")
        assert about(daemon)["safeMode"] is False
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        assert pids.items() <= daemon.until_running("web", 3).items()

    def test_what_starts_and_then_dies_is_told_while_one_waits(self, daemon: Daemon, installed: Installed) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids = daemon.until_running("web", 2)
        # A rehearsal cannot see this: it shows when the controller has taken over.
        installed.change("app.py", r"        self\._link\.hello\(\)\n", "        raise MemoryError('a bug of 7.0')\n")
        told = daemon.cli("reexec", "--timeout", "12s", code=4)
        assert "did not live; " in told.err
        assert f"the processes run on, and keeper {daemon.keeper} tries again" in told.err
        installed.mend("app.py")
        daemon.await_ready()
        assert daemon.until_running("web", 2) == pids

    def test_a_version_that_speaks_another_wire_wants_the_keeper_replaced_too(
        self, daemon: Daemon, installed: Installed
    ) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, first = daemon.until_running("web", 2), about(daemon)
        installed.upgrade_to("8.0.0")
        installed.change("wire.py", r"VERSION = 1\n", "VERSION = 2\n")
        told = daemon.cli("reexec", code=6)
        assert told.err == (
            "error: version 8.0.0 speaks wire 2 with its keeper, this one wire 1: replace it, too"
            " (`reconciler reexec --keeper`)\n"
        )
        assert about(daemon)["pid"] == first["pid"]
        # A controller that died is replaced all the same, and both make the best of it.
        os.kill(first["pid"], signal.SIGKILL)
        eventually(lambda: about(daemon)["version"] == "8.0.0")
        (warning,) = about(daemon)["warnings"]
        assert warning.startswith("the keeper speaks wire 1, this controller wire 2: replace it, too")
        daemon.until_well()  # a remark is no fault
        assert "daemon: the keeper speaks wire 1" in daemon.cli("status").out.replace("\n  ", " ")
        daemon.cli("reexec", "--keeper")
        assert about(daemon)["warnings"] == []
        assert daemon.until_running("web", 2) == pids

    def test_a_keeper_that_cannot_go_on_from_the_running_one_says_so_before_anything_happens(
        self, daemon: Daemon, installed: Installed
    ) -> None:
        daemon.start()
        first = about(daemon)
        installed.change("keeping/handover.py", r"READS = \(1,\)", "READS = (9,)")
        told = daemon.cli("reexec", "--keeper", code=1)
        assert "the running keeper hands over version 1, this one reads 9" in told.err
        assert "shutdown --keep" in told.err
        assert (about(daemon)["pid"], about(daemon)["keeperReplaced"]) == (first["pid"], 0)

    def test_a_configuration_that_is_broken_meanwhile_is_refused_too(self, daemon: Daemon) -> None:
        config = daemon.folder / "config.yaml"
        good = "apiVersion: reconciler/v1\nkind: Config\nmetadata: {name: x}\nspec: {logLevel: info}\n"
        config.write_text(good)
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start(options=("--config", config))
        pids, first = daemon.until_running("web", 2), about(daemon)
        config.write_text(good.replace("logLevel", "logLevle"))
        told = daemon.cli("reexec", code=1)
        assert "config.yaml:4" in told.err
        assert about(daemon)["pid"] == first["pid"]
        os.kill(first["pid"], signal.SIGKILL)
        eventually(lambda: "cannot work with its arguments; processes are left alone" in daemon.output())
        assert all(map(is_alive, (daemon.keeper, *pids.values())))
        config.write_text(good)
        daemon.await_ready()
        assert daemon.until_running("web", 2) == pids


class TestPip:
    """The same by the means of a user: wheels, and `pip install` into a virtual environment that a daemon runs from."""

    def wheel(self, folder: Path, version: str) -> Path:
        """A wheel of this code under another version."""
        tree = folder / version
        shutil.copytree(SOURCE, tree / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(SOURCE.parent / name, tree)
        about = tree / "reconciler" / "__init__.py"
        about.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', about.read_text()))
        self.pip("wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, tree)
        return folder / f"reconciler-{version}-py3-none-any.whl"

    def pip(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "pip", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_an_upgrade_is_an_install_and_a_reexec(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        place = daemon.folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
        packages = next(place.glob("lib/python*/site-packages"))
        (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # what we depend on
        install = ("--python", place / "bin" / "python", "install", "-q", "--no-deps", "--no-index")
        self.pip(*install, self.wheel(daemon.folder, "3.0.0"))
        program = str(place / "bin" / "reconciler")
        monkeypatch.setattr(
            daemon, "command", lambda *words: [program, "--state-dir", str(daemon.state), *map(str, words)]
        )
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        daemon.start()
        pids = daemon.until_running("web", 3)
        assert about(daemon)["version"] == about(daemon)["keeperVersion"] == "3.0.0"

        self.pip(*install, self.wheel(daemon.folder, "3.1.0"))
        assert daemon.cli("version").out.startswith("reconciler 3.1.0 ")
        told = daemon.cli("reexec", "--keeper")

        assert told.err == "version 3.0.0 -> 3.1.0: tried out, changing over\n"
        assert about(daemon)["version"] == about(daemon)["keeperVersion"] == "3.1.0"
        assert daemon.until_running("web", 3) == pids


class TestAnotherBoot:
    def test_nothing_is_adopted_that_was_started_before_it(self, daemon: Daemon) -> None:
        """What the state directory says is of another boot: the same pids and start times would mean nothing."""
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.declare("work", *daemon.worker("piece", daemon.folder / "never", "0"), restart_policy="Never")
        daemon.start()
        old, work = daemon.until_running("web", 2), daemon.until_running("work", 1)
        daemon.kill_keeper()
        pretend_another_boot(daemon.state)
        daemon.start()
        new = daemon.until_running("web", 2)
        assert not set(new.values()) & set(old.values())
        assert all(map(is_alive, (*old.values(), *work.values()))), "strangers with these pids are left alone"
        assert daemon.processes("work")[0]["state"] == "Unknown"
        assert not daemon.condition("web", "CrashLoop")
        assert [row.get("failures", 0) for row in daemon.processes("web")] == [0, 0]
        for pid in (*old.values(), *work.values()):
            os.killpg(pid, signal.SIGKILL)
        always(lambda: daemon.until_running("web", 2) == new, 0.3)


def pretend_another_boot(state: Path) -> None:
    """Change the boot id wherever it was written down, as a reboot changes the kernel's."""
    ours, other = wire.boot_id(), "00000000-0000-4000-8000-000000000000"
    segment = state / "run" / "journal" / "segment"
    content = bytearray(segment.read_bytes())
    length = int.from_bytes(content[0:4], sys.byteorder)
    payload = bytes(content[8 : 8 + length]).replace(ours.encode(), other.encode())
    assert len(payload) == length
    content[8 : 8 + length] = payload
    content[0:8] = (zlib.crc32(payload) << 32 | length).to_bytes(8, sys.byteorder)
    segment.write_bytes(content)
    lock = state / "run" / "lock"
    lock.write_text(lock.read_text().replace(ours, other))


def assert_all_was_logged_once(daemon: Daemon, name: str, count: int) -> None:
    """Let them finish: every byte that these processes printed stands in the segments, in order."""
    (daemon.folder / "enough").touch()
    ends = eventually(lambda: e if len(e := daemon.ledger("end")) == count else None, "all have printed") or []
    for entry in ends:
        expected = b"".join(b"%d %d %s\n" % (entry.pid, n, b"." * 60) for n in range(1, int(entry.more) + 1))
        daemon.until_logged(name, entry.replica, len(expected))
        assert daemon.log(name, entry.replica) == expected
    assert len(daemon.ledger("start")) == count
