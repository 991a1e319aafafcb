"""The whole product on a folder of its own: real processes, the real command line, and a good look when a test fails.

A `Daemon` holds the folder (manifests, state, ledger) and runs `reconciler run` on it, as often as the test likes. All
that it ever starts carries the folder's path in its environment, so `end` can say whether anything is left. What was
to be seen is printed before it is ended: pytest shows it for a test that failed, and nobody has to run it again.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from reconciler.client import Client, ClientError, socket_in
from support.open_code import open_code

Json = dict[str, Any]
T = TypeVar("T")
Kind = TypeVar("Kind", bound="Daemon")

PATIENCE_SECONDS = 30.0  # the machine may be busy; nothing waits this long unless it is broken
LOOK_SECONDS = 0.02
DRAIN_SECONDS = 30.0
MARK = "RECONCILER_E2E_FOLDER"
WORKER = str(Path(__file__).parent / "ledger_worker.sh")
SHOWN_LINES = 120
# Coverage is measured in the processes that we start, and takes what it wants from there.
PASSED_ON = ("PATH", "HOME", "LANG", "RECONCILER_TEST_RUN", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


class Result(NamedTuple):
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


class Entry(NamedTuple):
    """A line of the ledger: when, who, and what it did."""

    at: float  # CLOCK_BOOTTIME, to a hundredth of a second
    pid: int
    replica: int
    what: str
    more: str = ""


class Proc(NamedTuple):
    """A process as /proc shows it."""

    pid: int
    parent: int
    state: str
    command: str


def eventually(condition: Callable[[], T], what: str = "", *, within: float = PATIENCE_SECONDS) -> T:
    """Wait until the condition is truthy; its value. A file that it looks into and that is not there yet is a no."""
    deadline = time.monotonic() + within
    while True:
        with suppress(FileNotFoundError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"in vain for {within:g} s: {what or condition}"
        time.sleep(LOOK_SECONDS)


def always(condition: Callable[[], object], seconds: float, what: str = "") -> None:
    """Look again and again for so long: it has to hold each time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what or f"{condition} did not hold"
        time.sleep(LOOK_SECONDS)


class Daemon:
    """`reconciler run` on one folder. Pids: `keeper`, `controller`, `pump`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests = folder / "manifests"
        self.state = folder / "state"
        self.ledger_path = folder / "ledger"
        self.output_path = folder / "daemon.output"
        self.manifests.mkdir()
        self.client = Client([socket_in(str(self.state))], timeout_seconds=PATIENCE_SECONDS)
        self._running: list[subprocess.Popen[bytes]] = []  # every keeper that we started
        self._python, self._more = sys.executable, dict[str, str]()  # what runs it, and what that needs

    # ---- running ----

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {**kept, MARK: str(self.folder), "PYTHONWARNINGS": "default", **self._more}

    def command(self, *arguments: object) -> list[str]:
        return [self._python, "-m", "reconciler", "--state-dir", str(self.state), *map(str, arguments)]

    def give_to(self, uid: int) -> None:
        """That user can run it, wherever the code lies, and owns what it needs. Only root can give it away."""
        self._python, self._more = open_code(self.folder)
        for path in (self.folder, self.manifests):
            os.chown(path, uid, uid)

    def start(self, *directories: Path | str, options: Iterable[str] = (), stdout: int | None = None) -> "Daemon":
        """Start `run`, and wait until it answers."""
        self.launch(*directories, options=options, stdout=stdout)
        return self.await_ready()

    def launch(
        self, *directories: Path | str, options: Iterable[str] = (), stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start `run`; nothing is waited for. `stdout`: a descriptor; else both outputs go to one file."""
        watched = [word for path in directories or (self.manifests,) for word in ("-f", str(path))]
        with open(self.output_path, "ab") as output:
            keeper = subprocess.Popen(
                self.wrapped(self.command("run", *watched, *options)),
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env=self.environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        self._running.append(keeper)
        return keeper

    def wrapped(self, command: list[str]) -> list[str]:
        """How `run` is started: as it is. Others put it into something."""
        return command

    def await_ready(self) -> "Daemon":
        def is_ready() -> bool:
            assert self._running[-1].poll() is None, f"`run` ended with {self._running[-1].returncode}\n{self.output()}"
            try:
                return self.client.is_ready()
            except ClientError:
                return False

        eventually(is_ready, "the controller is ready")
        return self

    def quit(self, number: signal.Signals = signal.SIGTERM, *, within: float = PATIENCE_SECONDS) -> int:
        """Ask the keeper to end as systemd would; its exit code."""
        self._tell(self._running[-1], number)
        return self.wait(within=within)

    def _tell(self, running: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
        running.send_signal(number)

    def wait(self, *, within: float = PATIENCE_SECONDS) -> int:
        """Wait until the keeper has ended; its exit code."""
        return self._running[-1].wait(within)

    @property
    def keeper(self) -> int:
        return self._running[-1].pid

    @property
    def controller(self) -> int:
        return int(self.client.daemon()["pid"])

    @property
    def pump(self) -> int:
        return int(self.client.daemon()["pumpPid"])

    def kill_controller(self) -> None:
        """KILL to the controller, and wait until the next one answers."""
        pid = self.controller
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.controller != pid, "there is another controller")
        self.await_ready()

    def kill_pump(self) -> None:
        """KILL to the pump; when the one before was killed just now, to its successor."""
        pid = eventually(lambda: pid if is_alive(pid := self.pump) else 0, "there is a pump")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid), "the pump is gone")

    def kill_keeper(self) -> None:
        """KILL to the keeper. The controller leaves by itself; the processes stay, and the pump while they write."""
        controller = self.controller
        os.kill(self.keeper, signal.SIGKILL)
        self._running[-1].wait()
        eventually(lambda: not is_alive(controller), "the controller has left")

    # ---- manifests ----

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file into the watched directory, as a careful editor does: all of it or nothing is to be seen."""
        path = self.manifests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        aside.replace(path)
        return path

    def declare(self, name: str, *command: str, **spec: Any) -> Path:
        """A manifest of one Program, in a file of its name. Names of fields in snake case or as they are."""
        return self.write(f"{name}.yaml", self.manifest(name, *command, **spec))

    def manifest(self, name: str, *command: str, labels: dict[str, str] | None = None, **spec: Any) -> str:
        fields = {_camel(field): value for field, value in spec.items()}
        if command:
            fields = {"command": list(command), **fields}
        metadata = {"name": name, **({"labels": labels} if labels else {})}
        document = {"apiVersion": "reconciler/v1", "kind": "Program", "metadata": metadata, "spec": fields}
        return yaml.safe_dump(document, sort_keys=False)

    def worker(self, mode: str, *arguments: object) -> list[str]:
        """The command of a process that writes into the ledger what it does. See ledger_worker.sh."""
        return ["/bin/sh", WORKER, str(self.ledger_path), mode, *map(str, arguments)]

    # ---- what the processes say ----

    def ledger(self, what: str = "") -> list[Entry]:
        """All that was written so far, in order."""
        if not self.ledger_path.exists():
            return []
        whole = self.ledger_path.read_text().rpartition("\n")[0]
        entries = [_entry(line) for line in whole.splitlines()]
        return [entry for entry in entries if what in ("", entry.what)]

    # ---- what the product says ----

    def cli(self, *arguments: object, code: int | None = 0, text: str | None = None, **options: Any) -> Result:
        """One call of the command line; the test fails when it ends otherwise than with `code` (None: any)."""
        done = subprocess.run(
            self.command(*arguments),
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            **{"cwd": self.folder, "env": self.environment(), **options},
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        called = " ".join(map(str, arguments))
        assert "Traceback" not in done.stderr, f"`{called}` failed:\n{done.stderr}"
        assert code in (None, done.returncode), f"`{called}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return result

    def object(self, name: str) -> Json:
        return self.client.program(name)

    def status(self, name: str) -> Json:
        """The status; of what is not known (yet) one that says nothing."""
        try:
            found: Json = self.object(name)["status"]
        except ClientError:
            return {"conditions": [], "processes": []}
        return found

    def condition(self, name: str, kind: str) -> Json:
        """One condition; empty when it is not there."""
        return next((c for c in self.status(name)["conditions"] if c["type"] == kind), {})

    def holds(self, name: str, kind: str) -> bool:
        return bool(self.condition(name, kind).get("status") == "True")

    def processes(self, name: str) -> list[Json]:
        return list(self.status(name)["processes"])

    def pids(self, name: str) -> dict[int, int]:
        """The pid at each ordinal where one runs and is not on its way out."""
        rows = self.processes(name)
        return {row["replica"]: row["pid"] for row in rows if row["pid"] is not None and row["state"] != "Stopping"}

    def events(self, name: str = "", reason: str = "") -> list[Json]:
        return [event for event in self.client.events(name) if reason in ("", event["reason"])]

    def messages(self, name: str, reason: str) -> list[str]:
        return [event["message"] for event in self.events(name, reason)]

    def problems(self) -> list[Json]:
        return list(self.client.programs()["problems"])

    def until_running(self, name: str, count: int) -> dict[int, int]:
        """Wait until so many run and none beside them; their pids."""

        def running() -> dict[int, int] | None:
            rows = [row for row in self.processes(name) if row["pid"] is not None]
            settled = len(rows) == count and all(row["state"] == "Running" for row in rows)
            return {row["replica"]: row["pid"] for row in rows} if settled else None

        return eventually(running, f"{count} of {name} run") or {}

    def until_printed(self, name: str, size: int, ordinals: Iterable[int] = (0,)) -> None:
        """Wait until the logs of these replicas have grown by so many bytes, all together."""
        of = list(ordinals)
        before = sum(len(self.log(name, ordinal)) for ordinal in of)
        eventually(lambda: sum(len(self.log(name, ordinal)) for ordinal in of) >= before + size, f"{name} prints")

    def until_logged(self, name: str, ordinal: int, size: int) -> None:
        """Wait until so many bytes stand in the log of this replica."""
        eventually(lambda: len(self.log(name, ordinal)) >= size, f"the log of {name}/{ordinal} is written")

    def until_written(self, more: int) -> None:
        """Wait until the ledger has grown by so many lines."""
        before = len(self.ledger())
        eventually(lambda: len(self.ledger()) >= before + more, "the ledger grows")

    def until_at_rest(self, name: str) -> None:
        """Wait until none is wanted and none runs."""
        eventually(lambda: (s := self.status(name)).get("replicas") == 0 == s["runningReplicas"], f"{name} rests")

    def until_available(self, name: str) -> Json:
        """Wait until what is written is what runs, and is Available."""

        def settled() -> Json | None:
            status = self.status(name)
            conditions = {c["type"]: c["status"] for c in status["conditions"]}
            if conditions.get("Available") != "True":
                return None
            whole = status["updatedReplicas"] == status["availableReplicas"] == status["replicas"]
            return status if whole else None

        return eventually(settled, f"{name} is available") or {}

    def until_well(self) -> None:
        """Wait until `status` has nothing to complain of: what was started a moment ago is not Available yet."""
        eventually(lambda: self.cli("status", code=None).code == 0, "all is well")

    def output(self) -> str:
        """What the daemon wrote on its standard error."""
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def log(self, name: str, ordinal: int = 0) -> bytes:
        """What a replica has printed, over all segments that are not compressed, oldest first."""
        folder = self.state / "logs" / name
        old = sorted(p for p in folder.glob(f"{ordinal}.log.*") if p.suffix not in (".idx", ".gz"))
        try:
            return b"".join(path.read_bytes() for path in [*old, folder / f"{ordinal}.log"])
        except FileNotFoundError:  # not begun, or rotated while we looked
            return b""

    # ---- the end ----

    def end(self) -> None:
        """Show what there is to see, drain, and fail if that was not the end of everything."""
        print(self.portrait())
        for keeper in self._running:
            if keeper.poll() is None:
                self._tell(keeper, signal.SIGTERM)
        left = "" if self._has_drained() else "the daemon did not end\n"
        for keeper in self._running:
            if keeper.poll() is None:
                keeper.kill()
                keeper.wait()
        # The keeper's own processes go by themselves within a second when it is gone.
        deadline = time.monotonic() + (20.0 if not left else 1.5)
        while (others := list(self.everybody())) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        for proc in others:
            _kill(proc.pid)
            left += f"left running: {proc.pid} {proc.command}\n"
        assert not left, f"{left}{self.output()}"

    def clear(self) -> None:
        """End whatever still runs, by pid: for tests that leave processes behind on purpose."""
        for proc in list(self.everybody()):
            _kill(proc.pid)
        for keeper in self._running:
            keeper.wait()

    def _has_drained(self) -> bool:
        deadline = time.monotonic() + DRAIN_SECONDS
        for keeper in self._running:
            try:
                keeper.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True

    def everybody(self) -> Iterator[Proc]:
        """All living processes of this folder: the product's own, the Programs', and their grandchildren."""
        mark = str(self.folder).encode()
        for entry in Path("/proc").glob("[0-9]*"):
            pid = int(entry.name)
            try:
                about = (entry / "cmdline").read_bytes() + os.readlink(entry / "cwd").encode()
                about += (entry / "environ").read_bytes()
                proc = process(pid)
            except OSError:
                continue  # gone, or not ours
            if pid != os.getpid() and proc is not None and proc.state not in "ZX" and mark in about:
                yield proc

    def portrait(self) -> str:
        """All that one would want to look at after a failure."""
        parts = ["---- processes", *(f"{p.pid:>7} {p.parent:>7} {p.state} {p.command}" for p in self.everybody())]
        parts += ["---- what the daemon wrote", *self.output().splitlines()[-SHOWN_LINES:]]
        for path in sorted(self.state.glob("status/Program/*")) + sorted(self.state.glob("overrides/Program/*")):
            parts += [f"---- {path.relative_to(self.state)}", path.read_text(errors="replace")]
        parts += ["---- state", *(str(path.relative_to(self.state)) for path in sorted(self.state.rglob("*")))]
        parts += ["---- ledger", *(" ".join(map(str, entry)) for entry in self.ledger()[-40:])]
        return "\n".join(parts)


@contextmanager
def daemon_in(folder: Path) -> Iterator[Daemon]:
    """A Daemon that is ended whatever happens."""
    with ending(Daemon(folder)) as house:
        yield house


@contextmanager
def ending(house: Kind) -> Iterator[Kind]:
    """A Daemon of any kind, which is ended whatever happens."""
    try:
        yield house
    finally:
        house.end()


def process(pid: int) -> Proc | None:
    """A process, None when it is gone."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    fields = line[line.rindex(")") + 2 :].split()
    return Proc(pid, int(fields[1]), fields[0], command.strip()[:200])


def is_alive(pid: int) -> bool:
    proc = process(pid)
    return proc is not None and proc.state not in "ZX"


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used: what a busy machine does not falsify."""
    line = Path(f"/proc/{pid}/stat").read_text()
    fields = line[line.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _entry(line: str) -> Entry:
    at, pid, replica, what, *more = line.split(" ", 4)
    return Entry(float(at), int(pid), int(replica), what, *more)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
