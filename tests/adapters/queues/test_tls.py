"""Queues behind TLS: a certificate must be known and be the host's, unless one says otherwise."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from support.certificates import HOST, certify
from support.queue_rigs import failure, read
from support.servers import Mariadb, Postgresql, Redis, free_port

pytestmark = pytest.mark.debian("openssl")


class TlsRedis(Redis):
    """Plain on its port, as tests ask it, and encrypted on another."""

    kind = "redis"

    def prepare(self) -> None:
        self.known = certify(self.folder)
        self.tls_port = free_port()

    def command(self) -> list[str]:
        files = ("--tls-cert-file", str(self.known.certificate), "--tls-key-file", str(self.known.key))
        trusts = ("--tls-ca-cert-file", str(self.known.certificate), "--tls-auth-clients", "no")
        return [*super().command(), "--tls-port", str(self.tls_port), *files, *trusts]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        who = {"url": f"rediss://{host}:{self.tls_port}/0", "username": "guarded", "password": self.password}
        trust = {"caFile": str(self.known.certificate)} if known else {"verifyTls": False} if careless else {}
        return {**who, **trust, "key": "q"}


class TlsMariadb(Mariadb):
    """Either, on one port."""

    kind = "mysql"

    def prepare(self) -> None:
        super().prepare()
        self.known = certify(self.folder)

    def command(self) -> list[str]:
        return [*super().command(), f"--ssl-cert={self.known.certificate}", f"--ssl-key={self.known.key}"]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        who = {"url": self.url.replace("127.0.0.1", host), "password": self.password, "query": SECRETLY, "tls": True}
        trust = {"caFile": str(self.known.certificate)} if known else {"verifyTls": False} if careless else {}
        return {**who, **trust}


SECRETLY = (
    "SELECT if(variable_value = '', 'not encrypted', 0) FROM information_schema.session_status "
    "WHERE variable_name = 'ssl_cipher'"
)


class TlsPostgresql(Postgresql):
    """Either, on one port. What is trusted stands in the URL, in the words of PostgreSQL's own clients."""

    kind = "postgresql"

    def prepare(self) -> None:
        super().prepare()
        self.known = certify(self.folder)
        if os.geteuid() == 0:
            shutil.chown(self.known.key, self.user)
        self.known.certificate.chmod(0o644)

    def command(self) -> list[str]:
        files = (f"ssl_cert_file={self.known.certificate}", f"ssl_key_file={self.known.key}")
        return [*super().command(), *(word for each in ("ssl=on", *files) for word in ("-c", each))]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        trust = "require" if careless else "verify-full"
        root = f"&sslrootcert={self.known.certificate}" if known else "&sslrootcert=system"
        url = f"{self.url.replace('127.0.0.1', host)}?sslmode={trust}{'' if careless else root}"
        query = "SELECT CASE WHEN ssl THEN '0' ELSE 'not encrypted' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return {"url": url, "password": self.password, "query": query}


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
