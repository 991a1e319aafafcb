"""Opens, renames and removes files of logs without being led astray by links on the way.

Whoever may write to a folder above a log can put a link in the place of the next one, and a daemon that is root would
follow it anywhere. So a link on the way counts only if it belongs to root or to ourselves, for nobody else can make
such a one; and a link in the place of the file itself never does. Every step is taken from the descriptor of the one
before, so nothing can be exchanged between look and step.

Standard library only: the pump writes with it, the controller reads with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat

SPARE_DESCRIPTORS = 16  # for a connection, a rotation, an index: without one of them everybody's log would stand still
LINKS_AT_MOST = 40  # as the kernel
FOLDER_MODE = 0o755
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # never waiting for what is no file
_OPENAT2 = 437  # its number is the same on every architecture
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 4


class Refused(OSError):
    """We could, and will not: `strerror` is the whole reason, with the name in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EPERM, reason)


def keep(fd: int) -> int:
    """This descriptor, for good. The kernel gives the lowest that is free: if that is so high, we have to do without.

    OSError(EMFILE) then, and it is closed.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and fd >= limit - SPARE_DESCRIPTORS:
        os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fd


class _OpenHow(ctypes.Structure):
    """The kernel's struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_how = _OpenHow(_FOLDER, 0, _RESOLVE_NO_SYMLINKS)


class Folder:
    """`with Folder(path) as fd:` the descriptor of a folder, for the `dir_fd` of others. It can be read by nobody.

    `make`: what is missing of it is made. OSError, or Refused for a link that somebody else may have put there.
    """

    __slots__ = ("_fd", "_make", "_path")

    def __init__(self, path: str, make: bool = False) -> None:
        self._path = path or "."
        self._make = make
        self._fd = -1

    def __enter__(self) -> int:
        # Without a link on the way, as nearly always, one call does it. With one, or on an old kernel: step by step.
        self._fd = _syscall(_OPENAT2, _AT_FDCWD, os.fsencode(self._path), ctypes.byref(_how), ctypes.sizeof(_how))
        if self._fd < 0:
            self._fd = _walked(self._path, self._make)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _walked(path: str, make: bool) -> int:
    """Each part of the way by itself."""
    ahead = path.split("/")[::-1]
    at = os.open("/" if path.startswith("/") else ".", _FOLDER)
    links = 0
    try:
        while ahead:
            name = ahead.pop()
            if name in ("", "."):
                continue
            step = _step(at, name, make)
            try:
                target = _target(step, name, path)
            except OSError:
                os.close(step)
                raise
            if target is None:
                at, step = step, at
            else:
                links += 1
                if links > LINKS_AT_MOST:
                    os.close(step)
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                ahead += target.split("/")[::-1]
                if target.startswith("/"):
                    os.close(at)
                    at = os.open("/", _FOLDER)
            os.close(step)
    except OSError:
        os.close(at)
        raise
    return at


def _step(at: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _STEP, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=at)
    except FileExistsError:  # somebody was faster
        pass
    return os.open(name, _STEP, dir_fd=at)


def _target(step: int, name: str, path: str) -> str | None:
    """Where a link leads, if it is one that we follow; None: it is a folder."""
    status = os.fstat(step)
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISLNK(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if status.st_uid not in (0, os.geteuid()):
        raise Refused(
            f"{name} on the way to {path} is a symbolic link that belongs to user {status.st_uid};"
            " only those of root and of the daemon's own user are followed"
        )
    return os.readlink("", dir_fd=step)


def make_folder(path: str) -> None:
    """See to it that the folder is there."""
    with Folder(path, make=True):
        pass


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """As os.open, close-on-exec, and never waiting. A link in its place is ELOOP."""
    folder, name = os.path.split(path)
    with Folder(folder) as fd:
        return os.open(name, flags | _FILE, mode, dir_fd=fd)


def status(path: str) -> os.stat_result:
    """Of what has this very name."""
    folder, name = os.path.split(path)
    with Folder(folder) as fd:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def exists(path: str) -> bool:
    """Whether anything has this name."""
    try:
        status(path)
    except OSError:
        return False
    return True


def rename(path: str, name: str) -> None:
    """Another name in the same folder."""
    folder, old = os.path.split(path)
    with Folder(folder) as fd:
        os.rename(old, name, src_dir_fd=fd, dst_dir_fd=fd)


def unlink(path: str) -> None:
    """Remove the name, as far as it is there and ours to remove."""
    folder, name = os.path.split(path)
    try:
        with Folder(folder) as fd:
            os.unlink(name, dir_fd=fd)
    except OSError:
        pass


def names(path: str) -> list[str]:
    """What the folder holds."""
    with Folder(path) as folder:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)
