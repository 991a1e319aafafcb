"""A controller without a keeper that answers: it decides nothing, and leaves."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler import startup, wire
from support.pump_real import eventually


class Post:
    """The place of the keeper: a line to a controller, which is started here and not waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        self.listener = wire.listen_unix(str(folder / "run" / "reconciler.sock"), socket.SOCK_STREAM)
        self.started: list[subprocess.Popen[bytes]] = []
        self.lines: list[socket.socket] = []

    def start(self) -> tuple["subprocess.Popen[bytes]", socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [theirs.fileno(), self.listener.fileno()]
        command = [sys.executable, "-m", "reconciler.app", "--state-dir", str(self.folder)]
        command += ["--control-fd", str(fds[0]), "--listen-fd", str(fds[1])]
        with theirs:
            controller = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        self.started.append(controller)
        self.lines.append(ours)
        return controller, ours

    def close(self) -> None:
        for controller in self.started:
            controller.kill()
            controller.wait()
        for line in (*self.lines, self.listener):
            line.close()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path)
    yield post
    post.close()


def heard(line: socket.socket) -> list[str]:
    return [message["type"] for message in wire.waiting(line)]


def test_a_keeper_that_is_gone_before_it_said_a_word_is_not_waited_for(post: Post) -> None:
    controller, line = post.start()
    line.close()
    assert controller.wait(20) == 0
    assert not (post.folder / "status").exists()


def test_a_second_controller_touches_nothing_until_the_first_is_gone(post: Post) -> None:
    first, line = post.start()
    eventually(lambda: "hello" in heard(line), "the first says hello")
    second, other = post.start()
    eventually(lambda: _waits_for_the_lock(second.pid), "the second waits")
    assert heard(other) == []
    first.kill()
    line.close()
    eventually(lambda: "hello" in heard(other), "the second says hello")
    other.close()


def test_who_waits_for_the_lock_does_so_no_longer_than_its_keeper_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "controller.lock")
    assert startup.claim(path)
    keepers = iter([7, 7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(keepers))
    assert not startup.claim(path)


def _waits_for_the_lock(pid: int) -> bool:
    time.sleep(0.05)
    folder = Path(f"/proc/{pid}/fd")
    for link in folder.iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed: it is starting
            if os.readlink(link).endswith("controller.lock"):
                return True
    return False
