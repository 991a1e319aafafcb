"""Clients that mean no good, or know no better: none of them keeps others from being served, or eats our memory."""

import json
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from support.daemon import Daemon, daemon_in, eventually
from support.soaking import pss_bytes

MEMORY_BYTES = 48 << 20  # more than before: something piles up
QUICK_SECONDS = 3.0
CROWD = 150  # of them at a time
SLEEPS = ("/bin/sleep", "1000")


class Crowd:
    """Sockets that are connected to the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._path = str(daemon.state / "run/reconciler.sock")
        self.sockets: list[socket.socket] = []

    def connect(self, *sent: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(QUICK_SECONDS)
        self.sockets.append(sock)
        sock.connect(self._path)
        for each in sent:
            try:
                sock.sendall(each)
            except (TimeoutError, BrokenPipeError, ConnectionResetError):
                break  # it takes no more of this
        return sock

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all of them: it has to bear what comes, one after the other."""
    with daemon_in(tmp_path_factory.mktemp("house")) as house:
        house.declare("web", *SLEEPS, min_ready="0s")
        house.declare("mail", *house.worker("once"), run_once=True)
        house.start()
        house.until_running("web", 1)
        yield house


@pytest.fixture
def crowd(daemon: Daemon) -> Iterator[Crowd]:
    crowd = Crowd(daemon)
    yield crowd
    crowd.close()


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(sock: socket.socket) -> bytes:
    """All that it says until it hangs up."""
    found = b""
    while part := sock.recv(1 << 16):
        found += part
    return found


def all_is_well(daemon: Daemon, memory: int) -> None:
    """Others are answered at once, work goes on, and memory is as before."""
    began = time.monotonic()
    assert daemon.client.program("web")["status"]["runningReplicas"] == 1
    assert time.monotonic() - began < QUICK_SECONDS
    daemon.until_written(6)
    assert pss_bytes(daemon.controller) - memory < MEMORY_BYTES
    assert "Traceback" not in daemon.output()


BODY = json.dumps({"manifests": "x" * 1000}).encode()
SLOW = {
    "nothing is said": b"",
    "half a request line": b"GET /v1/sta",
    "headers that do not end": b"GET /v1/status HTTP/1.1\r\nHost: x\r\n",
    "a body that does not come": request(
        "POST", "/v1/apply", "Content-Type: application/json", "Content-Length: 999999"
    ),
    "half a body": request("POST", "/v1/apply", "Content-Length: 999999") + BODY,
    "a chunk that does not end": request("POST", "/v1/apply", "Transfer-Encoding: chunked") + b"ffff\r\nabc",
}


@pytest.mark.parametrize("how", SLOW)
def test_who_does_not_finish_what_he_says_keeps_nobody_waiting(daemon: Daemon, crowd: Crowd, how: str) -> None:
    memory, controller = pss_bytes(daemon.controller), daemon.controller
    for _ in range(CROWD):
        crowd.connect(SLOW[how])
    all_is_well(daemon, memory)
    assert daemon.controller == controller


ANSWERS = (b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/0.9 ")  # the last one to who asks that way, and stays to hear it
GARBAGE = {
    "binary": os.urandom(4096),
    "a TLS hello": bytes.fromhex("160301020001000001fc0303") + os.urandom(500),
    "a line without end": b"GET /" + b"a" * (1 << 20),
    "a header without end": b"GET / HTTP/1.1\r\nX: " + b"a" * (1 << 20),
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
    "a negative length": b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": request("POST", "/v1/apply", "Content-Length: 5", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n",
    "a chunk of any size": request("POST", "/v1/apply", "Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n",
    "an endless body": request("POST", "/v1/apply", "Content-Length: 99999999999999") + b"x" * (24 << 20),
    "endless chunks": request("POST", "/v1/apply", "Transfer-Encoding: chunked")
    + b"10000\r\n"
    + b"x" * 65536
    + b"\r\n",
    "deep JSON": request("POST", "/v1/apply", "Content-Type: application/json", body=b"[" * 1_000_000),
    "an old version": b"GET /v1/status HTTP/0.9\r\n\r\n",
    "no HTTP": b"QUIT\r\nQUIT\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_rubbish_is_refused_or_hung_up_on(daemon: Daemon, crowd: Crowd, what: str) -> None:
    memory, controller = pss_bytes(daemon.controller), daemon.controller
    for _ in range(10):
        sock = crowd.connect(GARBAGE[what])
        try:
            sock.shutdown(socket.SHUT_WR)
            said = answer(sock)  # not even a time-out: nobody waits for more
        except (ConnectionResetError, BrokenPipeError):
            continue
        assert said == b"" or said.startswith(ANSWERS), said[:100]
    all_is_well(daemon, memory)
    assert daemon.controller == controller


@pytest.mark.parametrize("path", ["/v1/version", "/v1/programs?watch=true"])
def test_who_closes_his_side_has_left_and_is_let_go(daemon: Daemon, crowd: Crowd, path: str) -> None:
    before = daemon.client.daemon()["openFiles"]
    for _ in range(CROWD):
        crowd.connect(request("GET", path)).shutdown(socket.SHUT_WR)
    eventually(lambda: daemon.client.daemon()["openFiles"] < before + 20, "they are let go, though they hold on")


def test_requests_in_a_row_are_answered_in_their_order_and_none_waits_for_its_reader(
    daemon: Daemon, crowd: Crowd
) -> None:
    names = ["web", "nobody", "web"]
    sock = crowd.connect(b"".join(request("GET", f"/v1/programs/{name}") for name in names))
    sock.sendall(request("GET", "/v1/version", "Connection: close"))
    said = answer(sock)
    assert [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200", b"200"]
    memory = pss_bytes(daemon.controller)
    for _ in range(20):
        crowd.connect(request("GET", "/v1/status") * 5000)  # and nothing is read
    all_is_well(daemon, memory)


@pytest.mark.parametrize(
    "path", ["/v1/programs?watch=true", "/v1/events?watch=true", "/v1/programs/mail/logs?follow=true"]
)
def test_streams_that_nobody_reads_cost_little_and_end(daemon: Daemon, crowd: Crowd, path: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    daemon.declare("busy", "/bin/echo", "a line that is long enough to fill a buffer " * 20, run_once=True, replicas=4)
    memory = pss_bytes(daemon.controller)
    for _ in range(1000):
        crowd.connect(request("GET", path))
    daemon.client.daemon()  # behind all of them
    all_is_well(daemon, memory)
    crowd.close()
    eventually(lambda: daemon.client.daemon()["openFiles"] < 100, "they are let go")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
