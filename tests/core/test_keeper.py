"""The keeper's loop and effects, in this process; what it starts is played by the test (tests/real: for real)."""

import errno
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import keeper, wire
from reconciler.keeping import handover
from reconciler.keeping.services import State
from reconciler.statelock import Refused
from support.descriptors import descriptors
from support.keeper_rig import House


@pytest.fixture
def house(tmp_path, log, signals, monkeypatch) -> Iterator[House]:
    house = House(tmp_path / "S", log, signals, monkeypatch)
    yield house
    house.close()


class TestCommandLine:
    def test_takes_the_state_directory_and_hands_the_rest_on(self, monkeypatch) -> None:
        monkeypatch.chdir("/")
        assert keeper.parse(["--state-dir", "a/b", "--", "--state-dir", "-f"]) == ("/a/b", -1, ["--state-dir", "-f"])
        assert keeper.parse(["--state-dir", "/x"]) == ("/x", -1, [])
        assert keeper.parse(["--state-dir", "/x", "--handover", "7", "--", "--"]) == ("/x", 7, ["--"])

    @pytest.mark.parametrize(
        "arguments",
        [
            *([], ["--state-dir"], ["--state-dir", "/x", "y"], ["x", "/y"], ["--handover", "7"]),
            *(["--state-dir", "/x", "--handover"], ["--state-dir", "/x", "--handover", "x"]),
            *(["--state-dir", "/x", "--rehearse", "1"], ["--rehearse=1"]),
        ],
    )
    def test_everything_else_is_a_usage_error(self, arguments: list[str]) -> None:
        assert keeper.main(arguments) == 2

    def test_a_rehearsal_loads_all_and_says_whether_it_could_take_over(self, capfd) -> None:
        assert keeper.main(["--rehearse", str(handover.VERSION)]) == 0
        assert capfd.readouterr() == ("", "")
        for words in (["99"], ["x"], [], ["1", "2"]):
            assert keeper.main(["--rehearse", *words]) == 1
            assert "shutdown --keep" in capfd.readouterr().err


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
                    assert [message["type"] for message in controller.heard()] == ["welcome", "signal", "told"]
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
        assert house.keeper._become_parent_of_orphans()

    def test_without_orphans_it_works_too_and_says_what_that_costs(self, house, monkeypatch) -> None:
        def refuse() -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(wire, "become_subreaper", refuse)
        assert not house.keeper._become_parent_of_orphans()
        assert "exits during a restart will be unknown" in house.log[-1]

    def test_the_clock_counts_from_boot(self) -> None:
        assert 0 < keeper.clock() <= keeper.clock()


class TestReaping:
    def test_each_exit_is_told_with_the_identity_read_while_it_was_a_zombie(self, house) -> None:
        controller = house.begin()
        controller.say("hello", wire=1, pid=controller.pid)
        house.zombies = [(7, 256), (99, 9)]
        house.turn()
        assert {"type": "exits", "exits": [[7, 70, 256, 700], [99, 0, 9, 0]]} in controller.heard()

    def test_one_wake_up_reaps_a_bounded_number(self, house) -> None:
        house.zombies = [(pid, 0) for pid in range(1000, 1100)]
        assert house.keeper._reap(1000.0) is True
        assert len(house.zombies) == 100 - keeper.REAPS_PER_WAKE
        assert house.keeper._reap(1000.0) is False

    def test_to_have_no_process_at_all_is_no_error(self, house) -> None:
        house.has_processes = False
        assert house.keeper._reap(1000.0) is False

    def test_the_last_words_of_a_dead_controller_count(self, house) -> None:
        controller = house.greeted()
        controller.say("quit", code=4)
        controller.line.close()
        house.zombies = [(controller.pid, 0)]
        house.keeper._reap(1000.0)
        assert house.keeper._keeping.exit_code == 4

    def test_of_last_words_that_are_rubbish_those_before_count(self, house) -> None:
        controller = house.greeted()
        house.keeper._keeping.ended(7, 70, 0, 1000.0)
        controller.say("ack", exits=[[7, 70]])
        controller.line.send(b"{")
        controller.say("quit", code=4)
        house.zombies = [(controller.pid, 0)]
        house.turn()
        assert house.keeper._keeping.exit_code is None
        assert len(house.started) == 3, "another one was started"

    def test_last_words_that_break_the_contract_are_the_last(self, house) -> None:
        controller = house.greeted()
        controller.say("quit")
        controller.say("quit", code=4)
        house.zombies = [(controller.pid, 0)]
        house.turn()
        assert house.keeper._keeping.exit_code is None

    def test_a_controller_without_a_connection_has_said_all(self, house) -> None:
        controller = house.begin()
        house.keeper.hang_up()
        house.zombies = [(controller.pid, 0)]
        house.turn()
        assert len(house.started) == 3

    def test_somebody_else_at_its_end_of_the_line_is_not_waited_for(self, house) -> None:
        controller = house.greeted()
        house.zombies = [(controller.pid, 0)]
        house.turn()
        assert len(house.started) == 3


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
        assert [pid for pid, *_ in told] == [10_000_000 + pid for pid in range(20_000)]
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


class Became(Exception):
    """In place of becoming another program."""


class TestHandingOver:
    @pytest.fixture
    def calls(self, monkeypatch) -> Iterator[list[Any]]:
        calls: list[Any] = []
        ours = {
            fd for fd in map(int, os.listdir("/proc/self/fd")) if is_inheritable(fd)
        }  # of whoever started the tests

        def execve(path: str, argv: list[str], environment: dict[str, str]) -> None:
            fd = int(argv[argv.index("--handover") + 1])
            calls.append((argv, environment, json.loads(os.pread(fd, 1 << 20, 0))))
            calls.append([fd for fd in map(int, os.listdir("/proc/self/fd")) if is_inheritable(fd) and fd not in ours])
            calls.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            raise Became

        monkeypatch.setattr(os, "execve", execve)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        yield calls
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    @pytest.fixture
    def ready(self, house) -> House:
        """The controller has gone; now is the time."""
        controller = house.greeted()
        controller.say("replace", keeper=True)
        house.turn()
        house.zombies = [(controller.pid, 0)]
        house.keeper._reap(1000.0)
        return house

    def test_it_becomes_what_is_installed_now_with_all_it_holds(self, ready, calls, tmp_path) -> None:
        os.mkfifo(tmp_path / "a")
        ready.keeper.hold(str(tmp_path / "a"))
        with pytest.raises(Became):
            ready.keeper._hand_over(1000.0)
        (argv, environment, document), inherited, mask = calls
        assert argv[:3] == [sys.executable, "-m", "reconciler.keeper"]
        assert argv[3:6] == ["--state-dir", str(tmp_path / "S"), "--handover"]
        assert argv[7:] == ["--", "--an", "argument"]
        assert environment == dict(os.environ)
        assert document["version"] == handover.VERSION
        fifo_fd = document["fifos"][str(tmp_path / "a")][0]
        held = {document["lock"], document["listener"], *document["life"], fifo_fd, int(argv[6])}
        assert set(inherited) == held
        assert {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1} <= set(mask)

    def test_what_cannot_be_leaves_everything_as_it_was(self, ready, monkeypatch) -> None:
        def refuse(*_: object) -> None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        monkeypatch.setattr(os, "execve", refuse)
        before = descriptors()
        inheritable = [fd for fd in map(int, before) if is_inheritable(fd)]
        ready.keeper._hand_over(1000.0)
        assert "cannot be replaced" in ready.log[-1]
        assert descriptors() == before
        assert [fd for fd in map(int, before) if is_inheritable(fd)] == inheritable
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        ready.turn()
        assert "controller" in ready.log[-1], "the next controller is started by this keeper"
        assert not ready.keeper._keeping.may_hand_over

    def test_a_full_memory_leaves_everything_as_it_was(self, ready, monkeypatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        monkeypatch.setattr(os, "memfd_create", full)
        ready.keeper._hand_over(1000.0)
        assert "cannot be replaced: [Errno 12]" in ready.log[-1]

    def test_a_signal_that_came_in_the_last_moment_goes_along(self, ready, calls) -> None:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Became):
            ready.keeper._hand_over(1000.0)
        assert calls[0][2]["keeping"]["stop_asked"] == "TERM"

    def test_the_loop_hands_over_before_it_starts_another_controller(self, ready, calls, monkeypatch) -> None:
        monkeypatch.setattr(wire, "become_subreaper", lambda: None)
        with pytest.raises(Became):
            ready.keeper.loop()
        assert len(ready.started) == 2

    def test_it_does_so_where_orphans_go_to_somebody_else_too(self, ready, calls, monkeypatch) -> None:
        def refuse() -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(wire, "become_subreaper", refuse)
        with pytest.raises(Became):
            ready.keeper.loop()
        assert calls[0][2]["keeping"]["letters"]["reaps_since"] is None, "exits may be missed"

    def test_the_next_program_goes_on_with_all_of_it(self, ready, calls, log, signals, tmp_path, monkeypatch) -> None:
        os.mkfifo(tmp_path / "a")
        ready.keeper.hold(str(tmp_path / "a"))
        ready.zombies = [(7, 256)]
        ready.keeper._reap(1000.0)
        with pytest.raises(Became):
            ready.keeper._hand_over(1000.0)
        # Descriptors of the program that is gone would be closed; here both live in one process.
        document = calls[0][2]
        lent = {fd: os.dup(fd) for fd in (document["lock"], document["listener"], *document["life"])}
        document |= {name: lent[document[name]] for name in ("lock", "listener")}
        document |= {"life": [lent[fd] for fd in document["life"]]}
        document["boot_nofile"] = "256:512"  # ours may have been raised to since
        path, (fifo_fd, *identity) = next(iter(document["fifos"].items()))
        document["fifos"][path] = [os.dup(fifo_fd), *identity]
        for fd in (*lent.values(), document["fifos"][path][0]):
            os.set_inheritable(fd, True)
        monkeypatch.setattr(keeper, "Signals", lambda: signals)
        seen: list[keeper.Keeper] = []
        monkeypatch.setattr(keeper.Keeper, "loop", lambda self: seen.append(self) or 3)

        assert keeper.run(str(tmp_path / "S"), [], log, handover_fd=handover.pack(document)) == 3

        (successor,) = seen
        assert [entry for entry in successor._life_fds if is_inheritable(entry)] == []
        assert successor._environment["RECONCILER_BOOT_NOFILE"] == "256:512"
        assert successor._keeping.document()["letters"]["exits"] == [[7, 70, 256, 700]]
        assert successor._lock.started == {"pump": 500, "controller": 501}
        assert not is_inheritable(document["fifos"][path][0])
        successor.release(path)
        for fd in successor._life_fds:
            os.close(fd)
        assert log[-1] == "leaving with 3"

    def test_what_it_cannot_read_it_does_not_go_on_from(self, log, signals, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(keeper, "Signals", lambda: signals)
        fd = os.memfd_create("x")
        with pytest.raises(Refused, match="cannot be read") as refused:
            keeper.run(str(tmp_path), [], log, handover_fd=fd)
        assert refused.value.exit_code == 1


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # it was the one that listed them


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

    def test_what_a_service_manager_tells_its_main_process_is_not_passed_on(
        self, tmp_path, log, signals, monkeypatch
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/x")
        monkeypatch.setenv("WATCHDOG_PID", "1")
        monkeypatch.setenv("HOME", "/home/ann")
        house = House(tmp_path / "S", log, signals, monkeypatch)
        environment = house.keeper._environment
        house.close()
        assert environment.keys().isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_PID"})
        assert environment["HOME"] == "/home/ann"

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
