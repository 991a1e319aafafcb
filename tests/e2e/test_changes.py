"""Only what changed is touched, and `diff` says beforehand what that is, in the words that the log then uses."""

import time
from pathlib import Path
from typing import Any

from support.daemon import Daemon, always, eventually, is_alive


def foretold(daemon: Daemon, path: Path, name: str, *, changes: bool = True) -> str:
    """What `diff` says of one Program; it ends with 1 when there is a difference."""
    told = daemon.cli("diff", "-f", path, code=1 if changes else 0).out
    line = next(line for line in told.splitlines() if line.startswith(f"program/{name} "))
    return line.split(maxsplit=1)[1]


class TestDiffAndTheLog:
    """Each edit of an applied Program: foretold, carried out, and told by the event in the same words."""

    def edit(self, daemon: Daemon, text: str, **spec: Any) -> None:
        given = {"replicas": 6, "env": {"VERSION": "1"}, "termination_grace_period": "5s", **spec}
        path = daemon.folder / "web.yaml"
        path.write_text(daemon.manifest("web", *daemon.worker("steady"), **given))
        assert foretold(daemon, path, "web") == text
        daemon.cli("apply", "-f", path)
        assert daemon.messages("web", "Accepted")[-1] == text
        assert f"program/web: {text}\n" in daemon.output()
        assert foretold(daemon, path, "web", changes=False) == "none"

    def test_each_edit_does_what_was_foretold_and_nothing_else(self, daemon: Daemon) -> None:
        daemon.start()
        self.edit(daemon, "create, start 6")
        first = daemon.until_running("web", 6)

        self.edit(daemon, "scale 6 -> 8, start 2", replicas=8)
        eight = daemon.until_running("web", 8)
        assert first.items() <= eight.items()

        self.edit(daemon, "scale 8 -> 4, stop 4", replicas=4)
        four = daemon.until_running("web", 4)
        assert four == {ordinal: pid for ordinal, pid in eight.items() if ordinal < 4}

        self.edit(daemon, "update in place (terminationGracePeriod)", replicas=4, termination_grace_period="7s")
        always(lambda: daemon.pids("web") == four, 0.5)

        new = {"replicas": 4, "termination_grace_period": "7s", "env": {"VERSION": "2"}, "min_ready": "0s"}
        self.edit(daemon, "roll 4 (env), update in place (minReady)", **new)
        daemon.until_available("web")
        assert not set(daemon.pids("web").values()) & set(four.values())

        path = daemon.folder / "web.yaml"
        assert daemon.cli("delete", "-f", path, "--dry-run").code == 0
        assert daemon.cli("delete", "-f", path).out == "program/web deleted\n"
        assert daemon.messages("web", "Accepted")[-1] == "delete, stop 4"
        eventually(lambda: not daemon.client.programs()["items"], "it is gone")
        assert len(daemon.ledger("start")) == 6 + 2 + 4
        assert len(daemon.ledger("end")) == 12

    def test_diff_changes_nothing(self, daemon: Daemon) -> None:
        daemon.start()
        path = daemon.folder / "web.yaml"
        path.write_text(daemon.manifest("web", *daemon.worker("steady")))
        assert foretold(daemon, path, "web") == "create, start 1"
        assert daemon.client.programs()["items"] == []
        assert not list((daemon.state / "accepted").rglob("*.yaml"))

    def test_diff_of_what_cannot_be_read_ends_with_2(self, daemon: Daemon) -> None:
        daemon.start()
        path = daemon.folder / "web.yaml"
        path.write_text("kind: [}\n")
        assert f"{path}:1:" in daemon.cli("diff", "-f", path, code=2).err


class TestReplicas:
    def test_more_start_the_new_and_fewer_stop_the_highest(self, daemon: Daemon) -> None:
        worker = daemon.worker("steady")
        daemon.declare("web", *worker, replicas=6)
        daemon.start()
        six = daemon.until_running("web", 6)
        daemon.declare("web", *worker, replicas=8)
        eight = daemon.until_running("web", 8)
        assert six.items() <= eight.items()
        daemon.declare("web", *worker, replicas=4)
        assert daemon.until_running("web", 4) == {ordinal: six[ordinal] for ordinal in range(4)}
        assert sorted(entry.replica for entry in daemon.ledger("end")) == [4, 5, 6, 7]
        assert daemon.status("web")["replicas"] == 4

    def test_nothing_is_touched_by_a_save_without_a_change(self, daemon: Daemon) -> None:
        text = daemon.manifest("web", *daemon.worker("steady"), replicas=2)
        daemon.write("web.yaml", text)
        daemon.start()
        pids, generation = daemon.until_running("web", 2), daemon.object("web")["metadata"]["generation"]
        daemon.write("web.yaml", f"# a remark\n{text}")
        daemon.cli("apply", "-f", daemon.manifests)
        always(lambda: daemon.pids("web") == pids, 0.5)
        assert daemon.object("web")["metadata"]["generation"] == generation
        assert len(daemon.messages("web", "Accepted")) == 1

    def test_a_move_to_another_file_keeps_uid_and_processes(self, daemon: Daemon) -> None:
        path = daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, uid = daemon.until_running("web", 2), daemon.object("web")["metadata"]["uid"]
        path.rename(daemon.manifests / "renamed.yaml")
        eventually(lambda: daemon.object("web")["metadata"]["source"].endswith("renamed.yaml"), "the move is seen")
        always(lambda: daemon.pids("web") == pids, 0.5)
        assert daemon.object("web")["metadata"]["uid"] == uid

    def test_a_file_that_is_deleted_stops_its_program_and_no_other(self, daemon: Daemon) -> None:
        gone = daemon.declare("gone", *daemon.worker("steady"), replicas=2)
        for name in ("kept", "other"):
            daemon.declare(name, *daemon.worker("steady"))
        daemon.start()
        daemon.until_running("gone", 2)
        kept = daemon.until_running("kept", 1)
        gone.unlink()
        eventually(lambda: len(daemon.client.programs()["items"]) == 2, "it is gone")
        assert len(daemon.ledger("end")) == 2
        assert daemon.pids("kept") == kept
        assert not (daemon.state / "accepted/Program/gone.yaml").exists()
        assert not (daemon.state / "status/Program/gone.yaml").exists()


class TestRollingUpdate:
    def roll(self, daemon: Daemon, replicas: int, at_least: int, **spec: Any) -> list[int]:
        """Change `env` and sample until all is carried over; how many were alive each time."""
        given = {"replicas": replicas, "min_ready": "50ms", **spec}
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "1"}, **given)
        daemon.start()
        daemon.until_available("web")
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "2"}, **given)
        samples: list[int] = []
        deadline = time.monotonic() + 30
        while sum(entry.more == "2" for entry in daemon.ledger("start")) < replicas:
            samples.append(sum(is_alive(entry.pid) for entry in daemon.ledger("start")))
            assert samples[-1] >= at_least, samples
            assert time.monotonic() < deadline
            time.sleep(0.002)
        daemon.until_available("web")
        assert {entry.more for entry in daemon.ledger("start") if is_alive(entry.pid)} == {"2"}
        assert len(daemon.ledger("start")) == 2 * replicas
        return samples

    def test_never_fewer_run_than_max_unavailable_allows(self, daemon: Daemon) -> None:
        samples = self.roll(daemon, 6, at_least=4, strategy={"maxUnavailable": 2})
        assert max(samples) <= 6

    def test_a_quarter_is_the_default_and_is_rounded_down(self, daemon: Daemon) -> None:
        self.roll(daemon, 5, at_least=4)

    def test_a_single_replica_stops_before_its_successor_starts(self, daemon: Daemon) -> None:
        assert max(self.roll(daemon, 1, at_least=0)) == 1

    def test_recreate_stops_all_before_it_starts_one(self, daemon: Daemon) -> None:
        self.roll(daemon, 4, at_least=0, strategy={"type": "Recreate"})
        last_end = max(entry.at for entry in daemon.ledger("end"))
        assert all(entry.at >= last_end for entry in daemon.ledger("start") if entry.more == "2")

    def test_a_revision_that_does_not_come_up_stops_no_more_than_max_unavailable(self, daemon: Daemon) -> None:
        spec: dict[str, Any] = {"replicas": 4, "strategy": {"maxUnavailable": 1}, "min_ready": "50ms"}
        daemon.declare("web", *daemon.worker("steady"), **spec)
        daemon.start()
        daemon.until_available("web")
        before = daemon.pids("web")
        daemon.declare("web", *daemon.worker("once", 1), **spec)
        eventually(lambda: daemon.holds("web", "CrashLoop"), "the new revision fails")
        always(lambda: len(set(before.values()) & set(daemon.pids("web").values())) == 3, 0.7)
        assert daemon.holds("web", "Available")
        daemon.declare("web", *daemon.worker("steady"), **spec)
        daemon.until_available("web")
        assert len(set(before.values()) & set(daemon.pids("web").values())) == 3

    def test_the_first_versions_process_is_not_touched_when_an_edit_is_taken_back(self, daemon: Daemon) -> None:
        spec: dict[str, Any] = {"replicas": 3, "min_ready": "5s"}
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "1"}, **spec)
        daemon.start()
        daemon.until_running("web", 3)
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "2"}, **spec)
        eventually(lambda: [e for e in daemon.ledger("start") if e.more == "2"], "the rollout began")
        untouched = {e.pid for e in daemon.ledger("start") if is_alive(e.pid) and e.more == "1"}
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "1"}, **spec)
        eventually(lambda: daemon.status("web")["updatedReplicas"] == 3)
        assert untouched <= set(daemon.pids("web").values())


class TestContentOutsideOfTheManifest:
    def test_a_link_that_is_repointed_rolls_what_works_behind_it(self, daemon: Daemon) -> None:
        for release in ("r1", "r2"):
            (daemon.folder / release).mkdir()
        current = daemon.folder / "current"
        current.symlink_to("r1")
        script = f'pwd -P >> "{daemon.folder}/places"; exec sleep 1000'
        daemon.declare("web", "/bin/sh", "-c", script, working_dir=str(current), min_ready="0s", replicas=2)
        daemon.start()
        first = daemon.until_running("web", 2)
        new = daemon.folder / "current.new"
        new.symlink_to("r2")
        new.replace(current)
        eventually(lambda: (daemon.folder / "places").read_text().count("/r2\n") == 2, "both start in the new release")
        assert not set(first.values()) & set(daemon.until_running("web", 2).values())
        assert daemon.messages("web", "Accepted")[-1] == "roll 2 (workingDir)"

    def test_an_environment_file_that_changes_rolls_and_a_broken_one_does_not(self, daemon: Daemon) -> None:
        path = daemon.manifests / "web.env"
        path.write_text("VERSION=1\n")
        daemon.declare("web", *daemon.worker("steady"), env_from=[{"file": "web.env"}], min_ready="0s")
        daemon.start()
        daemon.until_running("web", 1)
        path.write_text("VERSION=2\n")
        eventually(lambda: [entry.more for entry in daemon.ledger("start")] == ["1", "2"], "it rolled")
        pids = daemon.until_running("web", 1)
        path.write_text("VERSION='3\n")
        eventually(lambda: f"{path}: line 1" in daemon.cli("status", code=None).out, "the broken line is shown")
        assert daemon.cli("status", code=None).code == 1
        assert daemon.pids("web") == pids
        path.write_text("VERSION=4\n")
        eventually(lambda: [entry.more for entry in daemon.ledger("start")] == ["1", "2", "4"], "it is read again")
        daemon.until_available("web")
        daemon.until_well()
