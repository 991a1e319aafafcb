"""The interpreter of a controller: what its garbage collector is spared, and how it ends.

app.py stops the collector before it loads the rest; from `settle_memory` on it is at work.
"""

import gc
import os
import sys
from typing import NoReturn


def settle_memory() -> None:
    """What was imported and built stays: let the garbage collector look at what comes and goes, and less often.

    Not collected before: a thousand small objects of what was loaded are in circles, and to find them takes longer
    than to read a hundred manifests.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def end(code: int) -> NoReturn:
    """End at once. To take apart ten thousand objects one by one takes seconds, and a thread may wait for a disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it any more
    os._exit(code)
