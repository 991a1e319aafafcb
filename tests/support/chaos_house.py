"""The three processes of a chaos run, and whoever is foreign to them: killed, stopped, started again, by pid and start.

Plays systemd for the keeper: when it is gone, `run` is started again. Whom to kill is read from the keeper's lock file,
which needs nobody's answer; and nobody is killed whose number belongs to another by now.
"""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from random import Random

from reconciler.adapters.processes.procfs import exit_status_of
from reconciler.client import ClientError
from support.chaos_absences import Absences
from support.chaos_ledger import Life, boot_time, fds_of, start_ticks
from support.daemon import SHOWN_LINES, Daemon, is_alive, process

KEEPER = str(Path(__file__).parent / "chaos_keeper.py")
SERVICES = ("controller", "pump")
READY_SECONDS = 30.0
LISTEN_SECONDS = 0.02
READY = re.compile(r"^keeper: controller \(pid (\d+)\) is ready ", re.MULTILINE)
STRANGER = """
import signal, time
for number in set(range(1, 32)) - {9, 19}:
    signal.signal(number, print)
print("here", flush=True)
time.sleep(1e6)
"""
PID_TRIES = 8


class House(Daemon):
    """A Daemon that is not asked before it is killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kills = dict.fromkeys(("keeper", *SERVICES), 0)
        self.replaced = {"controller": 0, "keeper": 0, "all": 0}  # in good order
        self.absences = Absences(orphans_tell=orphans_tell())
        self._mourned = True  # the last keeper: it is known when it went
        self._launched_at = self._last_asked_to_keep = 0.0
        self._killed: set[tuple[int, int]] = set()  # some take their time to die
        self.strangers: list[subprocess.Popen[bytes]] = []
        self.reused = 0  # strangers with the number of one of ours
        self._heard = 0  # bytes of the output
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="output", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Hear when a controller is ready, from what the keeper writes."""
        while not self._stop.wait(LISTEN_SECONDS):
            if not self.output_path.exists():
                continue
            with open(self.output_path, "rb") as output:
                output.seek(self._heard)
                whole = output.read().rpartition(b"\n")[0]
            self._heard += len(whole) + bool(whole)
            at = boot_time()
            for pid in READY.findall(whole.decode(errors="replace")):
                self.absences.ready(at, int(pid))

    def end(self) -> None:
        self._stop.set()
        self._listener.join()
        super().end()

    def portrait(self) -> str:
        """What one would look at after a failure, of a run that may have been long."""
        parts = ["---- processes", *(f"{p.pid:>7} {p.parent:>7} {p.state} {p.command}" for p in self.everybody())]
        return "\n".join([*parts, "---- what the daemon wrote", *self.output().splitlines()[-SHOWN_LINES:]])

    # ---- starting ----

    def launch(
        self, *directories: Path | str, options: object = (), stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        if not self._mourned and self._was_asked_to_keep:
            self._keeper_goes(self._last_asked_to_keep)  # it was heard, and nobody was told so
        self._mourned = False
        self._launched_at = boot_time()
        command = [sys.executable, KEEPER, "--state-dir", str(self.state), "--", "-f", str(self.manifests)]
        with open(self.output_path, "ab") as output:
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                cwd=self.folder,
                start_new_session=True,
            )
        self._running = [each for each in self._running if each.poll() is None] + [keeper]
        return keeper

    def is_up(self) -> bool:
        try:
            return self.client.is_ready()
        except ClientError:
            return False

    def until_up(self) -> bool:
        """Wait until it answers. False: in vain."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_up():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    # ---- killing ----

    def started(self) -> dict[str, tuple[int, int]]:
        """Pid and start of controller and pump, as the keeper noted them."""
        try:
            lines = (self.state / "run" / "lock").read_text().splitlines()
        except OSError:
            return {}
        words = [line.split() for line in lines]
        return {name: (int(pid), int(ticks)) for name, pid, ticks in (w for w in words if len(w) == 3)}

    def kill(self, name: str) -> bool:
        """SIGKILL. False: it was not there."""
        if name == "keeper":
            return self._kill_keeper()
        there = self.started().get(name)
        if there is None:
            return False
        at = boot_time()
        if name == "controller":
            self.absences.controller_goes(at, there[0])
        elif not self._holds_all(self.keeper):  # it is gone, or has not come to it yet
            self.absences.pipes_let_go(at, self._waiting())
        if not send(*there, signal.SIGKILL):
            return False
        self._killed.add(there)
        return self._count(name, True)

    def _kill_keeper(self) -> bool:
        keeper = self._running[-1]
        if keeper.poll() is not None:
            return False
        # It may be about to replace its pump: from now on it does nothing any more, and what it has done is to be seen.
        keeper.send_signal(signal.SIGSTOP)
        stands_still(keeper.pid)
        self._keeper_goes(boot_time())
        keeper.kill()
        keeper.wait()
        return self._count("keeper", True)

    def _count(self, name: str, killed: bool) -> bool:
        self.kills[name] += killed
        return killed

    def _keeper_goes(self, at: float) -> None:
        """From now on only the pump holds the pipes, if there is one that has come to it."""
        self._mourned = True
        self.absences.keeper_goes(at, self._pid_of("controller"))
        if not self._pump_holds_all():
            self.absences.pipes_let_go(at, self._waiting())

    def _pid_of(self, name: str) -> int:
        return self.started().get(name, (0, 0))[0]

    def _fifos(self) -> list[Path]:
        folder = self.state / "run" / "fifos"
        return [path for path in folder.iterdir() if path.is_fifo()] if folder.exists() else []

    def _pump_holds_all(self) -> bool:
        pid, ticks = self.started().get("pump", (0, 0))
        is_there = start_ticks(pid) == ticks > 0 and (pid, ticks) not in self._killed and not is_dying(pid)
        return is_there and self._holds_all(pid)

    def _holds_all(self, pid: int) -> bool:
        return {str(path) for path in self._fifos()} <= set(fds_of(pid))

    def _waiting(self) -> dict[str, int]:
        """How many bytes wait in each pipe."""
        return {path.name: count for path in self._fifos() if (count := waiting_bytes(path))}

    def kill_life(self, life: Life) -> bool:
        """SIGKILL to a process of a Program. False: it was gone."""
        life.killed, life.gone = True, boot_time()
        return send(life.pid, start_ticks(life.pid), signal.SIGKILL)

    @property
    def keeper_lives(self) -> bool:
        return self._running[-1].poll() is None

    @property
    def keeper_left_by_itself(self) -> bool:
        """Whether it is gone although nobody killed it or asked it to leave."""
        return not (self.keeper_lives or self._mourned or self._was_asked_to_keep)

    @property
    def _was_asked_to_keep(self) -> bool:
        return self._last_asked_to_keep > self._launched_at

    # ---- replacing in good order ----

    def reexec(self, *, keeper: bool) -> None:
        """Another controller and pump, another program for the keeper; where somebody answers."""
        try:
            leaving = self.client.reexec(keeper=keeper)["pid"]
        except ClientError:
            self.absences.controller_goes(boot_time(), 0)  # it may have been heard
            return
        self.absences.controller_goes(boot_time(), leaving)
        self.replaced["keeper" if keeper else "controller"] += 1

    def shut_down_and_keep(self, *, wait: bool) -> None:
        """All leave and the processes stay; whoever ends until the next keeper is there ends unseen."""
        try:
            self.client.shutdown(keep=True)
        except ClientError:
            return  # `launch` will see whether it was heard
        finally:
            self._last_asked_to_keep = boot_time()  # a controller that is just starting answers when it has started
        self._keeper_goes(self._last_asked_to_keep)
        self.replaced["all"] += 1
        if wait:
            try:
                self._running[-1].wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                return  # seen at the end of the round: it is as it was

    def stall(self, name: str, seconds: float) -> None:
        """It stands still for a moment, as on a machine that swaps."""
        there = (self.keeper, start_ticks(self.keeper)) if name == "keeper" else self.started().get(name, (0, 0))
        if send(*there, signal.SIGSTOP):
            time.sleep(seconds)
            send(*there, signal.SIGCONT)

    # ---- strangers ----

    def add_stranger(self) -> "subprocess.Popen[bytes]":
        """A process of somebody else, which tells of every signal that reaches it."""
        stranger = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", STRANGER], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.strangers.append(stranger)
        return stranger

    def replace_by_stranger(self, life: Life) -> bool:
        """Kill this process, and have a stranger get its number before anybody has looked. False: it did not."""
        if not self.kill_life(life):
            return False
        deadline = time.monotonic() + 0.3
        while os.path.exists(f"/proc/{life.pid}") and time.monotonic() < deadline:
            time.sleep(0.001)
        for _ in range(PID_TRIES):
            try:
                Path("/proc/sys/kernel/ns_last_pid").write_text(str(life.pid - 1))
            except OSError:
                return False  # not privileged to
            stranger = self.add_stranger()
            if stranger.pid == life.pid:
                self.reused += 1
                return True
            self._dismiss(stranger)
        return False

    def strangers_disturbed(self) -> list[str]:
        """Those who were signalled, or are gone. The others are let go; only one stays."""
        told = []
        for stranger in self.strangers:
            assert stranger.stdout is not None
            os.set_blocking(stranger.stdout.fileno(), False)
            heard = (stranger.stdout.read() or b"").decode().split("\n", 1)
            if stranger.poll() is not None:
                told.append(f"a stranger (pid {stranger.pid}) was ended with {stranger.returncode}")
            elif heard[1:] not in ([""], []):
                told.append(f"a stranger (pid {stranger.pid}) was signalled: {heard[1].strip()}")
        for stranger in self.strangers[1:]:
            self._dismiss(stranger)
        return told

    def _dismiss(self, stranger: "subprocess.Popen[bytes]") -> None:
        stranger.kill()
        stranger.wait()
        assert stranger.stdout is not None
        stranger.stdout.close()
        self.strangers.remove(stranger)

    def clear_strangers(self) -> None:
        for stranger in list(self.strangers):
            self._dismiss(stranger)

    # ---- operators ----

    def ask(self, verb: str, name: str, **body: object) -> bool:
        """An operator's verb. False: nobody answered, it may be done or not."""
        try:
            self.client.operate(name, verb, dict(body))
        except ClientError:
            return False
        return True


def stands_still(pid: int) -> bool:
    """Wait until a process that was sent SIGSTOP has stopped. False: it has ended."""
    while (found := process(pid)) is not None and found.state not in "ZX":
        if found.state == "T":
            return True
        time.sleep(0.0005)
    return False


def is_dying(pid: int) -> bool:
    """Whether SIGKILL was sent to this process, which has not come to end yet."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> signal.SIGKILL - 1 & 1 for mask in pending)


def waiting_bytes(fifo: Path) -> int:
    """How many bytes wait in a FIFO. They stay there."""
    try:
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0  # it has just been let go
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
    finally:
        os.close(fd)


def orphans_tell() -> bool:
    """Whether this kernel says how a process ended to one who watches it and is not its parent (PIDFD_GET_INFO)."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        return exit_status_of(pidfd) is not None
    finally:
        os.close(pidfd)


def send(pid: int, ticks: int, number: signal.Signals) -> bool:
    """A signal to this very process. False: it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return False
    try:
        if not ticks or start_ticks(pid) != ticks:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def one_of(lives: list[Life], random: Random) -> Life | None:
    living = [life for life in lives if is_alive(life.pid)]
    return random.choice(living) if living else None
