"""The `laravel` trigger where the application reaches its queue over TLS: trusted is who the application trusts.

Each server takes encrypted connections only, from the application as from us.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconciler.model.queues import QueueReadFailed
from support.certificates import certify
from support.laravel import PACKAGES, Application, counting
from support.servers import Server
from support.tls_servers import TlsMariadb, TlsPostgresql, TlsRedis

pytestmark = [
    pytest.mark.debian(
        *PACKAGES, "php-pgsql", "php-mysql", "postgresql", "mariadb-server-core", "redis-server", "openssl"
    ),
    pytest.mark.timeout(120),
]

HERE = ("IP:127.0.0.1",)  # PHP takes `localhost` for a socket
SQLITE = {"DB_CONNECTION": "sqlite"}  # for the tables of an application whose queue is in redis


class StrictRedis(TlsRedis):
    """Its port for TLS is the only one that anybody is told."""

    also = HERE
    trusting: ClassVar[dict[str, str]] = {"REDIS_CAFILE": "certificate"}
    careless: ClassVar[dict[str, str]] = {"REDIS_VERIFY": "false"}

    def settings(self) -> dict[str, object]:
        place = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": self.tls_port, "REDIS_SCHEME": "tls"}
        return {"QUEUE_CONNECTION": "redis", **SQLITE, **place}


class StrictMariadb(TlsMariadb):
    """Refuses who does not encrypt."""

    also = HERE
    trusting: ClassVar[dict[str, str]] = {"MYSQL_ATTR_SSL_CA": "certificate"}
    careless: ClassVar[dict[str, str]] = {"MYSQL_ATTR_SSL_CA": "other", "MYSQL_VERIFY": "false"}

    def command(self) -> list[str]:
        return [*super().command(), "--require-secure-transport=ON"]

    def settings(self) -> dict[str, object]:
        return database("mysql", self, "tester", self.password, "test")


class StrictPostgresql(TlsPostgresql):
    """Refuses who does not encrypt."""

    also = HERE
    trusting: ClassVar[dict[str, str]] = {"DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": "certificate"}
    careless: ClassVar[dict[str, str]] = {"DB_SSLMODE": "require"}

    def prepare(self) -> None:
        super().prepare()
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("\nhost ", "\nhostssl "))

    def settings(self) -> dict[str, object]:
        return database("pgsql", self, "postgres", self.password, "postgres")


def database(kind: str, server: Server, user: str, password: str, name: str) -> dict[str, object]:
    where = {"DB_CONNECTION": kind, "DB_HOST": "127.0.0.1", "DB_PORT": server.port, "DB_DATABASE": name}
    return {"QUEUE_CONNECTION": "database", **where, "DB_USERNAME": user, "DB_PASSWORD": password, "DB_PREFIX": "t_"}


@pytest.fixture(scope="module", params=[StrictRedis, StrictMariadb, StrictPostgresql], ids=lambda kind: kind.kind)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    server = request.param()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def shop(server: Any, tmp_path: Path) -> Iterator[Application]:
    """An application that knows the server's certificate."""
    app = Application(tmp_path / "shop", tmp_path / "ledger", {**server.settings(), **trusted(server, tmp_path)})
    yield app
    app.write_env({**server.settings(), **trusted(server, tmp_path)})
    app.artisan("queue:clear", "--force")
    app.artisan("migrate:reset", "--force")


def trusted(server: Any, folder: Path, how: str = "trusting") -> dict[str, object]:
    """The lines of `.env` that say so; `other` is a certificate of somebody else."""
    files = {"certificate": server.known.certificate, "other": folder / "cert.pem"}
    if not files["other"].exists():
        certify(folder)
    return {name: files.get(value, value) for name, value in getattr(server, how).items()}


def refused(app: Application, **metadata: object) -> QueueReadFailed:
    with counting(app, **metadata) as reader, pytest.raises(QueueReadFailed) as failed:
        reader.read()
    return failed.value


def test_who_the_application_trusts_is_trusted(shop: Application, server: Any) -> None:
    shop.dispatch("Quick", 3)
    with counting(shop) as reader:
        assert reader.read().waiting == 3
    shop.artisan("config:cache")
    shop.write_env({})
    with counting(shop) as reader:
        assert reader.read().waiting == 3 == shop.may_take()
    shop.artisan("config:clear")


def test_a_file_that_is_named_from_the_application_s_folder(shop: Application, server: Any) -> None:
    (shop.folder / "certs").mkdir()
    (shop.folder / "certs" / "ca.pem").write_bytes(server.known.certificate.read_bytes())
    shop.dispatch("Quick", 2)
    shop.add_env(**{name: "certs/ca.pem" for name, value in server.trusting.items() if value == "certificate"})
    assert shop.may_take() == 2
    with counting(shop, retryAfter=1) as reader:
        reader.read()


def test_who_nobody_trusts_is_refused_by_both(shop: Application, server: Any, tmp_path: Path) -> None:
    shop.add_env(**{name: tmp_path / "cert.pem" for name, value in server.trusting.items() if value == "certificate"})
    failed = refused(shop)
    assert failed.reason == "AuthenticationFailed", str(failed)
    assert "certificate" in str(failed)
    with pytest.raises(AssertionError, match=r"artisan .* ended with"):
        shop.size()


def test_who_is_not_verified_is_encrypted_all_the_same(shop: Application, server: Any, tmp_path: Path) -> None:
    shop.dispatch("Quick", 4)
    shop.write_env({**server.settings(), **trusted(server, tmp_path, "careless")})
    with counting(shop) as reader:
        assert reader.read().waiting == 4 == shop.may_take()


def test_what_the_trigger_says_wins(shop: Application, server: Any) -> None:
    shop.dispatch("Quick", 5)
    shop.write_env({**server.settings(), "REDIS_SCHEME": "tcp"})
    known, certificate = {"tls": True}, str(server.known.certificate)
    for trust in ({"caFile": certificate}, {**known, "caFile": certificate}, {**known, "verifyTls": False}):
        with counting(shop, **trust) as reader:
            assert reader.read().waiting == 5, trust
    assert refused(shop, tls=True).reason == "AuthenticationFailed"
    if server.kind == "mysql":  # whose client encrypts where the server can, and asks nobody who that is
        with counting(shop, tls=False) as reader:
            assert reader.read().waiting == 5
    else:
        assert refused(shop, tls=False).reason != "BadMetadata"


@pytest.mark.parametrize("file", ["nowhere.pem", ".", "artisan"])
def test_a_file_that_is_none_is_told_by_name(shop: Application, file: str) -> None:
    failed = refused(shop, caFile=file)
    assert failed.reason in {"BadMetadata", "AuthenticationFailed"}, str(failed)
    assert str(shop.folder / file) in str(failed) or "sslrootcert" in str(failed)
