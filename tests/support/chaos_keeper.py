"""The keeper of a chaos run: `python chaos_keeper.py --state-dir DIR -- ARGUMENTS`. The product, with other figures.

A controller that dies a thousand times in a row is not to be waited for longer and longer, and shall go on reading
manifests; and its journal is small, so that a checkpoint is always near when it dies. Of each segment a copy is kept
before a checkpoint takes its place: who judges the run has to read every record, however slow he is. All else is as it
ships.
"""

import os
import shutil
import sys
import time

from reconciler import app, keeper
from reconciler.adapters.journal import SEGMENT, SegmentJournal
from reconciler.keeping import footing
from reconciler.keeping.services import Limits
from reconciler.statelock import Refused

JOURNAL_BYTES = 256 << 10
KEPT = "segments"  # beside the state directory: copies, named by the time at which they were made


class Patient(Limits):
    """Deaths are what this is about."""

    safe_mode_deaths = 1_000_000_000
    first_delay_seconds = 0.01
    longest_delay_seconds = 0.1


class Kept(SegmentJournal):
    """Of a segment that a controller did not come to replace there may be two copies, the second one longer."""

    def _replace(self, content: bytes, size: int) -> None:
        segment = os.path.join(self._directory, SEGMENT)
        folder = os.path.join(self._directory, os.pardir, os.pardir, os.pardir, KEPT)
        if os.path.exists(segment):
            copy = os.path.join(folder, f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME):020d}")
            shutil.copyfile(segment, f"{copy}.new")
            os.rename(f"{copy}.new", copy)
        super()._replace(content, size)


def main(arguments: list[str]) -> int:
    if arguments[0] == "controller":
        app.JOURNAL_BYTES = JOURNAL_BYTES
        app.SegmentJournal = Kept  # type: ignore[misc]
        del sys.argv[1]  # what it says of itself at a rehearsal
        return app.main(arguments[1:])
    footing.keep_standard_streams()
    state_dir, handover_fd, rest = keeper.parse(arguments)
    ours = [sys.executable, __file__]
    commands = {**keeper.COMMANDS, "keeper": ours, "controller": [*ours, "controller"]}
    try:
        return keeper.run(state_dir, rest, footing.Log(2), Patient(), commands, handover_fd)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return refused.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
