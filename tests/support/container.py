"""A daemon in a pid namespace of its own, as in a container: what it runs as pid 1 ends, and the kernel ends the rest.

In place of an image and an engine: `unshare`, and `nsenter` for what is run in it later. The file system is the host's.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.daemon import Daemon, Result, ending, eventually

# What an engine puts in front on `--init`: passes signals on, reaps what comes to it, ends as its one process did.
INIT = """
import os, signal, sys
open("/proc/self/comm", "w").write("tini")
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
while (ended := os.wait())[0] != pid:
    pass
sys.exit(os.waitstatus_to_exitcode(ended[1]))
"""
# What an engine leaves to root of a container unless told otherwise.
CAPABILITIES = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write"
    " setfcap"
)
ROOT_IS_MOUNTED = os.path.ismount("/") and any(
    line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines()
)
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


class Container(Daemon):
    """A Daemon whose keeper is pid 1. `init` is its pid as the host sees it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.prefix: list[str] = []  # what pid 1 does before it becomes the daemon, or instead

    def with_init(self) -> "Container":
        """As with `docker run --init`."""
        self.prefix = [sys.executable, "-c", INIT]
        return self

    def read_only(self) -> "Container":
        """As with `docker run --read-only`, with a volume for what the test writes."""
        self.prefix = ["/bin/sh", "-c", READ_ONLY, str(self.folder)]
        return self

    def with_usual_capabilities(self) -> "Container":
        """As root of a container is: not the host's root."""
        kept = ",".join(f"+{name}" for name in CAPABILITIES.split())
        self.prefix = ["setpriv", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}"]
        return self

    def as_user(self, uid: int) -> "Container":
        """As with `docker run --user`, and a volume that belongs to that user."""
        self.give_to(uid)
        self.prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all"]
        return self

    def wrapped(self, command: list[str]) -> list[str]:
        """In namespaces of its own; whatever happens to us, nothing of it is left."""
        # Of a root that is no mount point (a chroot's) one cannot say that its mounts are private; /proc alone will do.
        private = [] if ROOT_IS_MOUNTED else ["--propagation", "unchanged"]
        return ["unshare", "--pid", "--fork", *private, "--mount-proc", "--kill-child", *self.prefix, *command]

    @property
    def init(self) -> int:
        return eventually(lambda: self._init_of(self._running[-1]), "there is a pid 1")

    @staticmethod
    def _init_of(running: "subprocess.Popen[bytes]") -> int:
        return int((Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split() or ["0"])[0])

    def _tell(self, running: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
        if pid := self._init_of(running):
            os.kill(pid, number)

    def run_inside(self, *command: object) -> Result:
        """As with `docker exec`."""
        enter = ["nsenter", "--target", str(self.init), "--pid", "--mount", "--root", f"--wdns={self.folder}"]
        done = subprocess.run(
            [*enter, *map(str, command)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(),
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def inside(self, *arguments: object) -> Result:
        """The command line, as with `docker exec`."""
        return self.run_inside(*self.command(*arguments))

    def zombies(self) -> set[int]:
        """Processes of the container that ended and that nobody has reaped, as it sees them."""
        told = self.run_inside("/bin/sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null").out
        found = [(line.split(" ", 1)[0], line[line.rindex(")") + 2 :]) for line in told.splitlines() if ")" in line]
        return {int(pid) for pid, rest in found if rest.startswith("Z")}

    def lasting_zombies(self, seconds: float) -> set[int]:
        """Those that were zombies all the time."""
        found = self.zombies()
        deadline = time.monotonic() + seconds
        while found and time.monotonic() < deadline:
            found &= self.zombies()
        return found


@contextmanager
def container_in(folder: Path) -> Iterator[Container]:
    """A Container that is ended whatever happens."""
    with ending(Container(folder)) as house:
        yield house


def arguments_of(pid: int) -> Sequence[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
