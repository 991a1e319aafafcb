"""`make soak`: 200,000 respawns and 1,000 reloads, or more; then: do memory, descriptors, journal stay flat?

RESPAWNS (200000), RELOADS (1000), MARKS (10: how often it is looked at). The first quarter is the warm-up: after it
nothing may grow from the first look to the last, or it ends with 1.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from support.daemon import daemon_in
from support.soaking import Soak, grown, table

RESPAWNS = int(os.environ.get("RESPAWNS") or 200_000)
RELOADS = int(os.environ.get("RELOADS") or 1000)
MARKS = max(2, int(os.environ.get("MARKS") or 10))
WARM_UP_SHARE = 0.25


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"{RESPAWNS} respawns, {RELOADS} reloads, in {folder}", flush=True)
    with daemon_in(folder) as daemon:
        daemon.portrait = lambda: ""  # type: ignore[method-assign] # too much of it to be looked at
        soak = Soak(daemon, tell=lambda text: print(text, flush=True))
        began = time.monotonic()
        soak.begin()
        marks, shares = [], [WARM_UP_SHARE + (1 - WARM_UP_SHARE) * n / (MARKS - 1) for n in range(MARKS)]
        for share in shares:
            done = marks[-1].respawns if marks else 0
            soak.run(max(0, round(RESPAWNS * share) - done), max(0, round(RELOADS * share) - soak.reloads))
            marks.append(soak.mark())
        seconds = marks[-1].at - began
    print(f"\n{table(marks)}\n")
    rate = marks[-1].respawns / seconds
    print(f"{seconds:.0f} s, {rate:.0f} respawns/s, journal at most {soak.most_journal_bytes / (1 << 20):.1f} MiB")
    found = grown(marks[0], marks[-1])
    for each in found:
        print(f"NOT FLAT: {each}")
    if not found:
        shutil.rmtree(folder)
        print("flat")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
