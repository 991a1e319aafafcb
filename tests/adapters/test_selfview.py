"""What this process looks like to the kernel, and what is to be known when its pipes have become small."""

import builtins
import errno
import io
import os
import subprocess
import sys
from typing import Any

import pytest

from reconciler.adapters import selfview


def test_memory_and_descriptors_are_those_of_this_process() -> None:
    assert 1 << 20 < selfview.figures()["residentBytes"] < 1 << 34
    before = selfview.figures()["openFiles"]
    with open(os.devnull, encoding="ascii"):
        assert selfview.figures()["openFiles"] == before + 1


def test_a_new_pipe_is_measured_and_not_kept() -> None:
    before = os.listdir("/proc/self/fd")
    assert selfview.new_pipe_bytes() in (64 * 1024, 8 * 1024, 4 * 1024)
    assert os.listdir("/proc/self/fd") == before


def test_without_a_descriptor_left_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", refuse)
    assert selfview.new_pipe_bytes() is None


@pytest.mark.parametrize("size", [None, 64 * 1024, 1 << 20])
def test_large_pipes_are_not_worth_a_word(size: int | None) -> None:
    assert selfview.pipe_warning(size) == ""


def test_small_pipes_are_told_with_the_limit_and_what_to_do() -> None:
    text = selfview.pipe_warning(8192)
    assert text.startswith("new log pipes hold 8 KiB instead of 64: ")
    assert "fs.pipe-user-pages-soft = " in text
    assert "sysctl" in text


def test_where_the_limit_cannot_be_read_its_name_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", refuse)
        text = selfview.pipe_warning(8192)
    assert "(/proc/sys/fs/pipe-user-pages-soft)" in text


FILL = """
import ctypes, fcntl, os, sys
sys.path.insert(0, sys.argv[1])
from reconciler.adapters import selfview  # now: it may lie where nobody else may look
libc = ctypes.CDLL(None, use_errno=True)
for capability in (24, 21):  # CAP_SYS_RESOURCE, CAP_SYS_ADMIN
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: execs and new users come without them
if os.geteuid() == 0:
    uid = 54321  # nobody else's pipes count against this one
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
pages = int(open("/proc/sys/fs/pipe-user-pages-soft").read())
print(selfview.new_pipe_bytes())
held = [os.pipe() for _ in range(pages // 16)]
print(selfview.new_pipe_bytes())
print(selfview.pipe_warning(selfview.new_pipe_bytes()))
"""


def test_a_user_without_privileges_really_gets_small_ones_beyond_the_limit() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(selfview.__file__)))
    # Where coverage is measured it would be by that user, too, who may not write here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", FILL, root]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    first, later, warning = done.stdout.splitlines()
    assert later == "8192"
    assert first == "65536" or os.geteuid() != 0  # who is not root may have many already
    assert warning.startswith("new log pipes hold 8 KiB")


@pytest.mark.parametrize(
    ("keeper", "parent", "first", "ends"),
    [
        (1, "0", "reconciler", True),
        (7, "1", "tini", True),
        (7, "1", "docker-init", True),
        (7, "1", "systemd", False),
        (7, "5", "tini", False),
        (7, "gone", "tini", False),
    ],
)
def test_who_ends_with_the_keeper_depends_on_what_pid_1_is(
    monkeypatch: pytest.MonkeyPatch, keeper: int, parent: str, first: str, ends: bool
) -> None:
    files = {"/proc/7/stat": f"7 (a ) b) S {parent} 7 7", "/proc/1/comm": f"{first}\n"}
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", lambda path, **_: io.StringIO(files[path]))
        assert selfview.ends_all(keeper) is ends


def test_of_a_keeper_that_is_gone_nothing_ends_any_more() -> None:
    assert not selfview.ends_all(2**22 + 1)
