"""What a keeper leaves to the program that takes its place: a document that survives an exec."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.keeping import handover
from reconciler.keeping.handover import Unreadable
from support.descriptors import descriptors

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "version"), JSON, max_size=5))
def test_what_was_packed_comes_out_again(document: dict[str, object]) -> None:
    assert handover.unpack(handover.pack(document)) == {"version": handover.VERSION, **document}


def test_a_large_document_is_written_to_the_end(monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000]))
    assert handover.unpack(handover.pack({"x": "y" * 10_000}))["x"] == "y" * 10_000


def test_times_without_end_come_out_as_they_were() -> None:
    assert handover.unpack(handover.pack({"due": float("inf")}))["due"] == float("inf")


def test_paths_that_are_no_text_come_out_as_they_were() -> None:
    path = os.fsdecode(b"/a/\xff\xfe")
    assert list(handover.unpack(handover.pack({"fifos": {path: [1, 2, 3]}}))["fifos"]) == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff", b'{"version": [1]}'])
def test_what_is_no_document_is_refused_and_the_descriptor_closed(content: bytes) -> None:
    before = descriptors()
    fd = os.memfd_create("x")
    os.write(fd, content)
    with pytest.raises(Unreadable):
        handover.unpack(fd)
    assert descriptors() == before


@pytest.mark.parametrize("version", [0, 2, 99, None, "1", 1.5])
def test_another_version_is_refused_with_what_to_do_instead(version: object) -> None:
    with pytest.raises(Unreadable, match=r"shutdown --keep"):
        handover.check(version)


def test_this_version_reads_what_it_writes() -> None:
    handover.check(handover.VERSION)


def test_a_document_that_cannot_be_written_leaves_no_descriptor(monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        handover.pack({})
    assert descriptors() == before


def test_a_program_that_is_not_there_is_an_error_and_nothing_stays_inheritable() -> None:
    fd = os.memfd_create("x")
    with pytest.raises(FileNotFoundError):
        handover.become(["/none"], {}, [fd])
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_the_program_that_takes_over_has_the_descriptors_and_the_pid() -> None:
    fd = os.memfd_create("x")
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(write_fd, 1)
        handover.become(["/bin/sh", "-c", f'echo $$; readlink "/proc/$$/fd/{fd}"'], {"PATH": os.environ["PATH"]}, [fd])
    os.close(write_fd)
    os.waitpid(pid, 0)
    with open(read_fd, encoding="utf-8") as told:
        assert told.read().split("\n")[:2] == [str(pid), "/memfd:x (deleted)"]
    os.close(fd)
