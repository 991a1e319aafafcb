"""Who may keep a state directory: one at a time, and never beside what a killed one left running."""

import errno
import os
import signal
import stat

import pytest

from reconciler import statelock, wire
from reconciler.statelock import Lock, Refused
from support.keeper_rig import Lines


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
        os.close(second.fd)
        first.release()

    def test_whoever_takes_a_keepers_place_has_its_lock_and_knows_whom_it_started(self, path) -> None:
        former = self.held_by(path)
        former.note("pump", os.getpid())
        os.set_inheritable(former.fd, True)
        lock = Lock("", former.fd, former.started)
        assert not os.get_inheritable(lock.fd)
        lock.note("controller", os.getpid())
        second = Lock(path)
        with pytest.raises(Refused, match="already runs"):
            second.take("/state")
        with open(path, encoding="utf-8") as file:
            assert [line.split()[0] for line in file.read().splitlines()[2:]] == ["pump", "controller"]
        os.close(second.fd)
        lock.release()

    def test_a_link_in_place_of_the_lock_is_not_followed(self, path, tmp_path) -> None:
        os.symlink(tmp_path / "elsewhere", path)
        with pytest.raises(OSError, match="symbolic links"):
            Lock(path)

    def test_a_full_disk_does_not_keep_the_lock_from_holding(self, path, monkeypatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            patched.setattr(os, "truncate", full)
            self.held_by(path).release()
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
        os.close(self.left_behind(path, "controller 5 6").fd)
        lock = self.held_by(path)
        assert lock._former[1:] == ["controller 5 6"]
        lock.release()
        with open(path, encoding="utf-8") as file:
            assert file.read() == ""

    def test_a_pump_that_stays_is_left_to_the_next_keeper(self, path, log, monkeypatch) -> None:
        lock = self.held_by(path)
        lock.note("controller", 2**22 + 1)
        lock.note("pump", os.getpid())
        lock.release()
        monkeypatch.setattr(statelock, "has_left", lambda *_: True)
        monkeypatch.setattr(statelock, "signal_stranger", lambda *_: None)
        following = self.held_by(path)
        following.outlast_former(log)
        following.release()
        assert log == [f"waiting for the former pump (pid {os.getpid()}) to leave"]

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
        monkeypatch.setattr(statelock, "signal_stranger", lambda *_: None)
        lock = self.left_behind(path, f"pump {os.getpid()} {wire.start_ticks(os.getpid())}")
        lock.outlast_former(log)
        lock.release()
        assert log == [f"waiting for the former pump (pid {os.getpid()}) to leave"]

    def test_only_a_pump_has_to_be_asked(self, path, log, monkeypatch) -> None:
        asked: list[signal.Signals] = []
        monkeypatch.setattr(statelock, "has_left", lambda *_: True)
        monkeypatch.setattr(statelock, "signal_stranger", lambda pid, start_ticks, number: asked.append(number))
        ours = f"{os.getpid()} {wire.start_ticks(os.getpid())}"
        lock = self.left_behind(path, f"controller {ours}", f"pump {ours}")
        lock.outlast_former(log)
        lock.release()
        assert asked == [signal.SIGTERM]

    def test_who_cannot_be_killed_keeps_the_next_keeper_out(self, path, log, monkeypatch) -> None:
        monkeypatch.setattr(statelock, "FORMER_SECONDS", 0.0)
        monkeypatch.setattr(statelock, "signal_stranger", lambda *_: None)
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
        statelock.signal_stranger(os.getpid(), wire.start_ticks(os.getpid()) + 1, signal.SIGKILL)
        statelock.signal_stranger(2**22 + 1, 7, signal.SIGKILL)


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
