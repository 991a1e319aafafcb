"""The keeper: the process that must not die. It starts controller and pump, and holds what has to outlive them.

`python -m reconciler.keeper --state-dir S -- ARGUMENTS` takes the lock of S, binds its socket, becomes the parent of
orphans, and then only waits, feeds what happened to its decisions (keeping/decisions.py) and carries out what they say.
It never blocks, reads no manifest, and imports the standard library and its own few modules only.

`--handover N` in front of the dashes: the program before us in this very process left us all it had, see
keeping/handover.py. `--rehearse V` alone: would this code be able to take over from a keeper that hands over version V?
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time

from reconciler import wire
from reconciler.keeping import handover
from reconciler.keeping.decisions import Keeping
from reconciler.keeping.footing import (
    OURS_ALONE,
    PASSED_ON,
    SPARE_DESCRIPTORS,
    Fifos,
    Log,
    Notifier,
    Signals,
    keep_standard_streams,
    raise_descriptor_limit,
)
from reconciler.keeping.services import Limits
from reconciler.statelock import EXIT_FAILED, EXIT_PERMISSION, EXIT_USAGE, Lock, Refused, make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

FLAGS = ["-P"] if sys.flags.safe_path else []  # how this interpreter looks for modules is how the others shall
COMMANDS = {
    name: [sys.executable, *FLAGS, "-m", f"reconciler.{module}"]
    for name, module in (("keeper", "keeper"), ("controller", "app"), ("pump", "pump"))
}
REAPS_PER_WAKE = 64
LISTEN_BACKLOG = 1024  # requests queue here while a controller is replaced


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    keep_standard_streams()
    log = Log(2)
    try:
        if arguments[:1] == ["--rehearse"]:
            return rehearse(arguments[1:])
        state_dir, handover_fd, rest = parse(arguments)
        return run(state_dir, rest, log, handover_fd=handover_fd)
    except Refused as refused:
        log(str(refused))
        return refused.exit_code


def parse(arguments: Sequence[str]) -> tuple[str, int, list[str]]:
    """State directory, descriptor (-1: none), what is for the controller.

    By hand: argparse would cost more memory than all of the keeper's own code.
    """
    words = list(arguments)
    ours, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    given = dict(zip(ours[::2], ours[1::2], strict=False))
    fd = given.get("--handover", "-1")
    if (
        len(ours) % 2
        or given.keys() | {"--handover"} != {"--state-dir", "--handover"}
        or not fd.lstrip("-").isdecimal()
    ):
        raise Refused(EXIT_USAGE, "usage: python -m reconciler.keeper --state-dir DIR [--handover FD] -- ARGUMENTS")
    return os.path.abspath(given["--state-dir"]), int(fd), rest


def rehearse(arguments: Sequence[str]) -> int:
    """Whether this code could take the place of keeper and pump: it is whole, and can read what it would be handed."""
    import reconciler.pump  # noqa: F401

    try:
        handover.check(int(arguments[0]) if len(arguments) == 1 and arguments[0].isdecimal() else None)
    except handover.Unreadable as unreadable:
        raise Refused(EXIT_FAILED, str(unreadable)) from None
    return 0


def run(
    state_dir: str,
    arguments: Sequence[str],
    log: Log,
    limits: Limits | None = None,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
    handover_fd: int = -1,
) -> int:
    """Keep one state directory until a controller says quit. Returns the exit code."""
    signals = Signals()
    run_dir = os.path.join(state_dir, "run")
    listener_path = os.path.join(run_dir, "reconciler.sock")
    former: dict[str, Any] | None = None
    try:
        if handover_fd >= 0:
            former = handover.unpack(handover_fd)
            lock = Lock("", former["lock"], former["started"])
            listener = socket.socket(fileno=former["listener"])
            listener.set_inheritable(False)
        else:
            make_directories(state_dir, run_dir)
            lock = Lock(os.path.join(run_dir, "lock"))
            lock.take(state_dir)
            listener = wire.listen_unix(listener_path, socket.SOCK_STREAM, LISTEN_BACKLOG)
    except handover.Unreadable as error:
        raise Refused(EXIT_FAILED, str(error)) from None
    except PermissionError as error:
        raise Refused(EXIT_PERMISSION, f"{error}; run as its owner or choose another --state-dir") from None
    except OSError as error:
        raise Refused(EXIT_FAILED, f"cannot use the state directory {state_dir}: {error}") from None
    with listener:
        keeper = Keeper(state_dir, arguments, log, limits or Limits(), commands, listener, lock, signals, former)
        exit_code = keeper.loop()
    try:
        os.unlink(listener_path)
    except OSError:
        pass  # somebody was faster; there is nobody left to tell
    lock.release()
    log(f"leaving with {exit_code}")
    return exit_code


class Keeper:
    """The loop, and the effects that the decisions ask for (its `World`)."""

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
        former: Mapping[str, Any] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._arguments = arguments
        self.log = log
        self._commands = commands
        self._listener = listener
        self._lock = lock
        self._signals = signals
        soft, hard = raise_descriptor_limit()
        self._boot_nofile = former["boot_nofile"] if former else f"{soft}:{hard}"
        self._environment = {name: value for name, value in os.environ.items() if name not in OURS_ALONE}
        self._environment["RECONCILER_BOOT_NOFILE"] = self._boot_nofile
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
        self._fifos = fifos = Fifos(log, most, former["fifos"] if former else None)
        self.hold, self.release = fifos.hold, fifos.release
        self.notify = Notifier(os.environ.get("NOTIFY_SOCKET", ""), log)
        # Its end tells the pump that we are gone.
        self._life_fds: tuple[int, int] = former["life"] if former else os.pipe2(os.O_CLOEXEC)
        for fd in self._life_fds:
            os.set_inheritable(fd, False)
        self._control: socket.socket | None = None
        self._unsent = b""
        self._poll = select.poll()
        self._poll.register(signals.fd, select.POLLIN)
        self._keeping = Keeping(self, limits, os.getpid(), former["keeping"] if former else None)

    def loop(self) -> int:
        """Until there is nothing left to keep. Returns the exit code."""
        # Of a keeper that was killed: first what its pump holds, then its pump.
        self._fifos.hold_all(os.path.join(self._state_dir, "run", "fifos"))
        self._lock.outlast_former(self.log)
        keeping = self._keeping
        if self._become_parent_of_orphans():
            keeping.reaps(clock())
        while True:
            now = clock()
            for name in self._signals.take():
                keeping.signalled(name, now)
            more_to_reap = self._reap(now)  # before reading: why the connection ended is then known
            self._listen(now)
            if keeping.may_hand_over:
                self._hand_over(now)
            keeping.pass_time(now)
            self._speak(now)
            if keeping.finished:
                return keeping.exit_code or 0
            seconds = 0.0 if more_to_reap else min(max(keeping.wake_at - clock(), 0.0), 3600.0)
            self._poll.poll(int(seconds * 1000) + (seconds > 0))

    def _become_parent_of_orphans(self) -> bool:
        if os.getpid() == 1:
            return True  # pid 1 is that anyway
        try:
            wire.become_subreaper()
        except (OSError, ImportError) as error:
            self.log(f"cannot become the parent of orphans, exits during a restart will be unknown: {error}")
            return False
        return True

    def _reap(self, now: float) -> bool:
        """Collect processes that ended, a bounded number. True: there may be more."""
        for _ in range(REAPS_PER_WAKE):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if found is None:
                return False
            if found.si_pid == self._keeping.controller.pid:
                self._hear_out(now)
            # While it is a zombie nobody else can have its pid, and who it was can still be read.
            start_ticks, mark = wire.start_ticks(found.si_pid) or 0, wire.birthmark_of(found.si_pid) or 0
            _, status = os.waitpid(found.si_pid, 0)
            self._keeping.ended(found.si_pid, start_ticks, status, now, mark)
        return True

    # ---- the connection to the controller ----

    def _hear_out(self, now: float) -> None:
        """The controller is dead. What it said before counts: if that was a quit, no other one is started."""
        control = self._control
        try:
            while control is not None and self._control is control:
                message = wire.receive(control)
                if message is None:
                    return  # somebody else has its end of the line
                self._keeping.received(message, now)
        except (wire.Closed, wire.WireError):
            pass  # the end

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
        fd = self._life_fds[0]
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

    # ---- the end of this program, not of this process ----

    def _hand_over(self, now: float) -> None:
        """Become the code that is installed now. Comes back only when that cannot be; then we simply go on."""
        keeping = self._keeping
        keeping.handing_over = False
        self._signals.hold_back()
        for name in self._signals.take():
            keeping.signalled(name, now)
        lock_fd, listener_fd, fifos = self._lock.fd, self._listener.fileno(), self._fifos.held
        fds = [lock_fd, listener_fd, *self._life_fds, *(fd for fd, _, _ in fifos.values())]
        held = {"lock": lock_fd, "listener": listener_fd, "life": self._life_fds, "fifos": fifos}
        known = {"started": self._lock.started, "boot_nofile": self._boot_nofile, "keeping": keeping.document()}
        try:
            document_fd = handover.pack(held | known)
            try:
                argv = [*self._commands["keeper"], "--state-dir", self._state_dir, "--handover", str(document_fd)]
                self.log("handing over to the code that is installed now")
                handover.become([*argv, "--", *self._arguments], os.environ, [*fds, document_fd])
            finally:
                os.close(document_fd)
        except (OSError, ValueError) as error:
            self.log(f"cannot be replaced: {error}; going on")
        self._signals.let_through()


def clock() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
