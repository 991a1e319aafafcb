"""What processes print, through the whole product: framed, shared, kept in other ways meanwhile, read again."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon, Entry, always, eventually
from support.printed import PREFIX, assert_counted, content, counted, texts


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def holds(path: Path, text: bytes) -> bool:
    return path.exists() and text in path.read_bytes()


def first_end(daemon: Daemon, pid: int) -> Entry:
    """Let the counting ones end, and nothing start again; what this one noted."""
    (daemon.folder / "enough").touch()
    found = eventually(lambda: [entry for entry in daemon.ledger("end") if entry.pid == pid], "it has printed") or []
    daemon.cli("stop", "talk")
    daemon.until_at_rest("talk")
    return found[0]


class TestFormats:
    def test_lines_say_when_whose_and_where(self, daemon: Daemon) -> None:
        script = "echo one; echo two >&2; printf 'last words'"
        logs = {"stderr": "err-$(REPLICA).log", "format": "prefix"}
        daemon.declare("web", *shell(script), replicas=2, logs=logs, restart_policy="Never")
        daemon.start()
        for replica in range(2):
            path = daemon.state / f"logs/web/{replica}.log"
            eventually(lambda path=path: holds(path, b"last words\n"), "all is printed")
            lines = [PREFIX.fullmatch(line) for line in path.read_bytes().splitlines()]
            assert [(m[2], int(m[3]), m[4], m[5], m[6]) for m in lines if m] == [
                (b"web", replica, b"out", b"|", b"one"),
                (b"web", replica, b"out", b"|", b"last words"),
            ]
            errors = daemon.manifests / f"err-{replica}.log"
            eventually(lambda errors=errors, n=replica: texts(errors.read_bytes(), n, "err") == b"two\n")

    def test_framed_both_outputs_may_share_one_log_of_all_replicas(self, daemon: Daemon) -> None:
        logs = {"path": "all.log", "stderr": "all.log", "format": "json"}
        daemon.declare("web", *shell("echo out; echo err >&2; exec sleep 1000"), replicas=3, logs=logs)
        daemon.start()
        log = daemon.manifests / "all.log"
        eventually(lambda: log.exists() and log.read_bytes().count(b"\n") == 6, "all have printed")
        for replica in range(3):
            for stream in ("out", "err"):
                assert texts(log.read_bytes(), replica, stream) == f"{stream}\n".encode()
        row = json.loads(log.read_bytes().splitlines()[0])
        assert set(row) == {"time", "program", "replica", "stream", "message"}
        assert row["time"][:16] in {
            time.strftime("%Y-%m-%dT%H:%M", time.gmtime(log.stat().st_mtime - s)) for s in (0, 9)
        }
        assert not daemon.condition("web", "NotYetSupported")

    @pytest.mark.parametrize("form", ["raw", "prefix"])
    def test_one_log_of_all_replicas_has_whole_lines_each_once_whatever_is_killed(
        self, daemon: Daemon, form: str
    ) -> None:
        logs = {"path": "all.log", "format": form, "maxSize": "64Ki", "maxFiles": 0, "compress": "none"}
        daemon.declare("talk", *daemon.worker("count", daemon.folder / "enough"), replicas=4, logs=logs)
        daemon.start()
        log = daemon.manifests / "all.log"
        for kill in (daemon.kill_pump, daemon.kill_controller, daemon.kill_pump):
            size = len(content(log))
            eventually(lambda size=size: len(content(log)) > size + 50_000, "they print on")
            kill()
        for pid in daemon.until_running("talk", 4).values():
            assert_counted(first_end(daemon, pid), lambda: content(log))
        assert all(line.count(b"....") == 15 for line in content(log).splitlines()), "no line is torn"
        assert len(list(daemon.manifests.glob("all.log.0*"))) > 3, "nothing was rotated"

    def test_all_that_says_how_output_is_kept_takes_effect_on_what_runs(self, daemon: Daemon) -> None:
        command = daemon.worker("count", daemon.folder / "enough")
        changes: list[dict[str, Any]] = [
            {"path": "a.log"},
            {"path": "a.log", "format": "prefix"},
            {"path": "a.log", "format": "json", "maxSize": "16Ki", "maxFiles": 0, "compress": "none"},
            {"path": "b.log", "format": "raw", "mode": "0600"},
            {"path": "a.log", "maxSize": "16Ki", "maxFiles": 0, "compress": "gzip"},
        ]
        logs = [daemon.manifests / "a.log", daemon.manifests / "b.log"]
        for count, change in enumerate(changes):
            daemon.declare("talk", *command, logs=change)
            if not count:
                daemon.start()
            eventually(lambda count=count: daemon.status("talk").get("observedGeneration") == count + 1)
            path = daemon.manifests / change["path"]
            before = len(content(path))
            eventually(lambda path=path, before=before: len(content(path)) > before + 20_000, "it prints on")
        (pid,) = daemon.until_running("talk", 1).values()
        assert len(daemon.ledger("start")) == 1, "nothing was restarted for it"
        entry = first_end(daemon, pid)
        numbers = sorted(counted(b"".join(map(content, logs)), pid))
        assert numbers == list(range(1, int(entry.more) + 1))
        assert logs[1].stat().st_mode & 0o777 == 0o600
        plain = [path for path in daemon.manifests.glob("a.log.0*") if path.suffix not in (".gz", ".idx")]
        eventually(lambda: not any(path.exists() for path in plain), "what was closed before is compressed, too")

    @pytest.mark.parametrize("kept", [1, 2])
    def test_few_files_are_kept(self, daemon: Daemon, kept: int) -> None:
        logs = {"maxSize": "4Ki", "maxFiles": kept, "format": "prefix", "compress": "none"}
        daemon.declare("talk", *daemon.worker("count", daemon.folder / "enough"), logs=logs)
        daemon.start()
        (pid,) = daemon.until_running("talk", 1).values()
        folder = daemon.state / "logs/talk"
        eventually(lambda: counted(content(folder / "0.log"), pid)[-1:] > [500], "it prints")
        first_end(daemon, pid)
        eventually(lambda: len([p for p in folder.glob("0.log*") if p.suffix != ".idx"]) == kept, "others are gone")


@pytest.mark.parametrize("form", ["raw", "prefix"])
def test_what_a_quick_process_printed_is_kept_though_keeper_and_pump_were_not_there_yet(
    daemon: Daemon, form: str
) -> None:
    daemon.declare("other", *daemon.worker("steady"))
    daemon.start()
    daemon.until_running("other", 1)
    stopped = [daemon.pump, daemon.keeper]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        daemon.declare("quick", *daemon.worker("once"), restart_policy="Never", logs={"format": form})
        daemon.declare("quick", *shell("echo hello; printf bye"), restart_policy="Never", logs={"format": form})
        eventually(lambda: daemon.events("quick", "Started") or daemon.processes("quick"), "it was started")
        eventually(lambda: daemon.processes("quick")[0]["state"] == "Succeeded", "and has ended")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    log = daemon.state / "logs/quick/0.log"
    said = b"hello\nbye" if form == "raw" else b"hello\nbye\n"
    eventually(lambda: log.exists() and (log.read_bytes() if form == "raw" else texts(log.read_bytes())) == said)


class TestHostileBytes:
    @pytest.mark.parametrize("form", ["raw", "prefix", "json"])
    def test_are_kept_or_shown_as_such(self, daemon: Daemon, form: str) -> None:
        odd = daemon.folder / "odd"
        odd.write_bytes(
            b"nul \0 here\n\xff\xfe no utf-8 \xc3\n\x1b[2J\x1b]0;title\a\r\nL" + b"x" * (10 << 20) + b"\nend"
        )
        logs = {"format": form, "maxSize": "4Mi", "maxFiles": 0, "compress": "none"}
        daemon.declare("odd", "/bin/cat", str(odd), logs=logs, restart_policy="Never")
        daemon.start()
        log = daemon.state / "logs/odd/0.log"
        eventually(lambda: b"end" in content(log)[-100:], "all is printed")
        whole, expected = content(log), odd.read_bytes()
        if form == "raw":
            assert whole == expected
        elif form == "prefix":
            assert texts(whole) == expected + b"\n"
        else:
            assert texts(whole).decode() == expected.decode(errors="replace") + "\n"
        if form != "raw":
            assert max(map(len, whole.split(b"\n"))) < 66_000
        eventually(lambda: daemon.processes("odd")[0]["state"] == "Succeeded")
        shown = daemon.cli("describe", "odd").out
        assert "\x1b" not in shown
        assert "\0" not in shown

    def test_a_process_that_closes_its_output_is_no_trouble(self, daemon: Daemon) -> None:
        daemon.declare("mute", *shell("echo first; exec >&- 2>&-; exec sleep 1000"), logs={"format": "prefix"})
        daemon.start()
        daemon.until_available("mute")
        log = daemon.state / "logs/mute/0.log"
        eventually(lambda: holds(log, b"first\n"))
        always(lambda: not daemon.condition("mute", "LogTrouble"), 0.5)

    def test_what_outlives_its_main_process_still_prints(self, daemon: Daemon) -> None:
        go = daemon.folder / "go"
        script = f"(while [ ! -e {go} ]; do sleep 0.05; done; echo late; echo; printf later) & echo main"
        daemon.declare("other", *daemon.worker("steady"))
        daemon.declare("web", *shell(script), logs={"format": "json"}, restart_policy="Never", stop_signal="URG")
        daemon.start()
        log = daemon.state / "logs/web/0.log"
        eventually(lambda: log.exists() and texts(log.read_bytes()) == b"main\n")
        eventually(lambda: "(Leftovers)" in daemon.output(), "the main process is known to have ended")
        go.touch()
        # The last line has no end yet. It may be told with what was there when its run was over, if that is told late.
        eventually(lambda: texts(log.read_bytes()).startswith(b"main\nlate\n\n"), "what it left behind prints, too")
        (daemon.manifests / "web.yaml").unlink()
        eventually(lambda: texts(log.read_bytes()) == b"main\nlate\n\nlater\n", "the last line, when the Program goes")
        eventually(lambda: not list((daemon.state / "run/staged").iterdir()), "nothing is left of it")


class TestReading:
    @pytest.fixture
    def shared(self, daemon: Daemon) -> Daemon:
        """Three replicas that write to one log; replica 1 in its second run."""
        script = 'for n in 1 2 3; do echo "$RECONCILER_REPLICA says $n"; done; exec sleep 1000'
        daemon.declare("web", *shell(script), replicas=3, logs={"path": "all.log", "format": "prefix"})
        daemon.start()
        pids = daemon.until_running("web", 3)
        log = daemon.manifests / "all.log"
        eventually(lambda: log.exists() and log.read_bytes().count(b"\n") == 9)
        os.kill(pids[1], 9)
        eventually(lambda: log.read_bytes().count(b"\n") == 12, "the second run")
        return daemon

    def test_of_one_replica(self, shared: Daemon) -> None:
        lines = shared.cli("logs", "web/1").out.encode()
        assert texts(lines) == b"1 says 1\n1 says 2\n1 says 3\n" * 2
        assert texts(shared.cli("logs", "web/1", "--tail", "2", "--timestamps", "--prefix").out.encode()) == (
            b"1 says 2\n1 says 3\n"
        )
        assert texts(shared.cli("logs", "web", "--tail", "all").out.encode()).count(b"\n") == 12
        assert shared.cli("logs", "web/1", "--since", "1h").out.encode() == lines
        assert texts(shared.cli("logs", "web/1", "--previous").out.encode()) == b"1 says 1\n1 says 2\n1 says 3\n"
        none = shared.cli("logs", "web/2", "--previous")
        assert (none.out, "nothing is kept of that run" in none.err) == ("", True)

    def test_of_a_raw_log_of_several_it_is_said_what_cannot_be_told(self, shared: Daemon) -> None:
        shared.declare("web", *shell("echo raw; exec sleep 1000"), replicas=3, logs={"path": "all.log"})
        eventually(lambda: holds(shared.manifests / "all.log", b"\nraw\n"))
        result = shared.cli("logs", "web/1")
        assert "hint: " in result.err
        assert "which lines are of web/1 cannot be told, all are shown" in result.err
        assert "0 says 1" in result.out
        assert "raw\n" in result.out
        failed = shared.cli("logs", "web/1", "--previous", code=6)
        assert "where a run of one of them ended cannot be told" in failed.err

    def test_followed_over_rotation(self, daemon: Daemon) -> None:
        logs = {"path": "all.log", "format": "prefix", "maxSize": "8Ki", "maxFiles": 50}
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, logs=logs, replicas=2)
        daemon.start()
        pid = daemon.until_running("talk", 2)[1]
        followed = daemon.folder / "followed"
        with followed.open("wb") as file:
            follow = subprocess.Popen(
                daemon.command("logs", "talk/1", "-f", "--tail", "1"), stdout=file, env=daemon.environment()
            )
        try:
            eventually(lambda: followed.stat().st_size > 40_000, "it is followed")
            daemon.kill_pump()
            size = followed.stat().st_size
            eventually(lambda: followed.stat().st_size > size + 20_000, "and goes on")
        finally:
            follow.terminate()
            follow.wait(30)
        whole = followed.read_bytes()
        whole = texts(whole[: whole.rfind(b"\n") + 1])
        numbers = counted(whole, pid)
        assert len(numbers) == whole.count(b"\n"), "of this replica only"
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each line once, in order"
