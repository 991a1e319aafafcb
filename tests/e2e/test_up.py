"""`reconciler up -f DIR`, for a person at a terminal: shows what it does; Ctrl-C drains, another one asks and kills."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.daemon import PATIENCE_SECONDS, Daemon, eventually, is_alive


class Terminal:
    """A person's terminal with `up` in the foreground."""

    def __init__(self, daemon: Daemon) -> None:
        self._master, slave = os.openpty()
        environment = {**daemon.environment(), "TERM": "xterm", "XDG_STATE_HOME": str(daemon.folder / "home")}
        self.process = subprocess.Popen(
            # setsid makes it the controlling terminal: Ctrl-C is the terminal's, not ours.
            ["setsid", "--ctty", sys.executable, "-m", "reconciler", "up", "-f", str(daemon.manifests)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=daemon.folder,
        )
        os.close(slave)
        self.screen = ""

    def read(self, seconds: float = 0.05) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            try:
                self.screen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # nobody writes there any more
                return

    def until(self, words: str | Callable[[], object]) -> None:
        """Wait until something is on the screen, or is so."""

        def is_so() -> bool:
            self.read()
            return words in self.screen if isinstance(words, str) else bool(words())

        eventually(is_so, f"{words!r} on the screen:\n{self.screen}")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def wait(self) -> int:
        """The exit code of `up`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen
            self.read()
        self.read()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait()
        os.close(self._master)


@contextmanager
def up(daemon: Daemon) -> Iterator[Terminal]:
    terminal = Terminal(daemon)
    try:
        yield terminal
    finally:
        print(terminal.screen)
        terminal.close()


def test_ctrl_c_drains_and_ends_with_0(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"), replicas=2, min_ready="0s")
    with up(daemon) as terminal:
        terminal.until("start 1 (NewReplica)")
        terminal.until("2 of 2 processes ready")
        daemon.declare("web", *daemon.worker("steady"), replicas=3, min_ready="0s")
        terminal.until("scale 2 -> 3, start 1")
        terminal.until("3 of 3 processes ready")
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
        assert "draining" in terminal.screen
        assert "all processes have ended" in terminal.screen
    assert [entry.more for entry in daemon.ledger("end")] == ["TERM"] * 3
    assert list(daemon.everybody()) == []


def test_what_was_not_as_wished_is_told_and_it_ends_with_1(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"), min_ready="0s")
    daemon.declare("sick", "/bin/sh", "-c", "exit 3")
    daemon.write("broken.yaml", "kind: [}\n")
    with up(daemon) as terminal:
        terminal.until("CrashLoop")
        terminal.until("broken.yaml:1:")
        terminal.press_ctrl_c()
        assert terminal.wait() == 1
        end = terminal.screen.partition("all processes have ended")[2]
        for words in ("program/sick", "exit code 3", "broken.yaml"):
            assert words in end
        assert "program/web" not in end
    assert len(daemon.ledger("end")) == 1


def test_another_ctrl_c_asks_and_kills(daemon: Daemon) -> None:
    daemon.declare("deaf", *daemon.worker("stubborn"), termination_grace_period="1h", min_ready="0s")
    with up(daemon) as terminal:
        terminal.until("1 of 1 process ready")
        pid = daemon.ledger("start")[0].pid
        terminal.press_ctrl_c()
        terminal.until("waiting for deaf/0")
        time.sleep(1.1)  # within a second it is the same press
        terminal.press_ctrl_c()
        terminal.until("kill what is left? [y/N]")
        terminal.type("n\r")
        terminal.until(lambda: terminal.screen.count("waiting for deaf/0") >= 2)
        assert is_alive(pid)
        time.sleep(1.1)
        terminal.press_ctrl_c()
        terminal.until(lambda: terminal.screen.count("kill what is left? [y/N]") >= 2)
        terminal.type("y\r")
        assert terminal.wait() == 0
        assert not is_alive(pid)


def test_a_terminal_that_is_closed_drains_too(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"))
    with up(daemon) as terminal:
        terminal.until("1 of 1 process ready")
        terminal.process.send_signal(signal.SIGHUP)
        terminal.wait()
    assert len(daemon.ledger("end")) == 1


def test_it_has_a_state_of_its_own_and_the_callers_path(daemon: Daemon) -> None:
    tools = daemon.folder / "tools"
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tools / "mytool").chmod(0o755)
    daemon.declare("tool", "mytool", min_ready="0s")
    path = f"{tools}:{os.environ['PATH']}"
    environment = {**daemon.environment(), "XDG_STATE_HOME": str(daemon.folder / "home"), "PATH": path}
    with open(daemon.output_path, "wb") as output:
        command = [sys.executable, "-m", "reconciler", "up", "-f", str(daemon.manifests)]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: "start 0 (NewReplica)" in daemon.output(), "it tells without a terminal, too")
        eventually(lambda: [p for p in daemon.everybody() if p.command.startswith("sleep")], "the tool was found")
        (state,) = (daemon.folder / "home/reconciler/up").iterdir()
        assert (state / "run/reconciler.sock").is_socket()
        told = subprocess.run(
            [sys.executable, "-m", "reconciler", "--state-dir", str(state), "get", "ps"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "tool/0" in told.stdout
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_what_is_no_directory_is_refused(daemon: Daemon) -> None:
    path = daemon.declare("web", "sleep", "1")
    assert "is not a directory" in daemon.cli("up", "-f", path, code=2).err
    assert "is not a directory" in daemon.cli("up", "-f", daemon.folder / "nowhere", code=2).err
    assert daemon.cli("up", code=2).err
