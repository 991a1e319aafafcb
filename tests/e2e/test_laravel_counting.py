"""What the `laravel` trigger counts is what the application itself sees, on all its connections."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueReader
from support.daemon import eventually
from support.laravel import CONNECTIONS, PACKAGES, SERVERS, Application, application, reader

pytestmark = [pytest.mark.debian(*PACKAGES, *SERVERS), pytest.mark.timeout(120)]

SERVED = ("redis", "beanstalkd")


@pytest.fixture(params=CONNECTIONS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """The application, on each of the queue connections. Pieces of work are given back after 100 s."""
    with application(tmp_path, request.param, QUEUE_RETRY_AFTER=100) as app:
        yield app


@pytest.fixture
def sqlite_shop(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path, "database") as app:
        yield app


@pytest.fixture
def redis_shop(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path, "redis") as app:
        yield app


class Counting:
    """A reader that is closed at the end."""

    def __init__(self) -> None:
        self._readers: list[QueueReader] = []

    def reader(self, app: Application, environment: dict[str, str] | None = None, **metadata: Any) -> QueueReader:
        self._readers.append(reader(app.folder, environment, **metadata))
        return self._readers[-1]

    def __call__(self, app: Application, environment: dict[str, str] | None = None, **metadata: Any) -> QueueReading:
        """One look by a new reader."""
        return self.reader(app, environment, **metadata).read()

    def refused(self, app: Application, environment: dict[str, str] | None = None, **metadata: Any) -> QueueReadFailed:
        with pytest.raises(QueueReadFailed) as failed:
            self(app, environment, **metadata)
        return failed.value

    def close(self) -> None:
        for each in self._readers:
            each.close()


@pytest.fixture
def count() -> Iterator[Counting]:
    counting = Counting()
    yield counting
    counting.close()


def states(reading: QueueReading) -> tuple[float, float | None, float | None]:
    return reading.waiting, reading.reserved, reading.delayed


def later(app: Application, seconds: int) -> None:
    """Let what was taken have been taken so much earlier."""
    with sqlite3.connect(app.folder / "database" / "database.sqlite") as database:
        database.execute("UPDATE jobs SET reserved_at = reserved_at - ? WHERE reserved_at IS NOT NULL", (seconds,))
    database.close()


class TestStates:
    def test_nothing(self, shop: Application, count: Counting) -> None:
        reading = count(shop)
        assert states(reading) == (0, 0, 0)
        assert (reading.oldest_seconds, reading.next_due_seconds) == (None, None)

    def test_pending_delayed_and_reserved(self, shop: Application, count: Counting) -> None:
        shop.dispatch("Quick", 7)
        shop.dispatch("Quick", 2, delay=600)
        with shop.holding(3):
            reading = count(shop)
            assert states(reading) == (4, 3, 2)
            assert shop.size() == (4 if shop.connection == "beanstalkd" else 9)
            assert reading.next_due_seconds == pytest.approx(600, abs=30)
            assert shop.may_take() == 4

    def test_what_is_due_while_nobody_takes_anything(self, shop: Application, count: Counting) -> None:
        shop.dispatch("Quick", 3, delay=1)
        looks = count.reader(shop)
        eventually(lambda: looks.read().waiting == 3, "they are due")
        assert states(looks.read()) == (3, 0, 0)
        assert shop.may_take() == 3

    def test_what_was_taken_by_a_process_that_died(self, shop: Application, count: Counting) -> None:
        """beanstalkd gives it back at once, the others after retry_after."""
        if shop.connection == "redis":
            shop.add_env(QUEUE_RETRY_AFTER=1)  # a score is written when it is taken
        shop.dispatch("Quick", 5)
        assert shop.may_take() == 5
        looks = count.reader(shop)
        if shop.connection == "database":
            assert states(looks.read()) == (0, 5, 0)
            later(shop, 99)
            assert states(looks.read())[0] in (0, 5)
            later(shop, 2)
        eventually(lambda: looks.read().waiting == 5, "they may be taken again")
        assert states(looks.read()) == (5, 0, 0)
        assert shop.may_take() == 5

    def test_other_queues_and_several(self, shop: Application, count: Counting) -> None:
        shop.dispatch("Quick", 3, queue="high")
        shop.dispatch("Quick", 2, queue="mails")
        assert count(shop).waiting == 0
        assert count(shop, queues="high").waiting == 3
        assert count(shop, queues=["high", "mails"]).waiting == 5
        assert count(shop, queues="high, mails").waiting == 5

    def test_a_queue_whose_name_has_quotes(self, sqlite_shop: Application, count: Counting) -> None:
        for queue in ("other's", 'a"b\\', "x' OR 1=1 --"):
            assert count(sqlite_shop, queues=[queue]).waiting == 0
            sqlite_shop.dispatch("Quick", 2, queue=queue)
            assert count(sqlite_shop, queues=[queue]).waiting == 2 == sqlite_shop.may_take(queue=queue)

    def test_age_of_the_oldest(self, shop: Application, count: Counting) -> None:
        """redis says nothing of it in this release of Laravel: then it is as old as we have seen it to be."""
        looks = count.reader(shop)
        shop.dispatch("Quick", 2)
        looks.read()
        reading = eventually(lambda: r if ((r := looks.read()).oldest_seconds or 0) >= 2 else None, "it grows old")
        assert reading is not None
        assert (reading.oldest_seconds or 0) < 20
        with shop.holding(2):
            assert looks.read().oldest_seconds is None

    def test_counting_changes_nothing(self, shop: Application, count: Counting) -> None:
        shop.dispatch("Quick", 20)
        shop.dispatch("Quick", 2, delay=600)
        stop = threading.Event()

        def look() -> None:
            looks = count.reader(shop)
            while not stop.is_set():
                looks.read()

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            shop.artisan("queue:work", "--stop-when-empty")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert sorted(shop.numbers("done").elements()) == list(range(20))
        assert states(count(shop)) == (0, 0, 2)


class TestSettings:
    """Where the application says it, and what wins."""

    def test_the_program_s_environment_wins_over_env(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        assert count(redis_shop).waiting == 3
        assert count(redis_shop, {"QUEUE_CONNECTION": "database"}).waiting == 0
        assert count(redis_shop, {"REDIS_PREFIX": "other_"}).waiting == 0
        assert count(redis_shop, {"QUEUE_CONNECTION": "sync"}, connection="redis").waiting == 3

    def test_the_trigger_wins_over_all(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        port = redis_shop.environment["REDIS_PORT"]
        redis_shop.add_env(REDIS_PORT=1)
        assert count.refused(redis_shop).reason == "ConnectionRefused"
        assert count(redis_shop, url=f"redis://127.0.0.1:{port}").waiting == 3
        redis_shop.add_env(REDIS_PREFIX="other_")
        assert count(redis_shop, url=f"redis://127.0.0.1:{port}", prefix="my_shop_database_").waiting == 3

    def test_a_cached_configuration_is_what_counts(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        redis_shop.artisan("config:cache")
        redis_shop.add_env(REDIS_PORT=1)
        assert count(redis_shop).waiting == 3 == redis_shop.may_take()
        redis_shop.artisan("config:clear")
        assert count.refused(redis_shop).reason == "ConnectionRefused"

    def test_settings_that_only_php_could_tell(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        path = redis_shop.folder / "config" / "queue.php"
        path.write_text(path.read_text().replace("env('REDIS_QUEUE', 'default')", "strrev('tluafed')"))
        told = str(count.refused(redis_shop))
        assert "queue.connections.redis.queue is made of a call of strrev() in line" in told
        assert str(redis_shop.folder / "config") in told
        assert count(redis_shop, queues="default").waiting == 3
        redis_shop.artisan("config:cache")
        assert count(redis_shop).waiting == 3

    def test_another_file_for_another_environment(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        (redis_shop.folder / ".env").rename(redis_shop.folder / ".env.staging")
        assert "there is no" in str(count.refused(redis_shop))
        assert count(redis_shop, {"APP_ENV": "staging"}).waiting == 3
        assert count(redis_shop, envFile=".env.staging").waiting == 3

    def test_a_changed_file_is_noticed(self, sqlite_shop: Application, count: Counting) -> None:
        sqlite_shop.dispatch("Quick", 3)
        looks = count.reader(sqlite_shop)
        assert looks.read().waiting == 3
        sqlite_shop.add_env(QUEUE_TABLE="other_jobs")
        failure = eventually(lambda: failure_of(looks.read), "it looks elsewhere")
        assert failure is not None
        assert (failure.reason, "other_jobs" in str(failure)) == ("NotFound", True)
        sqlite_shop.add_env(QUEUE_TABLE="jobs")
        eventually(lambda: failure_of(looks.read) is None, "it is back")

    def test_another_release_behind_a_link_is_noticed(
        self, sqlite_shop: Application, count: Counting, tmp_path: Path
    ) -> None:
        current = tmp_path / "current"
        current.symlink_to(sqlite_shop.folder)
        other = Application(tmp_path / "next", tmp_path / "ledger", {**sqlite_shop.environment, "APP_NAME": "Next"})
        other.dispatch("Quick", 5)
        sqlite_shop.dispatch("Quick", 3)
        looks = reader(current)
        assert looks.read().waiting == 3
        aside = tmp_path / "current.new"
        aside.symlink_to(other.folder)
        aside.replace(current)
        eventually(lambda: looks.read().waiting == 5, "the new release's queue is counted")
        looks.close()

    def test_the_prefix_that_is_meant(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.dispatch("Quick", 3)
        found = count(redis_shop, prefix="laravel_database_").found
        assert "did you mean 'my_shop_database_'?" in found
        assert "did you mean" not in count(redis_shop).found

    def test_waiting_for_the_first_piece(self, redis_shop: Application, count: Counting) -> None:
        looks = count.reader(redis_shop)
        assert looks.read().waiting == 0
        assert looks.can_wait
        came: list[bool] = []
        thread = threading.Thread(target=lambda: came.append(looks.wait(30)))
        thread.start()
        redis_shop.dispatch("Quick", 1)
        thread.join(30)
        assert came == [True]
        assert looks.read().waiting == 1 == redis_shop.may_take()


def failure_of(read: Callable[[], object]) -> QueueReadFailed | None:
    try:
        read()
    except QueueReadFailed as failed:
        return failed
    return None


class TestHostile:
    def test_sync_is_refused(self, sqlite_shop: Application, count: Counting) -> None:
        sqlite_shop.add_env(QUEUE_CONNECTION="sync")
        failure = count.refused(sqlite_shop)
        assert failure.reason == "BadMetadata"
        assert f"Set QUEUE_CONNECTION (in {sqlite_shop.folder}/.env)" in str(failure)

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("DB_PASSWORD=secret words\n", ".env, line 1: a space within a value"),
            ('A=1\nDB_PASSWORD="secret\n', ".env, line 2: a double quote is never closed"),
            pytest.param("A=secret\0", "NUL byte", id="nul"),
            pytest.param("A=secret\n" + "#" * (5 << 20), "is larger than 4096 KiB", id="large"),
        ],
    )
    def test_a_broken_env(self, sqlite_shop: Application, count: Counting, content: str, told: str) -> None:
        (sqlite_shop.folder / ".env").write_text(content)
        failure = count.refused(sqlite_shop)
        assert (failure.reason, told in str(failure), "secret" in str(failure)) == ("BadMetadata", True, False)

    def test_no_env(self, sqlite_shop: Application, count: Counting) -> None:
        (sqlite_shop.folder / ".env").unlink()
        assert f"there is no {sqlite_shop.folder}/.env" in str(count.refused(sqlite_shop))
        assert count(sqlite_shop, {"QUEUE_CONNECTION": "database", "DB_CONNECTION": "sqlite"}).waiting == 0

    def test_files_that_are_none(self, sqlite_shop: Application, count: Counting) -> None:
        env = sqlite_shop.folder / ".env"
        env.unlink()
        env.mkdir()
        assert ".env is a directory" in str(count.refused(sqlite_shop))
        env.rmdir()
        env.symlink_to(env)
        assert ".env too many levels of symbolic links" in str(count.refused(sqlite_shop))

    def test_a_configuration_that_is_no_php(self, sqlite_shop: Application, count: Counting) -> None:
        (sqlite_shop.folder / "config" / "queue.php").write_text("queue: redis\n")
        assert "config/queue.php: does not begin with <?php" in str(count.refused(sqlite_shop))

    def test_no_application(self, sqlite_shop: Application, count: Counting, tmp_path: Path) -> None:
        with pytest.raises(QueueReadFailed, match="is no Laravel application"):
            reader(tmp_path).read()

    def test_no_table(self, sqlite_shop: Application, count: Counting) -> None:
        sqlite_shop.artisan("migrate:rollback", "--force")
        failure = count.refused(sqlite_shop)
        assert (failure.reason, "has the application made its tables yet?" in str(failure)) == ("NotFound", True)

    def test_no_database(self, sqlite_shop: Application, count: Counting) -> None:
        (sqlite_shop.folder / "database" / "database.sqlite").unlink()
        failure = count.refused(sqlite_shop)
        assert (failure.reason, "database.sqlite" in str(failure)) == ("NotFound", True)

    def test_a_wrong_password(self, redis_shop: Application, count: Counting) -> None:
        redis_shop.add_env(REDIS_PASSWORD="secret")
        failure = count.refused(redis_shop)
        assert (failure.reason, "secret" in str(failure)) == ("AuthenticationFailed", False)

    @pytest.mark.parametrize("shop", SERVED, indirect=True)
    def test_a_server_that_is_away_and_comes_back(self, shop: Application, count: Counting) -> None:
        assert shop.server is not None
        shop.dispatch("Quick", 3)
        looks = count.reader(shop)
        assert looks.read().waiting == 3
        shop.server.kill()
        failure = failure_of(looks.read)
        assert failure is not None
        assert failure.reason == "ConnectionRefused"
        shop.server.start()
        eventually(lambda: failure_of(looks.read) is None and looks.read().waiting == 3, "it counts again")
