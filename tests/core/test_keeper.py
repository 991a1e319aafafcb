"""The keeper's loop and effects, in this process; what it starts is played by the test (tests/real: for real)."""

import errno
import os
import resource
import runpy
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler import keeper, statelock, wire
from reconciler.keeping import Limits, State
from reconciler.statelock import Lock, Refused


class Lines(list[str]):
    """A log to look at."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def signals() -> Iterator[keeper.Signals]:
    """The real thing, taken back afterwards."""
    numbers = [getattr(signal, f"SIG{name}") for name in (*keeper.PASSED_ON, "CHLD", "PIPE")]
    before = {number: signal.getsignal(number) for number in numbers}
    wakeup_fd = signal.set_wakeup_fd(-1)
    found = keeper.Signals()
    yield found
    os.close(signal.set_wakeup_fd(wakeup_fd))
    os.close(found.fd)
    for number, handler in before.items():
        signal.signal(number, handler)


class Started:
    """What the keeper wanted to start. `line` is the other end of what it passed on."""

    def __init__(self, argv: list[str], fds: list[int], pid: int) -> None:
        self.argv = argv
        self.pid = pid
        self.line = socket.socket(fileno=os.dup(fds[0])) if "--control-fd" in argv else None

    def heard(self) -> list[wire.Message]:
        assert self.line is not None
        return list(wire.waiting(self.line))

    def say(self, kind: str, **fields: object) -> None:
        assert self.line is not None
        wire.send(self.line, {"type": kind, **fields})


class House:
    """A keeper whose processes are played here: nothing is spawned, killed or waited for."""

    def __init__(self, state_dir: Path, log: Lines, signals: keeper.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = log
        self.started: list[Started] = []
        self.killed: list[tuple[int, int]] = []
        self.zombies: list[tuple[int, int]] = []
        self.has_processes = True
        self.spawn_error: OSError | None = None
        self.rounds: Callable[[int], None] = lambda count: None
        monkeypatch.setattr(keeper.Keeper, "_spawn", lambda _, argv, fds: self._spawn(argv, fds))
        monkeypatch.setattr(keeper, "clock", lambda: 1000.0)
        monkeypatch.setattr(wire, "start_ticks", lambda pid: None if pid == 99 else pid * 10)
        monkeypatch.setattr(os, "kill", self._kill)
        monkeypatch.setattr(os, "waitid", self._waitid)
        monkeypatch.setattr(os, "waitpid", lambda pid, options: self.zombies.pop(0))
        state_dir.joinpath("run").mkdir(parents=True)
        self.listener = wire.listen_unix(str(state_dir / "run" / "reconciler.sock"), socket.SOCK_STREAM)
        self.lock = Lock(str(state_dir / "run" / "lock"))
        self.lock.take(str(state_dir))
        self.keeper = keeper.Keeper(
            str(state_dir), ["--an", "argument"], log, Limits(), keeper.COMMANDS, self.listener, self.lock, signals
        )

    def _spawn(self, argv: list[str], fds: list[int]) -> int:
        if self.spawn_error is not None:
            raise self.spawn_error
        self.started.append(Started(argv, fds, 500 + len(self.started)))
        return self.started[-1].pid

    def _kill(self, pid: int, number: int) -> None:
        if pid == 404:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        self.killed.append((pid, number))

    def _waitid(self, kind: int, which: int, options: int) -> object:
        if not self.has_processes:
            raise ChildProcessError(errno.ECHILD, "No processes")
        return type("Found", (), {"si_pid": self.zombies[0][0]}) if self.zombies else None

    def begin(self) -> Started:
        """Both run; returns the controller."""
        self.keeper._keeping.pass_time(1000.0)
        return self.started[-1]

    def turn(self) -> None:
        """One round of what the loop does between two waits."""
        self.keeper._reap(1000.0)
        self.keeper._listen(1000.0)
        self.keeper._keeping.pass_time(1000.0)
        self.keeper._speak(1000.0)

    def close(self) -> None:
        for started in self.started:
            if started.line is not None:
                started.line.close()
        self.keeper.hang_up()
        self.listener.close()
        self.lock.release()
        os.close(self.keeper._life_read_fd)
        os.close(self.keeper._life_write_fd)


@pytest.fixture
def house(tmp_path, log, signals, monkeypatch) -> Iterator[House]:
    house = House(tmp_path / "S", log, signals, monkeypatch)
    yield house
    house.close()


class TestCommandLine:
    def test_takes_the_state_directory_and_hands_the_rest_on(self, monkeypatch) -> None:
        monkeypatch.chdir("/")
        assert keeper.parse(["--state-dir", "a/b", "--", "--state-dir", "-f"]) == ("/a/b", ["--state-dir", "-f"])
        assert keeper.parse(["--state-dir", "/x"]) == ("/x", [])

    @pytest.mark.parametrize("arguments", [[], ["--state-dir"], ["--state-dir", "/x", "y"], ["x", "/y"]])
    def test_everything_else_is_a_usage_error(self, arguments: list[str]) -> None:
        assert keeper.main(arguments) == 2


class TestRun:
    @pytest.fixture(autouse=True)
    def _signals(self, signals, monkeypatch) -> None:
        monkeypatch.setattr(keeper, "Signals", lambda: signals)

    def test_leaves_with_the_code_it_was_told_and_takes_its_socket_along(self, tmp_path, log, monkeypatch) -> None:
        monkeypatch.setattr(keeper.Keeper, "loop", lambda self: 5)
        assert keeper.run(str(tmp_path), [], log) == 5
        assert os.listdir(tmp_path / "run") == ["lock"]
        assert log == ["leaving with 5"]
        assert keeper.run(str(tmp_path), [], log) == 5, "the lock is free again"

    def test_a_socket_that_somebody_took_away_is_no_trouble(self, tmp_path, log, monkeypatch) -> None:
        monkeypatch.setattr(keeper.Keeper, "loop", lambda self: os.unlink(tmp_path / "run" / "reconciler.sock") or 0)
        assert keeper.run(str(tmp_path), [], log) == 0

    def test_a_directory_that_others_may_write_to_is_refused_as_a_matter_of_permission(self, tmp_path, log) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run").chmod(0o775)
        with pytest.raises(Refused, match=r"chmod go-w") as refused:
            keeper.run(str(tmp_path), [], log)
        assert refused.value.exit_code == 7

    def test_a_path_that_is_no_directory_is_refused(self, tmp_path, log) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(Refused, match="cannot use the state directory") as refused:
            keeper.run(str(tmp_path / "file"), [], log)
        assert refused.value.exit_code == 1


class TestLoop:
    def test_runs_until_all_is_gone(self, house, monkeypatch) -> None:
        monkeypatch.setattr(wire, "become_subreaper", lambda: None)
        waits: list[int] = []

        class Poll:
            """In place of waiting: what happens meanwhile."""

            def poll(self, milliseconds: int) -> None:
                waits.append(milliseconds)
                pump, controller = house.started
                if len(waits) == 1:
                    signal.raise_signal(signal.SIGHUP)
                    controller.say("hello", wire=1, pid=controller.pid)
                elif len(waits) == 2:
                    assert [message["type"] for message in controller.heard()] == ["welcome", "signal"]
                    controller.say("quit", code=3)
                    house.zombies += [(pid, 0) for pid in range(1000, 1000 + keeper.REAPS_PER_WAKE)]
                elif len(waits) == 3:
                    house.zombies += [(pump.pid, 0), (controller.pid, 0)]

            def unregister(self, sock: socket.socket) -> None: ...
            def register(self, sock: socket.socket, flags: int) -> None: ...
            def modify(self, sock: socket.socket, flags: int) -> None: ...

        house.keeper._poll = Poll()

        assert house.keeper.loop() == 3

        assert waits[0] == 60_001  # until the hello is overdue
        assert waits[1] == 2_001  # until the next ping
        assert waits[2] == 0  # there may be more to reap
        assert house.killed == [(house.started[0].pid, signal.SIGTERM)]

    def test_pid_1_need_not_ask_for_orphans(self, house, monkeypatch) -> None:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        monkeypatch.setattr(wire, "become_subreaper", lambda: pytest.fail("it asked"))
        house.keeper._become_parent_of_orphans()

    def test_without_orphans_it_works_too_and_says_what_that_costs(self, house, monkeypatch) -> None:
        def refuse() -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(wire, "become_subreaper", refuse)
        house.keeper._become_parent_of_orphans()
        assert "exits during a restart will be unknown" in house.log[-1]

    def test_the_clock_counts_from_boot(self) -> None:
        assert 0 < keeper.clock() <= keeper.clock()


class TestReaping:
    def test_each_exit_is_told_with_the_identity_read_while_it_was_a_zombie(self, house) -> None:
        controller = house.begin()
        controller.say("hello", wire=1, pid=controller.pid)
        house.zombies = [(7, 256), (99, 9)]
        house.turn()
        assert controller.heard()[-1] == {"type": "exits", "exits": [[7, 70, 256], [99, 0, 9]]}

    def test_one_wake_up_reaps_a_bounded_number(self, house) -> None:
        house.zombies = [(pid, 0) for pid in range(1000, 1100)]
        assert house.keeper._reap(1000.0) is True
        assert len(house.zombies) == 100 - keeper.REAPS_PER_WAKE
        assert house.keeper._reap(1000.0) is False

    def test_to_have_no_process_at_all_is_no_error(self, house) -> None:
        house.has_processes = False
        assert house.keeper._reap(1000.0) is False


class TestConnection:
    def test_an_end_hangs_up(self, house) -> None:
        controller = house.begin()
        controller.line.close()
        house.turn()
        assert house.keeper._control is None
        assert house.keeper._keeping.controller.state is State.MUTE
        house.turn()

    def test_rubbish_hangs_up_and_what_follows_is_not_read(self, house) -> None:
        controller = house.begin()
        controller.line.send(b"{")
        controller.say("quit", code=0)
        house.turn()
        assert house.keeper._keeping.exit_code is None
        assert "not JSON" in house.log[-1]

    def test_a_broken_message_hangs_up_and_what_follows_is_not_read(self, house) -> None:
        controller = house.begin()
        controller.say("ack")
        controller.say("quit", code=0)
        house.turn()
        assert house.keeper._keeping.exit_code is None
        assert "broken ack message" in house.log[-1]

    def test_what_is_not_taken_now_goes_when_there_is_room(self, house) -> None:
        controller = house.begin()
        for pid in range(20_000):
            house.keeper._keeping.ended(10_000_000 + pid, 10**15, 65280, 1000.0)
        controller.say("hello", wire=1, pid=controller.pid)
        house.turn()
        assert house.keeper._unsent

        told: list[list[int]] = []
        for _ in range(100):
            told += [entry for message in controller.heard() for entry in message.get("exits", [])]
            house.turn()
        assert [pid for pid, _, _ in told] == [10_000_000 + pid for pid in range(20_000)]
        assert not house.keeper._unsent

    def test_a_controller_that_goes_while_it_is_told_something_is_lost(self, house) -> None:
        controller = house.begin()
        controller.say("hello", wire=1, pid=controller.pid)
        house.keeper._listen(1000.0)
        controller.line.close()
        house.keeper._speak(1000.0)
        assert house.keeper._control is None
        assert house.keeper._keeping.controller.state is State.MUTE

    def test_hanging_up_twice_is_hanging_up(self, house) -> None:
        house.begin()
        house.keeper.hang_up()
        house.keeper.hang_up()


class TestStarting:
    def test_the_two_get_what_belongs_to_them(self, house, tmp_path) -> None:
        house.keeper._keeping.safe_mode = True
        house.begin()
        pump, controller = house.started
        run_dir = str(tmp_path / "S" / "run")
        assert pump.argv[1:] == ["-m", "reconciler.pump", "--run-dir", run_dir, "--life-fd", pump.argv[-1]]
        assert controller.argv[1:5] == ["-m", "reconciler.app", "--state-dir", str(tmp_path / "S")]
        assert controller.argv[-3:] == ["--safe-mode", "--an", "argument"]
        with open(f"{run_dir}/lock", encoding="ascii") as file:
            assert file.read().split("\n")[2:] == ["pump 500 5000", "controller 501 5010", ""]

    def test_a_start_that_fails_is_logged_and_tried_again(self, house) -> None:
        house.spawn_error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        house.keeper._keeping.pass_time(1000.0)
        assert "pump could not be started" in house.log[0]
        assert "controller could not be started" in house.log[1]
        assert house.keeper._control is None
        house.spawn_error = None
        house.begin()
        assert len(house.started) == 2

    def test_signals_go_to_the_process_and_a_failure_is_only_a_line(self, house) -> None:
        house.keeper.signal(500, "TERM")
        house.keeper.signal(404, "KILL")
        assert house.killed == [(500, signal.SIGTERM)]
        assert "cannot be sent SIGKILL" in house.log[-1]


def test_a_spawned_process_starts_clean_and_holds_only_what_it_is_given(tmp_path) -> None:
    given_read_fd, given_write_fd = os.pipe2(os.O_CLOEXEC)
    result = tmp_path / "result"
    lines = [f"ls /proc/$$/fd > {result}.fds", f"cat /proc/self/status > {result}.status"]
    script = "\n".join([*lines, f"readlink /proc/$$/fd/0 > {result}"])
    idle = keeper.Keeper.__new__(keeper.Keeper)
    idle._environment = {"PATH": os.environ["PATH"]}
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pid = idle._spawn(["/bin/sh", "-c", script], [given_write_fd])
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        signal.signal(signal.SIGHUP, ignored)
        os.close(given_read_fd)
        os.close(given_write_fd)
    assert result.read_text() == "/dev/null\n"
    fds = [int(number) for number in Path(f"{result}.fds").read_text().split()]
    assert given_write_fd in fds
    assert given_read_fd not in fds
    status = dict(line.split(":\t", 1) for line in Path(f"{result}.status").read_text().splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGHUP - 1) | 1 << (signal.SIGPIPE - 1)) == 0


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
        fifos = keeper.Fifos(log, 10)
        assert not self.is_held(fifo)
        fifos.hold(fifo)
        fifos.hold(fifo)
        assert self.is_held(fifo)
        fifos.release(fifo)
        fifos.release(fifo)
        assert not self.is_held(fifo)
        assert log == []

    def test_a_fifo_that_was_replaced_is_opened_again(self, fifo, log) -> None:
        fifos = keeper.Fifos(log, 10)
        fifos.hold(fifo)
        os.rename(fifo, fifo + ".old")
        os.mkfifo(fifo)
        fifos.hold(fifo)
        assert self.is_held(fifo)
        assert not self.is_held(fifo + ".old")
        fifos.release(fifo)

    @pytest.mark.parametrize("path", ["/dev/null", "/none", "a\0b", "", None, 0, {}, [], "x" * 5000])
    def test_what_is_no_fifo_is_a_line_in_the_log(self, path: str, log) -> None:
        before = os.listdir("/proc/self/fd")
        keeper.Fifos(log, 10).hold(path)
        assert log[0].startswith("a FIFO is not held: ")
        assert os.listdir("/proc/self/fd") == before

    def test_a_link_to_a_fifo_is_not_followed(self, fifo, log) -> None:
        os.symlink(fifo, fifo + ".link")
        keeper.Fifos(log, 10).hold(fifo + ".link")
        assert len(log) == 1

    def test_descriptors_are_left_for_the_keeper_itself(self, fifo, tmp_path, log) -> None:
        os.mkfifo(tmp_path / "b")
        fifos = keeper.Fifos(log, 1)
        fifos.hold(fifo)
        fifos.hold(str(tmp_path / "b"))
        assert "raise the limit of open files" in log[0]
        fifos.release(fifo)


class TestLog:
    def test_a_line_is_a_line_whatever_is_in_it(self, tmp_path) -> None:
        fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
        log = keeper.Log(fd)
        log("two\nlines \udcff")
        log("x" * 10_000)
        lines = (tmp_path / "log").read_bytes().splitlines()
        os.close(fd)
        assert lines[0] == b"keeper: two lines ?"
        assert len(lines) == 2
        assert len(lines[1]) == keeper.LOG_LINE_BYTES - 1

    def test_a_full_pipe_is_not_waited_for_and_the_lost_lines_are_counted(self) -> None:
        read_fd, write_fd = os.pipe()
        log = keeper.Log(write_fd)
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
        log = keeper.Log(write_fd)
        log("unheard")
        os.close(write_fd)
        log("unheard")

    def test_a_pipe_that_cannot_be_opened_again_is_used_as_it_is(self, monkeypatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        read_fd, write_fd = os.pipe()
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            log = keeper.Log(write_fd)
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
        assert keeper.raise_descriptor_limit() == limits
        assert set_to == ([wanted] if wanted else [])

    def test_closed_standard_streams_become_dev_null(self, monkeypatch) -> None:
        opened = iter([1, 2, 8])
        did: list[object] = []
        monkeypatch.setattr(os, "open", lambda path, flags: next(opened))
        monkeypatch.setattr(os, "set_inheritable", lambda fd, on: did.append((fd, on)))
        monkeypatch.setattr(os, "close", did.append)
        keeper.keep_standard_streams()
        assert did == [(1, True), (2, True), 8]


class TestLock:
    @pytest.fixture
    def path(self, tmp_path) -> str:
        return str(tmp_path / "lock")

    def held_by(self, path: str) -> Lock:
        lock = Lock(path)
        lock.take("/state")
        return lock

    def test_one_keeper_at_a_time_and_the_second_learns_whom_to_ask(self, path) -> None:
        first = self.held_by(path)
        second = Lock(path)
        with pytest.raises(Refused, match=rf"already runs on /state \(pid {os.getpid()}\).*shutdown") as refused:
            second.take("/state")
        assert refused.value.exit_code == 6
        first.release()
        second.take("/state")
        second.release()

    @pytest.mark.parametrize("content", ["", "\xff\n", f"{2**22 + 1}\n", "9" * 4000])
    def test_a_lock_held_by_somebody_who_is_no_keeper_is_still_a_lock(self, path, content: str) -> None:
        first = self.held_by(path)
        with open(path, "w", encoding="latin-1") as file:
            file.write(content)
        second = Lock(path)
        with pytest.raises(Refused, match="another reconciler command is at work on /state"):
            second.take("/state")
        os.close(second._fd)
        first.release()

    def test_a_link_in_place_of_the_lock_is_not_followed(self, path, tmp_path) -> None:
        os.symlink(tmp_path / "elsewhere", path)
        with pytest.raises(OSError, match="symbolic links"):
            Lock(path)

    def test_a_full_disk_does_not_keep_the_lock_from_holding(self, path, monkeypatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            self.held_by(path).release()

    def left_behind(self, path: str, *lines: str) -> Lock:
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(["4711", wire.boot_id(), *lines, ""]))
        return self.held_by(path)

    def test_who_is_gone_is_not_waited_for_and_nonsense_is_nobody(self, path, log) -> None:
        ours = f"{os.getpid()} {wire.start_ticks(os.getpid()) + 1}"  # our pid, but another process had it
        lock = self.left_behind(
            path, f"controller {ours}", "pump", "pump x y", "pump 1 2 3", "\x00\xff", f"pump {2**22} 7"
        )
        lock.outlast_former(log)
        lock.release()
        assert log == []

    def test_another_boot_is_not_waited_for(self, path, log) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"4711\nanother-boot\ncontroller {os.getpid()} {wire.start_ticks(os.getpid())}\n")
        lock = self.held_by(path)
        lock.outlast_former(log)
        lock.release()
        assert log == []

    def test_a_keeper_killed_while_it_waits_leaves_the_names_to_the_next(self, path) -> None:
        os.close(self.left_behind(path, "controller 5 6")._fd)
        lock = self.held_by(path)
        assert lock._former[1:] == ["controller 5 6"]
        lock.note("pump", os.getpid())
        lock.release()
        with open(path, encoding="utf-8") as file:
            assert file.read() == ""

    def test_who_stays_is_killed_and_a_zombie_counts_as_gone(self, path, log, monkeypatch) -> None:
        monkeypatch.setattr(statelock, "FORMER_SECONDS", 0.0)
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        try:
            monkeypatch.setattr(statelock, "POLL_SECONDS", 0.001)
            monkeypatch.setattr(statelock, "has_left", lambda *a: _settle(pid, log))
            lock = self.left_behind(path, f"controller {pid} {wire.start_ticks(pid)}")
            lock.outlast_former(log)
            lock.release()
            assert log == [
                f"waiting for the former controller (pid {pid}) to leave",
                f"killing the former controller (pid {pid})",
            ]
            assert not statelock.is_alive(pid, wire.start_ticks(pid))
        finally:
            os.waitpid(pid, 0)

    def test_who_leaves_in_time_is_left_alone(self, path, log, monkeypatch) -> None:
        monkeypatch.setattr(statelock, "has_left", lambda *_: True)
        lock = self.left_behind(path, f"pump {os.getpid()} {wire.start_ticks(os.getpid())}")
        lock.outlast_former(log)
        lock.release()
        assert log == [f"waiting for the former pump (pid {os.getpid()}) to leave"]

    def test_who_cannot_be_killed_keeps_the_next_keeper_out(self, path, log, monkeypatch) -> None:
        monkeypatch.setattr(statelock, "FORMER_SECONDS", 0.0)
        monkeypatch.setattr(statelock, "kill_stranger", lambda pid, start_ticks: None)
        lock = self.left_behind(path, f"pump {os.getpid()} {wire.start_ticks(os.getpid())}")
        with pytest.raises(Refused, match="not even by SIGKILL") as refused:
            lock.outlast_former(log)
        assert refused.value.exit_code == 6
        lock.release()

    def test_waiting_looks_again_until_it_is_gone(self, monkeypatch) -> None:
        answers = iter([True, True, False])
        monkeypatch.setattr(statelock, "is_alive", lambda pid, start_ticks: next(answers))
        monkeypatch.setattr(statelock, "POLL_SECONDS", 0.0)
        assert statelock.has_left(1, 1, float("inf"))

    def test_a_stranger_with_the_same_pid_is_never_killed(self) -> None:
        statelock.kill_stranger(os.getpid(), wire.start_ticks(os.getpid()) + 1)
        statelock.kill_stranger(2**22 + 1, 7)


def _settle(pid: int, log: Lines) -> bool:
    """In place of waiting: nothing before the kill, its end after it."""
    if not any("killing" in line for line in log):
        return False
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return True


def test_directories_are_made_as_private_as_they_have_to_be(tmp_path) -> None:
    umask = os.umask(0)
    try:
        statelock.make_directories(str(tmp_path / "a" / "b"), str(tmp_path / "a" / "b" / "run"))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a" / "b" / "run").stat().st_mode) == 0o700


def test_the_module_is_a_program(monkeypatch, capfd) -> None:
    monkeypatch.setattr(sys, "argv", ["keeper", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(keeper.__file__, run_name="__main__")
    assert left.value.code == 2
    assert capfd.readouterr().err.startswith("keeper: usage: ")


def test_a_refusal_is_a_line_and_an_exit_code(tmp_path, signals, monkeypatch, capfd) -> None:
    monkeypatch.setattr(keeper, "Signals", lambda: signals)
    (tmp_path / "file").write_text("")
    assert keeper.main(["--state-dir", str(tmp_path / "file"), "--", "-f", "x"]) == 1
    assert capfd.readouterr().err.startswith("keeper: cannot use the state directory")
