"""The wire: messages that survive whatever the other side does, and facts of the kernel that name a process."""

import errno
import os
import socket
import stat
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler import wire
from support.descriptors import descriptors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    ours.close()
    theirs.close()


class TestMessages:
    def test_what_is_sent_is_received_message_by_message(self, pair: Pair) -> None:
        messages = [{"type": "hold", "fifo": "/a\udcff b"}, {"type": "ack", "exits": [[1, 2]]}]
        for message in messages:
            assert wire.send(pair[0], message)
        assert list(wire.waiting(pair[1])) == messages
        assert wire.receive(pair[1]) is None

    def test_only_a_bounded_number_is_taken_at_once(self, pair: Pair) -> None:
        for n in range(5):
            wire.send(pair[0], {"type": "ping", "n": n})
        assert [message["n"] for message in wire.waiting(pair[1], at_most=3)] == [0, 1, 2]
        assert [message["n"] for message in wire.waiting(pair[1])] == [3, 4]

    def test_a_full_queue_is_an_answer_and_not_a_wait(self, pair: Pair) -> None:
        sent = 0
        while wire.send(pair[0], {"type": "x" * 1000}):
            sent += 1
        assert sent > 10
        assert len(list(wire.waiting(pair[1], at_most=10_000))) == sent
        assert wire.send(pair[0], {"type": "again"})

    def test_a_kernel_short_of_memory_is_like_a_full_queue(self) -> None:
        class Short:
            def send(self, data: bytes, flags: int) -> int:
                raise OSError(errno.ENOBUFS, "no buffers")

        assert not wire.send_bytes(Short(), b"{}")  # type: ignore[arg-type]

    def test_what_was_said_before_the_end_is_heard_before_the_end(self, pair: Pair) -> None:
        wire.send(pair[0], {"type": "last"})
        pair[0].close()
        waiting = wire.waiting(pair[1])
        assert next(waiting) == {"type": "last"}
        with pytest.raises(wire.Closed):
            next(waiting)

    def test_sending_to_nobody_says_closed_and_raises_no_signal(self, pair: Pair) -> None:
        pair[1].close()
        with pytest.raises(wire.Closed):
            wire.send(pair[0], {"type": "x"})

    def test_a_socket_that_was_closed_here_is_closed(self, pair: Pair) -> None:
        pair[0].close()
        with pytest.raises(wire.Closed):
            wire.receive(pair[0])

    def test_a_message_over_the_limit_is_refused_on_both_ends(self, pair: Pair) -> None:
        with pytest.raises(wire.WireError, match="over the limit"):
            wire.send(pair[0], {"type": "x" * wire.MESSAGE_LIMIT_BYTES})
        pair[0].send(b" " * (wire.MESSAGE_LIMIT_BYTES + 1))
        wire.send(pair[0], {"type": "next"})
        with pytest.raises(wire.WireError, match="over 65536"):
            wire.receive(pair[1])
        assert wire.receive(pair[1]) == {"type": "next"}

    def test_a_message_of_exactly_the_limit_passes(self, pair: Pair) -> None:
        message = {"type": "x" * (wire.MESSAGE_LIMIT_BYTES - len('{"type":""}'))}
        assert wire.send(pair[0], message)
        assert wire.receive(pair[1]) == message

    @given(st.binary(min_size=1))
    @example(b"[" * 100_000)
    @example(b"1" * 5000)
    @example(b'{"type": null}')
    @example(b'"type"')
    @example(b"\xff\xfe{")
    def test_whatever_bytes_come_they_are_a_message_or_a_wire_error(self, data: bytes) -> None:
        try:
            message = wire.decode(data)
        except wire.WireError:
            return
        assert isinstance(message["type"], str)

    def test_descriptors_that_somebody_slips_in_are_dropped(self, pair: Pair) -> None:
        before = descriptors()
        socket.send_fds(pair[0], [b'{"type": "gift"}'], [0, 1])
        assert wire.receive(pair[1]) == {"type": "gift"}
        assert descriptors() == before


class TestSockets:
    @pytest.mark.parametrize("depth", [0, 5])
    def test_two_sides_meet_at_a_path_of_any_length(self, tmp_path, depth: int) -> None:
        folder = tmp_path.joinpath(*["d" * 50] * depth)
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / "a.sock")
        before = descriptors()
        with wire.listen_unix(path, socket.SOCK_SEQPACKET) as listener:
            with wire.connect_unix(path, socket.SOCK_SEQPACKET) as ours, listener.accept()[0] as theirs:
                assert not ours.getblocking()
                wire.send(ours, {"type": "x"})
                assert wire.receive(theirs) == {"type": "x"}
            assert not listener.getblocking()
        assert descriptors() == before

    def test_a_left_over_is_replaced_and_the_mode_is_the_one_asked_for(self, tmp_path) -> None:
        path = str(tmp_path / "a.sock")
        wire.listen_unix(path, socket.SOCK_STREAM).close()
        umask = os.umask(0)
        try:
            with wire.listen_unix(path, socket.SOCK_STREAM, mode=0o600):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert os.umask(0) == 0
        finally:
            os.umask(umask)

    def test_what_cannot_be_bound_or_reached_is_an_os_error_and_leaks_nothing(self, tmp_path) -> None:
        before = descriptors()
        with pytest.raises(OSError, match="No such file"):
            wire.listen_unix(str(tmp_path / "none" / "a.sock"), socket.SOCK_STREAM)
        with pytest.raises(OSError, match="No such file"):
            wire.connect_unix(str(tmp_path / "a.sock"), socket.SOCK_STREAM)
        with pytest.raises(OSError, match="too long"):
            wire.connect_unix(str(tmp_path / ("a" * 150)), socket.SOCK_STREAM)
        assert descriptors() == before

    def test_a_relative_path_that_is_too_long_leads_through_the_folder_too(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        with wire.ReachablePath("a" * 108) as short:
            assert os.path.dirname(os.path.realpath(short)) == str(tmp_path)


class TestProcesses:
    def test_a_process_is_told_by_its_pid_and_start_time(self) -> None:
        found = wire.process_stat(os.getpid())
        assert found is not None
        assert found.start_ticks == wire.start_ticks(os.getpid())
        assert (found.parent, found.group, found.session) == (os.getppid(), os.getpgid(0), os.getsid(0))
        assert found.state == "R"
        assert found.rss_pages > 0
        assert found.cpu_ticks >= 0

    def test_nobody_is_nobody(self) -> None:
        assert wire.start_ticks(2**22 + 1) is None
        assert wire.process_stat(2**22 + 1) is None

    def test_a_process_that_goes_while_it_is_read_is_nobody(self, monkeypatch) -> None:
        def gone(fd: int, size: int) -> bytes:
            raise ProcessLookupError(errno.ESRCH, "No such process")

        before = descriptors()
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", gone)
            assert wire.start_ticks(os.getpid()) is None
        assert descriptors() == before

    def test_a_name_may_hold_what_it_wants(self, monkeypatch) -> None:
        numbers = b" ".join(str(number).encode() for number in range(4, 53))
        monkeypatch.setattr(wire, "_read_stat", lambda pid: b"7 (a) R (b 1 2) S " + numbers + b"\n")
        found = wire.process_stat(7)
        assert found is not None
        assert (found.state, found.parent, found.start_ticks, found.rss_pages, found.exit_status) == (
            "S",
            4,
            22,
            24,
            52,
        )
        assert found.cpu_ticks == 14 + 15
        assert wire.start_ticks(7) == 22

    def test_a_zombie_still_has_its_start_time_and_its_exit_status(self) -> None:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 9"], {})
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            found = wire.process_stat(pid)
            assert found is not None
            assert (found.state, found.exit_status) == ("Z", 9 << 8)
            assert found.start_ticks > 0
        finally:
            os.waitpid(pid, 0)

    def test_a_process_of_another_user_that_is_gone_has_no_mark(self, monkeypatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(wire.resource, "prlimit", refuse)
        assert wire.birthmark_of(2**22 + 1) is None
        assert wire.birthmark_of(os.getpid()) == 0

    def test_the_boot_has_a_name(self) -> None:
        assert len(wire.boot_id()) == 36


class TestSubreaper:
    """prctl is asked through a stand-in: the test process is to stay what it is. tests/real has the real one."""

    @pytest.mark.parametrize("answer", [0, -1])
    def test_the_kernel_is_asked_and_its_refusal_is_an_os_error(self, monkeypatch, answer: int) -> None:
        import ctypes

        asked: list[tuple[int, ...]] = []

        class Library:
            def prctl(self, *arguments: int) -> int:
                asked.append(arguments)
                ctypes.set_errno(errno.EINVAL)
                return answer

        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library())
        if answer == 0:
            wire.become_subreaper()
        else:
            with pytest.raises(OSError, match="Invalid argument"):
                wire.become_subreaper()
        assert asked == [(36, 1, 0, 0, 0)]
