"""The keeper as pid 1: nothing else in the container does what an init does."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.container import ROOT_IS_MOUNTED, Container, arguments_of, container_in
from support.daemon import eventually

STRANGER = 54321  # a user without an entry in passwd, as `docker run --user` allows


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    with container_in(tmp_path) as house:
        yield house


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="reconciler-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def descendants(container: Container) -> list[int]:
    return [proc.pid for proc in container.everybody()]


class TestPidOne:
    def test_it_reaps_what_others_leave_behind(self, container: Container) -> None:
        script = "while :; do (sleep 0.02 &); (setsid sleep 0.02 &) & sleep 0.02; done"
        container.declare("careless", "/bin/sh", "-c", script, replicas=2)
        container.start()
        assert "reconciler.keeper" in arguments_of(container.init)
        assert container.client.daemon()["keeperPid"] == 1
        container.until_running("careless", 2)
        for _ in range(3):
            time.sleep(0.3)
            assert container.lasting_zombies(1.0) == set()
        container.inside("reexec", "--keeper")
        assert container.client.daemon()["keeperReplaced"] == 1
        time.sleep(0.3)
        assert container.lasting_zombies(1.0) == set()
        assert len(descendants(container)) < 40

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_asked_to_stop_it_drains_and_ends_with_0(self, container: Container, number: signal.Signals) -> None:
        container.declare("web", *container.worker("steady"), replicas=3)
        container.start()
        container.until_running("web", 3)
        assert container.quit(number) == 0
        assert [entry.more for entry in container.ledger("end")] == ["TERM"] * 3
        assert descendants(container) == []

    def test_a_process_that_does_not_listen_is_killed_when_the_time_is_over(self, container: Container) -> None:
        """Before the engine kills all: shutdownTimeout has to be shorter than its time-out."""
        config = container.folder / "config.yaml"
        config.write_text("apiVersion: reconciler/v1\nkind: Config\nmetadata: {name: x}\nspec: {shutdownTimeout: 1s}\n")
        container.declare("web", *container.worker("steady"))
        container.declare("deaf", *container.worker("stubborn"), termination_grace_period="1h")
        container.start(options=("--config", str(config)))
        container.until_running("web", 1)
        container.until_running("deaf", 1)
        assert container.quit() == 0, "long before that hour is over"
        assert [entry.more for entry in container.ledger("end")] == ["TERM"]

    def test_a_later_int_kills_at_once(self, container: Container) -> None:
        container.declare("deaf", *container.worker("stubborn"), termination_grace_period="1h")
        container.start()
        container.until_running("deaf", 1)
        os.kill(container.init, signal.SIGINT)
        eventually(lambda: container.client.daemon()["draining"])
        time.sleep(1.1)  # a repeat within a second is the same request
        assert container.quit(signal.SIGINT) == 0

    def test_signals_that_pid_1_would_otherwise_not_get_are_heard(self, container: Container) -> None:
        container.start()
        first = container.client.daemon()["pid"]
        os.kill(container.init, signal.SIGHUP)
        eventually(lambda: container.output().count("is ready after") == 2)
        os.kill(container.init, signal.SIGUSR1)
        eventually(lambda: container.client.daemon()["pid"] != first)

    def test_a_first_start_that_makes_no_sense_ends_with_its_code(self, container: Container) -> None:
        (container.folder / "config.yaml").write_text("kind: Config\n")
        container.launch(options=("--config", str(container.folder / "config.yaml")))
        assert container.wait() == 2
        assert "config.yaml" in container.output()

    def test_what_is_installed_in_it_may_be_replaced_from_within(self, container: Container) -> None:
        container.declare("web", *container.worker("steady"), replicas=2)
        container.start()
        pids = container.until_running("web", 2)
        told = container.inside("reexec", "--keeper")
        assert (told.code, "keeper 1 in place, 2 processes kept" in told.out) == (0, True)
        assert container.until_running("web", 2) == pids
        assert "reconciler.keeper" in arguments_of(container.init)

    def test_processes_cannot_be_kept_beyond_their_container(self, container: Container) -> None:
        container.declare("web", *container.worker("steady"))
        container.start()
        pids = container.until_running("web", 1)
        told = container.inside("shutdown", "--keep")
        assert told.code == 6
        assert told.err.startswith("error: the keeper is pid 1 here, or what pid 1 waits for: the kernel ends")
        assert container.until_running("web", 1) == pids

    def test_the_health_check_of_the_image_is_cheap_and_tells_the_truth(self, container: Container) -> None:
        container.declare("sick", *container.worker("once", 1))
        container.start()
        assert container.inside("status", "--daemon").code == 0, "a Program that fails is not the container's illness"
        os.kill(container.init, signal.SIGSTOP)
        try:
            pid = int(container.inside("status", "--daemon").out.split("\npid ")[1].split()[0])
            container.run_inside("/bin/sh", "-c", f"kill -KILL {pid}")
            told = container.inside("--request-timeout", "300ms", "status", "--daemon")
            assert told.code == 4, "nobody answers"
        finally:
            os.kill(container.init, signal.SIGCONT)
        eventually(lambda: container.inside("status", "--daemon").code == 0)

    def test_a_container_that_was_killed_starts_anew_on_its_volume(self, container: Container) -> None:
        """Pids are other ones in the next container, and so may be small enough to be met again."""
        container.declare("web", *container.worker("steady"), replicas=2)
        container.declare("work", *container.worker("piece", container.folder / "never", "0"), restart_policy="Never")
        for count in (1, 2, 3):
            container.start()
            eventually(lambda n=count: len([e for e in container.ledger("start") if e.replica == 1]) == n, "it starts")
            container.until_running("web", 2)
            rows = container.processes("web")
            assert [row.get("failures", 0) for row in rows] == [0, 0]
            os.kill(container.init, signal.SIGKILL)
            container.wait()
            eventually(lambda: descendants(container) == [], "the kernel ended all of it")
        container.start()
        eventually(lambda: len([e for e in container.ledger("start") if e.replica == 1]) == 4)
        container.until_running("web", 2)
        assert container.processes("work")[0]["state"] == "Unknown", "it may have done its work: not repeated"
        assert len(container.ledger("start")) == 4 * 2 + 1


class TestWaysToRunIt:
    def test_an_init_in_front_of_it_does_no_harm(self, container: Container) -> None:
        container.with_init().declare("careless", "/bin/sh", "-c", "while :; do (sleep 0.02 &); sleep 0.02; done")
        container.declare("web", *container.worker("steady"))
        container.start()
        container.until_running("web", 1)
        assert container.client.daemon()["keeperPid"] != 1
        assert container.inside("shutdown", "--keep").code == 6, "it would end all as well"
        time.sleep(0.5)
        assert container.lasting_zombies(1.0) == set()
        assert container.quit() == 0
        assert [entry.more for entry in container.ledger("end")] == ["TERM"]

    @pytest.mark.skipif(not ROOT_IS_MOUNTED, reason="only a root that is a mount point can be mounted read-only")
    def test_nothing_but_the_volume_has_to_be_writable(self, container: Container) -> None:
        container.read_only().declare("web", "/bin/sh", "-c", "echo hello; exec sleep 1000", replicas=2)
        for number in range(30):  # many are parsed by processes of their own
            container.declare(f"p{number}", "sleep", "1000", replicas=0)
        container.start()
        container.until_running("web", 2)
        assert container.run_inside("/bin/sh", "-c", "echo > /usr/x").code != 0
        eventually(lambda: container.log("web") == b"hello\n")
        eventually(lambda: len(container.client.programs()["items"]) == 31)
        told = container.inside("reexec", "--keeper")
        assert (told.code, told.err.count("error")) == (0, 0)
        assert container.client.programs()["problems"] == []
        assert container.quit() == 0

    def test_the_usual_capabilities_of_root_suffice_to_run_programs_as_others(self, open_folder: Path) -> None:
        with container_in(open_folder) as container:
            script = "id -u; exec sleep 1000"
            spec: dict[str, object] = {"user": "nobody", "limits": {"nofile": 100}, "nice": 5}
            container.with_usual_capabilities().declare("other", "/bin/sh", "-c", script, replicas=2, **spec)
            container.start()
            pids = container.until_running("other", 2)
            eventually(lambda: container.log("other") == b"65534\n")
            about = Path(f"/proc/{container.init}/status").read_text()
            assert not int(about.split("CapEff:\t")[1][:16], 16) & (1 << 21 | 1 << 24), (
                "neither SYS_ADMIN nor SYS_RESOURCE"
            )
            assert "2 processes kept" in container.inside("reexec", "--keeper").out
            assert container.until_running("other", 2) == pids
            container.inside("stop", "other")
            container.until_at_rest("other")
            container.inside("start", "other")
            container.until_running("other", 2)
            assert container.quit() == 0
            assert container.output().count("ERROR") == 0

    def test_a_user_without_privileges_and_without_a_name_will_do(self, open_folder: Path) -> None:
        with container_in(open_folder) as container:
            container.as_user(STRANGER).declare("web", "/bin/sh", "-c", "id -u; exec sleep 1000", replicas=2)
            container.declare("other", "sleep", "1000", user="nobody")
            container.start()
            pids = container.until_running("web", 2)
            eventually(lambda: container.log("web") == b"%d\n" % STRANGER)
            assert os.stat(f"/proc/{container.init}").st_uid == STRANGER
            assert not container.condition("web", "RunsAsRoot")
            told = eventually(lambda: container.condition("other", "CannotStart"), "why it cannot start is told")
            assert f'runs as "{STRANGER}" without the right to change ids' in told["message"]
            told = container.inside("reexec", "--keeper")
            assert "2 processes kept" in told.out
            assert container.until_running("web", 2) == pids
            assert container.quit() == 0
