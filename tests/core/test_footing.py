"""What the keeper's loop stands on: streams, limits, log, signals, FIFOs, and words for the service manager."""

import errno
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from reconciler.keeping import footing
from support.descriptors import descriptors


class TestSignals:
    def test_what_came_is_told_once_in_order_and_the_end_of_a_process_only_wakes(self, signals) -> None:
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        assert select.select([signals.fd], [], [], 0)[0]
        assert signals.take() == ["TERM", "HUP"]
        assert signals.take() == []
        assert not select.select([signals.fd], [], [], 0)[0]


class TestFifos:
    @pytest.fixture
    def fifo(self, tmp_path) -> str:
        path = str(tmp_path / "a")
        os.mkfifo(path)
        return path

    @staticmethod
    def is_held(path: str) -> bool:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # ENXIO: nobody has the other side
            return False
        return True

    def test_a_fifo_is_held_until_it_is_released(self, fifo, log) -> None:
        fifos = footing.Fifos(log, 10)
        assert not self.is_held(fifo)
        fifos.hold(fifo)
        fifos.hold(fifo)
        assert self.is_held(fifo)
        fifos.release(fifo)
        fifos.release(fifo)
        assert not self.is_held(fifo)
        assert log == []

    def test_all_that_a_killed_keeper_held_is_held_again_and_nothing_else(self, fifo, log, tmp_path) -> None:
        (tmp_path / "file").write_text("no FIFO")
        (tmp_path / "link").symlink_to(fifo)
        fifos = footing.Fifos(log, 10)
        fifos.hold_all(str(tmp_path))
        fifos.hold_all(str(tmp_path / "none"))
        assert list(fifos.held) == [fifo]
        assert self.is_held(fifo)
        assert log == []
        fifos.release(fifo)

    def test_a_fifo_that_was_replaced_is_opened_again(self, fifo, log) -> None:
        fifos = footing.Fifos(log, 10)
        fifos.hold(fifo)
        os.rename(fifo, fifo + ".old")
        os.mkfifo(fifo)
        fifos.hold(fifo)
        assert self.is_held(fifo)
        assert not self.is_held(fifo + ".old")
        fifos.release(fifo)

    @pytest.mark.parametrize("path", ["/dev/null", "/none", "a\0b", "", None, 0, {}, [], "x" * 5000])
    def test_what_is_no_fifo_is_a_line_in_the_log(self, path: str, log) -> None:
        before = descriptors()
        footing.Fifos(log, 10).hold(path)
        assert log[0].startswith("a FIFO is not held: ")
        assert descriptors() == before

    def test_a_link_to_a_fifo_is_not_followed(self, fifo, log) -> None:
        os.symlink(fifo, fifo + ".link")
        footing.Fifos(log, 10).hold(fifo + ".link")
        assert len(log) == 1

    def test_those_of_a_former_keeper_are_held_on(self, fifo, log) -> None:
        former = footing.Fifos(log, 10)
        former.hold(fifo)
        for fd, _, _ in former.held.values():
            os.set_inheritable(fd, True)
        fifos = footing.Fifos(log, 10, json.loads(json.dumps(former.held)))
        fifos.hold(fifo)
        (fd, _, _) = fifos.held[fifo]
        assert not os.get_inheritable(fd)
        assert fifos.held == former.held
        fifos.release(fifo)
        assert not self.is_held(fifo)

    def test_descriptors_are_left_for_the_keeper_itself(self, fifo, tmp_path, log) -> None:
        os.mkfifo(tmp_path / "b")
        fifos = footing.Fifos(log, 1)
        fifos.hold(fifo)
        fifos.hold(str(tmp_path / "b"))
        assert "raise the limit of open files" in log[0]
        fifos.release(fifo)


class TestLog:
    def test_a_line_is_a_line_whatever_is_in_it(self, tmp_path) -> None:
        fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
        log = footing.Log(fd)
        log("two\nlines \udcff")
        log("x" * 10_000)
        lines = (tmp_path / "log").read_bytes().splitlines()
        os.close(fd)
        assert lines[0] == b"keeper: two lines ?"
        assert len(lines) == 2
        assert len(lines[1]) == footing.LOG_LINE_BYTES - 1

    def test_a_full_pipe_is_not_waited_for_and_the_lost_lines_are_counted(self) -> None:
        read_fd, write_fd = os.pipe()
        log = footing.Log(write_fd)
        for number in range(40):
            log(f"{number} " + "x" * 5000)
        assert os.get_blocking(write_fd), "others share this pipe, and rely on it"
        taken = os.read(read_fd, 1 << 20).count(b"\n")
        assert taken < 40
        log("and on")
        assert os.read(read_fd, 1000).decode() == f"keeper: and on ({40 - taken} lines before this one were lost)\n"
        os.close(log._fd)
        os.close(read_fd)
        os.close(write_fd)

    def test_a_pipe_nobody_reads_and_a_closed_one_are_no_error(self) -> None:
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        log = footing.Log(write_fd)
        log("unheard")
        os.close(write_fd)
        log("unheard")

    def test_a_pipe_that_cannot_be_opened_again_is_used_as_it_is(self, monkeypatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        read_fd, write_fd = os.pipe()
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            log = footing.Log(write_fd)
        log("heard")
        assert os.read(read_fd, 100) == b"keeper: heard\n"
        os.close(read_fd)
        os.close(write_fd)


class TestDescriptors:
    @pytest.mark.parametrize(
        ("limits", "wanted"),
        [
            ((1024, 4096), (4096, 4096)),
            ((4096, 4096), None),
            ((1024, resource.RLIM_INFINITY), (1 << 20, resource.RLIM_INFINITY)),
            ((1024, 1 << 30), (1 << 20, 1 << 30)),
            ((1 << 29, 1 << 30), None),
            ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
        ],
    )
    def test_the_soft_limit_is_raised_to_what_is_allowed_and_sensible(self, monkeypatch, limits, wanted) -> None:
        set_to: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
        monkeypatch.setattr(resource, "setrlimit", lambda which, both: set_to.append(both))
        assert footing.raise_descriptor_limit() == limits
        assert set_to == ([wanted] if wanted else [])

    def test_closed_standard_streams_become_dev_null(self, monkeypatch) -> None:
        opened = iter([1, 2, 8])
        did: list[object] = []
        monkeypatch.setattr(os, "open", lambda path, flags: next(opened))
        monkeypatch.setattr(os, "set_inheritable", lambda fd, on: did.append((fd, on)))
        monkeypatch.setattr(os, "close", did.append)
        footing.keep_standard_streams()
        assert did == [(1, True), (2, True), 8]


class TestHoldingBack:
    def test_what_is_held_back_comes_when_it_is_let_through(self, signals) -> None:
        signals.hold_back()
        signal.raise_signal(signal.SIGHUP)
        assert signals.take() == []
        assert signal.SIGHUP in signal.sigpending()
        signals.let_through()
        assert signals.take() == ["HUP"]


class TestNotifier:
    @pytest.fixture
    def manager(self, tmp_path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(30)
            yield manager

    def test_one_datagram_says_how_things_are(self, manager, log) -> None:
        notify = footing.Notifier(manager.getsockname(), log)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
        assert log == []

    def test_reloading_tells_since_when(self, manager, log, monkeypatch) -> None:
        monkeypatch.setattr(time, "monotonic_ns", lambda: 1_234_567_890)
        footing.Notifier(manager.getsockname(), log)("RELOADING=1")
        assert manager.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=1234567"

    def test_a_name_without_a_place_in_the_file_system_begins_with_an_at(self, log) -> None:
        name = f"reconciler-test-{os.getpid()}-{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + name)
            manager.settimeout(30)
            footing.Notifier(f"@{name}", log)("STOPPING=1")
            assert manager.recv(100) == b"STOPPING=1"

    def test_who_does_not_want_to_know_is_not_told(self, log) -> None:
        before = descriptors()
        footing.Notifier("", log)("READY=1")
        assert (log, descriptors()) == ([], before)

    @pytest.mark.parametrize("address", ["/none/notify", "@nobody", "a\0b", "x" * 300, "/" + "x" * 300])
    def test_a_manager_that_cannot_be_told_is_a_line_in_the_log(self, address: str, log) -> None:
        footing.Notifier(address, log)("RELOADING=1")
        assert len(log) == 1
        assert log[0].startswith("the service manager could not be told RELOADING=1: ")

    def test_a_manager_that_does_not_listen_is_not_waited_for(self, manager, log) -> None:
        notify = footing.Notifier(manager.getsockname(), log)
        for _ in range(10_000):
            notify("READY=1")
            if log:
                break
        assert "Resource temporarily unavailable" in log[0]
