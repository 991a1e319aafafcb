"""Ten thousand manifests: read in the background, and a change costs what changed. (Real processes: `make fleet`.)

And what a controller does not carry around, however much it has to do.
"""

import time
from pathlib import Path

import pytest

from support.daemon import Daemon, cpu_seconds, eventually

PROGRAMS, FILES = 10_000, 100
MANIFEST = """---
apiVersion: reconciler/v1
kind: Program
metadata: {{name: {}}}
spec: {{command: [/bin/sleep, "1000"], replicas: 0}}
"""
HUNDREDS = 400
READ_SECONDS = PATIENCE_SECONDS = 180.0  # a few where nobody else wants the CPUs


@pytest.mark.timeout(600)
def test_ten_thousand_manifests_are_read_while_others_are_served_and_one_change_costs_one(daemon: Daemon) -> None:
    daemon.portrait = daemon.output  # type: ignore[method-assign]  # all of it would be ten thousand files
    daemon.declare("web", *daemon.worker("steady"), replicas=2, min_ready="0s")
    daemon.start()
    pids = daemon.until_running("web", 2)
    each = PROGRAMS // FILES
    for file in range(FILES):
        names = [f"p-{file * each + number}" for number in range(each)]
        daemon.write(f"many-{file}.yaml", "".join(map(MANIFEST.format, names)))
    began, answers = time.monotonic(), []
    while (known := int(daemon.client.daemon()["programs"])) < PROGRAMS + 1:
        asked = time.monotonic()
        assert asked - began < READ_SECONDS, f"{known} are known"
        daemon.client.program("web")
        answers.append(time.monotonic() - asked)
        time.sleep(0.05)
    print(f"{time.monotonic() - began:.1f} s, slowest answer {max(answers):.3f} s")
    assert max(answers) < (time.monotonic() - began) / 2, "nobody waits until all of it is read"
    assert daemon.pids("web") == pids
    before = cpu_seconds(daemon.controller)
    for number in range(5):
        daemon.declare("web", *daemon.worker("steady"), replicas=3 + number, min_ready="0s")
        daemon.until_running("web", 3 + number)
    print(f"five changes: {cpu_seconds(daemon.controller) - before:.2f} s of CPU")
    assert cpu_seconds(daemon.controller) - before < 5.0
    (daemon.manifests / "many-7.yaml").unlink()
    eventually(lambda: int(daemon.client.daemon()["programs"]) == PROGRAMS + 1 - each, "a hundred are gone")
    assert daemon.quit(within=PATIENCE_SECONDS) == 0


def test_a_controller_that_asks_no_queue_maps_no_openssl(daemon: Daemon) -> None:
    """It takes as much memory as five thousand processes to look after."""
    for number in range(250):  # so many that a helper reads them
        daemon.write(f"more/p-{number}.yaml", MANIFEST.format(f"p-{number}"))
    daemon.declare("web", *daemon.worker("steady"), replicas=2, min_ready="0s")
    daemon.start()
    first = daemon.until_running("web", 2)
    daemon.cli("get", "ps")
    daemon.cli("restart", "web")
    eventually(lambda: not set(first.values()) & set(daemon.until_running("web", 2).values()), "both are others")
    mapped = Path(f"/proc/{daemon.controller}/maps").read_text()
    assert "_http_parser" in mapped, "what it needs is there"
    assert "libcrypto" not in mapped
    assert "libssl" not in mapped


@pytest.mark.timeout(300)
def test_killed_while_hundreds_come_it_knows_each_by_the_uid_that_it_was_given(daemon: Daemon) -> None:
    daemon.portrait = daemon.output  # type: ignore[method-assign]
    names = [f"p-{number}" for number in range(HUNDREDS)]
    daemon.write("many.yaml", "".join(map(MANIFEST.format, names)))
    daemon.start()
    uids: dict[str, str] = {}
    for _ in range(2):  # a third death within a minute is answered with safe mode
        known = eventually(lambda: uids_of(daemon), "the first ones are known")
        assert uids.items() <= known.items(), "nobody whom it has told of comes back as another, or not at all"
        uids = known
        daemon.kill_controller()
    eventually(lambda: len(uids_of(daemon)) == HUNDREDS, "all are known")
    accepted = daemon.state / "accepted"
    eventually(lambda: not list((accepted / "batches").iterdir()), "each has a file of its own")
    assert {path.name for path in (accepted / "Program").iterdir()} == {f"{name}.yaml" for name in names}
    assert uids.items() <= uids_of(daemon).items()


def uids_of(daemon: Daemon) -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in daemon.client.programs()["items"]}
