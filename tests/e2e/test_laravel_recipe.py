"""The recipe of docs/laravel.md: its manifests on a real application, and a rollout as its users do them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.core.activity import last_activity
from support.daemon import Daemon, eventually
from support.laravel import PACKAGES, SERVERS, Application, application

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples" / "laravel"

pytestmark = [pytest.mark.debian(*PACKAGES, *SERVERS), pytest.mark.timeout(150)]


@pytest.fixture
def shop(daemon: Daemon) -> Iterator[Application]:
    settings = {"LONG_SECONDS": 0.2, "CACHE_PATH": daemon.folder / "cache"}
    with application(daemon.folder, "redis", ledger=daemon.ledger_path, ended=daemon.end, **settings) as app:
        yield app


def current(daemon: Daemon, release: Path) -> Path:
    """The link to the release that is in use, put in place as one does it: at once."""
    link = daemon.folder / "current"
    aside = daemon.folder / "current.new"
    aside.symlink_to(release)
    aside.replace(link)
    return link


def declare_examples(daemon: Daemon, working_dir: Path) -> None:
    """The manifests of the documentation; only folder and user are others, and the windows shorter."""
    for path in sorted(EXAMPLES.glob("*.yaml")):
        documents: list[dict[str, Any]] = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            spec = document["spec"]
            if document["kind"] == "Program":
                spec |= {"workingDir": str(working_dir), "user": "root"}
            else:
                spec |= {"cooldownPeriod": "500ms", "behavior": {"scaleDown": {"stabilizationWindow": "500ms"}}}
        daemon.write(path.name, yaml.safe_dump_all(documents))


def test_the_examples_are_valid_and_draw_no_warning(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "reconciler", "validate", "-f", str(EXAMPLES)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "warning" not in told.stdout + told.stderr
    assert told.stdout.count(" valid\n") == 5


def test_the_examples_work(daemon: Daemon, shop: Application) -> None:
    declare_examples(daemon, current(daemon, shop.folder))
    daemon.start()
    daemon.until_available("schedule")
    shop.dispatch("Long", 40, queue="mails")
    shop.dispatch("Long", 6, first=40, queue="reports")
    shop.until("done", 46, within=60)
    for name in ("mails", "reports"):
        daemon.until_at_rest(name)
    assert sorted(shop.numbers("done").elements()) == list(range(46))
    daemon.until_well()


def test_a_rollout_by_a_link_cuts_nothing_and_loses_nothing(daemon: Daemon, shop: Application) -> None:
    shop.add_env(LONG_SECONDS=1)
    link = current(daemon, shop.folder)
    shop.declare(daemon, "mails", "queue:work", "--sleep=0.2", replicas=3, termination_grace_period="20s")
    path = daemon.manifests / "mails.yaml"
    path.write_text(path.read_text().replace(str(shop.folder), str(link)))
    daemon.start()
    daemon.until_running("mails", 3)
    shop.dispatch("Long", 12)
    shop.until("begin", 3, within=30)

    release = shutil.copytree(shop.folder, daemon.folder / "release-2", symlinks=True)
    old = set(daemon.pids("mails").values())
    current(daemon, release)
    eventually(lambda: not old & set(daemon.pids("mails").values()) and len(daemon.pids("mails")) == 3, "all are new")
    for pid in daemon.pids("mails").values():
        assert Path(f"/proc/{pid}/cwd").resolve() == release
    shop.until("done", 12, within=60)
    shop.assert_each_once(12)
    assert daemon.events("mails", "Killing") == []


def test_the_log_tells_who_is_in_a_piece_of_work(daemon: Daemon, shop: Application) -> None:
    shop.add_env(LONG_SECONDS=2)
    shop.declare(daemon, "mails", "queue:work", "--sleep=0.2", termination_grace_period="20s")
    daemon.start()

    def said() -> bool | None:
        told = last_activity(reversed(daemon.log("mails").decode().splitlines()))
        return told and told.working

    daemon.until_running("mails", 1)
    assert said() is None
    shop.dispatch("Long", 1)
    shop.until("begin", 1, within=30)
    assert eventually(said) is True
    shop.until("done", 1, within=30)
    eventually(lambda: said() is False)
