"""What lies in a directory of manifests, by stat alone: the truth that watching only hints at.

Blocking, about 5 us per file: runs in a thread. Reads no file.
"""

import errno
import os
import stat
from dataclasses import dataclass, field

from reconciler.model.problems import Problem

ENDINGS = (".yaml", ".yml", ".json")
MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ENTRIES = 500_000  # a mistyped `-f /` must end some time

Stamp = tuple[int, int, int, int]
"""mtime_ns, ctime_ns, inode, size: a file whose stamp is the same was not written since."""


@dataclass(slots=True)
class Survey:
    """What was found. Paths begin with the root as it was given; links are followed, each directory is entered once."""

    present: bool = True
    error: str = ""
    files: dict[str, Stamp] = field(default_factory=dict)  # regular files of a size to be read, in the order of paths
    problems: dict[str, Problem] = field(default_factory=dict)  # of files and directories that cannot be read, by path
    unreadable: set[str] = field(default_factory=set)  # directories that could not be listed
    root_identity: tuple[int, int] = (0, 0)  # (device, inode) of what the root leads to
    link_targets: set[str] = field(default_factory=set)  # real directories outside that links lead to
    directories: int = 0


def survey(root: str) -> Survey:
    """Look at everything below `root` (or at `root` alone, when it is a file)."""
    found = Survey()
    try:
        status = os.stat(root)
    except OSError as error:
        # A missing or dangling root is absence; anything else (permission, I/O error) says nothing about it.
        found.present = False
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            found.error = f"cannot be read: {error.strerror}"
        return found
    found.root_identity = (status.st_dev, status.st_ino)
    if not stat.S_ISDIR(status.st_mode):
        _note(found, root, status)
        return found
    walk = _Walk(found)
    walk.enter(root, found.root_identity, 0)
    # Links come last: what lies in the directory itself is named by its own path, whatever else leads to it.
    while walk.links and not found.error:
        path, depth = walk.links.pop(0)
        walk.follow(path, depth)
    found.directories = len(walk.entered)
    found.files = dict(sorted(found.files.items()))
    if root in found.unreadable:
        found.error = found.problems[root].message
    return found


class _Walk:
    """One walk through the tree: what it entered, and which links to directories are still to be followed."""

    def __init__(self, found: Survey) -> None:
        self.found = found
        self.links: list[tuple[str, int]] = []
        self.entered: set[tuple[int, int]] = set()
        self.entries = 0

    def follow(self, path: str, depth: int) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            self.found.problems[path] = _unreadable(path, error)
            self.found.unreadable.add(path)
            return
        self.found.link_targets.add(os.path.realpath(path))
        self.enter(path, (status.st_dev, status.st_ino), depth)

    def enter(self, folder: str, identity: tuple[int, int], depth: int) -> None:
        if identity in self.entered or self.found.error:
            return  # a loop, or a second way to the same place
        self.entered.add(identity)
        if depth > MAX_DEPTH:
            self.found.problems[folder] = Problem(folder, 0, 1, "", f"is more than {MAX_DEPTH} directories deep")
            self.found.unreadable.add(folder)
            return
        folders = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.entries += 1
                    if self._is_folder(entry, depth):
                        folders.append(entry)
        except OSError as error:
            self.found.problems[folder] = _unreadable(folder, error)
            self.found.unreadable.add(folder)
            return
        if self.entries > MAX_ENTRIES:
            self.found.error = f"holds more than {MAX_ENTRIES} files; this is not a directory of manifests"
        for entry in sorted(folders, key=lambda entry: entry.name):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            self.enter(entry.path, (status.st_dev, status.st_ino), depth + 1)

    def _is_folder(self, entry: "os.DirEntry[str]", depth: int) -> bool:
        """Note a file or a link; True for a directory that is to be entered."""
        name = entry.name
        if name.startswith("."):
            return False
        if entry.is_symlink():
            self._note_link(entry, depth)
            return False
        if entry.is_dir(follow_symlinks=False):
            return True
        if name.endswith(ENDINGS):
            try:
                _note(self.found, entry.path, entry.stat())
            except FileNotFoundError:
                pass  # removed meanwhile: absent
            except OSError as error:
                self.found.problems[entry.path] = _unreadable(entry.path, error)
        return False

    def _note_link(self, entry: "os.DirEntry[str]", depth: int) -> None:
        is_manifest = entry.name.endswith(ENDINGS)
        try:
            status = entry.stat()
        except OSError as error:
            # A dangling link may be half of a swap: what was behind it is not gone as long as the link stands.
            if is_manifest and os.path.lexists(entry.path):
                self.found.problems[entry.path] = _unreadable(entry.path, error)
            elif error.errno not in (errno.ENOENT, errno.ELOOP):
                self.found.problems[entry.path] = _unreadable(entry.path, error)
                self.found.unreadable.add(entry.path)
            return
        if stat.S_ISDIR(status.st_mode):
            self.links.append((entry.path, depth + 1))
        elif is_manifest:
            _note(self.found, entry.path, status)
            self.found.link_targets.add(os.path.dirname(os.path.realpath(entry.path)))


def _note(found: Survey, path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = stat.filemode(status.st_mode)[0]
        what = {"p": "a FIFO", "s": "a socket", "c": "a device", "b": "a device", "d": "a directory"}.get(
            kind, "special"
        )
        found.problems[path] = Problem(path, 0, 1, "", f"is {what}, not a regular file")
    elif status.st_size > MAX_BYTES:
        message = f"has {status.st_size:,} bytes; a manifest has at most {MAX_BYTES:,}"
        found.problems[path] = Problem(path, 0, 1, "", message)
    else:
        found.files[path] = _stamp(status)


def stamp_of(path: str) -> Stamp | None:
    """The stamp of a file now; None when it is gone."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(path, 0, 1, "", f"cannot be read: {error.strerror}")
