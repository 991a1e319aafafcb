"""The example manifests do what the README says, to the last mail."""

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from support.daemon import Daemon, eventually

EXAMPLES = Path(__file__).parents[2] / "manifests"


@pytest.fixture
def demo(daemon: Daemon) -> Daemon:
    """A copy of the examples, with an empty queue."""
    shutil.copytree(EXAMPLES, daemon.manifests, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sqlite*"))
    return daemon.start()


def ordered(daemon: Daemon) -> int:
    return sum(int(size) for size in re.findall(rb"burst \d+: (\d+) orders", daemon.log("arrivals")))


def sent(daemon: Daemon) -> int:
    return sum(daemon.log("send-mail", ordinal).count(b"sent mail ") for ordinal in range(6))


def waiting(daemon: Daemon) -> int:
    queue = sqlite3.connect(daemon.manifests / "mail/queue.sqlite", timeout=30)
    try:
        return int(queue.execute("SELECT count(*) FROM mails").fetchone()[0])
    finally:
        queue.close()


def senders(daemon: Daemon) -> int:
    return int(daemon.status("send-mail").get("runningReplicas") or 0)


def test_the_count_of_senders_rises_and_falls_with_the_mails_that_wait(demo: Daemon) -> None:
    eventually(lambda: senders(demo) >= 3, "a burst is answered by several senders")
    demo.cli("stop", "arrivals")
    eventually(lambda: waiting(demo) == 0 and senders(demo) == 0, "and none is left when all is sent")
    told = demo.cli("get", "qb", "mails").out.split()
    assert told[-1] == "Idle"


def test_every_mail_is_sent_once_however_often_its_senders_are_started(demo: Daemon) -> None:
    demo.until_running("arrivals", 1)
    demo.until_printed("arrivals", 1)
    demo.until_printed("arrivals", 1)
    demo.cli("stop", "arrivals")  # it sleeps between two bursts: nothing is cut in two
    demo.until_at_rest("arrivals")
    eventually(lambda: waiting(demo) == 0, "the queue is empty")
    eventually(lambda: sent(demo) == ordered(demo), "each mail was sent")
    eventually(lambda: senders(demo) == 0, "nothing is left to do")
    status = demo.status("send-mail")
    assert sum(row["restarts"] for row in status["processes"]) == 0
    assert sum(row["runs"] for row in status["processes"]) >= ordered(demo)
    demo.until_well()


def test_a_change_of_the_count_and_a_shutdown_lose_no_mail(demo: Daemon) -> None:
    eventually(lambda: ordered(demo) > 0 and sent(demo) > 0, "mails are sent")
    path = demo.manifests / "mails.yaml"
    demo.write("mails.yaml", path.read_text().replace("maxReplicaCount: 6", "maxReplicaCount: 2"))
    eventually(lambda: demo.client.queuebinding("mails")["spec"]["maxReplicaCount"] == 2)
    eventually(lambda: senders(demo) <= 2)
    before = ordered(demo)
    eventually(lambda: ordered(demo) > before, "more orders arrive")
    demo.cli("shutdown")
    assert demo.wait() == 0
    assert ordered(demo) == sent(demo) + waiting(demo)


def test_the_examples_are_valid_and_raise_no_warning_but_about_root(daemon: Daemon) -> None:
    told = daemon.cli("validate", "-f", EXAMPLES)
    assert "error" not in told.err
    assert all("root" in line for line in told.err.splitlines() if "warning" in line)
