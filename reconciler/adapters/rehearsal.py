"""Tries out the code that is installed now, in processes of its own, before anything that runs makes room for it.

Each of the three programs knows `--rehearse`: it loads all of itself, looks at what it was given, and ends. What cannot
do that (half of an upgrade, an error in a file, a missing dependency) is found here, and costs nothing.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence

REHEARSAL_SECONDS = 20.0
WORDS_SHOWN = 500  # of what a failed rehearsal said
_PLACE = re.compile(r'File "(.+)", line (\d+)')


class RehearsalFailed(Exception):
    """The installed code would not work. The text says why."""


def command(module: str, *arguments: str) -> list[str]:
    """How a program of ours is started anew, with modules found the way this one found them."""
    return [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", module, *arguments]


async def rehearse(*commands: Sequence[str], seconds: float = REHEARSAL_SECONDS) -> list[str]:
    """What each command printed; all at the same time. Raises RehearsalFailed."""
    # Started right here, not by the threads that wait: for moments this process has the limits of a Program's process,
    # which are the mark of its tree. What another thread forks then would be taken for one of it, and ended.
    running: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            running.append(_start(command))
    except OSError as error:
        for process in running:
            process.kill()
            process.communicate()
        raise RehearsalFailed(f"{command[0]}: {error.strerror}") from None
    return list(await asyncio.gather(*(asyncio.to_thread(_outcome, process, seconds) for process in running)))


def _start(command: Sequence[str]) -> "subprocess.Popen[str]":
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, text=True, errors="replace")


def _outcome(process: "subprocess.Popen[str]", seconds: float) -> str:
    with process:
        try:
            printed, words = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RehearsalFailed(f"it did not start within {seconds:g} seconds") from None
    if process.returncode:
        raise RehearsalFailed(why(words) or f"it ended with {process.returncode}")
    return printed


def why(words: str) -> str:
    """The reason, in what a program said before it failed: of a traceback the last line and the place, else all."""
    lines = words.strip().splitlines()
    if "Traceback (most recent call last):" not in words and not _PLACE.search(words):
        return "; ".join(lines)[:WORDS_SHOWN]
    places = [found for line in lines if (found := _PLACE.search(line))]
    place = f" ({places[-1][1]}, line {places[-1][2]})" if places else ""
    return f"{lines[-1]}{place}"[:WORDS_SHOWN]
