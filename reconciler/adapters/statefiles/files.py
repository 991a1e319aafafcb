"""How a file is put in place so that a crash leaves the old content or the new, and read so that damage is reported.

Knows nothing of what is in the files.
"""

import ctypes
import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from reconciler.model.objects import StateWriteFailed
from reconciler.model.problems import Problem

BULK = 16  # from so many files on, one syncfs is cheaper than an fsync for each (100 ms for 10,000)

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def replace_all(texts: Sequence[tuple[str, str]]) -> None:
    """Write all (path, text) beside their places, make them durable, then put all in place."""
    if not texts:
        return
    one_sync = len(texts) >= BULK
    path = texts[0][0]
    try:
        for path, text in texts:
            _write(path, text, durable=not one_sync)
        if one_sync:
            _sync_filesystem(os.path.dirname(path))
        for path, _ in texts:
            os.rename(_temporary(path), path)
        _sync_folders({os.path.dirname(path) for path, _ in texts})
    except OSError as error:
        for leftover, _ in texts:
            _discard(_temporary(leftover))
        raise StateWriteFailed(path, error.strerror or str(error)) from error


def replace_quickly(path: str, text: str) -> None:
    """Put one file in place for readers of today: whole, but not safe from a power cut. Raises OSError."""
    _write(path, text, durable=False)
    os.rename(_temporary(path), path)


def replace_each_quickly(texts: Sequence[tuple[str, str]]) -> None:
    """The same for many; `sync_all` makes them safe. Raises StateWriteFailed at the first that the disk refuses."""
    path = ""
    try:
        for path, text in texts:
            replace_quickly(path, text)
    except OSError as error:
        raise StateWriteFailed(path, error.strerror or str(error)) from error


def sync_all(folder: str) -> None:
    """Make all that was written to the file system of this folder safe from a power cut."""
    try:
        _sync_filesystem(folder)
    except OSError as error:
        raise StateWriteFailed(folder, error.strerror or str(error)) from error


def flush(folders: Collection[str]) -> None:
    """Make renames and removals in these folders durable."""
    try:
        _sync_folders(folders)
    except OSError as error:
        raise StateWriteFailed(", ".join(sorted(folders)), error.strerror or str(error)) from error


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def _write(path: str, text: str, *, durable: bool) -> None:
    """Write the text beside its place, for the owner only; folders are made as needed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(_temporary(path), flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(_temporary(path), flags, 0o600)
    try:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(fd, rest) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it was never written, or the disk is read-only; a stray one is overwritten the next time


def remove(path: str, rename_to: str | None = None) -> None:
    """Take a file away; it is no error that an earlier controller did so and did not live to say it."""
    try:
        if rename_to is None:
            os.unlink(path)
        else:
            os.rename(path, rename_to)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateWriteFailed(path, error.strerror or str(error)) from error


def _sync_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # nothing was ever in it
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sync_filesystem(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)


def read_json(path: str, build: Callable[[Any], T], problems: list[Problem]) -> T | None:
    """What is made of a file's content; a broken one is set aside as `.broken`, so that it is reported once."""
    try:
        with open(path, "rb") as file:
            return build(json.load(file))
    except OSError as error:
        problems.append(Problem(path, 0, 1, "", f"cannot be read: {error.strerror}"))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        try:
            os.rename(path, path + ".broken")
        except OSError:
            pass  # a read-only disk: it stays, and is reported again
        message = f"is damaged and was set aside as {os.path.basename(path)}.broken: {error}"
        problems.append(Problem(path, 0, 1, "", message, severity="warning"))
    return None
