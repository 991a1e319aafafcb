"""What holds for all tests: a clean environment, and nothing left running at the end.

Every process that the tests start carries the mark of this run in its environment, or works below the run's temporary
folder. Whatever of that still lives when the last test is over is a failure of the run, named and then ended by pid.
"""

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support import packages

MARK = "RECONCILER_TEST_RUN"
PATIENCE_SECONDS = 20.0
PER_CORE = 2  # half of the time of most tests is waiting for processes
LEFT_RUNNING = pytest.StashKey[list[str]]()

settings.register_profile("quick", deadline=None, print_blob=True)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=5000)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Forget the controller that somebody's shell may point to, hear its signals, and mark what this run starts."""
    for name in list(os.environ):
        if name.startswith(("RECONCILER_", "SUPERVISOR_")) and name != MARK:
            del os.environ[name]
    for number in (signal.SIGINT, signal.SIGQUIT):
        # A shell that starts us in the background has us ignore these, and all that we start would ignore them, too.
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if not _is_worker(config):
        os.environ[MARK] = f"{os.getpid()}-{time.monotonic_ns()}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many run tests beside each other with `-n auto`."""
    return PER_CORE * len(os.sched_getaffinity(0))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what the chosen tests want, before the clock of any of them runs."""
    if not session.config.option.collectonly:
        marks = (mark for item in session.items for mark in item.iter_markers("debian"))
        packages.install({str(name) for mark in marks for name in mark.args})


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Look for what was left running, once, after the workers of xdist are gone."""
    yield
    if _is_worker(session.config):
        return
    left = _left_running(session.config)
    session.config.stash[LEFT_RUNNING] = [_described(pid) for pid in left]
    for pid in left:
        _kill(pid)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left running."""
    for line in config.stash.get(LEFT_RUNNING, []):
        terminalreporter.write_line(f"ERROR left running: {line}", red=True)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _left_running(config: pytest.Config) -> list[int]:
    """Marked processes that do not end by themselves soon."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := list(_marked(config))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _marked(config: pytest.Config) -> Iterator[int]:
    factory = getattr(config, "_tmp_path_factory", None)
    base = getattr(factory, "_basetemp", None)  # None: no test asked for a folder
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            arguments, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            where = os.readlink(folder / "cwd")
        except OSError:
            continue  # gone, a zombie, or not ours
        below = base is not None and (where.startswith(f"{base}/") or f"{base}/".encode() in arguments)
        if pid != os.getpid() and arguments and (mark in environment.split(b"\0") or below):
            yield pid


def _described(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"pid {pid} {arguments.strip()[:200]} (in {os.readlink(f'/proc/{pid}/cwd')})"
    except OSError:
        return f"pid {pid}"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
