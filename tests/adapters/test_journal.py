"""A journal gives back whole records, in order, whatever happened to its writer or its disk."""

import errno
import mmap
import os
import random
import signal
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters import journal as module
from reconciler.adapters.journal import DAMAGED, SEGMENT, SPARE, SegmentJournal
from support.descriptors import descriptors
from support.fakes import MemoryJournal

RECORD = ["exited", "0123456789abcdef", 3, "Failed", 1, None, 1234.5, 3.25, 1, False, True, "é\ud800"]
WRITER = """
import sys
from reconciler.adapters.journal import SegmentJournal
journal = SegmentJournal(sys.argv[1], segment_bytes=16384)
print("ready", flush=True)
number = 0
while True:
    number += 1
    journal.append(["n", number, "x" * (number % 97)])
    if journal.full:
        journal.checkpoint([["n", number, "checkpoint"]])
"""


def opened(path: Path, **options: Any) -> SegmentJournal:
    return SegmentJournal(str(path / "journal"), **options)


def test_what_was_appended_is_replayed_in_order_by_whoever_opens_it_next(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    records = [[*RECORD, number] for number in range(100)]
    for record in records:
        journal.append(record)
    assert list(journal.replay()) == records
    journal.close()
    again = opened(tmp_path)
    assert list(again.replay()) == records
    assert (again.damage, again.boot_changed, again.writable, again.full) == (None, False, True, False)


def test_infinity_survives(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(["stop", float("inf"), -float("inf")])
    assert list(journal.replay()) == [["stop", float("inf"), -float("inf")]]


def test_a_journal_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for number in range(5):
        journal = opened(tmp_path)
        journal.append(["n", number], durable=True)
        journal.close()
    assert [record[1] for record in opened(tmp_path).replay()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", [opened, lambda _: MemoryJournal()], ids=["disk", "memory"])
def test_a_checkpoint_replaces_all_that_was_written(make: Any, tmp_path: Path) -> None:
    journal = make(tmp_path)
    for number in range(50):
        journal.append(["old", number])
    journal.checkpoint([["restored", 1], ("restored", 2)])
    journal.append(["new", 3])
    assert list(journal.replay()) == [["restored", 1], ["restored", 2], ["new", 3]]


def test_a_journal_asks_for_a_checkpoint_at_half_and_takes_more_all_the_same(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=8192)
    count = 0
    while not journal.full:
        journal.append(["n", count])
        count += 1
    assert 4096 / 24 < count < 4096 / 16
    for number in range(count, 20 * count):
        journal.append(["n", number])
    journal.append(["long", "x" * 100_000])
    journal.close()
    again = opened(tmp_path, segment_bytes=8192)
    assert [record[1] for record in again.replay()][:-1] == list(range(20 * count))
    assert again.writable


def test_after_a_checkpoint_there_is_room_however_large_it_was(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=8192)
    journal.checkpoint([["restored", "x" * 1000]] * 100)
    assert not journal.full


def test_a_header_of_another_boot_is_told_until_the_checkpoint(tmp_path: Path) -> None:
    journal = opened(tmp_path, boot_id="one")
    journal.append(["n", 1])
    journal.close()
    after = opened(tmp_path, boot_id="two")
    assert after.boot_changed
    assert list(after.replay()) == [["n", 1]]
    after.checkpoint([["n", 1]])
    assert not after.boot_changed
    after.close()
    assert not opened(tmp_path, boot_id="two").boot_changed


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(["n", 1])
    assert stat.S_IMODE(os.stat(tmp_path / "journal").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "journal" / SEGMENT).st_mode) == 0o600


# ---- damage ----


def written(path: Path, count: int) -> Path:
    journal = opened(path, segment_bytes=8192)
    for number in range(count):
        journal.append(["n", number])
    journal.close()
    return path / "journal" / SEGMENT


def test_a_torn_tail_is_left_out_without_a_word(tmp_path: Path) -> None:
    """A power loss may write the header's page and not the payload's."""
    segment = written(tmp_path, 10)
    content = bytearray(segment.read_bytes())
    at = content.rindex(b'["n",9]')
    content[at : at + 7] = bytes(7)
    segment.write_bytes(content)
    journal = opened(tmp_path)
    assert [record[1] for record in journal.replay()] == list(range(9))
    assert journal.damage is None
    journal.append(["n", 99])
    journal.close()
    assert [record[1] for record in opened(tmp_path).replay()] == [*range(9), 99]


def test_damage_in_the_middle_ends_the_replay_is_told_and_kept_for_a_look(tmp_path: Path) -> None:
    segment = written(tmp_path, 10)
    content = bytearray(segment.read_bytes())
    content[content.index(b'["n",4]') + 5] = ord("7")
    segment.write_bytes(content)
    journal = opened(tmp_path)
    assert [record[1] for record in journal.replay()] == [0, 1, 2, 3]
    assert journal.damage is not None
    assert "damaged" in journal.damage
    assert (tmp_path / "journal" / DAMAGED).read_bytes() == bytes(content)


def test_nothing_of_what_followed_a_damage_comes_back_to_life(tmp_path: Path) -> None:
    segment = written(tmp_path, 10)
    content = bytearray(segment.read_bytes())
    content[content.index(b'["n",4]') + 5] = ord("7")
    segment.write_bytes(content)
    journal = opened(tmp_path)
    journal.append(["m", 4])  # of the length of the damaged one: the next would follow at once
    journal.close()
    assert list(opened(tmp_path).replay()) == [["n", 0], ["n", 1], ["n", 2], ["n", 3], ["m", 4]]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 5000, bytes(5000), b"apiVersion: reconciler/v1\n" * 400])
def test_what_is_no_journal_is_replaced_by_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / SEGMENT).write_bytes(content)
    journal = opened(tmp_path)
    assert list(journal.replay()) == []
    journal.append(["n", 1])
    journal.close()
    assert list(opened(tmp_path).replay()) == [["n", 1]]


def test_a_journal_of_a_later_version_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_VERSION", 3)
    written(tmp_path, 3)
    monkeypatch.undo()
    journal = opened(tmp_path)
    assert list(journal.replay()) == []
    assert journal.damage is not None
    assert (tmp_path / "journal" / DAMAGED).exists()


@given(where=st.integers(0, 4095), bit=st.integers(0, 7))
def test_a_flipped_bit_never_invents_a_record(tmp_path_factory: pytest.TempPathFactory, where: int, bit: int) -> None:
    segment = written(tmp_path_factory.mktemp("flip"), 100)
    content = bytearray(segment.read_bytes())
    content[where] ^= 1 << bit
    segment.write_bytes(content)
    journal = SegmentJournal(str(segment.parent))
    found = list(journal.replay())
    journal.close()
    assert found == [["n", number] for number in range(len(found))]


# ---- faults ----


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_the_journal_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    for number in range(1000):
        journal.append(["n", number])
    assert (journal.writable, journal.full) == (False, True)
    kept = [record[1] for record in journal.replay()]
    assert kept == list(range(len(kept)))
    journal.checkpoint([["restored", "x" * 4096]])  # more than the spare has room for
    assert not journal.writable
    monkeypatch.undo()
    journal.append(["n", 1000])  # a journal has no holes: not before the next checkpoint
    assert [record[1] for record in journal.replay()] == kept
    journal.checkpoint([["restored"]])
    journal.append(["n", 1001])
    assert journal.writable
    assert list(journal.replay()) == [["restored"], ["n", 1001]]


def test_a_disk_that_is_full_later_takes_all_that_is_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path, segment_bytes=8192)
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    for number in range(10_000):
        journal.append(["n", number])
        if journal.full:
            journal.checkpoint([["up to", number]])
    assert journal.writable
    journal.close()
    checkpoint, *rest = opened(tmp_path, segment_bytes=8192).replay()
    assert rest == [["n", number] for number in range(checkpoint[1] + 1, 10_000)]


def test_what_the_spare_holds_of_its_time_before_is_neither_a_record_nor_damage(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=8192)
    for generation in range(4):
        for number in range(100):
            journal.append(["n", generation, number])
        journal.checkpoint([["restored", generation]])
    journal.append(["n", 9, 9])
    end, segment = journal._end, tmp_path / "journal" / SEGMENT
    journal.close()
    content = bytearray(segment.read_bytes())
    assert b'["n",2,' in content[end:], "it lies there"
    content[end : end + 8] = (7 << 32 | 9).to_bytes(
        8, sys.byteorder
    )  # of a power loss: a header that did not get whole
    segment.write_bytes(content)
    again = opened(tmp_path, segment_bytes=8192)
    assert list(again.replay()) == [["restored", 3], ["n", 9, 9]]
    assert again.damage is None


def test_without_the_exchange_of_names_a_checkpoint_is_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        def renameat2(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(module, "_libc", Old())
    journal = opened(tmp_path)
    journal.append(["n", 1])
    journal.checkpoint([["restored"]])
    journal.append(["n", 2])
    journal.close()
    assert os.listdir(tmp_path / "journal") == [SEGMENT]
    assert list(opened(tmp_path).replay()) == [["restored"], ["n", 2]]


def test_a_journal_of_the_version_before_is_read_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(*values: object) -> bytes:
        payload = module._encode(values)
        return (
            (zlib.crc32(payload) << 32 | len(payload)).to_bytes(8, sys.byteorder) + payload + bytes(-len(payload) % 8)
        )

    (tmp_path / "journal").mkdir()
    written = record("journal", 1, module._boot_id()) + record("n", 1)
    (tmp_path / "journal" / SEGMENT).write_bytes(written.ljust(8192, b"\0"))
    journal = opened(tmp_path)
    journal.append(["n", 2])
    journal.close()
    again = opened(tmp_path)
    assert (again.damage, again.boot_changed) == (None, False)
    assert list(again.replay()) == [["n", 1], ["n", 2]]


def test_a_refused_checkpoint_leaves_the_old_records_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    journal.append(["n", 1])
    for place, refused in ((os, "posix_fallocate"), (os, "fsync"), (module, "_change_names")):
        monkeypatch.setattr(place, refused, full_disk)
        journal.checkpoint([["restored", "x" * journal._size]])
        monkeypatch.undo()
    journal.append(["n", 2])
    journal.close()
    assert list(opened(tmp_path).replay()) == [["n", 1], ["n", 2]]
    assert sorted(os.listdir(tmp_path / "journal")) == [SEGMENT, SPARE]


def test_a_disk_that_takes_nothing_from_the_start_is_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    journal = opened(tmp_path)
    journal.append(["n", 1], durable=True)
    assert not journal.writable
    assert list(journal.replay()) == []


def test_a_segment_that_cannot_be_written_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 3)
    plain_open = os.open

    def read_only(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return plain_open(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    journal = opened(tmp_path)
    assert [record[1] for record in journal.replay()] == [0, 1, 2]
    assert not journal.writable


def test_a_failing_flush_makes_the_journal_unwritable(tmp_path: Path) -> None:
    journal = opened(tmp_path)

    class Failing(mmap.mmap):
        def flush(self, *_: object) -> None:
            full_disk()

    assert journal._map is not None
    assert journal._words is not None
    journal._words.release()
    journal._map = Failing(journal._fd, journal._size)
    journal._words = memoryview(journal._map).cast("Q")
    journal.append(["n", 1], durable=True)
    assert not journal.writable


def test_a_journal_leaves_no_descriptor_open(tmp_path: Path) -> None:
    journal = opened(tmp_path)  # the first one imports and caches what it needs
    journal.close()
    before = len(descriptors())
    for _ in range(20):
        journal = opened(tmp_path, segment_bytes=4096)
        for number in range(500):
            journal.append(["n", number])
        journal.checkpoint([])
        journal.close()
    assert len(descriptors()) == before


@pytest.mark.parametrize("attempt", range(6))
def test_kill_9_at_any_instant_leaves_a_run_of_whole_records(tmp_path: Path, attempt: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "journal")], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    patience = random.Random(attempt).uniform(0.0, 0.15)
    try:
        writer.wait(patience)
    except subprocess.TimeoutExpired:
        writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    journal = opened(tmp_path)
    assert journal.damage is None
    numbers = [record[1] for record in journal.replay()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    for record in journal.replay():
        assert record[2] in ("x" * (record[1] % 97), "checkpoint")


def test_the_memory_journal_refuses_and_recovers_like_a_full_disk() -> None:
    journal = MemoryJournal(limit=4)
    journal.append(["n", 1])
    journal.refuse = True
    journal.append(["n", 2])
    journal.checkpoint([["restored"]])
    assert (journal.writable, journal.full) == (False, True)
    assert list(journal.replay()) == [["n", 1]]
    journal.refuse = False
    journal.append(["n", 3])
    journal.checkpoint([["restored"]])
    assert journal.writable
    assert list(journal.replay()) == [["restored"]]
