"""Small disks of their own: to be filled, and to be broken. They need root, and are gone when the test is.

A tmpfs is full when we say so. An ext4 in a file can also fail as a disk does that breaks: the kernel then takes no
more writes, not even from who has files open (`errors=remount-ro`).
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

BALLAST = "ballast"


class Disk:
    """A mounted disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave not one byte."""
        fd = os.open(self.path / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                pass  # full, for blocks of this size
        os.close(fd)

    def free(self) -> None:
        """There is room again."""
        (self.path / BALLAST).unlink(missing_ok=True)

    def break_down(self) -> None:
        """From now on it can be read only, whoever has it open. Only for an ext4."""
        _do("mount", "-o", "remount,abort", self.path)


@contextmanager
def small_disk(path: Path, size: str = "64m") -> Iterator[Disk]:
    """A tmpfs at `path`."""
    path.mkdir(parents=True, exist_ok=True)
    _do("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", path)
    try:
        yield Disk(path)
    finally:
        _do("umount", "--lazy", path)


@contextmanager
def ext4_disk(path: Path, image: Path, size: str = "100M") -> Iterator[Disk]:
    """An ext4 at `path`, whose content is in `image`."""
    path.mkdir(parents=True, exist_ok=True)
    _do("truncate", "-s", size, image)
    _do("mkfs.ext4", "-q", "-m", "0", image)
    _do("mount", "-o", "loop", image, path)
    try:
        yield Disk(path)
    finally:
        _do("umount", "--lazy", path)
        image.unlink()


def _do(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
