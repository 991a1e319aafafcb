"""What only the kernel can show: inheritance, credentials, daemons, fork loops, adoption, descriptors."""

import asyncio
import ctypes
import errno
import json
import os
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler import wire
from reconciler.adapters.clock import BootClock
from reconciler.adapters.processes import LinuxProcessTable, procfs, reasons, shim, trees
from reconciler.adapters.processes import table as table_module
from reconciler.model.identity import ProcessId
from reconciler.model.launch import Credentials, Launch
from reconciler.ports import ExitReport, SpawnFailed
from support.descriptors import descriptors

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
ROOT = os.geteuid() == 0
NOBODY = Credentials(65534, 65534, (65534, 1)) if ROOT else Credentials(os.getuid(), os.getgid(), tuple(os.getgroups()))
PR_SET_CHILD_SUBREAPER = 36
SIGNALS = sum(1 << number - 1 for number in signal.valid_signals())  # the C library ignores two of its own

INHERITED = """
import json, os, resource, signal, sys
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
umask = os.umask(0)
json.dump({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups()), "nice": os.nice(0),
    "umask": umask, "cwd": os.getcwd(), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "affinity": sorted(os.sched_getaffinity(0)),
    "oom": int(open("/proc/self/oom_score_adj").read()), "nnp": status["NoNewPrivs"].strip(),
    "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16),
    "stdin": os.readlink("/proc/self/fd/0"), "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "leader": [os.getsid(0), os.getpgid(0)] == [os.getpid()] * 2, "pid": os.getpid(), "env": dict(os.environ),
    "argv": sys.argv[1:],
}, open("out.new", "w"))
os.rename("out.new", "out")
"""


class Real:
    """A table, a folder, and what was told."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.table = LinuxProcessTable(BootClock(), **options)
        self.exits: list[ExitReport] = []
        self.spawned: list[tuple[ProcessId, str]] = []
        self.table.on_exit(self.exits.append)

    def launch(self, *argv: str, **fields: Any) -> Launch:
        return Launch(argv=argv, env=fields.pop("env", ENV), cwd=fields.pop("cwd", str(self.folder)), **fields)

    def spawn(self, *argv: str, **fields: Any) -> ProcessId:
        spawn_id = f"{self.folder}-{len(self.spawned)}"
        process = self.table.spawn(self.launch(*argv, **fields), spawn_id)
        self.spawned.append((process, spawn_id))
        return process

    def shell(self, script: str, **fields: Any) -> ProcessId:
        return self.spawn("/bin/sh", "-c", script, **fields)

    def inherited(self, *arguments: str, **fields: Any) -> dict[str, Any]:
        """What a process finds itself with."""
        self.spawn(PYTHON, "-I", "-S", "-c", INHERITED, *arguments, **fields)
        self.until_told(len(self.spawned))
        assert self.exits[-1].code == 0, self.exits[-1]
        found: dict[str, Any] = json.loads((self.folder / "out").read_text())
        return found

    def left(self, process: ProcessId) -> list[ProcessId]:
        return list(self.table.leftovers(process, dict(self.spawned)[process]))

    def is_empty(self, process: ProcessId) -> bool:
        return not self.left(process)

    def kill(self, process: ProcessId) -> None:
        self.table.kill_tree(process, dict(self.spawned)[process])

    def until(self, condition: Callable[[], object], seconds: float = 30.0, *, drain: bool = True) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "in vain"
            select.select([self.table] if drain else [], [], [], 0.01)
            if drain:
                self.table.drain()

    def until_told(self, count: int) -> None:
        self.until(lambda: len(self.exits) >= count)

    def read(self, name: str) -> list[int]:
        """The numbers that processes wrote into a file, once there are some."""
        path = self.folder / name
        self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return [int(word) for word in path.read_text().split()]

    def clean(self) -> None:
        for process, _ in self.spawned:
            self.kill(process)
        for process, _ in self.spawned:
            self.until(partial(self.is_empty, process))
        self.until_told(len(self.spawned))
        self.table.close()


def python() -> str:
    """An interpreter that every user may start."""
    return os.path.realpath(sys.executable)


PYTHON = python()


def is_zombie(process: ProcessId) -> bool:
    stat = procfs.read_stat(process.pid)
    return stat is not None and stat.state == "Z"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    with subreaper():
        let_all_enter(tmp_path)
        world = Real(tmp_path, subreaper_pid=os.getpid())
        yield world
        world.clean()
        reap_orphans()


class subreaper:
    """Orphans come to this process meanwhile, as they come to the keeper."""

    def __enter__(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def __exit__(self, *_: object) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def reap_orphans() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def let_all_enter(path: Path) -> None:
    """Pytest's folders are its user's alone."""
    for folder in (path, *path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)


def alive(pid: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and stat.alive


def use_up_descriptors() -> list[int]:
    fill = []
    try:
        while True:
            fill.append(os.dup(0))
    except OSError:
        return fill


# ---- what a process starts with ----


def test_a_process_starts_clean_whatever_the_state_of_the_controller(tmp_path: Path) -> None:
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    real = Real(tmp_path)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        found = real.inherited("a b", "$(c)", "é")
    finally:
        os.close(leak)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGHUP, hangup)
    assert found["stdin"] == "/dev/null"
    assert found["fds"] == [0, 1, 2, 3]  # 3 is the listing itself
    assert found["leader"]
    assert found["blocked"] == 0
    # Python itself ignores two in whatever runs it; what we ignore would be seen beside them.
    assert found["ignored"] & SIGNALS == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert found["argv"] == ["a b", "$(c)", "é"]
    spawn_id = real.spawned[0][1]
    assert {name: found["env"].get(name) for name in (*ENV, "RECONCILER_SPAWN_ID")} == {
        **ENV,
        "RECONCILER_SPAWN_ID": spawn_id,
    }
    assert not set(found["env"]) - {*ENV, "RECONCILER_SPAWN_ID", "LC_CTYPE"}
    assert found["cwd"] == str(real.folder)
    real.clean()


def test_sigpipe_is_not_ignored(real: Real) -> None:
    process = real.shell("grep ^SigIgn /proc/self/status | cut -f2 > ignored")
    real.until_told(1)
    assert int((real.folder / "ignored").read_text(), 16) & SIGNALS == 0
    assert real.exits == [ExitReport(process, 0, None)]


def test_umask_affinity_and_soft_limits_are_given_and_ours_stay(real: Real, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours = (os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(procfs.MARK))
    umask = os.umask(0o022)
    os.umask(umask)
    world = Real(tmp_path, boot_limits={"nofile": (soft // 2, hard)})
    first = min(os.sched_getaffinity(0))
    found = world.inherited(umask=0o077, cpu_affinity=(first,))
    world.clean()
    assert (found["umask"], found["affinity"], found["nofile"]) == (0o077, [first], [soft // 2, hard])
    assert (os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE)) == ours[:2]
    assert resource.getrlimit(procfs.MARK) == ours[2]
    assert os.umask(umask) == umask
    assert os.getcwd() == "/"


def test_all_that_goes_through_the_exec_shim_is_applied_and_the_pid_stays(real: Real) -> None:
    real.folder.chmod(0o777)
    oom = int(Path("/proc/self/oom_score_adj").read_text()) + 7
    found = real.inherited(
        "last",
        credentials=NOBODY,
        limits=(("nofile", 100, 200), ("core", 0, 0)),
        nice=os.nice(0) + 5,
        oom_score_adjust=oom,
        no_new_privileges=True,
        umask=0o027,
    )
    assert found["pid"] == real.spawned[0][0].pid
    assert (found["uids"], found["gids"]) == ([NOBODY.uid] * 3, [NOBODY.gid] * 3)
    assert found["groups"] == sorted(NOBODY.groups)
    assert (found["nofile"], found["core"]) == ([100, 200], [0, 0])
    assert (found["nice"], found["oom"], found["nnp"], found["umask"]) == (os.nice(0) + 5, oom, "1", 0o027)
    assert found["leader"]
    assert found["argv"] == ["last"]


def test_what_the_loader_obeys_is_held_back_until_the_user_is_changed() -> None:
    env = {"PATH": "/bin", "LD_PRELOAD": "/srv/app/x.so", "GLIBC_TUNABLES": "a=b", "SECRET": "s"}
    launch = Launch(argv=("php", "x"), env=env, cwd="/", credentials=Credentials(33, 33, ()))
    argv, kept = shim.command(launch, env, 0)
    assert kept == {"PATH": "/bin", "SECRET": "s"}
    setpriv, env_tool = argv.index(shim.tool("setpriv", "")), argv.index(shim.tool("env", ""))
    assert setpriv < env_tool
    assert argv[env_tool + 1 :] == ("LD_PRELOAD=/srv/app/x.so", "GLIBC_TUNABLES=a=b", "php", "x")
    assert "--clear-groups" in argv


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "_TOOL_DIRECTORIES", ("/nonexistent",))
    launch = Launch(argv=("true",), env=ENV, cwd="/", no_new_privileges=True)
    with pytest.raises(SpawnFailed, match=r"noNewPrivileges: needs the command `setpriv` .*util-linux"):
        shim.command(launch, ENV, 0)


def test_output_goes_to_a_fifo_with_an_open_description_of_its_own(real: Real) -> None:
    for name in ("out.fifo", "err.fifo"):
        os.mkfifo(real.folder / name, 0o600)
    out, err = (os.open(real.folder / name, os.O_RDWR | os.O_NONBLOCK) for name in ("out.fifo", "err.fifo"))
    fifo = {"stdout": str(real.folder / "out.fifo")}
    script = "echo out; echo err >&2; grep flags /proc/self/fdinfo/1 > flags"
    real.shell(script, **fifo, stderr=fifo["stdout"])
    real.until_told(1)
    assert os.read(out, 100) == b"out\nerr\n"
    flags = int((real.folder / "flags").read_text().split()[1], 8)
    assert flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_ACCMODE == os.O_RDWR
    assert not flags & os.O_NONBLOCK
    real.shell(script, **fifo, stderr=str(real.folder / "err.fifo"))
    real.until_told(2)
    assert (os.read(out, 100), os.read(err, 100)) == (b"out\n", b"err\n")
    real.shell(script, **fifo)
    real.until_told(3)
    assert os.read(out, 100) == b"out\n"
    os.close(out)
    os.close(err)


def test_a_worker_may_start_with_fewer_descriptors_than_we_have_open(tmp_path: Path) -> None:
    many = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(80)]
    os.mkfifo(tmp_path / "fifo")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    world = Real(tmp_path, boot_limits={"nofile": (32, hard)})
    world.spawn("true", stdout=str(tmp_path / "fifo"), stderr=str(tmp_path / "fifo"))
    world.until_told(1)
    world.clean()
    for fd in many:
        os.close(fd)


def test_a_start_time_that_was_not_read_is_the_one_of_the_kernel(real: Real) -> None:
    for _ in range(60):
        process = real.spawn("sleep", "1000")
        assert procfs.start_ticks(process.pid) == process.start_ticks


# ---- what cannot be started ----


def failing(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Launches and the reasons why they fail."""

    def script(name: str, text: str, mode: int = 0o755) -> str:
        path = folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    x = {"env": {"PATH": f"{folder}:/usr/bin"}}
    plain = script("plain", "x", 0o644)
    broken = script("broken", "#!/bin/foo -x\n")
    return {
        "no command": ({"argv": ("php-of-nowhere",)}, "php-of-nowhere: command not found"),
        "no file": ({"argv": ("/srv/x",)}, "/srv/x: No such file or directory"),
        "no file here": ({"argv": ("./x",)}, "./x: No such file or directory"),
        "not executable": ({"argv": (plain,)}, f"{plain}: Permission denied"),
        "not executable in PATH": ({"argv": ("plain",), **x}, "plain: Permission denied"),
        "directory": ({"argv": (str(folder),)}, f"{folder}: Is a directory"),
        "interpreter": ({"argv": (broken,)}, f"{broken}: bad interpreter /bin/foo: No such file or directory"),
        "no format": ({"argv": (script("words", "words\n"),)}, "/words: Exec format error"),
        "too long": ({"argv": ("true", "x" * 200_000)}, "true: Argument list too long"),
        "NUL": ({"argv": ("true", "a\0b")}, "'true': embedded null byte"),
        "name": ({"argv": ("true",), "env": {**ENV, "A=B": "c"}}, "illegal environment variable name"),
        "no folder": ({"argv": ("true",), "cwd": "/srv/app"}, "cannot enter /srv/app: No such file or directory"),
        "file as folder": ({"argv": ("true",), "cwd": plain}, f"cannot enter {plain}: Not a directory"),
        "log": ({"argv": ("true",), "stdout": f"{folder}/fifo"}, f"cannot open the log pipe {folder}/fifo"),
        "cpu": ({"argv": ("true",), "cpu_affinity": (1000,)}, "cpuAffinity 1000: Invalid argument"),
        "limit": ({"argv": ("true",), "limits": (("nofile", 2, 1),)}, "limits.nofile: the soft limit is above"),
        "limit name": ({"argv": ("true",), "limits": (("files", 1, 1),)}, "limits.files: no such limit"),
        "shim, no command": ({"argv": ("php-of-nowhere",), "nice": 1}, "php-of-nowhere: command not found"),
        "shim, interpreter": ({"argv": (broken,), "nice": 1}, f"{broken}: bad interpreter /bin/foo"),
        "shim, directory": ({"argv": (str(folder),), "nice": 1}, f"{folder}: Is a directory"),
    }


@pytest.mark.parametrize("case", [
    "no command", "no file", "no file here", "not executable", "not executable in PATH", "directory", "interpreter",
    "no format", "too long", "NUL", "name", "no folder", "file as folder", "log", "cpu", "limit", "limit name",
    "shim, no command", "shim, interpreter", "shim, directory",
])  # fmt: skip
def test_a_spawn_fails_with_the_words_of_a_shell(real: Real, case: str) -> None:
    fields, reason = failing(real.folder)[case]
    launch = Launch(**{"env": ENV, "cwd": str(real.folder), **fields})
    before, here = descriptors(), os.getcwd()
    with pytest.raises(SpawnFailed) as caught:
        real.table.spawn(launch, "1")
    assert reason in str(caught.value)
    assert os.getcwd() in (here, "/")
    assert descriptors() == before
    real.spawn("true")
    real.until_told(1)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EAGAIN, "cannot fork: Resource temporarily unavailable"),
        (errno.ENOMEM, "cannot fork: Cannot allocate memory"),
        (errno.EMFILE, "cannot fork: Too many open files"),
    ],
)
def test_a_fork_that_fails_says_so(real: Real, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_spawn", refuse)
    with pytest.raises(SpawnFailed, match=reason):
        real.table.spawn(real.launch("true"), "1")


def test_another_users_permissions_are_foreseen(tmp_path: Path) -> None:
    """The exec shim could only say 126, so what it will meet is looked up before."""
    locked = tmp_path / "locked"
    locked.mkdir()
    script, readable = locked / "run.sh", tmp_path / "unreadable.sh"
    for path in (script, readable):
        path.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    readable.chmod(0o711)
    locked.chmod(0o700)
    let_all_enter(tmp_path)
    powers = reasons.Powers(Credentials(0, 0, ()), set_user=True, raise_limits=True, raise_priority=True)
    who = Credentials(54321, 54321, ())

    def refusal(argv: str, cwd: Path = tmp_path, env: dict[str, str] = ENV) -> str | None:
        return reasons.refusal(Launch(argv=(argv,), env=env, cwd=str(cwd), credentials=who), powers, 0)

    assert refusal("sh") is None
    assert refusal("sh", cwd=locked) == f"cannot enter {locked}: Permission denied"
    assert refusal(str(script)) == f"{script}: Permission denied"
    assert refusal("run.sh", env={"PATH": str(locked)}) == "run.sh: Permission denied"
    assert refusal(str(readable)) == f"{readable}: Permission denied"
    locked.chmod(0o711)
    assert refusal(str(script)) is None
    unprivileged = reasons.Powers(Credentials(1000, 1000, ()), set_user=False, raise_limits=False, raise_priority=False)
    launch = Launch(argv=("sh",), env=ENV, cwd="/", credentials=who)
    assert reasons.refusal(launch, unprivileged, 0) == ("user: cannot become uid 54321, gid 54321: not started as root")
    lowered = Launch(argv=("sh",), env=ENV, cwd="/", oom_score_adjust=-1000)
    assert "oomScoreAdjust -1000: Permission denied" in (reasons.refusal(lowered, unprivileged, 0) or "")


def test_without_a_descriptor_to_watch_it_nothing_is_started(real: Real) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    fill: list[int] = []
    try:
        fill += use_up_descriptors()
        first = real.spawn("sleep", "1000")  # the descriptor that was kept for this
        with pytest.raises(SpawnFailed, match="cannot fork: Too many open files"):
            real.spawn("sleep", "1000")
    finally:
        for fd in fill:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert alive(first.pid)
    real.spawn("true")
    real.until_told(1)


# ---- ends ----


def test_a_process_is_told_while_a_zombie_and_reaped_after(real: Real) -> None:
    states: list[str | None] = []

    def exited(report: ExitReport) -> None:
        stat = procfs.read_stat(report.process.pid)
        states.append(stat.state if stat else None)
        real.exits.append(report)

    real.table.on_exit(exited)
    process = real.spawn("true")
    real.until_told(1)
    assert states == ["Z"]
    assert procfs.read_stat(process.pid) is None


def test_a_callback_that_raises_does_not_stop_the_others(real: Real) -> None:
    def exited(report: ExitReport) -> None:
        real.exits.append(report)
        if len(real.exits) == 1:
            raise ValueError("a bug")

    real.table.on_exit(exited)
    for _ in range(2):
        real.spawn("true")
    with pytest.raises(ValueError, match="a bug"):
        real.until_told(2)
    real.until_told(2)
    assert len({report.process for report in real.exits}) == 2


def test_neither_descriptors_nor_zombies_pile_up(real: Real) -> None:
    real.spawn("true")
    real.until_told(1)
    before = descriptors()
    for _ in range(100):
        real.spawn("true")
    real.until_told(101)
    assert descriptors() == before
    # Others may have started something that runs yet; of ours nothing is there, not even as a zombie.
    assert not {process.pid for process, _ in real.spawned} & set(procfs.pids())


def test_one_descriptor_wakes_an_asyncio_loop_for_all(real: Real) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def exited(report: ExitReport) -> None:
            real.exits.append(report)
            if len(real.exits) == 20:
                done.set()

        real.table.on_exit(exited)
        real.table.attach(loop)
        for _ in range(20):
            real.spawn("true")
        async with asyncio.timeout(30):
            await done.wait()
        loop.remove_reader(real.table.fileno())

    asyncio.run(run())
    real.table._loop = None
    assert {report.code for report in real.exits} == {0}


def test_a_wake_up_drains_a_bounded_number(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "EXITS_PER_WAKE", 3)
    processes = [real.spawn("true") for _ in range(10)]
    deadline = time.monotonic() + 30
    while any(alive(process.pid) for process in processes):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    assert [real.table.drain() for _ in range(5)] == [3, 3, 3, 1, 0]


# ---- trees ----

DAEMON = """
import os, sys, time
os.setsid()
if os.fork():
    os._exit(0)
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
os.execve("/bin/sleep", ["sleep", "1000"], {})
"""


def test_a_daemon_without_parent_session_and_environment_is_found_and_killed(real: Real) -> None:
    daemonise = f"{shlex.quote(PYTHON)} -I -S -c {shlex.quote(DAEMON)} pid"
    process = real.shell(daemonise)
    bystander = real.spawn("sleep", "1000")
    real.until_told(1)
    (daemon,) = real.read("pid")
    real.until(lambda: procfs.spawn_id_of(daemon) is None)
    stat = procfs.read_stat(daemon)
    assert stat is not None
    assert (stat.parent, stat.session == process.pid) == (os.getpid(), False)
    assert [left.pid for left in real.left(process)] == [daemon]
    assert real.left(bystander) == []
    assert real.table.signal(process, signal.SIGCONT, "tree")
    real.kill(process)
    real.until(lambda: not real.left(process))
    assert not alive(daemon)
    assert alive(bystander.pid)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_tree_that_cannot_be_looked_at_counts_as_alive(
    real: Real, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    process = real.shell("sleep 1000 & exit 3")
    real.until_told(1)
    assert real.left(process)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(procfs, "read_stat", refuse)
        assert real.left(process)
        real.kill(process)
        assert real.left(process)
    real.until(partial(real.is_empty, process))


def test_a_process_that_goes_while_its_entry_is_looked_up_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(*_: object) -> int:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    monkeypatch.setattr(os, "open", vanish)
    assert procfs.read_stat(os.getpid()) is None


@pytest.mark.skipif(not ROOT, reason="another user can be taken on by root only")
def test_a_daemon_of_another_user_is_found_too(real: Real) -> None:
    real.folder.chmod(0o777)
    daemonise = f"{shlex.quote(PYTHON)} -I -S -c {shlex.quote(DAEMON)} pid"
    process = real.shell(daemonise, credentials=NOBODY)
    real.until_told(1)
    (daemon,) = real.read("pid")
    assert [left.pid for left in real.left(process)] == [daemon]


def test_without_birthmarks_session_and_environment_still_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "can_mark", lambda: False)
    with subreaper():
        world = Real(tmp_path, subreaper_pid=os.getpid())
        process = world.shell("setsid sleep 1000 & sleep 1000 & echo x > ready; wait")
        world.until((tmp_path / "ready").exists)
        world.until(lambda: len(world.left(process)) == 2)
        assert procfs.birthmark_of(process.pid) == 0
        world.table.signal(process, signal.SIGKILL, "process")
        world.until_told(1)
        assert len(world.left(process)) == 2
        world.clean()
        reap_orphans()


def test_threads_are_nobodys_leftovers(real: Real) -> None:
    threads = "import threading,time\nfor _ in range(5): threading.Thread(target=time.sleep,args=(1000,)).start()\n"
    process = real.spawn(PYTHON, "-I", "-S", "-c", threads + "open('ready','w')")
    real.until((real.folder / "ready").exists)
    assert real.left(process) == []


def test_a_process_whose_first_thread_ended_is_alive(real: Real) -> None:
    code = "import threading,time,ctypes,os\nthreading.Thread(target=time.sleep,args=(1000,)).start()\n"
    code += "open('pid','w').write(f'{os.getpid()}\\n')\nctypes.CDLL(None).pthread_exit(None)"
    process = real.shell(f"{shlex.quote(PYTHON)} -c {shlex.quote(code)} & while [ ! -s pid ]; do sleep 0.01; done")
    real.until_told(1)
    (headless,) = real.read("pid")

    def is_headless() -> bool:
        stat = procfs.read_stat(headless)
        return stat is not None and stat.state == "Z"

    real.until(is_headless)
    assert [left.pid for left in real.left(process)] == [headless]


FORK_CHAIN = """
import os, time
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.0005)
"""
# Sixteen of them at most, each in a session of its own, and each starts another as soon as one is gone.
FORK_HYDRA = """
import os, time
for bit in range(4):
    if not os.fork():
        os.setsid()
while True:
    if not os.fork():
        os.setsid()
        time.sleep(0.01)
        os._exit(0)
    os.wait()
"""


def test_a_tree_that_forks_and_leaves_for_ever_is_caught(real: Real) -> None:
    process = real.spawn(PYTHON, "-I", "-S", "-c", FORK_CHAIN)
    real.until_told(1)
    real.until(lambda: real.left(process))  # one look may fall between one of the chain and the next
    real.kill(process)
    real.until(lambda: not real.left(process))
    reap_orphans()


def test_a_tree_that_grows_again_is_killed_to_the_last(real: Real) -> None:
    process = real.spawn(PYTHON, "-I", "-S", "-c", FORK_HYDRA)
    real.until(lambda: len(real.left(process)) > 12)
    real.kill(process)
    real.until(lambda: real.exits and not real.left(process))
    assert real.exits == [ExitReport(process, None, signal.SIGKILL)]
    reap_orphans()


def test_a_signal_to_the_group_reaches_the_group_and_no_further(real: Real) -> None:
    process = real.shell("setsid sleep 1000 & sleep 1000 & echo > ready; wait")
    real.until((real.folder / "ready").exists)
    real.until(lambda: len({os.getpgid(left.pid) for left in real.left(process)}) == 2)
    assert real.table.signal(process, signal.SIGKILL, "group")
    real.until(lambda: real.exits and len(real.left(process)) == 1)
    (outside,) = real.left(process)
    assert os.getpgid(outside.pid) == outside.pid
    assert not real.table.signal(process, signal.SIGKILL, "group")
    assert real.table.signal(process, signal.SIGKILL, "tree")
    real.until(lambda: not real.left(process))
    reap_orphans()


def test_an_empty_tree_is_seen_without_listing_all_processes(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    process = real.spawn("true")
    real.until_told(1)
    assert real.left(process) == []
    monkeypatch.setattr(procfs, "pids", lambda: pytest.fail("all processes were listed"))
    second = real.spawn("true")
    real.until_told(2)
    assert real.left(second) == []
    monkeypatch.undo()


@pytest.mark.parametrize("missed", [False, True])
def test_for_those_that_ended_together_one_look_will_do_if_it_met_everybody(
    real: Real, monkeypatch: pytest.MonkeyPatch, missed: bool
) -> None:
    looks: list[bool] = []
    looked: list[bool] = []

    def told(report: ExitReport) -> None:
        real.exits.append(report)
        looks.clear()
        assert real.left(report.process) == []
        looked.append(bool(looks))

    real.table.on_exit(told)
    for _ in range(2):
        real.spawn("true")
    real.until(lambda: all(is_zombie(process) for process, _ in real.spawned), drain=False)
    monkeypatch.setattr(trees.Trees, "look", lambda self, *, thorough=True: looks.append(thorough) or missed)
    assert real.table.drain() == 2
    assert looked == [True, missed]
    looks.clear()
    assert real.left(real.spawned[0][0]) == []
    assert looks, "who is asked about at another time is looked for"


def test_of_those_that_ended_together_it_is_known_who_left_whom(real: Real) -> None:
    left: dict[int, int] = {}

    def told(report: ExitReport) -> None:
        real.exits.append(report)
        left[report.process.pid] = len(real.left(report.process))

    real.table.on_exit(told)
    for script in ["exit 0", "setsid sleep 600 & exit 0", "exit 0", "sleep 600 & setsid sleep 600 & exit 0"]:
        real.shell(script)
    real.until(lambda: all(is_zombie(process) for process, _ in real.spawned), drain=False)
    assert real.table.drain() == 4
    assert [left[process.pid] for process, _ in real.spawned] == [0, 1, 0, 2]
    real.shell("setsid sleep 600 & exit 0")
    real.until_told(5)
    assert left[real.spawned[4][0].pid] == 1, "the look of another round says nothing about this one"


def test_where_many_come_and_go_those_that_are_there_are_listed(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_WIDEST_WINDOW", 64)
    monkeypatch.setattr(trees, "_PIDS_PER_SECOND", 100)  # on a busy machine this takes its time
    asked: list[int] = []

    def ask(pid: int) -> int | None:
        asked.append(pid)
        return birthmark_of(pid)

    birthmark_of = procfs.birthmark_of
    first = real.spawn("true")
    real.until_told(1)
    assert real.left(first) == []
    second = real.shell("setsid sleep 600 & i=0; while [ $i -lt 600 ]; do (:); i=$((i + 1)); done")
    real.until_told(2)
    monkeypatch.setattr(procfs, "birthmark_of", ask)
    assert len(real.left(second)) == 1
    assert len(asked) < len(procfs.pids()) + 200
    assert 1 not in asked, "it was there at the last look, and is asked no second time"
    real.kill(second)


def test_who_keeps_up_has_little_to_ask_for_when_a_process_ends(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    many = "i=0; while [ $i -lt 600 ]; do (:); i=$((i + 1)); done"
    os.mkfifo(real.folder / "stop")
    stop = os.open(real.folder / "stop", os.O_RDWR)
    process = real.shell(f"setsid sleep 600 & {many}; echo > ready; read line < stop")
    real.until((real.folder / "ready").exists)
    real.table.keep_up()
    asked: list[int] = []
    birthmark_of = procfs.birthmark_of
    # What others start meanwhile on a busy machine is none of this test's business.
    monkeypatch.setattr(trees, "_NARROW_WINDOW", 4096)
    monkeypatch.setattr(trees, "_PIDS_PER_SECOND", 100)
    monkeypatch.setattr(procfs, "birthmark_of", lambda pid: asked.append(pid) or birthmark_of(pid))
    monkeypatch.setattr(procfs, "pids", lambda: pytest.fail("all processes were listed"))
    os.write(stop, b"\n")
    os.close(stop)
    real.until_told(1)
    assert len(real.left(process)) == 1
    assert process.pid not in asked
    assert 1 not in asked
    monkeypatch.undo()
    real.kill(process)


def test_it_says_what_trees_are_known_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for can_mark, known_by in ((True, "birthmark"), (False, "session and environment")):
        monkeypatch.setattr(table_module, "can_mark", lambda answer=can_mark: answer)
        with closing(Real(tmp_path).table) as table:
            assert table.trees_known_by == known_by


# ---- a controller after a controller ----

EARLIER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from reconciler import wire
from reconciler.adapters.clock import BootClock
from reconciler.adapters.processes import LinuxProcessTable
from reconciler.model.launch import Launch
table = LinuxProcessTable(BootClock())
launch = Launch(argv=("/bin/sh", "-c", sys.argv[3]), env={"PATH": "/usr/bin:/bin"}, cwd=sys.argv[2])
process = table.spawn(launch, sys.argv[4])
print(*process, flush=True)
os._exit(0)
"""


def earlier_controller(real: Real, script: str) -> tuple[ProcessId, str]:
    """A process of a controller that is dead by now. It is ours to reap, as if we were the keeper."""
    root = Path(__file__).parent.parent.parent
    spawn_id = f"{real.folder}-earlier"
    command = [sys.executable, "-c", EARLIER, str(root), str(real.folder), script, spawn_id]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    pid, start = map(int, output.split())
    return ProcessId(pid, start), spawn_id


def adopted(real: Real, script: str) -> ProcessId:
    """The same, adopted as by a controller that is not the keeper."""
    process, _ = earlier_controller(real, script)
    assert real.table.adopt(process)
    real.table._watches[process.pid].own = False
    return process


UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.01; done; exit 33"


def test_an_adopted_process_is_told_once_when_its_report_comes_after_its_end(real: Real) -> None:
    process = adopted(real, UNTIL_TOLD)
    (real.folder / "go").touch()
    real.until(real.table.unreported)
    assert real.exits == []
    os.waitpid(process.pid, 0)
    for _ in range(2):
        real.table.report(process, 33, None)
        real.table.drain()
    assert real.exits == [ExitReport(process, 33, None)]
    assert real.table.unreported() == ()


def test_an_adopted_process_is_told_once_when_its_report_is_quicker_than_its_pidfd(real: Real) -> None:
    process = adopted(real, UNTIL_TOLD)
    (real.folder / "go").touch()
    os.waitpid(process.pid, 0)
    real.table.report(process, 33, None)
    real.table.report(process, 33, None)
    real.table.drain()
    assert real.exits == [ExitReport(process, 33, None)]


def test_without_a_report_the_kernel_is_asked(real: Real) -> None:
    process = adopted(real, UNTIL_TOLD)
    (real.folder / "go").touch()
    real.until(real.table.unreported)
    assert real.table.resolve_unreported(process) == ExitReport(process, 33, None)  # a zombie
    os.waitpid(process.pid, 0)
    real.table.report(process, 33, None)
    assert real.exits == []  # it was told by `resolve_unreported`


def test_without_a_report_the_kernel_knows_after_the_reap(real: Real) -> None:
    process = adopted(real, UNTIL_TOLD)
    pidfd = os.pidfd_open(process.pid)
    (real.folder / "go").touch()
    real.until(real.table.unreported)
    os.waitpid(process.pid, 0)
    known = procfs.exit_status_of(pidfd) is not None  # Linux 6.15
    os.close(pidfd)
    assert real.table.resolve_unreported(process) == ExitReport(process, 33 if known else None, None)


@pytest.mark.parametrize(("end", "told"), [("exit 33", (33, None)), ("exit 0", (0, None)), ("kill -9 $$", (None, 9))])
def test_the_end_of_what_outlived_its_keeper_is_told_at_once_and_as_it_was(
    real: Real, end: str, told: tuple[int | None, int | None]
) -> None:
    """Its parent is neither we nor the keeper, so no report will come. Here it is a zombie that nobody reaps."""
    process, _ = earlier_controller(real, f"while [ ! -e go ]; do sleep 0.01; done; {end}")
    real.table._subreaper_pid = 1
    assert real.table.adopt(process)
    real.table._watches[process.pid].own = False
    (real.folder / "go").touch()
    real.until(lambda: real.exits)
    assert real.exits == [ExitReport(process, *told)]
    assert real.table.unreported() == ()
    os.waitpid(process.pid, 0)
    real.table.drain()
    assert len(real.exits) == 1


@pytest.mark.skipif(not ROOT, reason="only root can make a process that others may not look into")
def test_who_may_not_look_into_a_zombie_does_not_take_its_0_for_an_answer(real: Real) -> None:
    process, _ = earlier_controller(real, "exit 0")
    real.until(lambda: (stat := procfs.read_stat(process.pid)) is not None and not stat.alive)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(7 if procfs.zombie_status_of(process) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert procfs.zombie_status_of(process) == 0
    os.waitpid(process.pid, 0)
    assert procfs.zombie_status_of(process) is None


def test_an_adopted_tree_is_known_although_nobody_saw_it_grow(real: Real) -> None:
    process, spawn_id = earlier_controller(real, "setsid sleep 1000 & sleep 1000 & echo > ready; wait")
    real.until((real.folder / "ready").exists)
    assert real.table.trace(spawn_id, 0.0, []).process == process
    assert real.table.adopt(process)
    real.until(lambda: len(real.table.leftovers(process, spawn_id)) == 2)
    assert real.table.signal(process, signal.SIGKILL, "tree")
    real.until(lambda: real.exits and not real.table.leftovers(process, spawn_id))
    reap_orphans()


def test_what_ended_before_it_could_be_adopted_is_gone(real: Real) -> None:
    process, spawn_id = earlier_controller(real, "exit 0")
    os.waitpid(process.pid, 0)
    assert not real.table.adopt(process)
    assert real.table.trace(spawn_id, 0.0, []).process is None


def test_a_zombie_of_a_start_that_was_interrupted_is_found_by_its_mark(real: Real) -> None:
    process, spawn_id = earlier_controller(real, "(sleep 1000) & exit 7")
    real.until(lambda: not procfs.read_stat(process.pid).alive)
    assert wire.birthmark_of(process.pid) == procfs.birthmark(spawn_id)
    assert real.table.trace(spawn_id, 0.0, []).process == process
    assert real.table.adopt(process)
    real.table.kill_tree(process, spawn_id)
    real.until(lambda: real.exits and not real.table.leftovers(process, spawn_id))
    reap_orphans()


def test_it_is_found_although_neither_we_nor_the_keeper_are_its_parent(real: Real) -> None:
    ctypes.CDLL(None).prctl(wire.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)  # the keeper died with the controller
    try:
        process, spawn_id = earlier_controller(real, "exec sleep 1000")
    finally:
        wire.become_subreaper()
    assert procfs.read_stat(process.pid).parent != os.getpid()
    assert real.table.trace(spawn_id, 0.0, []).process == process
    assert real.table.signal(process, signal.SIGKILL, "process")
    real.until(lambda: (stat := procfs.read_stat(process.pid)) is None or not stat.alive)


def test_the_oldest_that_carries_the_mark_is_the_main_process_although_it_is_gone(real: Real) -> None:
    process, spawn_id = earlier_controller(real, "setsid sleep 1000 & exit 7")
    real.until(lambda: not procfs.read_stat(process.pid).alive)
    os.waitpid(process.pid, 0)
    report = ExitReport(process, 7, None, procfs.birthmark(spawn_id))
    assert real.table.trace(spawn_id, 0.0, [report]).process == process
    real.table.kill_tree(process, spawn_id)
    real.until(lambda: not real.table.leftovers(process, spawn_id))
    reap_orphans()


@pytest.mark.parametrize("lists", [True, False], ids=["listed", "looked for"])
def test_who_runs_and_is_not_known_tells_who_it_is(real: Real, lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not lists:  # not every kernel tells whose parent a process is
        monkeypatch.setattr(procfs, "offspring", lambda pid: None)
    script = "(setsid sleep 1000 &); echo > ready; exec sleep 1000"  # both with the same environment
    process, spawn_id = earlier_controller(real, script)
    real.until((real.folder / "ready").exists)
    (found,) = real.table.foundlings(())
    assert found[:2] == (process, spawn_id)
    assert abs(found.started_at - BootClock().now()) < 60
    assert (found.uid, found.own_uid) == (os.geteuid(), True)
    assert found.environment["RECONCILER_SPAWN_ID"] == spawn_id
    assert not real.table.foundlings({spawn_id})
    assert real.table.adopt(process)
    assert process not in [each.process for each in real.table.foundlings(())], "it is watched"
    real.table.kill_tree(process, spawn_id)
    real.until(lambda: real.exits and not real.table.leftovers(process, spawn_id))
    reap_orphans()
    assert not real.table.foundlings(())


def test_no_more_processes_are_watched_than_leave_descriptors_for_others(tmp_path: Path) -> None:
    real = Real(tmp_path, most=2)
    first, _ = real.shell("exec sleep 1000"), real.shell("exec sleep 1000")
    with pytest.raises(SpawnFailed, match="cannot watch more than 2 processes: raise the limit of open files"):
        real.shell("exec sleep 1000")
    real.kill(first)
    real.until_told(1)
    real.shell("exec sleep 1000")
    real.clean()
