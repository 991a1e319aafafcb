"""How manifests are really written: editors, git, link swaps, half-written files, and directories that are a link."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from support.daemon import Daemon, always, eventually


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def text_of(daemon: Daemon, replicas: int, name: str = "web") -> str:
    return daemon.manifest(name, *daemon.worker("steady"), replicas=replicas, working_dir=str(daemon.folder))


class TestEditors:
    def test_one_that_moves_the_old_file_aside_stops_nothing_in_between(self, daemon: Daemon) -> None:
        path = daemon.write("web.yaml", text_of(daemon, 2))
        daemon.start()
        pids = daemon.until_running("web", 2)
        path.rename(daemon.manifests / "web.yaml~")  # as vim does: for a moment there is no such file
        time.sleep(0.3)
        path.write_text(text_of(daemon, 3))
        (daemon.manifests / "web.yaml~").unlink()
        assert pids.items() <= daemon.until_running("web", 3).items()
        assert daemon.ledger("end") == []
        assert not daemon.condition("web", "SourceSuspect")

    def test_one_that_writes_in_place_line_by_line(self, daemon: Daemon) -> None:
        path = daemon.write("web.yaml", text_of(daemon, 2))
        daemon.start()
        pids = daemon.until_running("web", 2)
        with path.open("w") as file:
            for line in text_of(daemon, 3).splitlines(keepends=True):
                file.write(line)
                file.flush()  # each line is an event of its own; half a file is a valid manifest, too
        assert pids.items() <= daemon.until_running("web", 3).items()
        assert daemon.ledger("end") == []
        eventually(lambda: not daemon.problems())

    def test_one_that_takes_its_time_in_the_middle_of_a_number(self, daemon: Daemon) -> None:
        path = daemon.write("web.yaml", text_of(daemon, 3))
        daemon.start()
        pids = daemon.until_running("web", 3)
        text = text_of(daemon, 12)
        middle = text.index("replicas: 12") + len("replicas: 1")
        with path.open("w") as file:
            file.write(text[:middle])
            file.flush()
            always(lambda: daemon.pids("web") == pids, 1.0, "1 is not what was meant")
            file.write(text[middle:])
        assert pids.items() <= daemon.until_running("web", 12).items()
        assert daemon.ledger("end") == []
        assert daemon.object("web")["metadata"]["generation"] == 2

    def test_many_saves_in_a_row_end_with_the_last(self, daemon: Daemon) -> None:
        daemon.write("web.yaml", text_of(daemon, 1))
        daemon.start()
        first = daemon.until_running("web", 1)
        for count in (2, 3, 1, 4, 2, 3):
            daemon.write("web.yaml", text_of(daemon, count))
        assert first.items() <= daemon.until_running("web", 3).items()
        always(lambda: len(daemon.pids("web")) == 3, 0.3)


@pytest.mark.skipif(shutil.which("git") is None, reason="wants the Debian package git")
class TestGit:
    def test_a_checkout_of_another_branch_does_what_differs(self, daemon: Daemon) -> None:
        place = daemon.manifests
        git(place, "init")
        daemon.write("web.yaml", text_of(daemon, 2))
        daemon.write("sub/mail.yaml", text_of(daemon, 1, "mail"))
        daemon.write("same.yaml", text_of(daemon, 1, "same"))
        git(place, "add", ".")
        git(place, "commit", "-m", "one")
        git(place, "checkout", "-b", "other")
        daemon.write("web.yaml", text_of(daemon, 3))
        git(place, "rm", "-q", "sub/mail.yaml")
        daemon.write("new.yaml", text_of(daemon, 1, "new"))
        git(place, "add", ".")
        git(place, "commit", "-m", "two")
        git(place, "checkout", "main")
        daemon.start()
        web, same = daemon.until_running("web", 2), daemon.until_running("same", 1)
        daemon.until_running("mail", 1)

        git(place, "checkout", "other")
        assert web.items() <= daemon.until_running("web", 3).items()
        daemon.until_running("new", 1)
        eventually(lambda: {t["metadata"]["name"] for t in daemon.client.programs()["items"]} == {"web", "same", "new"})
        git(place, "checkout", "main")
        assert daemon.until_running("web", 2) == web
        daemon.until_running("mail", 1)
        assert daemon.until_running("same", 1) == same
        assert daemon.problems() == []


class TestLinks:
    def test_a_swap_as_of_a_kubelet_is_one_change(self, daemon: Daemon) -> None:
        for version, replicas in (("v1", 2), ("v2", 3)):
            (daemon.manifests / f"..{version}").mkdir()
            (daemon.manifests / f"..{version}/web.yaml").write_text(text_of(daemon, replicas))
        (daemon.manifests / "..data").symlink_to("..v1")
        (daemon.manifests / "web.yaml").symlink_to("..data/web.yaml")
        daemon.start()
        pids, uid = daemon.until_running("web", 2), daemon.object("web")["metadata"]["uid"]
        (daemon.manifests / "..data_tmp").symlink_to("..v2")
        (daemon.manifests / "..data_tmp").rename(daemon.manifests / "..data")
        shutil.rmtree(daemon.manifests / "..v1")
        assert pids.items() <= daemon.until_running("web", 3).items()
        assert daemon.object("web")["metadata"]["uid"] == uid
        assert daemon.ledger("end") == []

    def test_a_watched_directory_may_be_a_link_that_is_repointed(self, daemon: Daemon) -> None:
        for release, replicas in (("r1", 2), ("r2", 3)):
            (daemon.folder / release).mkdir()
            (daemon.folder / release / "web.yaml").write_text(text_of(daemon, replicas))
        current = daemon.folder / "current"
        current.symlink_to("r1")
        daemon.start(current)
        pids = daemon.until_running("web", 2)
        new = daemon.folder / "current.new"
        new.symlink_to("r2")
        os.replace(new, current)
        assert pids.items() <= daemon.until_running("web", 3).items()
        (daemon.folder / "r2/web.yaml").write_text(text_of(daemon, 4))  # what is watched now is the new one
        assert pids.items() <= daemon.until_running("web", 4).items()
        assert daemon.ledger("end") == []

    def test_a_link_in_a_circle_harms_nobody(self, daemon: Daemon) -> None:
        (daemon.manifests / "loop").symlink_to(".")
        (daemon.manifests / "self.yaml").symlink_to("self.yaml")
        daemon.write("web.yaml", text_of(daemon, 1))
        daemon.start()
        daemon.until_running("web", 1)
        assert all("web" not in problem["file"] for problem in daemon.problems())


class TestSeveralDirectories:
    def test_each_is_a_home_of_its_own(self, daemon: Daemon) -> None:
        other = daemon.folder / "other"
        other.mkdir()
        daemon.write("web.yaml", text_of(daemon, 1))
        (other / "mail.yaml").write_text(text_of(daemon, 1, "mail"))
        daemon.start(daemon.manifests, other)
        web = daemon.until_running("web", 1)
        daemon.until_running("mail", 1)
        shutil.rmtree(other)
        eventually(lambda: daemon.holds("mail", "SourceSuspect"))
        assert not daemon.condition("web", "SourceSuspect")
        daemon.write("web.yaml", text_of(daemon, 2))
        assert web.items() <= daemon.until_running("web", 2).items()
        daemon.cli("apply", "--allow-empty", "-f", other)
        eventually(lambda: len(daemon.client.programs()["items"]) == 1, "mail is gone")

    def test_one_that_is_not_named_any_more_is_a_loss_that_wants_to_be_confirmed(self, daemon: Daemon) -> None:
        other = daemon.folder / "other"
        other.mkdir()
        daemon.write("web.yaml", text_of(daemon, 1))
        (other / "mail.yaml").write_text(text_of(daemon, 1, "mail"))
        daemon.start(daemon.manifests, other)
        daemon.until_running("mail", 1)
        daemon.quit()
        daemon.start(daemon.manifests)
        daemon.until_running("mail", 1)
        assert str(other) in daemon.cli("status", code=1).out
        daemon.cli("delete", "mail")
        eventually(lambda: len(daemon.client.programs()["items"]) == 1, "mail is gone")
        assert daemon.cli("status", code=None).code in {0, 1}
