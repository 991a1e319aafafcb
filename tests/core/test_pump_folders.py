"""Files of logs are opened, renamed and removed where their path says, and a planted link leads nowhere."""

import errno
import os
from pathlib import Path

import pytest

from reconciler import folders
from reconciler.folders import Folder, Refused
from support.descriptors import descriptors

NOBODY = 65534


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link to the folder `secret` that belongs to somebody else than us and root."""
    (tmp_path / "secret").mkdir()
    link = tmp_path / "link"
    link.symlink_to("secret")
    if os.geteuid() == 0:
        os.lchown(link, NOBODY, NOBODY)
    else:
        stranger = os.geteuid() + 1  # then ours is another's
        monkeypatch.setattr(os, "geteuid", lambda: stranger)
    return link


@pytest.fixture(params=["one call", "step by step"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With openat2 and without: old kernels have none, and some containers forbid it."""
    if request.param == "step by step":
        monkeypatch.setattr(folders, "_syscall", lambda *_: -1)


@pytest.mark.usefixtures("kernel")
class TestTheWay:
    def test_leads_to_the_folder(self, tmp_path: Path) -> None:
        with Folder(str(tmp_path)) as fd:
            assert os.path.samestat(os.fstat(fd), tmp_path.stat())

    def test_may_be_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").mkdir()
        monkeypatch.chdir(tmp_path)
        for path, folder in (("", tmp_path), ("a", tmp_path / "a"), ("./a//../a", tmp_path / "a")):
            with Folder(path) as fd:
                assert os.path.samestat(os.fstat(fd), folder.stat())

    @pytest.mark.parametrize("target", ["real", "./x/../real", "../top/real", "{here}/real", "other"])
    def test_may_lead_over_links_of_our_own(self, tmp_path: Path, target: str) -> None:
        top = tmp_path / "top"
        for folder in ("real/deep", "x"):
            (top / folder).mkdir(parents=True)
        (top / "other").symlink_to("real")
        (top / "link").symlink_to(target.format(here=top))
        assert folders.names(str(top / "link")) == ["deep"]

    def test_does_not_lead_over_a_link_that_somebody_else_planted(self, planted: Path) -> None:
        for path in (planted, planted / "deeper"):
            with pytest.raises(Refused, match=r"link on the way to .* is a symbolic link that belongs to user"):
                Folder(str(path)).__enter__()

    def test_ends_when_links_lead_in_circles(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            Folder(str(tmp_path / "a")).__enter__()

    def test_ends_at_what_is_missing_and_at_what_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FileNotFoundError):
            Folder(str(tmp_path / "a" / "b")).__enter__()
        with pytest.raises(NotADirectoryError):
            Folder(str(tmp_path / "file" / "b")).__enter__()

    def test_is_made_where_that_is_wanted(self, tmp_path: Path) -> None:
        folders.make_folder(str(tmp_path / "a" / "b"))
        folders.make_folder(str(tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755

    def test_keeps_no_descriptor(self, tmp_path: Path, planted: Path) -> None:
        before = descriptors()
        for path in (tmp_path, planted, tmp_path / "nothing", planted / "a"):
            folders.exists(str(path / "x"))
        assert descriptors() == before


def test_somebody_may_be_faster_in_making_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def twice(name: str, mode: int, *, dir_fd: int) -> None:
        real(name, mode, dir_fd=dir_fd)
        real(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", twice)
    folders.make_folder(str(tmp_path / "a"))
    assert (tmp_path / "a").is_dir()


class TestFiles:
    def test_are_opened_and_close_at_an_exec(self, tmp_path: Path) -> None:
        fd = folders.open_file(str(tmp_path / "a"), os.O_RDWR | os.O_CREAT, 0o600)
        assert not os.get_inheritable(fd)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
        os.close(fd)

    def test_in_whose_place_is_a_link_are_not(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            folders.open_file(str(tmp_path / "a"), os.O_RDWR | os.O_CREAT)
        assert not (tmp_path / "b").exists()

    def test_are_renamed_within_their_folder_and_removed(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        folders.rename(str(tmp_path / "a"), "b")
        assert folders.names(str(tmp_path)) == ["b"]
        folders.unlink(str(tmp_path / "b"))
        folders.unlink(str(tmp_path / "b"))
        assert folders.names(str(tmp_path)) == []

    def test_are_there_also_as_links(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("nothing")
        assert folders.exists(str(tmp_path / "a"))
        assert not folders.exists(str(tmp_path / "b"))
        assert folders.status(str(tmp_path / "a")).st_size == len("nothing")

    def test_behind_a_planted_link_are_not_touched(self, planted: Path) -> None:
        victim = planted.parent / "secret" / "x"
        victim.touch()
        with pytest.raises(Refused):
            folders.open_file(str(planted / "x"), os.O_RDWR)
        with pytest.raises(Refused):
            folders.rename(str(planted / "x"), "y")
        folders.unlink(str(planted / "x"))
        assert victim.exists()
