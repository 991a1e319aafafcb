"""What an exit costs until its replacement is on its way: everything but the kernel, which is a fake here.

Judge, write down, fold, decide, write down the intent, (start), write down the outcome. It must not depend on how many
replicas a Program has, nor on how many Programs there are.
"""

import logging
import tempfile
from pathlib import Path

from measuring import Result, cpu_us, show
from worlds_of_many import Engineroom

TIMES = 2000
SIZES = ((1, 1), (1, 50), (1, 1000), (100, 10), (1000, 1))


def measured(programs: int, replicas: int) -> Result:
    """One size of engine."""
    with tempfile.TemporaryDirectory() as folder:
        room = Engineroom(Path(folder), programs, replicas)
        assert len(room.kernel.running) == programs * replicas
        us = cpu_us(room.respawn, TIMES)
        room.journal.close()
    return Result(f"exit -> respawn, {programs} x {replicas} replicas", us, 60)


if __name__ == "__main__":
    logging.disable()
    show(measured(*size) for size in SIZES)
