"""A controller and a pump on strings, for tests of the keeper with real processes.

Run as a program it plays one of the two: it connects to the stage of the test, repeats there all that the keeper tells
it and does what the stage orders. It answers pings by itself, and ends when the stage is gone, so nothing is left over.
Imported, it gives the test the other end: `Stage` and `Actor`.

    python keeper_puppet.py keeper STAGE LIMITS_JSON KEEPER'S_ARGUMENTS...   the real keeper, with puppets to start
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from reconciler import keeper, wire
from reconciler.keeping.services import Limits

DEADLINE_SECONDS = 30.0  # the machine may be busy; nothing waits this long unless it is broken


# ---- the test's side ----


def eventually(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until the condition is truthy."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.01)
    return found


def is_running(pid: int) -> bool:
    found = wire.process_stat(pid)
    return found is not None and found.state not in ("Z", "X")


class Actor:
    """One puppet that came to the stage."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._heard: list[wire.Message] = []
        self._gone = False
        self.entry = self.expect("entered")
        self.role: str = self.entry["role"]
        self.pid: int = self.entry["pid"]
        self.argv: list[str] = self.entry["argv"]

    def order(self, kind: str, **fields: Any) -> None:
        wire.send(self._sock, {"type": kind, **fields})

    def say(self, kind: str, **fields: Any) -> None:
        """Tell the keeper something."""
        self.order("say", message={"type": kind, **fields})

    def greet(self) -> wire.Message:
        self.say("hello", wire=1, pid=self.pid)
        return self.expect("welcome")

    def expect(self, kind: str, **fields: Any) -> wire.Message:
        """The next message of this type; others are set aside. One of it that differs in a field fails the test."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            for message in self._heard:
                if message["type"] == kind:
                    self._heard.remove(message)
                    assert {name: message.get(name) for name in fields} == fields
                    return message
            assert not self._gone, f"it went without a message of type {kind}"
            assert select.select([self._sock], [], [], max(0, deadline - time.monotonic()))[0], f"no {kind} came"
            try:
                self._heard.extend(wire.waiting(self._sock))
            except wire.Closed:
                self._gone = True

    def heard_now(self, kind: str) -> bool:
        """Whether a message of this type has come."""
        with contextlib.suppress(wire.Closed):
            self._heard.extend(wire.waiting(self._sock))
        return any(message["type"] == kind for message in self._heard)

    def exits(self, count: int) -> dict[tuple[int, int], int]:
        """So many exits, from as many messages as it takes."""
        found: dict[tuple[int, int], int] = {}
        while len(found) < count:
            for pid, start_ticks, status, _mark in self.expect("exits")["exits"]:
                assert (pid, start_ticks) not in found
                found[pid, start_ticks] = status
        return found

    def spawn(self, script: str) -> tuple[int, int]:
        """A process of the puppet's own, and its identity."""
        self.order("spawn", script=script)
        found = self.expect("spawned")
        return found["pid"], found["start_ticks"]


class Stage:
    """Where puppets come on; leave the context and all of them end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listener = wire.listen_unix(path, socket.SOCK_SEQPACKET)
        self._waiting: list[Actor] = []
        self._socks: list[socket.socket] = []

    def next(self, role: str) -> Actor:
        """The next controller or pump that enters."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            for actor in self._waiting:
                if actor.role == role:
                    self._waiting.remove(actor)
                    return actor
            assert select.select([self._listener], [], [], max(0, deadline - time.monotonic()))[0], f"no {role} came"
            sock, _ = self._listener.accept()
            self._socks.append(sock)
            self._waiting.append(Actor(sock))

    def has_come(self, role: str) -> bool:
        """Whether one of this role waits for its turn."""
        while select.select([self._listener], [], [], 0)[0]:
            sock, _ = self._listener.accept()
            self._socks.append(sock)
            self._waiting.append(Actor(sock))
        return any(actor.role == role for actor in self._waiting)

    def close(self) -> None:
        for sock in (self._listener, *self._socks):
            sock.close()


class Running:
    """A real keeper on a state directory, with the stage that its puppets come to."""

    def __init__(
        self,
        state_dir: str,
        stage: Stage,
        limits: dict[str, float],
        arguments: tuple[str, ...],
        executable: str = sys.executable,
    ) -> None:
        self.state_dir = state_dir
        self.log_path = os.path.join(os.path.dirname(stage.path), "keeper.log")
        argv = [executable, __file__, "keeper", stage.path, json.dumps(limits)]
        argv += ["--state-dir", state_dir, "--", *arguments]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self) -> str:
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def leaves(self) -> int:
        """Its exit code, once it is gone."""
        return self.process.wait(DEADLINE_SECONDS)


# ---- the puppet's side ----


def play(role: str, stage_path: str, argv: list[str]) -> None:
    option = "--control-fd" if role == "controller" else "--life-fd"
    line_fd = int(argv[argv.index(option) + 1])
    os.set_inheritable(line_fd, False)
    if role == "controller":
        os.set_inheritable(int(argv[argv.index("--listen-fd") + 1]), False)
    came: list[str] = []
    wakeup_read_fd, wakeup_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write_fd)
    # Before it is seen: a pump that is to make room as soon as it has come shall say that it came.
    for name in ("SIGTERM", "SIGUSR2"):
        signal.signal(getattr(signal, name), lambda number, _: came.append(signal.Signals(number).name))
    stage = wire.connect_unix(stage_path, socket.SOCK_SEQPACKET)
    line: socket.socket | None = socket.socket(fileno=line_fd) if role == "controller" else None
    wire.send(stage, {"type": "entered", "role": role, "pid": os.getpid(), "argv": argv, **surroundings()})
    stubborn = False
    while True:
        readable, _, _ = select.select([stage, wakeup_read_fd, *([line_fd] if line_fd >= 0 else [])], [], [])
        try:
            for order in wire.waiting(stage):
                stubborn |= order["type"] == "be stubborn"
                obey(order, stage, line)
        except wire.Closed:
            os._exit(0)
        if wakeup_read_fd in readable:
            os.read(wakeup_read_fd, 4096)
            while came:
                wire.send(stage, {"type": "got", "signal": (name := came.pop(0))})
                if name == "SIGTERM" and not stubborn:
                    os._exit(0)
        if line_fd in readable and not hear(stage, line):
            wire.send(stage, {"type": "alone"})
            if not stubborn:
                os._exit(0)
            line_fd = -1


def surroundings() -> dict[str, Any]:
    """What the keeper gave us besides arguments."""
    return {
        "is_session_leader": os.getsid(0) == os.getpid(),
        "stdin": os.readlink("/proc/self/fd/0"),
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "boot_nofile": os.environ.get("RECONCILER_BOOT_NOFILE"),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }


def hear(stage: socket.socket, line: socket.socket | None) -> bool:
    """Repeat what the keeper says. False: it is gone."""
    if line is None:
        return False  # the pump's life line carries nothing but its end
    try:
        for message in wire.waiting(line):
            if message["type"] == "ping":
                wire.send(line, {"type": "pong", "n": message["n"]})
            else:
                wire.send(stage, message)
    except wire.Closed:
        return False
    return True


def obey(order: wire.Message, stage: socket.socket, line: socket.socket | None) -> None:
    match order["type"]:
        case "say":
            assert line is not None
            wire.send(line, order["message"])
        case "babble":
            assert line is not None
            line.send(order["text"].encode())
        case "spawn":
            # Not by subprocess: that reaps behind our back what the keeper shall find.
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", order["script"]], os.environ, setsid=True)
            wire.send(stage, {"type": "spawned", "pid": pid, "start_ticks": wire.start_ticks(pid)})
        case "hang":
            while True:  # until somebody kills us; the stage's end is no news to a hung process, so look at it here
                with contextlib.suppress(wire.WireError):
                    try:
                        wire.receive(stage)
                    except wire.Closed:
                        os._exit(0)
                time.sleep(0.05)
        case "exit":
            os._exit(order["code"])


def main(role: str, stage_path: str, *rest: str) -> int:
    if role != "keeper":
        play(role, stage_path, list(rest))
    limits_json, *words = rest
    limits = Limits()
    for name, value in json.loads(limits_json).items():
        setattr(limits, name, value)
    commands = {name: [sys.executable, __file__, name, stage_path] for name in ("controller", "pump")}
    commands["keeper"] = [sys.executable, __file__, role, stage_path, limits_json]
    keeper.keep_standard_streams()
    log = keeper.Log(2)
    try:
        state_dir, handover_fd, arguments = keeper.parse(words)
        return keeper.run(state_dir, arguments, log, limits, commands, handover_fd)
    except keeper.Refused as refused:
        log(str(refused))
        return refused.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
