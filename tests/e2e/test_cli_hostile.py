"""No controller, a closed door, half answers, garbage, silence: each ends in time, with its code and useful words."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reconciler.client import ApiFailure, Client, NoController, TimedOut, socket_paths
from support.calling import Call
from support.fake_controller import FakeController, fake_controller, program

OK = b"HTTP/1.1 200 OK\r\n"
NOBODY = 65534


@contextmanager
def talking(path: Path, *turns: Callable[[socket.socket], None], backlog: int = 8) -> Iterator[socket.socket]:
    """A listener that treats each connection in its own way, the last way for all that follow."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        left = list(turns)

        def serve() -> None:
            while left:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    turn = left.pop(0) if len(left) > 1 else left[0]
                    try:
                        turn(connection)
                    except OSError:
                        pass  # the client has hung up

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            thread.join()


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def answer(body: bytes) -> Callable[[socket.socket], None]:
    def turn(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return turn


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder that anybody may enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="rc-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class TestNobodyThere:
    def test_it_says_where_it_looked_and_what_to_do(self, call: Call, tmp_path: Path) -> None:
        code, out, err = call("--state-dir", tmp_path, "get")
        assert (code, out) == (5, "")
        assert err == (
            "error: no controller is running; looked for it at\n"
            f"  {tmp_path}/run/reconciler.sock: no such file\n"
            "start one with `reconciler run -f DIR` (or try one out with `reconciler up -f DIR`), or name its socket "
            "with --socket\n"
        )

    def test_a_socket_that_was_left_behind_is_told_from_none(self, call: Call, short: Path) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as left_behind:
            left_behind.bind(str(short / "s"))
        code, _, err = call("--socket", short / "s", "status")
        assert code == 5
        assert f"{short}/s: nobody listens (left behind by a keeper that is gone)" in err

    @pytest.mark.parametrize(
        "verb", [["apply", "-f", "-"], ["delete", "web"], ["scale", "web", "--replicas=1"], ["events"]]
    )
    def test_every_verb_ends_with_5(self, tmp_path: Path, verb: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "--state-dir", str(tmp_path), *verb],
            input=b"",
            capture_output=True,
            check=False,
        )
        assert done.returncode in (1, 5)  # an empty stdin is refused before
        assert b"Traceback" not in done.stderr

    def test_what_was_named_is_the_only_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert socket_paths("/a.sock", "/b") == ["/a.sock"]
        assert socket_paths(None, "/b") == ["/b/run/reconciler.sock"]
        monkeypatch.setenv("RECONCILER_STATE_DIR", "/c")
        assert socket_paths() == ["/c/run/reconciler.sock"]
        monkeypatch.setenv("RECONCILER_SOCKET", "/d.sock")
        assert socket_paths() == ["/d.sock"]
        assert socket_paths(None, "/b") == ["/b/run/reconciler.sock"]

    def test_otherwise_the_own_state_directory_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", "/home/ann/state")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        own = "/home/ann/state/reconciler/run/reconciler.sock"
        assert socket_paths() == [own, "/run/reconciler/reconciler.sock"]
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert socket_paths() == ["/var/lib/reconciler/run/reconciler.sock", "/run/reconciler/reconciler.sock", own]
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        monkeypatch.setenv("HOME", "/home/ann")
        assert socket_paths()[2] == "/home/ann/.local/state/reconciler/run/reconciler.sock"

    def test_the_second_place_is_asked_when_the_first_is_empty(self, short: Path) -> None:
        with talking(short / "s", answer(b'{"version": "x"}')):
            assert Client([str(short / "none"), str(short / "s")]).version() == {"version": "x"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
class TestAClosedDoor:
    def ask(self, path: Path) -> "subprocess.CompletedProcess[str]":
        # The clone may lie where nobody may read: what is needed is imported first, by a call that goes nowhere.
        script = (
            "import contextlib, os, sys\n"
            "from reconciler.cli.main import run\n"
            "with open(os.devnull, 'w') as null, contextlib.redirect_stderr(null):\n"
            "    run(['--socket', '/nowhere', 'get'])\n"
            f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "sys.exit(run(['--socket', sys.argv[1], 'get']))\n"
        )
        return subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
        )

    def test_it_names_the_socket_its_mode_and_who_you_are(self, short: Path) -> None:
        with talking(short / "s", hang_up):
            (short / "s").chmod(0o600)
            done = self.ask(short / "s")
        assert done.returncode == 7
        assert done.stderr == (
            f"error: permission denied at {short}/s (mode 0600, owner root:root): "
            "you are nobody (uid 65534, groups nogroup)\n"
        )

    def test_a_folder_on_the_way_is_named(self, short: Path) -> None:
        (short / "run").mkdir(mode=0o700)
        with talking(short / "run" / "s", hang_up):
            done = self.ask(short / "run" / "s")
        assert done.returncode == 7
        assert f"permission denied at {short}/run (mode 0700, owner root:root)" in done.stderr


class TestBadAnswers:
    @pytest.mark.parametrize(
        "raw",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x00\xff" * 4000,
            b"HTTP/1.1 abc\r\n\r\n",
            OK + b"no colon\r\n\r\n",
            OK + b"Content-Length: many\r\n\r\n",
            OK + b"Content-Length: 5\r\n\r\nhello",
            OK + b"Content-Length: 2\r\n\r\n[]",
            OK + b"Content-Length: 0\r\n\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            OK + b"X: y\r\n" * 200 + b"\r\n",
            OK + b"X: " + b"y" * 100_000,
            b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\n{\"error\": 5}",
            b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
        ],
    )  # fmt: skip
    def test_garbage_is_called_so_and_ends_with_1(self, fake: FakeController, call: Call, raw: bytes) -> None:
        fake.raw = raw
        code, out, err = call("get")
        assert (code, out) == (1, "")
        assert "the controller's answer cannot be read" in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"HTTP/1.1 20",
            OK,
            OK + b"Content-Length: 100\r\n\r\n{",
            OK + b"Transfer-Encoding: chunked\r\n\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ],
    )
    def test_half_an_answer_is_never_taken_for_a_whole_one(self, fake: FakeController, call: Call, raw: bytes) -> None:
        fake.raw = raw
        code, out, err = call("scale", "web", "--replicas", 2)
        assert (code, out) == (1, "")
        assert "went away in the middle of its answer" in err
        assert len(fake.requests) == 1, "what changes something is not asked twice"

    def test_an_exit_code_out_of_range_is_not_believed(self, fake: FakeController, call: Call) -> None:
        fake.refuses("GET", "/v1/programs", 500, 99, "Oops", "number 17 in the log")
        assert call("get") == (1, "", "error: number 17 in the log\n")

    def test_a_refusal_for_want_of_rights_ends_with_7(self, fake: FakeController, call: Call) -> None:
        fake.refuses("POST", "/v1/programs/web/stop", 403, 7, "Forbidden", "permission denied: you are bob")
        assert call("stop", "web") == (7, "", "error: permission denied: you are bob\n")

    def test_an_answer_may_also_end_with_the_connection_and_have_trailers(self, fake: FakeController) -> None:
        client = Client([str(fake.path)])
        fake.raw = b'HTTP/1.0 200 OK\r\n\r\n{"version": "1"}'
        assert client.version() == {"version": "1"}
        fake.raw = OK + b'Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\n{"a":\r\n4\r\n "b"\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n'
        assert client.version() == {"a": "b"}

    def test_a_line_of_a_stream_that_is_no_object_ends_it(self, fake: FakeController) -> None:
        fake.raw = OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\n{}\n[\r\n1\r\n]\r\n1\r\n\n\r\n0\r\n\r\n"
        stream = Client([str(fake.path)]).watch_events()
        assert next(stream) == {}
        with pytest.raises(ApiFailure, match="cannot be read"):
            next(stream)

    def test_a_stream_that_breaks_off_just_ends(self, fake: FakeController) -> None:
        fake.raw = OK + b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"a": 1}\n\r\n5\r\n{"b"'
        assert list(Client([str(fake.path)]).watch_events()) == [{"a": 1}]


class TestSilence:
    def test_a_controller_that_hangs_is_given_up_in_time(self, fake: FakeController, call: Call) -> None:
        fake.hangs = True
        assert call("--request-timeout", "200ms", "get") == (
            4,
            "",
            "error: the controller did not answer within 0.2s; it may be starting or hang: look at its log, or ask "
            "again\n",
        )

    def test_one_that_drips_is_too(self, short: Path) -> None:
        def drip(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(OK + b"Content-Length: 100000\r\n\r\n")
            while True:
                connection.sendall(b" ")

        with talking(short / "s", drip), pytest.raises((TimedOut, ApiFailure)):
            Client([str(short / "s")], timeout_seconds=0.2).status()

    def test_a_full_backlog_is_waited_for_and_given_up_in_time(self, short: Path) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(short / "s"))
            listener.listen(0)
            with closing(socket.socket(socket.AF_UNIX)) as first:
                first.connect(str(short / "s"))
                with pytest.raises(TimedOut):
                    Client([str(short / "s")], timeout_seconds=0.2).status()

    def test_a_request_waits_in_the_backlog_until_the_next_controller_takes_it(self, short: Path) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as listener:  # the keeper's, while no controller accepts
            listener.bind(str(short / "s"))
            listener.listen(8)
            found: list[object] = []
            asking = threading.Thread(target=lambda: found.append(Client([str(short / "s")]).version()))
            asking.start()
            connection, _ = listener.accept()
            with connection:
                answer(b'{"version": "2"}')(connection)
            asking.join(30)
        assert found == [{"version": "2"}]

    def test_a_question_that_a_dying_controller_cut_off_is_asked_again(self, short: Path) -> None:
        with talking(short / "s", hang_up, hang_up, answer(b'{"version": "2"}')):
            assert Client([str(short / "s")]).version() == {"version": "2"}

    def test_but_not_for_ever(self, short: Path) -> None:
        with talking(short / "s", hang_up), pytest.raises(ApiFailure, match="went away"):
            Client([str(short / "s")]).version()

    def test_a_watch_without_news_tells_that_it_is_idle_and_ends_when_it_shall(self, fake: FakeController) -> None:
        fake.stays = True
        client = Client([str(fake.path)])
        assert next(client.watch_events(idle_seconds=0.01)) == {}
        with pytest.raises(TimedOut):
            list(client.watch_events(until=0.0))


class TestPaths:
    def test_a_socket_whose_path_is_too_long_for_an_address_is_reached(self, call: Call, tmp_path: Path) -> None:
        path = tmp_path.joinpath(*["folder-with-a-long-name"] * 6, "reconciler.sock")
        with fake_controller(path) as fake:
            fake.programs = {"web": program("web")}
            assert call("--socket", path, "get", "-o", "name") == (0, "program/web\n", "")

    def test_a_name_that_is_too_long_for_any_address_is_an_answer(self, call: Call, tmp_path: Path) -> None:
        code, _, err = call("--socket", tmp_path / ("x" * 120), "get")
        assert (code, "the name of the socket is too long" in err) == (5, True)

    def test_a_name_cannot_leave_its_place_in_the_url(self, fake: FakeController) -> None:
        with pytest.raises(ApiFailure):
            Client([str(fake.path)]).program("../status?x=1#ü")
        assert fake.requests[-1].path == "/v1/programs/..%2Fstatus%3Fx%3D1%23%C3%BC"

    def test_errors_are_of_one_family(self) -> None:
        assert NoController([("/x", "y")]).tried == (("/x", "y"),)
        assert [kind.exit_code for kind in (NoController, TimedOut)] == [5, 4]
