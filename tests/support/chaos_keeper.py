"""The keeper of a chaos run: `python chaos_keeper.py --state-dir DIR -- ARGUMENTS`. The product, with other figures.

A controller that dies a thousand times in a row is not to be waited for longer and longer, and shall go on reading
manifests; and its journal is small, so that a checkpoint is always near when it dies. All else is as it ships.
"""

import sys

from reconciler import app, footing, keeper
from reconciler.services import Limits
from reconciler.statelock import Refused

JOURNAL_BYTES = 256 << 10


class Patient(Limits):
    """Deaths are what this is about."""

    safe_mode_deaths = 1_000_000_000
    first_delay_seconds = 0.01
    longest_delay_seconds = 0.1


def main(arguments: list[str]) -> int:
    if arguments[0] == "controller":
        app.JOURNAL_BYTES = JOURNAL_BYTES
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
