"""From the streams of a Program to the files that are to be read: several streams may have one."""

from collections.abc import Iterable
from typing import Any

from reconciler.adapters.logfiles.frames import Whose
from reconciler.adapters.logfiles.reading import LogFile


def log_files(streams: Iterable[dict[str, Any]], *, of_runs: bool) -> list[LogFile]:
    """Each file once, with those whose lines are wanted. `of_runs`: a run is wanted, so each stream by itself."""
    by_path: dict[str, list[dict[str, Any]]] = {}
    for stream in streams:
        by_path.setdefault(stream["path"], []).append(stream)
    return [file for path, writers in by_path.items() for file in _of_one(path, writers, of_runs=of_runs)]


def _of_one(path: str, writers: list[dict[str, Any]], *, of_runs: bool) -> list[LogFile]:
    framed = writers[0]["format"] != "raw"
    if len(writers) == 1:
        return [LogFile(label(writers[0]), path, framed)]
    wanted = [writer for writer in writers if writer["wanted"]]
    if of_runs:
        return [LogFile(label(w), path, framed, frozenset({_whose(w)}), _whose(w)) for w in wanted]
    everybody = len(wanted) == len(writers) or not framed
    name = str(writers[0]["program"]) if len(wanted) > 1 else label(wanted[0])
    return [LogFile(name, path, framed, None if everybody else frozenset(map(_whose, wanted)))]


def label(stream: dict[str, Any]) -> str:
    """What the lines of one stream are called: `web/3`."""
    return f"{stream['program']}/{stream['ordinal']}" + (" err" if stream["stream"] == "err" else "")


def _whose(stream: dict[str, Any]) -> Whose:
    return stream["ordinal"], stream["stream"]
