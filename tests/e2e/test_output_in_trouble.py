"""Where output cannot be written, or nobody takes it: a condition, never a stop; later all of it is there."""

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import Daemon, eventually, is_alive
from support.printed import assert_counted, content, texts

ROOT = os.geteuid() == 0
NOBODY = 65534


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


class TestConsole:
    """The standard output of `run`."""

    @contextmanager
    def read_from(self, daemon: Daemon, *options: str) -> Iterator[Callable[[Callable[[bytes], object]], bytes]]:
        """The daemon runs, and what it prints can be read until it is enough. At the end all of it is taken."""
        reader, writer = os.pipe()
        daemon.start(options=options, stdout=writer)
        os.close(writer)

        def read(is_enough: Callable[[bytes], object]) -> bytes:
            seen = b""
            while not is_enough(seen):
                assert select.select([reader], [], [], 30)[0], f"not enough was printed: {seen[-300:]!r}"
                seen += os.read(reader, 1 << 16)
            return seen

        try:
            yield read
        finally:
            os.kill(daemon.keeper, signal.SIGTERM)
            while os.read(reader, 1 << 16):  # until the last of them has left
                pass
            os.close(reader)

    def test_output_goes_to_that_of_run_where_a_program_wants_it(self, daemon: Daemon) -> None:
        logs = {"path": "inherit", "format": "prefix"}
        daemon.declare("web", *shell("echo hello; echo end; exec sleep 1000"), logs=logs)
        with self.read_from(daemon) as read:
            assert texts(read(lambda seen: b"end\n" in seen)) == b"hello\nend\n"
            refused = daemon.cli("logs", "web", code=3)
            assert "web prints to the daemon's standard output, which is not kept here" in refused.err

    def test_in_a_container_all_goes_there(self, daemon: Daemon) -> None:
        daemon.declare("web", *shell("echo out; echo err >&2; exec sleep 1000"), replicas=2, logs={"stderr": "e.log"})
        daemon.declare("mute", *shell("echo never; exec sleep 1000"), logs={"path": "none"})
        with self.read_from(daemon, "--logs", "stdout", "--logs-format", "json") as read:
            rows = [json.loads(line) for line in read(lambda seen: seen.count(b"\n") == 4).splitlines()]
            assert {(row["program"], row["replica"], row["stream"], row["message"]) for row in rows} == {
                ("web", replica, stream, stream) for replica in range(2) for stream in ("out", "err")
            }
            assert not list(daemon.state.glob("logs/**/*.log"))

    def test_what_has_begun_is_shown_at_the_end(self, daemon: Daemon) -> None:
        daemon.declare("web", *shell("trap 'printf bye; exit' TERM; echo up; while :; do sleep 0.1; done"))
        reader, writer = os.pipe()
        daemon.start(options=("--logs", "stdout"), stdout=writer)
        os.close(writer)
        eventually(lambda: select.select([reader], [], [], 0)[0])
        assert daemon.quit() == 0
        assert texts(os.read(reader, 1 << 16)) == b"up\nbye\n"
        os.close(reader)

    def test_nobody_reading_it_stops_neither_the_daemon_nor_other_logs_and_no_line_is_lost(
        self, daemon: Daemon
    ) -> None:
        enough = daemon.folder / "enough"
        line = "x" * 1000
        loud = f"n=0; while [ ! -e {enough} ]; do n=$((n + 1)); echo $n {line}; done; echo $n end; exec sleep 1000"
        daemon.declare("loud", *shell(loud), logs={"path": "inherit"})
        daemon.declare("talk", *daemon.worker("count", enough))
        with self.read_from(daemon) as read:
            trouble = eventually(lambda: daemon.condition("loud", "LogTrouble"), "it is told") or {}
            assert (trouble["status"], trouble["message"]) == (
                "True",
                "cannot write: /dev/stdout: whoever reads it takes nothing",
            )
            pids = daemon.pids("loud")
            daemon.until_printed("talk", 20_000)
            daemon.kill_pump()
            daemon.until_printed("talk", 20_000)
            daemon.kill_controller()
            daemon.until_printed("talk", 20_000)
            assert daemon.pids("loud") == pids
            enough.touch()
            seen = read(lambda seen: b" end\n" in seen[-100_000:])
            numbers = [int(n) for n in re.findall(rb"^(\d+) ", seen, re.MULTILINE)]
            assert sorted(set(numbers)) == list(range(1, numbers[-1] + 1)), "none is left out"
            # A kill may repeat what was just being written: one portion of it.
            assert len(numbers) - len(set(numbers)) <= 4 + 1
            eventually(lambda: not daemon.condition("loud", "LogTrouble"), "it is over by itself")


class TestFiles:
    """What a process prints waits in the pipe, then the process waits; afterwards all of it is there."""

    def begin(self, daemon: Daemon, path: object, **logs: object) -> None:
        wanted = {"path": str(path), "maxSize": "64Ki", "maxFiles": 0, "compress": "none", **logs}
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, logs=wanted)
        daemon.declare("other", *command)
        daemon.start()
        (self.pid,) = daemon.until_running("talk", 1).values()

    def until_trouble(self, daemon: Daemon) -> str:
        condition = eventually(lambda: daemon.condition("talk", "LogTrouble"), "trouble is told") or {}
        assert (condition["status"], condition["reason"]) == ("True", "CannotWrite")
        return str(condition["message"])

    def goes_on(self, daemon: Daemon) -> None:
        """The daemon answers, the other Program prints on, and the one in trouble lives."""
        daemon.until_printed("other", 20_000)
        assert daemon.condition("talk", "LogTrouble")["message"] in daemon.cli("status", code=None).out
        assert is_alive(self.pid)

    def ends_well(self, daemon: Daemon, log: Path) -> None:
        eventually(lambda: not daemon.condition("talk", "LogTrouble"), "it is over by itself")
        assert daemon.pids("talk")[0] == self.pid
        (daemon.folder / "enough").touch()
        ends = eventually(lambda: [each for each in daemon.ledger("end") if each.pid == self.pid]) or []
        daemon.cli("stop", "talk")
        assert_counted(ends[0], lambda: content(log))

    @contextmanager
    def small_disk(self, daemon: Daemon) -> Iterator[Path]:
        path = daemon.folder / "disk"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)

    @staticmethod
    def remount(disk: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)

    @pytest.mark.skipif(not ROOT, reason="only root can mount")
    @pytest.mark.parametrize("form", ["raw", "prefix"])
    def test_on_a_full_disk(self, daemon: Daemon, form: str) -> None:
        with self.small_disk(daemon) as disk:
            self.begin(daemon, disk / "talk.log", format=form)
            assert self.until_trouble(daemon) == f"cannot write {disk}/talk.log: No space left on device"
            self.goes_on(daemon)
            daemon.kill_pump()
            self.until_trouble(daemon)
            self.goes_on(daemon)
            assert len(content(disk / "talk.log")) > 200_000
            self.remount(disk, "size=64m")
            self.ends_well(daemon, disk / "talk.log")

    @pytest.mark.skipif(not ROOT, reason="only root can mount")
    def test_on_a_full_disk_below_the_staged_lines(self, daemon: Daemon) -> None:
        """The state directory: framed lines come through it."""
        staged = daemon.state / "run" / "staged"
        staged.mkdir(parents=True)
        with self.small_disk(daemon) as disk:
            subprocess.run(["mount", "--bind", str(disk), str(staged)], check=True)
            try:
                ballast = staged / "folder" / "ballast"
                ballast.parent.mkdir()
                ballast.write_bytes(b"x" * 250_000)
                self.begin(daemon, "talk.log", format="json")
                assert f"cannot write {staged}/" in self.until_trouble(daemon)
                self.goes_on(daemon)
                ballast.unlink()
                self.ends_well(daemon, daemon.manifests / "talk.log")
            finally:
                subprocess.run(["umount", "-l", str(staged)], check=True)

    @pytest.mark.skipif(not ROOT, reason="only root can mount")
    @pytest.mark.parametrize("form", ["raw", "json"])
    def test_on_a_disk_that_may_only_be_read(self, daemon: Daemon, form: str) -> None:
        with self.small_disk(daemon) as disk:
            self.remount(disk, "ro,size=64m")
            self.begin(daemon, disk / "sub" / "talk.log", format=form)
            assert self.until_trouble(daemon) == f"cannot write {disk}/sub/talk.log: Read-only file system"
            self.goes_on(daemon)
            self.remount(disk, "rw")
            self.ends_well(daemon, disk / "sub" / "talk.log")

    @pytest.mark.parametrize("form", ["raw", "prefix"])
    def test_where_a_file_is_in_the_way_of_its_folder(self, daemon: Daemon, form: str) -> None:
        folder = daemon.folder / "logs"
        folder.touch()
        self.begin(daemon, folder / "talk.log", format=form)
        assert self.until_trouble(daemon) == f"cannot write {folder}/talk.log: Not a directory"
        self.goes_on(daemon)
        folder.unlink()
        self.ends_well(daemon, folder / "talk.log")

    def test_a_folder_that_goes_missing_is_made_again(self, daemon: Daemon) -> None:
        self.begin(daemon, daemon.folder / "logs" / "talk.log", maxSize="1Gi")
        log = daemon.folder / "logs" / "talk.log"
        eventually(lambda: log.exists() and log.stat().st_size > 10_000)
        log.parent.rename(daemon.folder / "aside")
        for path in (daemon.folder / "aside").iterdir():
            path.unlink()
        eventually(lambda: log.exists() and log.stat().st_size > 10_000, "it goes on in a new one")
        assert not daemon.condition("talk", "LogTrouble")

    @pytest.mark.skipif(not ROOT, reason="only root is kept from writing by nothing else")
    def test_where_the_file_may_not_be_changed(self, daemon: Daemon) -> None:
        log = daemon.manifests / "talk.log"
        log.touch()
        subprocess.run(["chattr", "+i", str(log)], check=True)
        try:
            self.begin(daemon, log, maxSize="1Gi")
            assert self.until_trouble(daemon) == f"cannot write {log}: Operation not permitted"
            self.goes_on(daemon)
        finally:
            subprocess.run(["chattr", "-i", str(log)], check=True)
        self.ends_well(daemon, log)

    def test_where_it_is_the_log_of_another_program(self, daemon: Daemon) -> None:
        daemon.declare("first", *shell("echo first; exec sleep 1000"), logs={"path": "one.log"})
        daemon.start()
        one, two = daemon.manifests / "one.log", daemon.manifests / "two.log"
        eventually(lambda: one.exists() and one.read_bytes() == b"first\n")
        daemon.declare("second", *shell("echo second; exec sleep 1000"), logs={"path": "one.log"})
        condition = eventually(lambda: daemon.condition("second", "LogTrouble")) or {}
        assert condition["message"] == f"cannot write: {one} is the log of another Program; give each a path of its own"
        assert not daemon.condition("first", "LogTrouble")
        daemon.declare("second", *shell("echo second; exec sleep 1000"), logs={"path": "two.log"})
        eventually(lambda: two.exists() and two.read_bytes() == b"second\n")
        eventually(lambda: not daemon.condition("second", "LogTrouble"))
        assert one.read_bytes() == b"first\n"

    @pytest.mark.skipif(not ROOT, reason="only root writes to folders of others")
    def test_where_the_user_of_the_program_planted_a_link(self, daemon: Daemon, tmp_path: Path) -> None:
        home, secret = daemon.folder / "home", daemon.folder / "secret"
        for folder in (home, secret, home / "logs"):
            folder.mkdir()
        for path in (home, home / "logs"):
            os.chown(path, NOBODY, NOBODY)
        logs = {"path": f"{home}/logs/web.log", "maxSize": "1Ki"}
        daemon.declare("web", *daemon.worker("count", daemon.folder / "enough"), logs=logs)
        daemon.start()
        eventually((home / "logs" / "web.log").exists, "a folder of theirs is fine")
        (home / "logs").rename(home / "aside")
        (home / "logs").symlink_to(secret)
        os.lchown(home / "logs", NOBODY, NOBODY)
        said = "is a symbolic link that belongs to user 65534"
        # For an instant the folder was not there: trouble of another kind may be told first.
        eventually(lambda: said in (daemon.condition("web", "LogTrouble") or {}).get("message", ""))
        time.sleep(0.2)
        assert list(secret.iterdir()) == []


def test_a_format_for_standard_output_that_is_not_written_to_is_refused(daemon: Daemon) -> None:
    told = daemon.cli("run", "-f", daemon.manifests, "--logs-format", "json", code=2)
    assert "say --logs stdout, too" in told.err
