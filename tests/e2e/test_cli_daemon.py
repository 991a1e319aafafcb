"""run and up: how the keeper is started, what is shown beside it, and how it ends."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import daemon
from reconciler.cli.live import Screen, live_line, unwell, waiting_text
from support.calling import Call
from support.fake_controller import crashing, process, program

TESTS = Path(__file__).parent.parent

# Stands in for the keeper: a controller that only talks, in a process of its own, and that notes what it is told.
KEEPER = """
import signal, sys, threading, time
from pathlib import Path
from support.fake_controller import crashing, event, fake_controller, process, program

state, scenario = Path(sys.argv[1]), sys.argv[2]
told = []
ended = []  # no Event: a handler that interrupts its wait() would wait for the lock that it interrupted

def end(number, frame):
    told.append(number)
    (state / "told").write_text(" ".join(map(str, told)))
    if scenario != "stubborn" or number == signal.SIGINT:
        ended.append(number)

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
if scenario == "broken":
    print("cannot use the state directory: no space left on device", flush=True)
    sys.exit(1)
with fake_controller(state / "run" / "reconciler.sock") as fake:
    fake.programs = {"web": crashing("web") if scenario == "failing" else program("web")}
    if scenario == "failing":
        fake.problems = [{"file": "bad.yaml", "line": 3, "column": 1, "message": "a tab", "severity": "error"}]
    fake.events = [event("web", "Starting", "start 0 (NewReplica)", ordinal=0, at=1.0)]
    fake.stream = [*fake.events, event("web", "Starting", "start 1 (NewReplica)", ordinal=1, at=2.0)]
    fake.stays = True
    if scenario == "shut-down":
        threading.Timer(0.5, ended.append, [0]).start()
    while not ended:
        time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory to be run."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


class TestRun:
    @pytest.fixture
    def executed(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What would have become of this process."""
        calls: list[Any] = []
        monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
        return calls

    def test_it_becomes_the_keeper(
        self, call: Call, folder: Path, tmp_path: Path, executed: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        state = tmp_path / "state"
        result = call("--config", "c.yaml", "--state-dir", "state", "run", "-f", "manifests", "-f", "later")
        assert result.out == ""
        assert result.err == "warning: later: no such directory yet; it is watched for\n"
        ((program_path, command, environment),) = executed
        assert program_path == sys.executable
        assert command == [
            *[sys.executable, "-m", "reconciler.keeper", "--state-dir", str(state), "--"],
            *["-f", str(folder), "-f", str(tmp_path / "later"), "--config", str(tmp_path / "c.yaml")],
        ]
        assert environment["PYTHONSAFEPATH"] == "1"
        assert state.is_dir()

    def test_a_file_is_no_directory(self, call: Call, tmp_path: Path, executed: list[Any]) -> None:
        (tmp_path / "web.yaml").touch()
        assert call("--state-dir", tmp_path / "state", "run", "-f", tmp_path / "web.yaml").code == 2
        assert not executed

    def test_without_a_directory_it_says_what_that_means(self, call: Call, tmp_path: Path, executed: list[Any]) -> None:
        assert "no directory is watched" in call("--state-dir", tmp_path / "state", "run").err
        assert executed

    def test_a_state_directory_that_cannot_be_is_an_answer(
        self, call: Call, tmp_path: Path, executed: list[Any]
    ) -> None:
        (tmp_path / "file").touch()
        code, _, err = call("--state-dir", tmp_path / "file" / "state", "run")
        assert (code, "cannot make the state directory" in err) == (1, True)
        assert not executed

    def test_what_lies_in_the_current_folder_is_never_imported(self, tmp_path: Path) -> None:
        (tmp_path / "reconciler").mkdir()
        (tmp_path / "reconciler" / "__init__.py").write_text("raise SystemExit('owned')")
        (tmp_path / "json.py").write_text("raise SystemExit('owned')")
        command = [sys.executable, "-m", "reconciler.keeper", "--nonsense"]
        done = subprocess.run(
            command, cwd=tmp_path, env=daemon.keeper_environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "usage" in done.stderr

    def test_the_hosts_configuration_is_for_the_hosts_daemon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os.path, "exists", lambda path: path == daemon.SYSTEM_CONFIG)
        assert daemon._system_config("/var/lib/reconciler") == "/etc/reconciler/config.yaml"
        assert daemon._system_config("/home/ann/.local/state/reconciler") is None


class TestUp:
    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        """Where it keeps what it needs."""
        (tmp_path / "keeper.py").write_text(KEEPER)
        return tmp_path / "state"

    def command(self, state: Path, folder: Path, scenario: str) -> list[str]:
        """`up`, with a stand-in for the keeper."""
        code = (
            "import sys; from reconciler.cli import daemon, main; "
            f"daemon.keeper_command = lambda state, _: [sys.executable, {str(state.parent / 'keeper.py')!r}, state, "
            f"{scenario!r}]; sys.exit(main.run(['--state-dir', {str(state)!r}, 'up', '-f', {str(folder)!r}]))"
        )
        return [sys.executable, "-c", code]

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        """The stand-in finds its parts."""
        return {**os.environ, "PYTHONPATH": str(TESTS), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"}

    @pytest.fixture
    def running(self) -> Iterator[list["subprocess.Popen[Any]"]]:
        """Whatever is put here is gone afterwards."""
        started: list[subprocess.Popen[Any]] = []
        yield started
        for each in started:
            if each.poll() is None:
                each.kill()
                each.wait()

    def up(self, state: Path, folder: Path, scenario: str, environment: dict[str, str], running: Any) -> Any:
        process = subprocess.Popen(
            self.command(state, folder, scenario),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running.append(process)
        return process

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_events_are_shown_once_each_and_ctrl_c_drains(
        self, state: Path, folder: Path, environment: dict[str, str], running: Any, how: signal.Signals
    ) -> None:
        up = self.up(state, folder, "well", environment, running)
        seen = [up.stdout.readline().split(maxsplit=1)[1] for _ in range(2)]
        assert seen == ["web/0 Starting start 0 (NewReplica)\n", "web/1 Starting start 1 (NewReplica)\n"]
        time.sleep(0.4)  # a look at how things are
        up.send_signal(how)
        out, err = up.communicate(timeout=30)
        assert up.returncode == 0
        assert out.splitlines()[0] == "draining; Ctrl-C again to kill"
        assert out.splitlines()[-1] == "all processes have ended"
        assert f"in another terminal: reconciler --state-dir {state} status" in err
        assert (state / "told").read_text() == str(int(signal.SIGTERM))

    def test_what_had_not_become_well_makes_it_end_with_1(
        self, state: Path, folder: Path, environment: dict[str, str], running: Any
    ) -> None:
        up = self.up(state, folder, "failing", environment, running)
        lines = [up.stdout.readline() for _ in range(3)]
        assert "bad.yaml:3:1: error: a tab\n" in lines
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=30)
        assert up.returncode == 1
        assert "error: bad.yaml: a tab\n" in err
        assert "error: program/web was not available: CrashLoop: 1 of 2 replicas fail" in err

    def test_a_keeper_that_cannot_start_says_why(
        self, state: Path, folder: Path, environment: dict[str, str], running: Any
    ) -> None:
        up = self.up(state, folder, "broken", environment, running)
        _, err = up.communicate(timeout=30)
        assert up.returncode == 1
        assert "the daemon ended with 1" in err
        assert err.endswith("  cannot use the state directory: no space left on device\n")

    def test_a_shutdown_from_elsewhere_ends_it(
        self, state: Path, folder: Path, environment: dict[str, str], running: Any
    ) -> None:
        up = self.up(state, folder, "shut-down", environment, running)
        _, err = up.communicate(timeout=30)
        assert (up.returncode, err.splitlines()[-1]) == (0, "the daemon was shut down")

    def test_on_a_terminal_there_is_a_live_line_and_a_question_before_killing(
        self, state: Path, folder: Path, environment: dict[str, str], running: Any
    ) -> None:
        primary, secondary = pty.openpty()
        up = subprocess.Popen(
            self.command(state, folder, "stubborn"),
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            env=environment,
            start_new_session=True,
        )
        running.append(up)
        os.close(secondary)
        try:
            until(primary, "2 of 2 processes ready in 1 Program | Ctrl-C ends")
            up.send_signal(signal.SIGINT)
            until(primary, "waiting for web/0, web/1")
            up.send_signal(signal.SIGINT)  # the same press
            time.sleep(1.1)
            up.send_signal(signal.SIGINT)
            until(primary, "kill what is left? [y/N] ")
            os.write(primary, b"n\n")
            until(primary, "waiting for web/0, web/1")
            time.sleep(1.1)
            up.send_signal(signal.SIGINT)
            until(primary, "kill what is left? [y/N] ")
            os.write(primary, b"y\n")
            until(primary, "all processes have ended")
            assert up.wait(30) == 0
        finally:
            os.close(primary)
        assert (state / "told").read_text() == f"{int(signal.SIGTERM)} {int(signal.SIGINT)}"

    def test_it_wants_a_directory_that_is_there(self, call: Call, tmp_path: Path) -> None:
        assert call("up").code == 2
        assert call("up", "-f", tmp_path / "none").code == 2

    def test_each_directory_has_a_state_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", "/state")
        one, other = daemon.state_dir_of(["/srv/a/manifests"]), daemon.state_dir_of(["/srv/b/manifests"])
        assert one.startswith("/state/reconciler/up/manifests-")
        assert one != other
        assert one == daemon.state_dir_of(["/srv/a/../a/manifests/"])
        assert daemon.state_dir_of(["/"]).startswith("/state/reconciler/up/root-")


def until(terminal: int, text: str) -> None:
    """Read what is shown until the text is."""
    shown, deadline = "", time.monotonic() + 30
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")


class TestLines:
    def test_the_live_line_names_what_is_not_well(self) -> None:
        things = [program("web"), crashing("api")]
        assert live_line(things, [{}]) == (
            "3 of 4 processes ready in 2 Programs | api 1/2 CrashLoop | 1 problem | Ctrl-C ends"
        )
        assert unwell([program("web")], [{"file": "f", "message": "m", "severity": "warning"}]) == []

    def test_the_drain_names_whom_it_waits_for_and_how_long(self) -> None:
        rows = [{"program": "web", **process(n, killAt=1000.0 + n)} for n in range(8)]
        assert waiting_text(rows, 990.0) == (
            "waiting for web/0, web/1, web/2, web/3, web/4, web/5 and 2 more (17s left)"
        )
        rows[0]["killAt"] = None  # it may take for ever
        assert waiting_text(rows[:1], 990.0) == "waiting for web/0"
        assert waiting_text([process(0, pid=None)], 0.0) == "waiting for the daemon to end"

    def test_without_a_terminal_nothing_is_rewritten(self, capsys: pytest.CaptureFixture[str]) -> None:
        screen = Screen()
        screen.live("now")
        screen.print("line")
        assert capsys.readouterr().out == "line\n"
