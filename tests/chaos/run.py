"""`make chaos`: kill controller, pump and keeper a thousand times under load, and judge. Not part of the tests.

KILLS (1000), SEED (drawn), ROUND (12: kills between two verdicts). Ends with 1 if anything was wrong.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from support.chaos_run import Chaos, chaos_in, table

KILLS = int(os.environ.get("KILLS") or 1000)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
ROUND = int(os.environ.get("ROUND") or 12)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {SEED}, {KILLS} kills, in {folder}", flush=True)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in good order, with all that runs
    with chaos_in(folder, SEED, tell=lambda text: print(text, flush=True)) as chaos:
        while chaos.kills < KILLS:
            chaos.round(min(ROUND, KILLS - chaos.kills))
            progress(chaos, began)
    print(f"\n{table(chaos)}\n\nseed {SEED}, {time.monotonic() - began:.0f} s")
    if chaos.judge.faults:
        print(f"WRONG; what there is to look at stays in {folder}")
        return 1
    shutil.rmtree(folder)
    print("nothing was lost or doubled")
    return 0


def progress(chaos: Chaos, began: float) -> None:
    kills = chaos.house.kills
    faults = len(chaos.judge.faults)
    print(
        f"{chaos.kills:5} kills ({kills['controller']} controller, {kills['pump']} pump, {kills['keeper']} keeper), "
        f"{chaos.ledger.began} processes, {chaos.judge.logs.bytes / 1e6:.1f} MB of logs, "
        f"{time.monotonic() - began:.0f} s: {f'{faults} faults' if faults else 'right so far'}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
