"""Which files of an application are read, in which order, for whom, and when again. Without PHP."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.queues.laravel.application import Application
from reconciler.core.laravel.configuration import Configuration
from reconciler.model.launch import Credentials
from reconciler.model.queues import QueueReadFailed

CONFIG = Path(__file__).parent.parent / "e2e" / "laravel" / "config"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads for others")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of an application."""
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".env").write_text("QUEUE_CONNECTION=redis\nAPP_NAME='My Shop'\n")
    return tmp_path


def read(shop: Path, environment: dict[str, str] | None = None, **options: Any) -> Configuration:
    application = Application(str(shop), environment or {}, options.pop("reader", None), options.pop("env_file", None))
    return application.configuration(may_be_missing=options.get("may_be_missing", False))


def said(configuration: Configuration, *path: str) -> Any:
    """One value: `queue.default`."""
    value: Any = configuration._asdict()[path[0]]
    for key in path[1:]:
        value = value[key]
    return value


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(QueueReadFailed) as failed:
        read(*arguments, **options)
    assert failed.value.reason == "BadMetadata"
    return str(failed.value)


class TestOrder:
    def test_env_and_config(self, shop: Path) -> None:
        found = read(shop)
        assert said(found, "queue", "default") == "redis"
        assert said(found, "database", "redis", "options", "prefix") == "my_shop_database_"
        assert (found.source, found.environment) == (str(shop / "config"), f"in {shop}/.env")

    def test_the_environment_of_the_program_wins(self, shop: Path) -> None:
        assert said(read(shop, {"QUEUE_CONNECTION": "database"}), "queue", "default") == "database"

    def test_a_cached_configuration_is_all_that_counts(self, shop: Path) -> None:
        cached = shop / "bootstrap" / "cache" / "config.php"
        cached.parent.mkdir(parents=True)
        cached.write_text("<?php return array('queue' => array('default' => 'x'), 'database' => array());")
        found = read(shop, {"QUEUE_CONNECTION": "database"})
        assert (said(found, "queue", "default"), found.source) == ("x", str(cached))
        cached.write_text("<?php return 5;")
        assert read(shop).queue is None
        elsewhere = shop / "elsewhere.php"
        elsewhere.write_text("<?php return ['queue' => ['default' => 'y']];")
        assert said(read(shop, {"APP_CONFIG_CACHE": "elsewhere.php"}), "queue", "default") == "y"
        assert said(read(shop, {"APP_CONFIG_CACHE": str(elsewhere)}), "queue", "default") == "y"

    def test_env_of_the_environment_s_name(self, shop: Path) -> None:
        (shop / ".env.staging").write_text("QUEUE_CONNECTION=beanstalkd\n")
        assert said(read(shop, {"APP_ENV": "staging"}), "queue", "default") == "beanstalkd"
        assert said(read(shop, {"APP_ENV": "other"}), "queue", "default") == "redis"
        assert said(read(shop, env_file=".env.staging"), "queue", "default") == "beanstalkd"
        assert refusal(shop, env_file=".env.other") == f"envFile: there is no {shop}/.env.other"

    def test_config_lies_over_the_framework_s_own(self, shop: Path) -> None:
        framework = shop / "vendor" / "laravel" / "framework" / "config"
        framework.mkdir(parents=True)
        (framework / "queue.php").write_text(
            "<?php return ['default' => 'x', 'other' => 1,"
            "'connections' => ['redis' => 1, 'sqs' => ['driver' => 'sqs']]];"
        )
        found = read(shop)
        assert (said(found, "queue", "default"), said(found, "queue", "other")) == ("redis", 1)
        assert said(found, "queue", "connections", "sqs", "driver") == "sqs"
        assert said(found, "queue", "connections", "redis", "driver") == "redis"
        shutil.rmtree(shop / "config")
        assert said(read(shop), "queue", "default") == "x"
        (framework / "queue.php").write_text("<?php return foo();")
        (shop / "config").mkdir()
        (shop / "config" / "queue.php").write_text("<?php return ['default' => 'z'];")
        assert said(read(shop), "queue", "default") == "z"

    def test_what_the_framework_ships_where_there_is_no_config(self, shop: Path) -> None:
        shutil.rmtree(shop / "config")
        found = read(shop, {"REDIS_PORT": "7000"})
        assert said(found, "queue", "connections", "redis", "retry_after") == 90
        assert said(found, "database", "redis", "default", "port") == "7000"
        assert said(found, "database", "redis", "options", "prefix") == "my_shop_database_"
        assert said(found, "database", "connections", "mariadb", "driver") == "mariadb"

    def test_no_application(self, tmp_path: Path) -> None:
        assert f"{tmp_path} is no Laravel application" in refusal(tmp_path)
        assert said(read(tmp_path, {"QUEUE_CONNECTION": "redis"}, may_be_missing=True), "queue", "default") == "redis"


class TestChanges:
    def test_are_seen_in_each_file_that_was_looked_for(self, shop: Path) -> None:
        application = Application(str(shop), {"APP_ENV": "staging"}, None)
        for change in (
            lambda: (shop / ".env").write_text("QUEUE_CONNECTION=database\n"),
            lambda: (shop / ".env.staging").write_text("A=1\n"),
            (shop / "config" / "queue.php").unlink,
            lambda: shutil.copytree(CONFIG, shop / "vendor" / "laravel" / "framework" / "config"),
            (shop / ".env.staging").unlink,
            lambda: os.utime(shop / "config" / "database.php", (1, 1)),
        ):
            application.configuration(may_be_missing=False)
            assert not application.has_changed()
            change()
            assert application.has_changed(), change

    def test_are_seen_in_a_file_that_cannot_be_read(self, shop: Path) -> None:
        env = shop / ".env"
        env.unlink()
        env.symlink_to(env)
        application = Application(str(shop), {}, None)
        with pytest.raises(QueueReadFailed, match="too many levels of symbolic links"):
            application.configuration(may_be_missing=False)
        assert not application.has_changed()
        env.unlink()
        assert application.has_changed()


class TestHostile:
    def test_a_fifo_is_not_waited_for(self, shop: Path) -> None:
        (shop / ".env").unlink()
        os.mkfifo(shop / ".env")
        assert refusal(shop) == f"{shop}/.env is not a regular file"

    def test_a_file_that_is_no_php(self, shop: Path) -> None:
        (shop / "config" / "database.php").write_text("secret: words")
        assert refusal(shop) == f"{shop}/config/database.php: does not begin with <?php"

    @AS_ROOT
    def test_a_strangers_link_leads_nowhere(self, shop: Path) -> None:
        """Whoever owns the application cannot have root read for them what they may not read."""
        www = pwd.getpwnam("www-data")
        with _entered_by_all() as base:
            mine = base / "shop"
            shutil.copytree(shop, mine)
            secret = base / "secret.php"
            secret.write_text("<?php return ['default' => 'redis'];")
            secret.chmod(0o600)
            for path in (mine / ".env", mine / "config" / "database.php"):
                kept = path.read_bytes()
                path.unlink()
                path.symlink_to(secret)
                os.chown(path, www.pw_uid, www.pw_gid, follow_symlinks=False)
                told = refusal(mine, reader=Credentials(www.pw_uid, www.pw_gid, ()))
                assert f"{path} leads through a link of another user to a file that the process may not read" in told
                path.unlink()
                path.write_bytes(kept)
            assert said(read(mine, reader=Credentials(www.pw_uid, www.pw_gid, ())), "queue", "default") == "redis"


@contextmanager
def _entered_by_all() -> Iterator[Path]:
    """A folder that all users may enter; pytest's own keep others out."""
    with tempfile.TemporaryDirectory(prefix="reconciler-test-") as folder:
        path = Path(folder).resolve()
        path.chmod(0o755)
        yield path
