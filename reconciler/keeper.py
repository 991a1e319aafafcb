"""The keeper: the process that must not die. It starts controller and pump, and holds what has to outlive them.

`python -m reconciler.keeper --state-dir S -- ARGUMENTS` takes the lock of S, binds its socket, becomes the parent of
orphans, and then only waits, feeds what happened to keeping.py (where all decisions are) and carries out what that
says. It never blocks, reads no manifest, and imports the standard library and the wire, nothing else of ours.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import stat
import sys
import time

from reconciler import wire
from reconciler.keeping import Keeping, Limits
from reconciler.statelock import EXIT_FAILED, EXIT_PERMISSION, EXIT_USAGE, Lock, Refused, make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

PASSED_ON = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
FLAGS = ["-P"] if sys.flags.safe_path else []  # how this interpreter looks for modules is how the others shall
COMMANDS = {
    "controller": [sys.executable, *FLAGS, "-m", "reconciler.app"],
    "pump": [sys.executable, *FLAGS, "-m", "reconciler.pump"],
}
REAPS_PER_WAKE = 64
LISTEN_BACKLOG = 1024  # requests queue here while a controller is replaced
SPARE_DESCRIPTORS = 64  # never given to FIFOs: without one we could start and identify nothing
MOST_DESCRIPTORS = 1 << 20
LOG_LINE_BYTES = 4096  # a pipe takes this much as a whole or not at all


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    keep_standard_streams()
    log = Log(2)
    try:
        state_dir, rest = parse(arguments)
        return run(state_dir, rest, log)
    except Refused as refused:
        log(str(refused))
        return refused.exit_code


def parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """`--state-dir S [-- ARGUMENTS]`. By hand: argparse would cost more memory than all of the keeper's own code."""
    if len(arguments) >= 2 and arguments[0] == "--state-dir" and arguments[2:3] in ([], ["--"]):
        return os.path.abspath(arguments[1]), list(arguments[3:])
    raise Refused(EXIT_USAGE, "usage: python -m reconciler.keeper --state-dir DIR -- ARGUMENTS")


def run(
    state_dir: str,
    arguments: Sequence[str],
    log: Log,
    limits: Limits | None = None,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
) -> int:
    """Keep one state directory until a controller says quit. Returns the exit code."""
    signals = Signals()
    run_dir = os.path.join(state_dir, "run")
    listener_path = os.path.join(run_dir, "reconciler.sock")
    try:
        make_directories(state_dir, run_dir)
        lock = Lock(os.path.join(run_dir, "lock"))
        lock.take(state_dir)
        lock.outlast_former(log)
        listener = wire.listen_unix(listener_path, socket.SOCK_STREAM, LISTEN_BACKLOG)
    except PermissionError as error:
        raise Refused(EXIT_PERMISSION, f"{error}; run as its owner or choose another --state-dir") from None
    except OSError as error:
        raise Refused(EXIT_FAILED, f"cannot use the state directory {state_dir}: {error}") from None
    with listener:
        exit_code = Keeper(state_dir, arguments, log, limits or Limits(), commands, listener, lock, signals).loop()
    try:
        os.unlink(listener_path)
    except OSError:
        pass  # somebody was faster; there is nobody left to tell
    lock.release()
    log(f"leaving with {exit_code}")
    return exit_code


# ---- what the loop needs ----


def raise_descriptor_limit() -> tuple[int, int]:
    """Take as many descriptors as we may have. Returns the limits as they were: the user's programs get those."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft not in (resource.RLIM_INFINITY, most) and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft, hard


def keep_standard_streams() -> None:
    """Where 0, 1 or 2 is closed put /dev/null, or a socket of ours would become somebody's standard output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


class Log:
    """One line per event on standard error. When nobody takes the lines they are counted, never waited for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            # Non-blocking is a property of the open pipe, which others share: open it once more for us alone.
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                pass  # not ours to open, or no reader: asking before each write has to do
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def __call__(self, text: str) -> None:
        lost = f" ({self._lost} lines before this one were lost)" if self._lost else ""
        line = f"keeper: {text}{lost}".replace("\n", " ").encode("utf-8", "replace")[: LOG_LINE_BYTES - 1] + b"\n"
        try:
            if self._poll.poll(0):
                os.write(self._fd, line)
                self._lost = 0
                return
        except OSError:
            pass  # closed or full
        self._lost += 1


class Signals:
    """Signals only wake the loop, which then asks which ones came."""

    def __init__(self) -> None:
        self._came: dict[str, None] = {}
        self.fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for name in (*PASSED_ON, "CHLD"):
            signal.signal(getattr(signal, "SIG" + name), self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whoever started us may have blocked some

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came[signal.Signals(number).name.removeprefix("SIG")] = None

    def take(self) -> list[str]:
        """What came since the last call, each once, in order."""
        try:
            os.read(self.fd, 1 << 16)  # all that a pipe holds
        except BlockingIOError:
            pass
        came = list(self._came)
        for name in came:
            del self._came[name]
        return [name for name in came if name != "CHLD"]


class Fifos:
    """Keeps log FIFOs open, so that what is in them outlives whoever writes and reads them."""

    def __init__(self, log: Log, most: int) -> None:
        self._log = log
        self._most = most
        self._held: dict[str, tuple[int, int, int]] = {}  # path -> descriptor, device, inode

    def hold(self, path: str) -> None:
        """Open `path`, unless that very FIFO is held already."""
        try:
            found = os.lstat(path)
            held = self._held.get(path)
            if held is not None and held[1:] == (found.st_dev, found.st_ino):
                return
            if not stat.S_ISFIFO(found.st_mode):
                self._log(f"a FIFO is not held: {path!r} is none")
            elif len(self._held) >= self._most:
                self._log(f"a FIFO is not held: {self._most} are, raise the limit of open files for {path!r}")
            else:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
                self.release(path)
                self._held[path] = (fd, found.st_dev, found.st_ino)
        except (OSError, TypeError, ValueError) as error:
            self._log(f"a FIFO is not held: {error}")

    def release(self, path: str) -> None:
        """Let it go. What was in it is lost if nobody else has it open."""
        held = self._held.pop(path, None)
        if held is not None:
            os.close(held[0])


class Keeper:
    """The loop, and the effects that keeping.py asks for (its `World`)."""

    def __init__(
        self,
        state_dir: str,
        arguments: Sequence[str],
        log: Log,
        limits: Limits,
        commands: Mapping[str, Sequence[str]],
        listener: socket.socket,
        lock: Lock,
        signals: Signals,
    ) -> None:
        self._state_dir = state_dir
        self._arguments = arguments
        self.log = log
        self._commands = commands
        self._listener = listener
        self._lock = lock
        self._signals = signals
        soft, hard = raise_descriptor_limit()
        self._environment = {**os.environ, "RECONCILER_BOOT_NOFILE": f"{soft}:{hard}"}
        fifos = Fifos(log, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)
        self.hold, self.release = fifos.hold, fifos.release
        self._life_read_fd, self._life_write_fd = os.pipe2(os.O_CLOEXEC)  # its end tells the pump that we are gone
        self._control: socket.socket | None = None
        self._unsent = b""
        self._poll = select.poll()
        self._poll.register(signals.fd, select.POLLIN)
        self._keeping = Keeping(self, limits, os.getpid())

    def loop(self) -> int:
        """Until there is nothing left to keep. Returns the exit code."""
        self._become_parent_of_orphans()
        keeping = self._keeping
        while True:
            now = clock()
            for name in self._signals.take():
                keeping.signalled(name, now)
            more_to_reap = self._reap(now)  # before reading: why the connection ended is then known
            self._listen(now)
            keeping.pass_time(now)
            self._speak(now)
            if keeping.finished:
                return keeping.exit_code or 0
            seconds = 0.0 if more_to_reap else min(max(keeping.wake_at - clock(), 0.0), 3600.0)
            self._poll.poll(int(seconds * 1000) + (seconds > 0))

    def _become_parent_of_orphans(self) -> None:
        if os.getpid() == 1:
            return  # pid 1 is that anyway
        try:
            wire.become_subreaper()
        except (OSError, ImportError) as error:
            self.log(f"cannot become the parent of orphans, exits during a restart will be unknown: {error}")

    def _reap(self, now: float) -> bool:
        """Collect processes that ended, a bounded number. True: there may be more."""
        for _ in range(REAPS_PER_WAKE):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if found is None:
                return False
            # While it is a zombie nobody else can have its pid, and its start time can still be read.
            start_ticks = wire.start_ticks(found.si_pid) or 0
            _, status = os.waitpid(found.si_pid, 0)
            self._keeping.ended(found.si_pid, start_ticks, status, now)
        return True

    # ---- the connection to the controller ----

    def _listen(self, now: float) -> None:
        control = self._control
        if control is None:
            return
        try:
            for message in wire.waiting(control):
                self._keeping.received(message, now)
                if self._control is not control:
                    return
        except wire.Closed:
            self._keeping.lost("", now)
        except wire.WireError as error:
            self._keeping.lost(str(error), now)

    def _speak(self, now: float) -> None:
        """Send what waits, as far as it is taken."""
        while self._control is not None:
            if not self._unsent:
                message = self._keeping.next_message()
                self._unsent = wire.encode(message) if message else b""
            try:
                if self._unsent and wire.send_bytes(self._control, self._unsent):
                    self._unsent = b""
                    continue
            except wire.Closed:
                self._keeping.lost("", now)
                return
            # Nothing left to say, or its queue is full: then the wish to write stays, and wakes us when it has room.
            self._poll.modify(self._control, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            return

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._control is not None:
            self._poll.unregister(self._control)
            self._control.close()
            self._control, self._unsent = None, b""

    # ---- the processes ----

    def start(self, name: str, safe_mode: bool) -> int | None:
        """Start controller or pump as leader of a session of its own. None: it could not be."""
        try:
            pid = self._start_pump() if name == "pump" else self._start_controller(safe_mode)
        except OSError as error:
            self.log(f"{name} could not be started: {error}")
            return None
        self._lock.note(name, pid)
        return pid

    def _start_pump(self) -> int:
        fd = self._life_read_fd
        run_dir = os.path.join(self._state_dir, "run")
        return self._spawn([*self._commands["pump"], "--run-dir", run_dir, "--life-fd", str(fd)], [fd])

    def _start_controller(self, safe_mode: bool) -> int:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._poll.register(self._control, select.POLLIN)
        with theirs:
            fds = [theirs.fileno(), self._listener.fileno()]
            argv = [*self._commands["controller"], "--state-dir", self._state_dir]
            argv += ["--control-fd", str(fds[0]), "--listen-fd", str(fds[1])]
            return self._spawn([*argv, *(["--safe-mode"] if safe_mode else []), *self._arguments], fds)

    def _spawn(self, argv: list[str], fds: list[int]) -> int:
        """Everything of ours is close-on-exec; a descriptor duplicated onto itself is not, in the new process only."""
        return os.posix_spawn(
            argv[0],
            argv,
            self._environment,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            + [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],
            setsid=True,
            setsigmask=[],
            setsigdef=[getattr(signal, "SIG" + name) for name in (*PASSED_ON, "CHLD", "PIPE", "XFSZ")],
        )

    def signal(self, pid: int, name: str) -> None:
        """Send a signal to one of the two. It is not reaped yet, so the pid is still its own."""
        try:
            os.kill(pid, getattr(signal, "SIG" + name))
        except OSError as error:
            self.log(f"pid {pid} cannot be sent SIG{name}: {error}")


def clock() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
