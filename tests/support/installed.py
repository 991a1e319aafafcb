"""A copy of the package to run a daemon from: what an upgrade, or a bug of another version, would make of it."""

import re
import shutil
from pathlib import Path

import pytest

import reconciler
from support.daemon import Daemon

SOURCE = Path(reconciler.__file__).parent


class Installed:
    """A copy of the package that a daemon runs from, as an installation that an upgrade changes under its feet."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self.package = daemon.folder / "site" / "reconciler"
        # Compiled modules come along, and hold as long as their source does; what is being compiled does not.
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("*.pyc.*"))
        before = daemon.environment
        more = {"PYTHONPATH": str(self.package.parent), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        monkeypatch.setattr(daemon, "environment", lambda: before() | more)

    def upgrade_to(self, version: str) -> None:
        """Put another version in place, module by module as an installer does."""
        self.change("__init__.py", r'__version__ = ".*"', f'__version__ = "{version}"')

    def change(self, name: str, pattern: str, replacement: str) -> None:
        """Edit one file of it."""
        path = self.package / name
        text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1)
        assert count == 1
        aside = path.with_suffix(".new")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)

    def break_(self, name: str) -> None:
        """Half of an upgrade: this file ends in the middle."""
        (self.package / name).write_text("def half(:\n", encoding="utf-8")

    def mend(self, name: str) -> None:
        """The file as it shall be."""
        shutil.copyfile(SOURCE / name, self.package / name)
