"""The keeper as a process, with a controller and a pump that the test plays itself."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from reconciler import __version__, wire
from reconciler.keeping import handover
from support.keeper_puppet import Actor, Running, Stage, eventually, is_running

Run = Callable[..., Running]


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    stage = Stage(str(tmp_path / "stage.sock"))
    yield stage
    stage.close()


@pytest.fixture
def run(tmp_path, stage) -> Iterator[Run]:
    started: list[Running] = []

    def run(*arguments: str, state: str = "state", executable: str = sys.executable, **limits: float) -> Running:
        running = Running(str(tmp_path / state), stage, limits, arguments, executable)
        started.append(running)
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def quit_by(controller: Actor, running: Running, code: int = 0) -> int:
    controller.say("quit", code=code)
    return running.leaves()


class TestStarting:
    def test_starts_a_pump_and_a_controller_with_what_they_need_and_nothing_else(self, run, stage):
        running = run("--verbose", "-f", "a b")
        pump, controller = stage.next("pump"), stage.next("controller")
        run_dir = f"{running.state_dir}/run"

        assert pump.argv == ["--run-dir", run_dir, "--life-fd", pump.argv[3]]
        control_fd, listen_fd = controller.argv[3], controller.argv[5]
        expected = ["--state-dir", running.state_dir, "--control-fd", control_fd, "--listen-fd", listen_fd]
        assert controller.argv == [*expected, "--verbose", "-f", "a b"]
        for actor in (pump, controller):
            assert actor.entry["is_session_leader"]
            assert actor.entry["stdin"] == "/dev/null"
            assert actor.entry["blocked"] == []
            assert ":" in actor.entry["boot_nofile"]
        # 0, 1, 2, theirs, and what the puppet opened itself: its line to us, its wake-up pipe, the listing.
        assert len(pump.entry["fds"]) == 3 + 1 + 4
        assert len(controller.entry["fds"]) == 3 + 2 + 4
        assert quit_by(controller, running) == 0

    def test_welcomes_a_controller_with_the_facts(self, run, stage):
        running = run()
        pump, controller = stage.next("pump"), stage.next("controller")

        welcome = controller.greet()

        facts = {"wire": 1, "keeper": running.process.pid, "pump": pump.pid, "safe_mode": False, "deaths": 0}
        facts |= {"version": __version__, "handover": handover.VERSION, "handovers": 0}
        assert welcome == {"type": "welcome", **facts}
        assert quit_by(controller, running) == 0

    def test_makes_the_state_directory_private_where_it_has_to_be(self, run, stage):
        running = run()
        stage.next("controller")
        found = {
            name: stat.S_IMODE(os.stat(os.path.join(running.state_dir, name)).st_mode)
            for name in ("run", "run/reconciler.sock")
        }
        assert found == {"run": 0o700, "run/reconciler.sock": 0o600}

    def test_a_deep_state_directory_is_no_problem_for_its_socket(self, run, stage):
        running = run(state="/".join(["a" * 60] * 3))
        controller = stage.next("controller")
        with wire.connect_unix(f"{running.state_dir}/run/reconciler.sock", socket.SOCK_STREAM):
            assert quit_by(controller, running) == 0

    def test_a_second_keeper_on_the_same_state_is_refused_and_told_the_pid_of_the_first(self, run, stage):
        first = run()
        controller = stage.next("controller")

        second = run()

        assert second.leaves() == 6
        assert f"already runs on {first.state_dir} (pid {first.process.pid})" in second.log()
        assert controller.greet()["deaths"] == 0
        assert quit_by(controller, first) == 0

    def test_a_state_directory_that_cannot_be_made_is_a_message_and_not_a_traceback(self, run, stage, tmp_path):
        (tmp_path / "state").write_text("a file")
        running = run()
        assert running.leaves() == 1
        assert running.log().startswith("keeper: cannot use the state directory")

    def test_starts_with_closed_standard_streams(self, run, stage, tmp_path):
        script = f'exec "$0" -m reconciler.keeper --state-dir {tmp_path}/x/y --bad <&- >&- 2>&-'
        done = subprocess.run(["/bin/sh", "-c", script, sys.executable], check=False)
        assert done.returncode == 2


class TestRestarting:
    def test_a_killed_controller_is_replaced_and_requests_wait_for_the_next_one(self, run, stage):
        running = run()
        first = stage.next("controller")
        first.greet()

        os.kill(first.pid, signal.SIGKILL)
        with wire.connect_unix(f"{running.state_dir}/run/reconciler.sock", socket.SOCK_STREAM):
            second = stage.next("controller")

        assert second.pid != first.pid
        assert second.greet()["deaths"] == 1
        assert quit_by(second, running) == 0

    def test_a_killed_pump_is_replaced_and_the_controller_hears_of_it(self, run, stage):
        running = run()
        pump, controller = stage.next("pump"), stage.next("controller")
        controller.greet()

        os.kill(pump.pid, signal.SIGKILL)

        controller.expect("pump", pid=stage.next("pump").pid)
        assert quit_by(controller, running) == 0

    def test_a_controller_that_exits_at_once_again_and_again_is_started_in_safe_mode(self, run, stage):
        running = run(first_delay_seconds=0.01)
        for _ in range(3):
            controller = stage.next("controller")
            assert "--safe-mode" not in controller.argv
            controller.order("exit", code=3)

        careful = stage.next("controller")

        assert "--safe-mode" in careful.argv
        welcome = careful.greet()
        assert (welcome["safe_mode"], welcome["deaths"]) == (True, 3)
        assert "exited with 3" in running.log()
        assert quit_by(careful, running) == 0

    def test_a_controller_that_hangs_is_killed(self, run, stage):
        running = run(ping_seconds=0.05, unanswered_pings=20)
        first = stage.next("controller")
        first.greet()

        first.order("hang")

        second = stage.next("controller")
        assert not is_running(first.pid)
        assert "answered none of the last pings" in running.log()
        second.greet()
        assert quit_by(second, running) == 0

    def test_a_controller_that_never_says_hello_is_killed(self, run, stage):
        run(hello_seconds=2.0)
        first = stage.next("controller")
        stage.next("controller")
        assert not is_running(first.pid)

    @pytest.mark.parametrize(
        "rubbish", ["{", "[]", '{"type": 5}', '{"type": "ack", "exits": 7}', '{"type": "quit"}', "\x00" * 100]
    )
    def test_a_controller_that_talks_rubbish_is_hung_up_on_and_replaced(self, run, stage, rubbish):
        running = run()
        first = stage.next("controller")
        first.greet()

        first.order("babble", text=rubbish)

        first.expect("alone")
        second = stage.next("controller")
        second.greet()
        assert quit_by(second, running) == 0

    def test_usr1_replaces_the_controller_without_counting_it_as_a_death(self, run, stage):
        running = run()
        for _ in range(4):
            controller = stage.next("controller")
            assert controller.greet()["deaths"] == 0
            running.signal(signal.SIGUSR1)
            controller.expect("leave")
            controller.order("exit", code=0)
        last = stage.next("controller")
        assert "--safe-mode" not in last.argv
        last.greet()
        assert quit_by(last, running) == 0


class TestHandingOver:
    """`replace` with `keeper`: the program is another one, the process is the same."""

    def change_over(self, controller: Actor, code: int = 0) -> None:
        controller.say("replace", keeper=True)
        controller.expect("leave")
        controller.order("exit", code=code)

    def test_the_pid_stays_and_both_are_started_anew_by_the_next_program(self, run, stage):
        running = run("-f", "a b")
        pump, controller = stage.next("pump"), stage.next("controller")
        controller.greet()
        began = start_of(running)

        self.change_over(controller)

        eventually(lambda: not is_running(pump.pid), "the pump made room")
        successor = stage.next("controller")
        welcome = successor.greet()
        assert (welcome["keeper"], welcome["handovers"], welcome["deaths"]) == (running.process.pid, 1, 0)
        assert welcome["pump"] == stage.next("pump").pid
        assert successor.argv[-2:] == ["-f", "a b"]
        assert successor.entry["boot_nofile"] == controller.entry["boot_nofile"]
        assert len(successor.entry["fds"]) == len(controller.entry["fds"])
        assert start_of(running) == began
        assert quit_by(successor, running, 3) == 3
        assert not os.path.exists(f"{running.state_dir}/run/reconciler.sock")

    def test_requests_and_the_lock_are_held_all_the_time(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        address = f"{running.state_dir}/run/reconciler.sock"
        waiting = [wire.connect_unix(address, socket.SOCK_STREAM)]
        inode = os.stat(address).st_ino
        for count in range(1, 4):
            self.change_over(controller)
            controller = stage.next("controller")
            assert controller.greet()["handovers"] == count
            waiting.append(wire.connect_unix(address, socket.SOCK_STREAM))
            second = run()
            assert second.leaves() == 6
            assert f"(pid {running.process.pid})" in second.log()
        assert os.stat(address).st_ino == inode
        for client in waiting:
            client.close()
        assert quit_by(controller, running) == 0

    def test_no_exit_is_lost_or_doubled_and_old_ones_are_told_again(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        expected: dict[tuple[int, int], int] = {}
        for number in range(4):
            # Some end before, some meanwhile, some after; the last by a signal.
            for wait, code in (("0", 7), ("0.05", 9), ("0.2", 33), ("0.5", 0)):
                expected[controller.spawn(f"sleep {wait}; exit {code}")] = code << 8
            expected[controller.spawn("sleep 0.1; kill -9 $$")] = signal.SIGKILL
            self.change_over(controller)
            controller = stage.next("controller")
            assert controller.greet()["handovers"] == number + 1
        told: dict[tuple[int, int], int] = {}
        while len(told) < len(expected):
            told |= {(pid, start): status for pid, start, status, _ in controller.expect("exits")["exits"]}
        assert told == expected
        controller.say("ack", exits=[list(process) for process in expected])
        self.change_over(controller)
        last = stage.next("controller")
        last.greet()
        last.say("ready")
        eventually(lambda: running.log().count("is ready") == 1)
        assert not last.heard_now("exits")
        assert quit_by(last, running) == 0

    def test_what_is_in_a_held_fifo_stays_there(self, run, stage, tmp_path):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        path = str(tmp_path / "a.fifo")
        os.mkfifo(path)
        controller.say("hold", fifo=path)
        writer = os.open(path, os.O_WRONLY)
        os.write(writer, b"a line")
        os.close(writer)
        for _ in range(2):
            self.change_over(controller)
            controller = stage.next("controller")
            controller.greet()
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader, 100) == b"a line"
        controller.say("release", fifo=path)
        eventually(lambda: is_at_end(reader))
        os.close(reader)
        assert quit_by(controller, running) == 0

    def test_signals_of_that_very_moment_are_heard_by_the_next_controller(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        controller.say("replace", keeper=True)
        controller.expect("leave")
        controller.order("exit", code=0)
        while not stage.has_come("controller"):
            running.signal(signal.SIGHUP)
            running.signal(signal.SIGTERM)
            time.sleep(0.001)  # without end at full speed, and measured, it would hear them and do nothing else
        successor = stage.next("controller")
        successor.greet()
        successor.expect("signal", name="TERM")
        assert running.process.poll() is None
        assert quit_by(successor, running) == 0

    def test_a_controller_that_does_not_leave_is_killed_and_then_it_goes_on(self, run, stage):
        running = run(drain_seconds=0.3)
        controller = stage.next("controller")
        controller.greet()
        controller.say("replace", keeper=True)
        successor = stage.next("controller")
        assert not is_running(controller.pid)
        assert successor.greet()["handovers"] == 1
        assert quit_by(successor, running) == 0

    def test_an_interpreter_that_is_gone_leaves_the_keeper_as_it_was(self, run, stage, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # a link knows no virtual environment
        link = tmp_path / "python"
        link.symlink_to(sys.executable)
        running = run(executable=str(link))
        controller = stage.next("controller")
        controller.greet()
        link.unlink()
        self.change_over(controller)
        eventually(lambda: "cannot be replaced: [Errno 2]" in running.log())
        eventually(lambda: "could not be started" in running.log())
        link.symlink_to(sys.executable)
        successor = stage.next("controller")
        assert successor.greet()["handovers"] == 0
        assert quit_by(successor, running) == 0

    def test_descriptors_do_not_grow(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        counts = []
        for _ in range(4):
            self.change_over(controller)
            controller = stage.next("controller")
            controller.greet()
            stage.next("pump")
            controller.say("ready")
            eventually(lambda: running.log().count("is ready") > len(counts))
            counts.append(len(os.listdir(f"/proc/{running.process.pid}/fd")))
        assert len(set(counts)) == 1
        assert quit_by(controller, running) == 0


def start_of(running: Running) -> int:
    found = wire.start_ticks(running.process.pid)
    assert found is not None
    return found


class TestExits:
    def test_no_exit_status_is_lost_or_doubled_over_kills_of_the_controller(self, run, stage):
        running = run()
        expected: dict[tuple[int, int], int] = {}
        controller = stage.next("controller")
        controller.greet()
        # Some end while their controller lives (and leaves them as zombies), some while there is none, some later.
        for wait, code in (("0", 7), ("0", 0), ("0.3", 33), ("0.6", 3)):
            expected[controller.spawn(f"sleep {wait}; exit {code}")] = code << 8
        expected[controller.spawn("sleep 0.3; kill -9 $$")] = signal.SIGKILL
        os.kill(controller.pid, signal.SIGKILL)

        controller = stage.next("controller")
        controller.greet()
        assert controller.exits(len(expected)) == expected

        # Nothing was acknowledged but the first two: the others are told again to the next.
        told = sorted(expected)
        controller.say("ack", exits=[list(process) for process in told[:2]])
        controller.say("ready")
        eventually(lambda: "is ready" in running.log())
        os.kill(controller.pid, signal.SIGKILL)
        controller = stage.next("controller")
        controller.greet()
        assert controller.exits(3) == {process: expected[process] for process in told[2:]}
        assert quit_by(controller, running) == 0

    def test_a_crowd_of_orphans_is_reported_to_the_last(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        expected = {controller.spawn(f"exit {number % 256}"): (number % 256) << 8 for number in range(150)}
        os.kill(controller.pid, signal.SIGKILL)

        controller = stage.next("controller")
        controller.greet()
        assert controller.exits(len(expected)) == expected
        assert quit_by(controller, running) == 0

    def test_daemonised_grandchildren_are_reaped_and_reported_too(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        controller.spawn("(exit 5) & sleep 0.05; (sleep 0.1; exit 9) & exit 0")
        assert list(controller.exits(1).values()) == [9 << 8]
        assert quit_by(controller, running) == 0


class TestFifos:
    def test_what_is_in_a_held_fifo_outlives_all_who_use_it(self, run, stage, tmp_path):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        path = str(tmp_path / "a.fifo")
        os.mkfifo(path)
        controller.say("hold", fifo=path)
        writer = os.open(path, os.O_WRONLY)  # returns when the keeper has it open
        os.write(writer, b"a line")
        os.close(writer)
        os.kill(controller.pid, signal.SIGKILL)

        controller = stage.next("controller")
        controller.greet()
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader, 100) == b"a line"

        controller.say("release", fifo=path)
        eventually(lambda: is_at_end(reader))
        os.close(reader)
        assert quit_by(controller, running) == 0

    def test_what_is_no_fifo_is_not_held_and_harms_nothing(self, run, stage, tmp_path):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        (tmp_path / "file").write_text("")
        for path in (str(tmp_path / "file"), str(tmp_path / "none"), "a\0b", "/dev/null", None, 7, {}, "x" * 5000):
            controller.say("hold", fifo=path)
        controller.say("ready")
        eventually(lambda: "is ready" in running.log())
        assert running.log().count("is not held") == 8
        assert quit_by(controller, running) == 0


def is_at_end(reader: int) -> bool:
    """Nobody has this FIFO open for writing, and it is empty."""
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


class TestSignals:
    def test_term_int_and_hup_reach_the_controller_and_quit_also_asks_to_stop(self, run, stage):
        running = run()
        controller = stage.next("controller")
        controller.greet()
        for number, name in ((1, "HUP"), (2, "INT"), (15, "TERM")):
            running.signal(number)
            controller.expect("signal", name=name)
        running.signal(signal.SIGQUIT)
        controller.expect("signal", name="TERM")
        assert quit_by(controller, running) == 0

    def test_what_comes_before_hello_waits_and_a_wish_to_stop_is_told_to_the_next_controller_too(self, run, stage):
        running = run()
        controller = stage.next("controller")
        running.signal(signal.SIGTERM)
        controller.greet()
        controller.expect("signal", name="TERM")
        os.kill(controller.pid, signal.SIGKILL)

        controller = stage.next("controller")
        controller.greet()
        controller.expect("signal", name="TERM")
        assert quit_by(controller, running) == 0

    def test_usr2_goes_on_to_the_pump(self, run, stage):
        running = run()
        pump, controller = stage.next("pump"), stage.next("controller")
        running.signal(signal.SIGUSR2)
        pump.expect("got", signal="SIGUSR2")
        assert quit_by(controller, running) == 0

    def test_a_stop_before_any_controller_ever_spoke_does_not_hang(self, run, stage):
        running = run(first_stop_seconds=0.3, drain_seconds=0.5)
        pump, controller = stage.next("pump"), stage.next("controller")
        running.signal(signal.SIGTERM)
        assert running.leaves() == 1
        assert not is_running(controller.pid)
        eventually(lambda: not is_running(pump.pid), "the pump sees for itself that nobody is left")

    def test_signals_that_were_blocked_or_ignored_by_the_caller_are_heard(self, run, stage):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
        try:
            running = run()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGCHLD])
        controller = stage.next("controller")
        controller.greet()
        running.signal(signal.SIGTERM)
        controller.expect("signal", name="TERM")
        assert quit_by(controller, running) == 0


class TestLeaving:
    def test_quit_drains_the_pump_takes_the_socket_away_and_passes_the_exit_code_on(self, run, stage):
        running = run()
        pump, controller = stage.next("pump"), stage.next("controller")
        controller.greet()
        assert quit_by(controller, running, 4) == 4
        pump.expect("got", signal="SIGTERM")
        assert not is_running(controller.pid)
        assert not os.path.exists(f"{running.state_dir}/run/reconciler.sock")

    def test_who_does_not_leave_in_time_is_killed(self, run, stage):
        running = run(drain_seconds=0.2)
        pump, controller = stage.next("pump"), stage.next("controller")
        for actor in (pump, controller):
            actor.order("be stubborn")
            actor.order("spawn", script="exit 0")
            actor.expect("spawned")
        assert quit_by(controller, running) == 0
        assert not is_running(pump.pid)
        assert not is_running(controller.pid)

    def test_when_the_keeper_is_killed_both_see_it_and_their_processes_live_on(self, run, stage):
        running = run()
        pump, controller = stage.next("pump"), stage.next("controller")
        controller.greet()
        worker_pid, _ = controller.spawn("exec sleep 60")
        try:
            running.signal(signal.SIGKILL)
            pump.expect("alone")
            controller.expect("alone")
            assert is_running(worker_pid)
        finally:
            os.kill(worker_pid, signal.SIGKILL)

    def test_the_next_keeper_waits_for_what_a_killed_one_left_and_ends_it_if_it_stays(self, run, stage):
        first = run()
        pump, controller = stage.next("pump"), stage.next("controller")
        for actor in (pump, controller):
            actor.order("be stubborn")
            actor.order("spawn", script="exit 0")
            actor.expect("spawned")
        first.signal(signal.SIGKILL)
        first.leaves()

        second = run()

        successor = stage.next("controller")
        assert not is_running(controller.pid)
        assert not is_running(pump.pid)
        assert f"killing the former controller (pid {controller.pid})" in second.log()
        assert quit_by(successor, second) == 0


def test_the_keeper_stays_near_the_size_of_a_bare_interpreter(run, stage, record_property):
    running = run()
    controller = stage.next("controller")
    controller.greet()
    bare = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/smaps_rollup').read())"],
        capture_output=True,
        text=True,
        check=True,
    )
    with open(f"/proc/{running.process.pid}/smaps_rollup", encoding="ascii") as file:
        keeper_kib = private_kib(file.read())
    record_property("keeper_private_kib", keeper_kib)
    record_property("bare_private_kib", private_kib(bare.stdout))
    # The puppet show's own imports (subprocess, typing, ...) weigh on this keeper: the real one is smaller.
    assert keeper_kib - private_kib(bare.stdout) < 8 * 1024
    assert quit_by(controller, running) == 0


def private_kib(rollup: str) -> int:
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
