"""Something that is read, or in force, kills the controller each time: what runs goes on, and there is a way out."""

import re
import signal
import sqlite3
from typing import Any

import pytest

from support.daemon import Daemon, always, eventually
from support.installed import Installed

# What a fault in an interpreter or an extension would do: no exception, no farewell.
DIES = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.fixture
def installed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(daemon, monkeypatch)


def is_safe(daemon: Daemon) -> bool:
    """The controller answers, and is in safe mode."""
    try:
        about: dict[str, Any] = daemon.client.daemon()
    except Exception:
        return False
    return bool(about["safeMode"] and about["ready"])


def deaths(daemon: Daemon) -> int:
    return len(re.findall(r"controller \(pid \d+\) was killed by signal 9", daemon.output()))


def dies_over_a_manifest(installed: Installed) -> None:
    """Whoever reads this one, dies."""
    place = r"    documents, unread = read_documents\(content, file\)\n"
    dies = f"    if b'name: killer' in content:\n        {DIES}\n"
    installed.change(
        "adapters/documents/parsing.py", place, dies + "    documents, unread = read_documents(content, file)\n"
    )


def dies_over_a_program(installed: Installed, beyond: str = "") -> None:
    """Whoever builds this one, dies; it can be read and accepted."""
    place = r"        canonical = self\.effective\(accepted\.canonical\)\n        spec,"
    dies = f"        if accepted.name == 'killer' and accepted.canonical.get('replicas') == 2:\n            {DIES}\n"
    installed.change(
        "engine/building.py", place, f"{dies}        canonical = self.effective(accepted.canonical)\n        spec,"
    )


def test_a_manifest_that_kills_its_reader_stops_nothing_and_is_read_no_more(
    daemon: Daemon, installed: Installed
) -> None:
    dies_over_a_manifest(installed)
    daemon.declare("web", *daemon.worker("steady"), replicas=2)
    daemon.declare("mail", *daemon.worker("once"), run_once=True)
    daemon.start()
    pids = daemon.until_running("web", 2)
    path = daemon.declare("killer", "/bin/sleep", "1000")
    eventually(lambda: is_safe(daemon), "it is in safe mode")
    assert deaths(daemon) == 3
    daemon.until_written(6)
    told = daemon.cli("status", "--daemon", code=1)
    assert "SAFE MODE" in daemon.cli("status", code=1).out
    assert "`reconciler reexec` ends safe mode, once what kills the controller is mended" in told.err
    assert daemon.pids("web") == pids
    path.unlink()
    daemon.cli("reexec")
    assert not is_safe(daemon)
    daemon.declare("web", *daemon.worker("steady"), replicas=3)
    assert daemon.until_running("web", 3).items() >= pids.items()


def test_a_program_in_force_that_kills_is_set_aside_its_processes_run_on_and_an_edit_brings_it_back(
    daemon: Daemon, installed: Installed
) -> None:
    dies_over_a_program(installed)
    daemon.declare("web", *daemon.worker("steady"), replicas=2)
    daemon.declare("killer", *daemon.worker("steady"), replicas=1)
    daemon.start()
    pids, lone = daemon.until_running("web", 2), daemon.until_running("killer", 1)
    daemon.declare("killer", *daemon.worker("steady"), replicas=2)
    eventually(lambda: is_safe(daemon), "it is in safe mode")
    assert deaths(daemon) == 4, "three until it is careful, and one to find out which it is"
    told = daemon.condition("killer", "SetAside")
    assert "a controller died over it; change it, or `reconciler reset killer`" in told["message"]
    assert not daemon.holds("web", "SetAside")
    assert (daemon.pids("web"), daemon.pids("killer")) == (pids, lone)
    daemon.cli("reexec")
    assert (daemon.pids("web"), daemon.pids("killer")) == (pids, lone), "it is aside still: nobody has mended it"
    assert daemon.holds("killer", "SetAside")
    daemon.declare("killer", *daemon.worker("steady"), replicas=3)
    assert daemon.until_running("killer", 3).items() >= lone.items()
    assert not daemon.holds("killer", "SetAside")
    assert deaths(daemon) == 4


def test_what_is_set_aside_can_be_tried_again_stopped_and_drained(daemon: Daemon, installed: Installed) -> None:
    dies_over_a_program(installed)
    daemon.declare("killer", *daemon.worker("steady"), replicas=1)
    daemon.start()
    daemon.until_running("killer", 1)
    daemon.declare("killer", *daemon.worker("steady"), replicas=2)
    eventually(lambda: is_safe(daemon), "it is in safe mode")
    installed.mend("engine/building.py")
    daemon.cli("reexec")
    assert daemon.holds("killer", "SetAside"), "the same version: nobody knows that it was mended"
    daemon.cli("stop", "killer")
    daemon.until_at_rest("killer")
    daemon.cli("start", "killer")
    daemon.cli("reset", "killer")
    daemon.until_running("killer", 2)
    assert not daemon.holds("killer", "SetAside")
    assert daemon.quit(signal.SIGTERM) == 0


def test_a_binding_in_force_that_kills_is_set_aside_and_its_program_keeps_its_count(
    daemon: Daemon, installed: Installed
) -> None:
    place = r"        spec = binding_from_canonical\(accepted\.canonical\)\n        binding = Binding"
    dies = f"        if accepted.name == 'killer' and accepted.canonical['maxReplicaCount'] == 9:\n            {DIES}\n"
    same = "        spec = binding_from_canonical(accepted.canonical)\n        binding = Binding"
    queue = daemon.folder / "queue.db"
    with sqlite3.connect(queue) as connection:
        connection.execute("create table work (id integer)")
        connection.executemany("insert into work values (?)", [(each,) for each in range(3)])
    daemon.declare("web", *daemon.worker("steady"), min_ready="0s")
    binding = """
apiVersion: reconciler/v1
kind: QueueBinding
metadata: {name: killer}
spec:
  scaleTargetRef: {name: web}
  maxReplicaCount: MOST
  triggers:
    - type: sqlite
      metadata: {path: PATH, table: work}
      target: 1
"""
    binding = binding.replace("PATH", str(queue))
    daemon.write("binding.yaml", binding.replace("MOST", "9"))
    daemon.start()
    pids = daemon.until_running("web", 3)
    installed.change("engine/bindings.py", place, dies + same)
    daemon.kill_controller()
    eventually(lambda: is_safe(daemon), "it is in safe mode")
    assert "queuebinding/killer is set aside: a controller died over it" in daemon.output().lower()
    always(lambda: daemon.pids("web") == pids, 0.5, "the count stays")
    daemon.cli("reexec")
    assert daemon.pids("web") == pids
    daemon.write("binding.yaml", binding.replace("MOST", "2"))
    assert daemon.until_running("web", 2).items() <= pids.items()
