"""What the chaos run has run: `python -I -S -E chaos_worker.py DIR MODE`. It writes down itself what it does.

DIR holds the `ledger` (one line per thing that a process did), a lock per ordinal in `locks` (held for life: who finds
it taken has met a second process at his ordinal, and says so), `progress` (how much of its output a process had
written, should it be killed) and, now and then, `pause` (then everybody stands still and the books are compared).

A line: CLOCK_BOOTTIME, pid, Program, ordinal, spawn id, what, more. Standard library only, and nothing of ours.
"""

import errno
import fcntl
import os
import random
import signal
import struct
import sys
import time

HARMLESS = (0, 3, 7)  # successExitCodes of the fleet: no back-off after these
PAUSE_LOOK_SECONDS = 0.02
PROGRESS = struct.Struct("QQ")


class Ended(BaseException):
    """It was asked to end."""


class Me:
    """One process: who it is, and its pen."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.program = os.environ["RECONCILER_PROGRAM"]
        self.ordinal = os.environ["RECONCILER_REPLICA"]
        self.spawn = os.environ["RECONCILER_SPAWN_ID"]
        self.ledger = os.open(f"{folder}/ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.chance = random.Random(self.spawn)
        self.lock = -1

    def note(self, what: str, *more: object) -> None:
        words = (f"{time.clock_gettime(time.CLOCK_BOOTTIME):.6f}", os.getpid(), self.program, self.ordinal, self.spawn)
        os.write(self.ledger, (" ".join(map(str, (*words, what, *more))) + "\n").encode())

    def take_seat(self) -> None:
        """Nobody else may be at this ordinal: neither another process, nor what one has left behind."""
        path = f"{self.folder}/locks/{self.program}.{self.ordinal}"
        self.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            self.note("double", os.pread(self.lock, 100, 0).decode())
        os.pwrite(self.lock, f"{self.spawn} {os.getpid()}\n".encode().ljust(60), 0)

    def leave(self, code: int, *more: object) -> None:
        """The last words, and the end."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.note("end", code, *more)
        os._exit(code)

    def rest(self, seconds: float) -> None:
        """A sleep that ends with a TERM, and lasts as long as there is a pause."""
        time.sleep(seconds)
        while os.path.exists(f"{self.folder}/pause"):
            time.sleep(PAUSE_LOOK_SECONDS)

    # ---- what it may be for ----

    def steady(self) -> None:
        """Until it is asked to end, which takes it a moment."""
        while True:
            self.rest(0.2)

    def task(self) -> None:
        """A piece of work, with one of the exit codes that mean success."""
        self.rest(self.chance.uniform(0, 0.03))
        self.leave(self.chance.choice(HARMLESS))

    def once(self) -> None:
        """A piece of work that is done once, and fails now and then."""
        self.rest(self.chance.uniform(0, 0.3))
        self.leave(self.chance.choice((0, 0, 3, 11)))

    def sick(self) -> None:
        """Fails at once, with a code of its choice or by a signal."""
        self.rest(0)
        if self.chance.random() < 0.3:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # who has said how he ends, ends so
            self.note("signal", 11)
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        self.leave(self.chance.randint(20, 120))

    def tree(self) -> None:
        """Leaves somebody behind who holds on to the ordinal and has to be killed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            self.note("left", os.getpid())
            while True:
                time.sleep(60)  # the lock came with the fork: until this process is gone, nobody may sit here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self.rest(self.chance.uniform(0.2, 1.5))
        self.leave(self.chance.choice(HARMLESS))

    def talk(self) -> None:
        """Prints numbered lines, for a while or until it is asked to end. Nothing is flushed: each write counts."""
        written, line = 0, 0
        progress = os.open(f"{self.folder}/progress/{self.spawn}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + self.chance.expovariate(1 / 3.0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a line that has begun is finished, and counted
        while time.monotonic() < until:
            count = self.chance.randint(1, 60) if self.chance.random() < 0.98 else 2500
            text = b"".join(line_of(self.spawn, n) for n in range(line + 1, line + count + 1))
            left = memoryview(text)
            os.pwrite(progress, PROGRESS.pack(written, written + len(text)), 0)
            while left:
                left = left[os.write(1, left) :]
            written, line = written + len(text), line + count
            os.pwrite(progress, PROGRESS.pack(written, written), 0)
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                self.rest(self.chance.uniform(0.001, 0.03))
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            except Ended:
                break
        self.leave(self.chance.choice(HARMLESS), written)


def line_of(spawn: str, number: int) -> bytes:
    """The line of this number: who knows the spawn id can say what it was. Every 300th is longer than a page."""
    size = 9000 if number % 300 == 0 else number * 37 % 150
    return b"%s %d %s\n" % (spawn.encode(), number, b"." * size)


def asked_to_end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who asks may be killed before he knows that he has, and ask again
    raise Ended


def main() -> None:
    folder, mode = sys.argv[1:3]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # from here on, whoever is asked to end says so
    me = Me(folder)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else asked_to_end)
        me.take_seat()
        me.note("start", os.environ["RECONCILER_REVISION"], os.environ.get("VERSION", "-"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        getattr(me, "steady" if mode == "deaf" else mode)()
    except Ended:
        time.sleep(me.chance.choice((0, 0, 0.02, 0.2)))
        me.leave(me.chance.choice((0, 3, 7, 40)), 0)


if __name__ == "__main__":
    main()
