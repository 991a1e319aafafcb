"""What a process finds itself with is what its manifest says; and its output is where the manifest says."""

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from support.daemon import Daemon, eventually

ROOT = os.geteuid() == 0
FACTS = "id -u; umask; pwd; ulimit -n; nice; echo $PORT $HOME"


def has_text(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


class TestTheProcess:
    def facts(self, daemon: Daemon, ordinal: int = 0) -> list[str]:
        eventually(lambda: daemon.log("facts", ordinal).count(b"\n") >= 6, "it has said all")
        return daemon.log("facts", ordinal).decode().splitlines()

    def declare(self, daemon: Daemon, **spec: object) -> None:
        fields = {"umask": "027", "nice": 5, "limits": {"nofile": 100}, "env": {"PORT": "$(REPLICA+3000)"}, **spec}
        daemon.declare("facts", "/bin/sh", "-c", f"{FACTS}; exec sleep 1000", replicas=2, **fields)

    def test_has_its_directory_limits_and_environment(self, daemon: Daemon) -> None:
        self.declare(daemon)
        daemon.start()
        home = os.path.expanduser("~")
        own = [str(os.geteuid()), "0027", str(daemon.manifests), "100", "5"]
        assert self.facts(daemon) == [*own, f"3000 {home}"]
        assert self.facts(daemon, 1) == [*own, f"3001 {home}"]

    def test_has_the_priority_that_the_daemon_was_started_with(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"))
        daemon.start()
        (pid,) = daemon.until_running("web", 1).values()
        own = daemon.client.daemon()["nice"]
        assert own == os.getpriority(os.PRIO_PROCESS, daemon.controller)
        assert own in (-5, 0), "ahead of what it starts, where it may"
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)

    @pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
    def test_runs_as_the_user_it_names_and_is_watched_logged_and_ended_like_any_other(self, daemon: Daemon) -> None:
        self.declare(daemon, user="nobody", working_dir="/", min_ready="0s")
        daemon.start()
        daemon.until_available("facts")
        assert self.facts(daemon)[:3] == ["65534", "0027", "/"]
        assert not daemon.condition("facts", "RunsAsRoot")
        pids = daemon.until_running("facts", 2)
        daemon.kill_controller()
        assert daemon.until_running("facts", 2) == pids
        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: daemon.pids("facts").get(1) not in {None, pids[1]}, "it is back")
        daemon.cli("stop", "facts")
        daemon.until_at_rest("facts")
        assert daemon.processes("facts") == []

    def test_root_without_a_written_user_draws_a_remark(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"))
        daemon.start()
        daemon.until_available("web")
        assert ("RunsAsRoot" in daemon.cli("status").out) == ROOT

    def test_fields_of_a_later_release_are_named_and_not_silently_ignored(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), pre_stop={"exec": {"command": ["true"]}}, max_lifetime="1h")
        daemon.start()
        eventually(lambda: daemon.holds("web", "NotYetSupported"))
        message = daemon.condition("web", "NotYetSupported")["message"]
        assert "preStop" in message
        assert "maxLifetime" in message
        assert message in daemon.cli("status", code=None).out

    def test_what_is_valid_and_hardly_meant_is_told_by_each_verb_that_reads_it_and_kept_in_view(
        self, daemon: Daemon
    ) -> None:
        (daemon.folder / "key").write_text("hunter2")
        env = {"KEY": {"fromFile": str(daemon.folder / "key")}}
        words = ("/bin/sh", "-c", "sleep 1000", "--port=$(PROT)", "--key=$(KEY)")
        text = daemon.manifest("web", *words, env=env, termination_grace_period="1s")
        file = daemon.folder / "elsewhere.yaml"
        file.write_text(text)
        line = next(number for number, line in enumerate(text.splitlines(), 1) if "PROT" in line)
        told = (
            f"{file}:{line}:",
            "spec.command[3]: $(PROT) is not a variable of the process's environment",
            "spec.command: holds a value from a file",
            "spec.command: runs a shell that may stay in between",
        )
        daemon.start()
        for verb, code in (("validate", 0), ("diff", 1), ("apply", 0)):
            said = daemon.cli(verb, "-f", file, code=code).err
            assert all(each in said for each in told), f"{verb}: {said}"
            assert "hunter2" not in said
        eventually(lambda: daemon.holds("web", "Doubtful"))
        for verb in ("describe", "status"):
            shown = daemon.cli(verb, "web", code=None).out
            assert "Doubtful" in shown
            assert "$(PROT) is not a variable" in " ".join(shown.split())

    @pytest.mark.skipif(not ROOT, reason="only root runs things as root")
    def test_who_would_run_it_as_root_says_so_before(self, daemon: Daemon) -> None:
        file = daemon.folder / "elsewhere.yaml"
        file.write_text(daemon.manifest("web", *daemon.worker("steady")))
        daemon.start()
        said = f"{file}:1:1: warning: spec.user: is not written, so this runs as root"
        assert said in daemon.cli("diff", "-f", file, code=1).err
        assert said in daemon.cli("apply", "-f", file).err
        assert "runs as root" not in daemon.cli("apply", "-f", file).err, "nothing changed"


class TestItsOutput:
    def test_goes_where_it_is_told_and_stderr_apart(self, daemon: Daemon) -> None:
        logs = {"path": "$(PROGRAM)-$(REPLICA).out", "stderr": "sub/$(REPLICA).err", "mode": "0600"}
        script = "echo to out; echo to err >&2; exec sleep 1000"
        daemon.declare("web", "/bin/sh", "-c", script, logs=logs, replicas=2)
        daemon.start()
        for ordinal in range(2):
            out, err = daemon.manifests / f"web-{ordinal}.out", daemon.manifests / f"sub/{ordinal}.err"
            eventually(partial(has_text, out, "to out\n"), "its output is there")
            eventually(partial(has_text, err, "to err\n"), "and its errors apart")
            assert out.stat().st_mode & 0o777 == 0o600
        assert daemon.cli("logs", "web/1", "--stream", "err").out == "to err\n"
        assert daemon.cli("logs", "web/1", "--stream", "out").out == "to out\n"
        assert daemon.cli("get").err == "", "log files beside manifests are no manifests"

    def test_is_followed_over_restarts_rotation_and_new_replicas(self, daemon: Daemon) -> None:
        logs = {"maxSize": "4Ki", "maxFiles": 50, "compress": "none"}
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, logs=logs, replicas=1)
        daemon.start()
        daemon.until_printed("talk", 10_000)
        followed = daemon.folder / "followed"
        with followed.open("wb") as file:
            follow = subprocess.Popen(
                daemon.command("logs", "talk", "-f", "--tail", "1", "--prefix"), stdout=file, env=daemon.environment()
            )
        try:
            eventually(lambda: followed.stat().st_size > 5_000, "it is followed")
            daemon.declare("talk", *command, logs=logs, replicas=2)
            eventually(lambda: b"[talk/1] " in followed.read_bytes(), "the new replica, too")
            daemon.kill_pump()
            os.kill(daemon.until_running("talk", 2)[0], signal.SIGKILL)
            eventually(lambda: len(daemon.ledger("start")) == 3)
            pid = daemon.ledger("start")[2].pid
            eventually(lambda: b"[talk/0] %d " % pid in followed.read_bytes(), "the next run")
        finally:
            follow.terminate()
            follow.wait(30)
        numbers = [int(n) for n in re.findall(rb"\[talk/1\] \d+ (\d+) ", followed.read_bytes())]
        assert numbers == list(range(1, len(numbers) + 1)), "each line once, in order"

    def test_may_be_moved_away_as_logrotate_does(self, daemon: Daemon) -> None:
        daemon.declare("talk", *daemon.worker("count", daemon.folder / "enough"))
        daemon.start()
        daemon.until_printed("talk", 1000)
        log = daemon.state / "logs/talk/0.log"
        log.rename(daemon.folder / "moved")
        os.kill(daemon.keeper, signal.SIGUSR2)
        eventually(lambda: log.exists() and log.stat().st_size > 1000, "a new file was begun")
        (daemon.folder / "enough").touch()
        daemon.cli("stop", "talk")
        daemon.until_at_rest("talk")
        whole = (daemon.folder / "moved").read_bytes() + log.read_bytes()
        pid = daemon.ledger("start")[0].pid
        first = [int(n) for n in re.findall(rb"^%d (\d+) " % pid, whole, re.MULTILINE)]
        assert first == list(range(1, len(first) + 1))

    def test_fills_no_disk(self, daemon: Daemon) -> None:
        logs = {"maxSize": "4Ki", "maxFiles": 3}
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, logs=logs, restart_policy="Never")
        daemon.start()
        folder = daemon.state / "logs/talk"
        eventually(lambda: max([int(p.name.split(".")[2]) for p in folder.glob("0.log.0*")], default=0) >= 8)
        (daemon.folder / "enough").touch()  # as fast as it prints, no old one may live long enough to be compressed
        eventually(lambda: list(folder.glob("*.gz")), "old segments are compressed")
        kept = [path for path in folder.glob("0.log*") if path.suffix not in (".idx", ".tmp")]
        assert len(kept) <= 4
        assert sum(path.stat().st_size for path in kept) < 30_000


def test_hup_reads_all_manifests(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"))
    daemon.start()
    daemon.until_running("web", 1)
    daemon.declare("web", *daemon.worker("steady"), replicas=2)
    os.kill(daemon.keeper, signal.SIGHUP)
    daemon.until_running("web", 2)
    assert "HUP" in daemon.output()
