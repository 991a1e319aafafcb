"""`make fleet`: 10,000 manifests and 5,000 processes on this machine: does all of it work, and how fast? Not a test.

Beside each figure stands how long somebody waited at most who asked all the while whether the controller is ready:
about as long as its loop was held up by one thing, on a machine that has nothing else to do.

PROGRAMS (10000: one file each), PROCESSES (5000). Ends with 1 when something did not come about.
"""

import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from reconciler.client import Client, ClientError, socket_in
from support.daemon import Daemon, cpu_seconds, daemon_in, eventually, is_alive
from support.soaking import pss_bytes

PROGRAMS = int(os.environ.get("PROGRAMS") or 10_000)
PROCESSES = int(os.environ.get("PROCESSES") or 5000)
PATIENCE_SECONDS = 300.0
TRIALS = 15
FILES_IN_A_FOLDER = 100
IDLE_SECONDS = 10.0
SETTLED_SECONDS = 20.0  # until the last status is written
DESCRIPTORS_EACH = 2.5
READ_AGAIN_SECONDS = 30.0
ASKED_EVERY_SECONDS = 0.005
LEFT_TO_OTHERS = 1000  # processes: this is not the only thing that runs here


def main() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_EACH * PROCESSES:
        print(f"the hard limit of open files is {hard}: too few for {PROCESSES} processes")
        return 1
    if (room := room_for_processes()) < PROCESSES + LEFT_TO_OTHERS:
        print(f"a control group allows {room} more processes: too few for {PROCESSES}, and {LEFT_TO_OTHERS} for others")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    print(f"{PROGRAMS} manifests, {PROCESSES} processes, in {folder}", flush=True)
    with daemon_in(folder) as daemon:
        daemon.portrait = lambda: ""  # type: ignore[method-assign] # too much of it to be looked at
        daemon.state.mkdir()
        (folder / "config.yaml").write_text(
            "apiVersion: reconciler/v1\nkind: Config\nmetadata: {name: fleet}\nspec: {maxStarting: 0}\n"
        )
        run(daemon)
    shutil.rmtree(folder)
    print("all of it worked")
    return 0


def room_for_processes() -> float:
    """How many more the control groups that we are in allow, of either version."""
    room = float("inf")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        group = Path("/sys/fs/cgroup") / controllers / path.lstrip("/")
        for each in (group, *group.parents):
            try:
                most, now = (each / "pids.max").read_text().strip(), int((each / "pids.current").read_text())
            except OSError:
                continue  # not bounded here
            room = min(room, float("inf") if most == "max" else int(most) - now)
    return room


def run(daemon: Daemon) -> None:
    for number in range(PROGRAMS):
        declare(daemon, number)
    took("cold start until all run", lambda: start(daemon), daemon)
    show(daemon)
    took("`get`", lambda: daemon.cli("get"), daemon)
    took("`status`", lambda: daemon.cli("status", code=None), daemon)
    print(f"  respawn, as one outside sees it: median {statistics.median(respawns(daemon)) * 1000:.0f} ms")
    took("one env changed until it runs", lambda: change(daemon), daemon)
    time.sleep(SETTLED_SECONDS)
    before = cpu_seconds(daemon.controller)
    time.sleep(IDLE_SECONDS)
    print(f"  idle: {(cpu_seconds(daemon.controller) - before) / IDLE_SECONDS:.1%} of a CPU")
    took("controller killed until the next one answers", daemon.kill_controller)
    assert running(daemon) == PROCESSES, "all were taken over"
    took("the next 30 s, in which all is read again", lambda: time.sleep(READ_AGAIN_SECONDS), daemon)
    took("stop of all", lambda: daemon.quit(signal.SIGTERM, within=PATIENCE_SECONDS))


def has_process(number: int) -> bool:
    """Spread evenly, as many as there are to be."""
    return number * PROCESSES // PROGRAMS != (number + 1) * PROCESSES // PROGRAMS


def declare(daemon: Daemon, number: int, **more: object) -> None:
    """A file of its own for each."""
    command = ("/bin/sleep", "100000")
    text = daemon.manifest(f"p-{number}", *command, replicas=int(has_process(number)), min_ready="0s", **more)
    daemon.write(f"{number // FILES_IN_A_FOLDER}/p-{number}.yaml", text)


def start(daemon: Daemon) -> None:
    daemon.start(options=("--config", str(daemon.folder / "config.yaml")))
    eventually(lambda: running(daemon) == PROCESSES, "all run", within=PATIENCE_SECONDS)


def running(daemon: Daemon) -> int:
    return int(daemon.client.daemon()["processes"])


def respawns(daemon: Daemon) -> list[float]:
    found = []
    for number in islice(filter(has_process, range(PROGRAMS)), TRIALS):
        name = f"p-{number}"
        (pid,) = daemon.pids(name).values()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while daemon.pids(name).get(0) in (None, pid):
            time.sleep(0.001)
        found.append(time.monotonic() - began)
    return found


def change(daemon: Daemon) -> None:
    number = next(filter(has_process, range(PROGRAMS)))
    (pid,) = daemon.pids(f"p-{number}").values()
    declare(daemon, number, env={"NEW": "1"})
    eventually(lambda: not is_alive(pid) and daemon.pids(f"p-{number}"), "it is replaced")


def took(what: str, do: Callable[[], object], daemon: Daemon | None = None) -> None:
    """`daemon`: ask it all the while."""
    began = time.monotonic()
    with Asking(daemon) if daemon else nullcontext() as asking:
        do()
    waited = f"; an answer took at most {asking.longest_seconds * 1000:.0f} ms" if asking else ""
    print(f"  {what}: {time.monotonic() - began:.2f} s{waited}", flush=True)


class Asking(threading.Thread):
    """Asks again and again whether the controller is ready; what is not answered at all does not count."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self._client = Client([socket_in(str(daemon.state))], timeout_seconds=PATIENCE_SECONDS)
        self._over = threading.Event()
        self.longest_seconds = 0.0

    def __enter__(self) -> "Asking":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        answered = False
        while not self._over.wait(ASKED_EVERY_SECONDS):
            began = time.monotonic()
            try:
                self._client.is_ready()
            except ClientError:
                continue  # it is not there yet, or not any more
            if answered:  # the first question may have waited for a controller that was to be started
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            answered = True


def show(daemon: Daemon) -> None:
    for name, pid in (("keeper", daemon.keeper), ("controller", daemon.controller), ("pump", daemon.pump)):
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        print(f"  {name}: {pss_bytes(pid) / (1 << 20):.0f} MiB, {fds} descriptors", flush=True)


if __name__ == "__main__":
    sys.exit(main())
