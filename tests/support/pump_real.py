"""A real pump process, the keeper's part of its life, and a process that writes numbered lines as fast as it can.

Run as a program it is the writer: it fills the FIFO until SIGTERM, ends with a whole line and prints how many there
were.

    python pump_real.py FIFO SEED
"""

import itertools
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reconciler import wire

DEADLINE_SECONDS = 30.0  # the machine may be busy; nothing waits this long unless it is broken
LONG_LINE_BYTES = 150_000


def eventually(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until the condition is truthy."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.005)
    return found


class RealPump:
    """`python -m reconciler.pump`, as the keeper starts it."""

    def __init__(self, run_dir: Path) -> None:
        life_reader, self._life = os.pipe()
        self.run_dir = run_dir
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reconciler.pump", "--run-dir", str(run_dir), "--life-fd", str(life_reader)],
            pass_fds=[life_reader],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        os.close(life_reader)
        self._controller: socket.socket | None = None

    def connect(self) -> None:
        """As the controller."""

        def connected() -> socket.socket | None:
            try:
                return wire.connect_unix(str(self.run_dir / "pump.sock"), socket.SOCK_SEQPACKET)
            except OSError:
                assert not self.has_left(), "the pump ended"
                return None

        self._controller = eventually(connected, "a pump that listens")

    def say(self, **message: Any) -> None:
        assert self._controller is not None
        assert wire.send(self._controller, message)

    def hears(self, kind: str) -> wire.Message:
        """The next message, which must be of this kind."""
        controller = self._controller
        assert controller is not None
        ready, _, _ = select.select([controller], [], [], DEADLINE_SECONDS)
        assert ready, f"a message {kind} did not come in time"
        message = wire.receive(controller)
        assert message is not None
        assert message["type"] == kind, message
        return message

    def settled(self) -> None:
        """All that was said is done, and what waited is moved."""
        self.say(type="mark", ids=[], run="", n=0)
        self.hears("marked")

    def orphan(self) -> None:
        """The keeper dies."""
        os.close(self._life)
        self._life = -1

    def has_left(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if not self.has_left():
            self.kill()
        if self._controller is not None:
            self._controller.close()
        if self._life >= 0:
            self.orphan()


# Starts the rest of its command line, whose life descriptor is the first word of it, says the pid and dies.
_KEEPER = """
import os, subprocess, sys
pump = subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])], start_new_session=True)
print(pump.pid, flush=True)
os.kill(os.getpid(), 9)
"""


class ForgottenPump(RealPump):
    """A pump whose keeper died just when it had started it. It may still be given work: so early its life is ours."""

    def __init__(self, run_dir: Path) -> None:
        life_reader, self._life = os.pipe()
        self.run_dir = run_dir
        command = [sys.executable, "-m", "reconciler.pump", "--run-dir", str(run_dir), "--life-fd", str(life_reader)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, str(life_reader), *command],
            pass_fds=[life_reader],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        os.close(life_reader)
        assert self.process.stdout is not None
        with self.process.stdout as told:
            self._pidfd = os.pidfd_open(int(told.readline()))
        self.process.wait()
        self._controller: socket.socket | None = None

    def has_left(self) -> bool:
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        super().close()
        os.close(self._pidfd)


def expected_lines(seed: int) -> Iterator[bytes]:
    """The endless text: numbered lines, most of them short, some longer than a segment."""
    dice = random.Random(seed)
    for number in itertools.count():
        length = LONG_LINE_BYTES if dice.random() < 0.0005 else dice.randrange(200)
        yield b"%d %s\n" % (number, b"x" * length)


def write_until_told(fifo: str, seed: int) -> None:
    signal.alarm(120)  # whoever started us may be gone
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    fd = os.open(fifo, os.O_RDWR)
    dice = random.Random()
    waiting, count = b"", 0
    for line in expected_lines(seed):
        waiting += line
        count += 1
        while len(waiting) > 5000 or (told and waiting):
            waiting = waiting[os.write(fd, waiting[: len(waiting) if told else dice.randrange(1, 9000)]) :]
        if told:
            break
    print(count, flush=True)


if __name__ == "__main__":
    write_until_told(sys.argv[1], int(sys.argv[2]))
