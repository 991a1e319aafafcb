"""Servers for the tests of this folder: started by the first test that wants one, shared by the tests of a process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.queue_rigs import SERVER_RIGS, Rig, ServerRig, SqliteRig
from support.servers import Server

RIGS = [pytest.param(rig, id=rig.kind, marks=pytest.mark.debian(rig.makes.package)) for rig in SERVER_RIGS]
ALL_RIGS = [pytest.param(SqliteRig, id="sqlite"), *RIGS]

Start = Callable[[type[Server]], Server]


@pytest.fixture(scope="session")
def shared() -> Iterator[Start]:
    """Start a server once; tests keep apart by the names of their queues, and do not end it."""
    servers: dict[type[Server], Server] = {}

    def start(kind: type[Server]) -> Server:
        if kind not in servers:
            servers[kind] = kind()
            servers[kind].start()
        return servers[kind]

    yield start
    for server in servers.values():
        server.stop()


@pytest.fixture(params=ALL_RIGS)
def rig(request: pytest.FixtureRequest, shared: Start, tmp_path: Path) -> Iterator[Rig]:
    """Each kind of queue, on a shared server."""
    made = request.param(tmp_path / "queue.db" if request.param is SqliteRig else shared(request.param.makes))
    yield made
    made.close()


@pytest.fixture(params=RIGS)
def served(request: pytest.FixtureRequest, shared: Start) -> Iterator[ServerRig]:
    """Each kind of queue that somebody serves, on a shared server."""
    made = request.param(shared(request.param.makes))
    yield made
    made.close()


@pytest.fixture
def endangered(served: ServerRig) -> Iterator[ServerRig]:
    """The same, for a test that kills it or lets it hang: afterwards it is as before."""
    yield served
    if served.server.process is None:
        served.server.start()
    served.server.resume()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A queue for this test alone."""
    return f"q{abs(hash(request.node.nodeid)) % 10**10}"
