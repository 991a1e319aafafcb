"""Code that other users may run: a clone below a home is closed to them (Debian's /root is), and so is its interpreter.

Tests that become somebody else run a copy then, with the interpreter that the virtual environment was made from.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import reconciler

PACKAGE = Path(reconciler.__file__).parent


def open_code(folder: Path) -> tuple[str, dict[str, str]]:
    """An interpreter and variables with which any user can run reconciler. `folder`, open to all, may be filled."""
    if _is_open(Path(sys.executable)) and _is_open(PACKAGE):
        return sys.executable, {}
    place = folder / "code"
    shutil.copytree(PACKAGE, place / "reconciler", ignore=shutil.ignore_patterns("*.pyc.*"))  # those are just written
    for found in _dependencies():
        copy = shutil.copytree if found.is_dir() else shutil.copy
        copy(found, place / found.name)
    return str(getattr(sys, "_base_executable", sys.executable)), {"PYTHONPATH": str(place)}


def _is_open(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _dependencies() -> Iterator[Path]:
    """What is installed of all that reconciler needs, and of all that those need."""
    todo, known = ["reconciler"], set()
    seen: set[Path] = set()
    while todo:
        name = todo.pop()
        if name in known:
            continue
        known.add(name)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another version of Python
        for line in dist.requires or ():
            if "extra ==" not in line and (found := re.match(r"[A-Za-z0-9._-]+", line)):
                todo.append(found[0])
        tops = {file.parts[0] for file in dist.files or () if not file.parts[0].startswith((".", "__pycache__"))}
        for path in sorted(Path(str(dist.locate_file(top))) for top in tops):
            if name != "reconciler" and path not in seen and os.path.exists(path):
                seen.add(path)
                yield path
