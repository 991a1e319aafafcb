"""Fixtures over rigs: which kinds of queues a folder of tests is about is said in its conftest.py.

Servers are started by the first test that wants one, and shared by the tests of a process, which keep apart by the
names of their queues.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.http_servers import Answer, http_server
from support.queue_rigs import OverHttpRig, Rig, ServerRig
from support.servers import Server

Start = Callable[[type[Server]], Any]


@pytest.fixture(scope="session")
def shared() -> Iterator[Start]:
    """Start a server once."""
    servers: dict[type[Server], Server] = {}

    def start(kind: type[Server]) -> Server:
        if kind not in servers:
            servers[kind] = kind()
            servers[kind].start()
        return servers[kind]

    yield start
    for server in servers.values():
        server.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A queue for this test alone."""
    return f"q{abs(hash(request.node.nodeid)) % 10**12:012}"


def made(kind: Any, shared: Start, tmp_path: Path) -> Iterator[Rig]:
    """One rig, as long as a test lasts."""
    if issubclass(kind, OverHttpRig):
        with http_server(lambda asked: Answer(b"")) as server:
            yield kind(server)
        return
    rig = kind(shared(kind.makes)) if issubclass(kind, ServerRig) else kind(tmp_path)
    yield rig
    rig.close()


def rigs(kinds: Sequence[type[Rig]]) -> Any:
    """A fixture that is each of these kinds."""

    @pytest.fixture(params=[_param(kind) for kind in kinds])
    def fixture(request: pytest.FixtureRequest, shared: Start, tmp_path: Path) -> Iterator[Rig]:
        yield from made(request.param, shared, tmp_path)

    return fixture


def _param(kind: Any) -> Any:
    marks = [pytest.mark.debian(kind.makes.package)] if hasattr(kind, "makes") else []
    return pytest.param(kind, id=kind.kind, marks=marks)


def endangered_rigs(kinds: Sequence[type[ServerRig]]) -> Any:
    """The same, for a test that kills its server or lets it hang: afterwards it is as before."""

    @pytest.fixture(params=[_param(kind) for kind in kinds])
    def fixture(request: pytest.FixtureRequest, shared: Start, tmp_path: Path) -> Iterator[Rig]:
        for rig in made(request.param, shared, tmp_path):
            yield rig
            assert isinstance(rig, ServerRig)
            if rig.server.process is None:
                rig.server.start()
            rig.server.resume()

    return fixture
