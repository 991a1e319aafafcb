"""The three processes of a chaos run, and whoever is foreign to them: killed, stopped, started again, by pid and start.

Plays systemd for the keeper: when it is gone, `run` is started again. Whom to kill is read from the keeper's lock file,
which needs nobody's answer; and nobody is killed whose number belongs to another by now.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from reconciler.client import ClientError
from support.chaos_ledger import Life, boot_time, fds_of, start_ticks
from support.daemon import SHOWN_LINES, Daemon, is_alive

KEEPER = str(Path(__file__).parent / "chaos_keeper.py")
SERVICES = ("controller", "pump")
READY_SECONDS = 30.0
PUMP_AWAY_SECONDS = 15.0  # how long it may have been away when its keeper died
STRANGER = """
import signal, time
for number in set(range(1, 32)) - {9, 19}:
    signal.signal(number, print)
print("here", flush=True)
time.sleep(1e6)
"""
PID_TRIES = 8


class House(Daemon):
    """A Daemon that is not asked before it is killed. `patient`: with the figures of chaos_keeper.py."""

    def __init__(self, folder: Path, *, patient: bool = True) -> None:
        super().__init__(folder)
        self.patient = patient
        self.kills = dict.fromkeys(("keeper", *SERVICES), 0)
        self.replaced = {"controller": 0, "keeper": 0, "all": 0}  # in good order
        self.keeper_deaths: list[float] = []  # when each one died, or left its processes alone (since boot)
        self.double_faults = 0  # a keeper that died, or left, while no pump held the pipes
        self.unheld: list[tuple[float, float]] = []  # from when to when neither keeper nor pump held the pipes
        self.controller_deaths = 0  # under this keeper
        self._killed: set[tuple[int, int]] = set()  # some take their time to die
        self.strangers: list[subprocess.Popen[bytes]] = []
        self.reused = 0  # strangers with the number of one of ours

    def portrait(self) -> str:
        """What one would look at after a failure, of a run that may have been long."""
        parts = ["---- processes", *(f"{p.pid:>7} {p.parent:>7} {p.state} {p.command}" for p in self.everybody())]
        return "\n".join([*parts, "---- what the daemon wrote", *self.output().splitlines()[-SHOWN_LINES:]])

    # ---- starting ----

    def launch(
        self, *directories: Path | str, options: object = (), stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        self.controller_deaths = 0
        if not self.patient:
            return super().launch()
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

    def keeper_is_back(self) -> None:
        """It holds all pipes by now."""
        until = boot_time()
        self.unheld = [(begun, min(ended, until)) for begun, ended in self.unheld]

    def was_unheld(self, at: float) -> bool:
        """Whether the last writer of a pipe that closed it at this time was the last who had it open."""
        return any(begun <= at <= ended for begun, ended in self.unheld)

    def is_up(self) -> bool:
        try:
            ready = self.client.is_ready()
        except ClientError:
            return False
        if ready:
            self.keeper_is_back()
        return ready

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
        if there is None or not send(*there, signal.SIGKILL):
            return False
        if name == "pump" and not self.keeper_lives:
            self.double_faults += 1
            self.unheld.append((boot_time() - PUMP_AWAY_SECONDS, float("inf")))  # it may just have come to it
        self.controller_deaths += name == "controller"
        self._killed.add(there)
        return self._count(name, True)

    def _kill_keeper(self) -> bool:
        keeper = self._running[-1]
        if keeper.poll() is not None:
            return False
        self._keeper_goes()
        keeper.kill()
        keeper.wait()
        return self._count("keeper", True)

    def _count(self, name: str, killed: bool) -> bool:
        self.kills[name] += killed
        return killed

    def _keeper_goes(self) -> None:
        """From now on only the pump holds the pipes, if there is one that has come to it."""
        now = boot_time()
        self.keeper_deaths.append(now)
        if not self._pump_holds_all():
            self.double_faults += 1
            self.unheld.append((now - PUMP_AWAY_SECONDS, float("inf")))

    def _pump_holds_all(self) -> bool:
        pid, ticks = self.started().get("pump", (0, 0))
        folder = self.state / "run" / "fifos"
        fifos = {str(path) for path in folder.iterdir() if path.is_fifo()} if folder.exists() else set()
        is_there = start_ticks(pid) == ticks > 0 and (pid, ticks) not in self._killed
        return is_there and fifos <= set(fds_of(pid))

    def kill_life(self, life: Life) -> bool:
        """SIGKILL to a process of a Program. False: it was gone."""
        life.killed, life.gone = True, boot_time()
        return send(life.pid, start_ticks(life.pid), signal.SIGKILL)

    @property
    def keeper_lives(self) -> bool:
        return self._running[-1].poll() is None

    # ---- replacing in good order ----

    def reexec(self, *, keeper: bool) -> None:
        """Another controller and pump, another program for the keeper; where somebody answers."""
        try:
            self.client.reexec(keeper=keeper)
        except ClientError:
            return
        self.replaced["keeper" if keeper else "controller"] += 1

    def shut_down_and_keep(self, *, wait: bool) -> None:
        """All leave and the processes stay; whoever ends until the next keeper is there ends unseen."""
        try:
            self.client.shutdown(keep=True)
        except ClientError:
            return
        finally:
            self._keeper_goes()
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
