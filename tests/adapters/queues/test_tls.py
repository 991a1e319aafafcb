"""Queues behind TLS: a certificate must be known and be the host's, unless one says otherwise."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.certificates import HOST
from support.queue_rigs import failure, read
from support.servers import Redis
from support.tls_servers import TlsMariadb, TlsPostgresql, TlsRedis

pytestmark = pytest.mark.debian("openssl")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(TlsRedis, id="redis", marks=pytest.mark.debian("redis-server")),
        pytest.param(TlsMariadb, id="mysql", marks=pytest.mark.debian("mariadb-server-core")),
        pytest.param(TlsPostgresql, id="postgresql", marks=pytest.mark.debian("postgresql")),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    server = request.param()
    server.start()
    yield server
    server.stop()


def test_one_that_is_known_and_the_hosts_is_good(server: Any) -> None:
    assert read(server.kind, server.asked(known=True)).waiting == 0


def test_a_file_is_looked_for_from_the_program_s_folder(server: Any) -> None:
    asked = server.asked(known=True)
    if "caFile" in asked:
        asked["caFile"] = server.known.certificate.name
    assert read(server.kind, asked, working_dir=str(server.known.certificate.parent)).waiting == 0


def test_one_that_nobody_knows_is_refused_and_it_is_told_what_to_do(server: Any) -> None:
    failed = failure(server.kind, server.asked())
    assert failed.reason == "AuthenticationFailed", str(failed)
    assert "certificate" in str(failed)
    assert ("sslrootcert" if server.kind == "postgresql" else "caFile") in str(failed)


def test_one_of_another_host_is_refused(server: Any) -> None:
    failed = failure(server.kind, server.asked(host="127.0.0.1", known=True))
    assert failed.reason == "AuthenticationFailed", str(failed)
    assert "127.0.0.1" in str(failed)


def test_who_does_not_care_is_still_encrypted(server: Any) -> None:
    assert read(server.kind, server.asked(careless=True)).waiting == 0


def test_a_controller_that_has_loaded_no_tls_yet_speaks_it_when_asked(server: Any) -> None:
    script = """
import json, sys
from reconciler.interpreter import load_quickly, loaded
load_quickly()
import reconciler.app
loaded()
assert "_ssl" not in sys.modules
from support.queue_rigs import failure, read
kind, asked, refused = json.loads(sys.argv[1])
print(read(kind, asked).waiting == 0, failure(kind, refused).reason)
"""
    asked = json.dumps([server.kind, server.asked(known=True), server.asked()])
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r}){script}", asked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["True", "AuthenticationFailed"]


@pytest.mark.debian("redis-server")
def test_a_server_that_speaks_no_tls_there_is_told() -> None:
    server = Redis()
    server.start()
    try:
        failed = failure("redis", {"url": f"rediss://{HOST}:{server.port}/0", "key": "q"})
    finally:
        server.stop()
    # It waits for the rest of a line, so nobody can tell it from a server that hangs.
    assert (failed.reason, "over TLS did not answer" in str(failed)) == ("TimedOut", True), str(failed)
