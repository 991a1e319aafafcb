"""A keeper in this process, for tests of its loop: what it would start, kill and reap is played by the test."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import keeper, wire
from reconciler.keeping.footing import Signals
from reconciler.keeping.services import Limits
from reconciler.statelock import Lock


class Lines(list[str]):
    """A log to look at."""

    def __call__(self, text: str) -> None:
        self.append(text)


class Started:
    """What the keeper wanted to start. `line` is the other end of what it passed on."""

    def __init__(self, argv: list[str], fds: list[int], pid: int) -> None:
        self.argv = argv
        self.pid = pid
        self.line = socket.socket(fileno=os.dup(fds[0])) if "--control-fd" in argv else None

    def heard(self) -> list[wire.Message]:
        assert self.line is not None
        return list(wire.waiting(self.line))

    def say(self, kind: str, **fields: object) -> None:
        assert self.line is not None
        wire.send(self.line, {"type": kind, **fields})


class House:
    """A keeper whose processes are played here: nothing is spawned, killed or waited for."""

    def __init__(self, state_dir: Path, log: Lines, signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = log
        self.started: list[Started] = []
        self.told: list[str] = []  # to the service manager
        self.killed: list[tuple[int, int]] = []
        self.zombies: list[tuple[int, int]] = []
        self.has_processes = True
        self.spawn_error: OSError | None = None
        self.rounds: Callable[[int], None] = lambda count: None
        monkeypatch.setattr(keeper.Keeper, "_spawn", lambda _, argv, fds: self._spawn(argv, fds))
        monkeypatch.setattr(keeper, "clock", lambda: 1000.0)
        monkeypatch.setattr(wire, "start_ticks", lambda pid: None if pid == 99 else pid * 10)
        monkeypatch.setattr(wire, "birthmark_of", lambda pid: None if pid == 99 else pid * 100)
        monkeypatch.setattr(os, "kill", self._kill)
        monkeypatch.setattr(os, "waitid", self._waitid)
        monkeypatch.setattr(os, "waitpid", lambda pid, options: self.zombies.pop(0))
        state_dir.joinpath("run").mkdir(parents=True)
        self.listener = wire.listen_unix(str(state_dir / "run" / "reconciler.sock"), socket.SOCK_STREAM)
        self.lock = Lock(str(state_dir / "run" / "lock"))
        self.lock.take(str(state_dir))
        self.keeper = keeper.Keeper(
            str(state_dir), ["--an", "argument"], log, Limits(), keeper.COMMANDS, self.listener, self.lock, signals
        )
        self.keeper.notify = self.told.append

    def _spawn(self, argv: list[str], fds: list[int]) -> int:
        if self.spawn_error is not None:
            raise self.spawn_error
        self.started.append(Started(argv, fds, 500 + len(self.started)))
        return self.started[-1].pid

    def _kill(self, pid: int, number: int) -> None:
        if pid == 404:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        self.killed.append((pid, number))

    def _waitid(self, kind: int, which: int, options: int) -> object:
        if not self.has_processes:
            raise ChildProcessError(errno.ECHILD, "No processes")
        return type("Found", (), {"si_pid": self.zombies[0][0]}) if self.zombies else None

    def begin(self) -> Started:
        """Both run; returns the controller."""
        self.keeper._keeping.pass_time(1000.0)
        return self.started[-1]

    def greeted(self) -> Started:
        """Both run, and the controller has said hello and heard the welcome."""
        controller = self.begin()
        controller.say("hello", wire=wire.VERSION, pid=controller.pid)
        self.turn()
        controller.heard()
        return controller

    def turn(self) -> None:
        """One round of what the loop does between two waits."""
        self.keeper._reap(1000.0)
        self.keeper._listen(1000.0)
        self.keeper._keeping.pass_time(1000.0)
        self.keeper._speak(1000.0)

    def close(self) -> None:
        for started in self.started:
            if started.line is not None:
                started.line.close()
        self.keeper.hang_up()
        self.listener.close()
        self.lock.release()
        os.close(self.keeper._life_fds[0])
        os.close(self.keeper._life_fds[1])
