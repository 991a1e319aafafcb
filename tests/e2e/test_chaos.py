"""A short form of `make chaos`: controller, pump and keeper are killed under load, and the ledger judges.

The schedule is the same each time, what it meets is not. SEED=n draws another one, KILLS=n a longer one.
"""

import os
from pathlib import Path

import pytest

from support.chaos_run import chaos_in, table

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("SEED", "42"))
PATIENCE_SECONDS = 600.0  # nobody waits so long unless the machine hardly moves


@pytest.mark.timeout(PATIENCE_SECONDS)
def test_whoever_is_killed_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with chaos_in(tmp_path, SEED) as chaos:
        chaos.round(KILLS)
        print(table(chaos))
        assert not chaos.judge.faults
        assert all(chaos.house.kills.values()), "each of the three was killed"
        assert chaos.judge.tally.starts > 50, "there was a load"
        assert chaos.judge.logs.bytes > 100_000
