"""A short form of `make chaos`: controller, pump and keeper are killed under load, and the ledger judges.

The seed is drawn anew each time and printed; SEED=n repeats a schedule.
"""

import os
import random
from pathlib import Path

import pytest

from support.chaos_run import chaos_in, table

KILLS = 12
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("patient", [True, False], ids=["small journal, no safe mode", "as shipped"])
def test_whoever_is_killed_nothing_is_lost_or_doubled(tmp_path: Path, patient: bool) -> None:
    print(f"seed {SEED}")
    with chaos_in(tmp_path, SEED, patient=patient) as chaos:
        chaos.round(KILLS)
        print(table(chaos))
        assert not chaos.judge.faults
        assert chaos.judge.tally.starts > 50, "there was a load"
        assert chaos.judge.logs.bytes > 100_000
