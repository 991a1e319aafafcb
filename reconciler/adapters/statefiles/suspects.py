"""run/suspects.json and run/at: over which objects controllers died, so that the next one leaves those alone.

While a controller is careful (safe mode) it writes down which object it is at before it touches it. If that stands
there when the next one starts, the one before died over it. No disk that refuses stops anything here: then it is only
not remembered. Written for a death of the process, not of the machine: nothing is flushed.
"""

import json
import os
from typing import Any

from reconciler import __version__
from reconciler.adapters.statefiles.files import replace_quickly
from reconciler.model.objects import Accepted

AT_BYTES = 1024  # a key, a uid and a number, with much room
_NOTHING = b" " * AT_BYTES


class SuspectFiles:
    """The engine's Suspects on disk. `careful`: write down what we are at."""

    def __init__(self, run_dir: str, *, careful: bool) -> None:
        self._path, at_path = os.path.join(run_dir, "suspects.json"), os.path.join(run_dir, "at")
        self._known = _read(self._path)
        died_at = _read(at_path, AT_BYTES).get("at") if careful else None
        self._fd = -1
        try:
            if careful:
                self._fd = os.open(at_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            elif os.path.exists(at_path):
                os.unlink(at_path)
        except OSError:
            pass
        if isinstance(died_at, list) and len(died_at) == 2:
            self._known[str(died_at[0])] = str(died_at[1])
            self._save()
        self.over()

    def knows(self, accepted: Accepted) -> bool:
        """Whether a controller died over this very generation."""
        return self._known.get(str(accepted.key)) == _stamp(accepted)

    def at(self, accepted: Accepted) -> None:
        """From now on this is what we are at."""
        if self._fd >= 0:
            self._note(json.dumps({"at": [str(accepted.key), _stamp(accepted)]}).encode())

    def over(self) -> None:
        """The end of `at`: we lived."""
        if self._fd >= 0:
            self._note(b"{}")

    def clear(self, accepted: Accepted) -> None:
        """Somebody changed it, or says that it shall be tried again."""
        if self._known.pop(str(accepted.key), None) is not None:
            self._save()

    def _note(self, content: bytes) -> None:
        try:
            os.pwrite(self._fd, (content + _NOTHING)[:AT_BYTES], 0)
        except OSError:
            pass  # a disk that takes nothing, though the room was taken before

    def _save(self) -> None:
        try:
            replace_quickly(self._path, json.dumps(self._known))
        except OSError:
            pass


def _stamp(accepted: Accepted) -> str:
    """Another version may live with what this one died over."""
    return f"{accepted.uid} {accepted.generation} {__version__}"


def _read(path: str, most: int = 1 << 20) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(most))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
