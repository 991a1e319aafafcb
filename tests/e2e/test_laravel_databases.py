"""The `laravel` trigger on the databases that are servers: PostgreSQL and MariaDB, with tables that Laravel made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.queues import QueueReadFailed
from support.daemon import eventually
from support.laravel import PACKAGES, Application, counting
from support.servers import Mariadb, Postgresql, Server

pytestmark = [
    pytest.mark.debian(*PACKAGES, "php-pgsql", "php-mysql", "postgresql", "mariadb-server-core"),
    pytest.mark.timeout(120),
]

ENGINES: dict[str, tuple[type[Postgresql] | type[Mariadb], str, str]] = {
    "pgsql": (Postgresql, "postgres", "postgres"),
    "mysql": (Mariadb, "tester", "test"),
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """A server, one for all tests."""
    server = ENGINES[request.param][0]()
    server.start()
    yield request.param, server
    server.stop()


@pytest.fixture
def shop(engine: tuple[str, Server], tmp_path: Path) -> Iterator[Application]:
    """An application with its tables, all of whose names begin with a prefix of its own."""
    name, server = engine
    kind, user, database = ENGINES[name]
    settings = {
        "QUEUE_CONNECTION": "database", "QUEUE_RETRY_AFTER": 100,
        "DB_CONNECTION": name, "DB_HOST": "127.0.0.1", "DB_PORT": server.port, "DB_DATABASE": database,
        "DB_USERNAME": user, "DB_PASSWORD": kind.password, "DB_PREFIX": "shop_",
    }  # fmt: skip
    app = Application(tmp_path / "shop", tmp_path / "ledger", settings)
    yield app
    app.artisan("migrate:reset", "--force")


def test_pending_delayed_and_reserved(shop: Application) -> None:
    with counting(shop) as reader:
        assert (reader.read().waiting, reader.read().oldest_seconds) == (0, None)
        shop.dispatch("Quick", 5)
        shop.dispatch("Quick", 2, delay=600)
        shop.dispatch("Quick", 4, queue=r"other's \ `one` \"")
        with shop.holding(2):
            reading = reader.read()
        assert (reading.waiting, reading.reserved, reading.delayed) == (3, 2, 2)
        assert reading.next_due_seconds == pytest.approx(600, abs=30)
        assert "table shop_jobs, queue default: 3 waiting, 2 reserved, 2 delayed" in reading.found
        assert shop.may_take() == 3
    with counting(shop, queues=[r"other's \ `one` \"", "default"]) as reader:
        assert (reader.read().waiting, reader.read().reserved) == (4, 5)
        assert shop.may_take(queue=r"other's \ `one` \"") == 4


def test_what_was_taken_by_a_process_that_died(shop: Application) -> None:
    shop.dispatch("Quick", 5)
    assert shop.may_take() == 5
    with counting(shop) as reader:
        assert (reader.read().waiting, reader.read().reserved) == (0, 5)
    with counting(shop, retryAfter="1s") as reader:
        eventually(lambda: reader.read().waiting == 5, "they may be taken again")
        assert reader.read().reserved == 0
        assert "5 waiting (5 taken more than 1 s ago, not finished)" in reader.read().found
    shop.add_env(QUEUE_RETRY_AFTER=1)
    with shop.holding(5) as taken:
        assert taken == 5


def test_more_than_anybody_needs_to_know(shop: Application) -> None:
    shop.dispatch("Quick", 300)
    with counting(shop, at_most=150) as reader:
        reading = reader.read()
        assert (reading.waiting, reading.at_least) == (150, True)
        assert "150 or more waiting" in reading.found


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"DB_PASSWORD": "wrong-secret"}, "AuthenticationFailed"),
        ({"DB_USERNAME": "nobody-there"}, "AuthenticationFailed"),
        ({"DB_DATABASE": "not_there"}, "NotFound"),
        ({"DB_PREFIX": "other_"}, "NotFound"),
        ({"DB_PORT": 1}, "ConnectionRefused"),
    ],
)
def test_wrong_settings(shop: Application, settings: dict[str, object], reason: str) -> None:
    before = shop.environment
    shop.add_env(**settings)
    with counting(shop) as reader, pytest.raises(QueueReadFailed) as failed:
        reader.read()
    assert failed.value.reason == reason
    assert "secret" not in str(failed.value)
    shop.write_env(before)
