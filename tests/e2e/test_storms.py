"""Too much at once: of events, of edits, of output. Things become slower; nothing stops and nothing is lost."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import Daemon, eventually
from support.soaking import pss_bytes

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
MOST_EVENTS = 100_000  # where the queue is longer than this, filling it would take too long
SLEEPS = ("/bin/sleep", "1000")


def respawn_seconds(daemon: Daemon, name: str) -> float:
    """From the end of a process to the start of the next one, as one outside sees it."""
    (pid,) = daemon.pids(name).values()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.pids(name).get(0) not in (None, pid), f"{name} is back")
    return time.monotonic() - began


@contextmanager
def rewriting(daemon: Daemon, edits: int, seconds: float) -> Iterator[threading.Thread]:
    """A thread that writes the manifest of `storm` again and again, evenly."""

    def write() -> None:
        began = time.monotonic()
        for number in range(1, edits + 1):
            daemon.declare("storm", *SLEEPS, replicas=2, env={"N": str(number)}, min_ready="0s")
            time.sleep(max(0.0, began + number * seconds / edits - time.monotonic()))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield writer
    finally:
        writer.join()


def test_more_events_than_the_kernel_keeps_for_us_lose_no_change(daemon: Daemon) -> None:
    most = int(QUEUE.read_text())
    assert most <= MOST_EVENTS, f"{QUEUE} is {most}"
    daemon.declare("web", *SLEEPS, min_ready="0s")
    daemon.declare("goes", *SLEEPS, min_ready="0s")
    daemon.start()
    daemon.until_running("goes", 1)
    controller = daemon.controller
    os.kill(controller, signal.SIGSTOP)
    try:
        one, other = daemon.manifests / "one", daemon.manifests / "other"
        one.touch()
        for _ in range(most // 4 + 1000):  # each is two events, and its way back two more
            one.rename(other)
            other.rename(one)
        # Of these nobody is told any more.
        daemon.declare("web", *SLEEPS, min_ready="0s", replicas=3)
        daemon.declare("comes", *SLEEPS, min_ready="0s")
        (daemon.manifests / "goes.yaml").unlink()
    finally:
        os.kill(controller, signal.SIGCONT)
    daemon.until_running("web", 3)
    daemon.until_running("comes", 1)
    eventually(lambda: not daemon.pids("goes"), "what is gone is gone")
    eventually(lambda: "events were lost" in daemon.output(), "it is told")
    daemon.declare("after", *SLEEPS, min_ready="0s")
    daemon.until_running("after", 1)
    assert daemon.controller == controller


def test_a_manifest_that_is_rewritten_a_hundred_times_a_second_costs_nobody_else_anything(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"), min_ready="0s", restart_backoff={"initial": "0s"})
    daemon.declare("storm", *SLEEPS, replicas=2, env={"N": "0"}, min_ready="0s")
    daemon.start()
    daemon.until_running("web", 1)
    daemon.until_running("storm", 2)
    calm, slowest, began = respawn_seconds(daemon, "web"), 0.0, time.monotonic()
    with rewriting(daemon, edits=400, seconds=4.0) as writer:
        while writer.is_alive():
            slowest = max(slowest, respawn_seconds(daemon, "web"))
            writer.join(0.7)
    number = 400
    assert slowest < max(10 * calm, 2.0)
    eventually(lambda: daemon.object("storm")["spec"]["env"]["N"] == str(number), "what was written last is in force")
    pids = daemon.until_running("storm", 2)
    eventually(lambda: daemon.status("storm")["updatedReplicas"] == 2, "and runs")
    pids = daemon.pids("storm")
    for pid in pids.values():
        assert f"N={number}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    generation = daemon.object("storm")["metadata"]["generation"]
    print(f"{number} edits, {generation} generations, calm {calm:.3f} s, slowest {slowest:.3f} s")
    # A burst is waited out, for a second at most: so many edits are a few generations, and a rollout each at most.
    assert generation <= 4 + (time.monotonic() - began) * 8
    runs = sum(row["runs"] for row in daemon.processes("storm"))
    assert runs <= 2 * generation + 2
    assert len(list((daemon.state / "history/Program/storm").iterdir())) <= 11
    assert len(list((daemon.state / "accepted/Program").iterdir())) == 2


@pytest.mark.parametrize("form", ["raw", "json"])
def test_who_writes_as_fast_as_it_can_takes_nobody_elses_turn_in_the_pump(daemon: Daemon, form: str) -> None:
    small = {"maxSize": "4Mi", "maxFiles": 2, "compress": "none", "format": form}
    daemon.declare("fast", "/usr/bin/yes", "a line of a process that never stops", replicas=4, logs=small)
    clock = "while :; do date +%s.%N; sleep 0.05; done"
    daemon.declare(
        "slow",
        "/bin/sh",
        "-c",
        clock,
    )
    daemon.start()
    daemon.until_running("fast", 4)
    daemon.until_printed("slow", 100)
    late, sizes = [], []
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        newest = daemon.log("slow").rpartition(b"\n")[0].rpartition(b"\n")[2]
        late.append(time.clock_gettime(time.CLOCK_REALTIME) - float(newest))
        sizes.append(pss_bytes(daemon.pump))
        time.sleep(0.05)
    late.sort()
    print(f"late: median {late[len(late) // 2]:.3f} s, most {late[-1]:.3f} s; pump {max(sizes) >> 20} MiB")
    assert late[len(late) // 2] < 1.0
    assert late[-1] < 3.0
    assert max(sizes) < 64 << 20
    pids = daemon.pids("slow")
    assert respawn_seconds(daemon, "slow") < 5.0
    assert daemon.pids("slow") != pids
