"""Reads logs for people: the last lines, those since a moment, those of an earlier run, and what comes from now on.

A log is one stream of bytes that lies in segments (reconciler/segments.py). A place in it is (number, offset), where
the open file has the number it will get when it is closed: so places stay true while the pump rotates and compresses
underneath. `spans` finds where to begin and end, `reading` prints what lies between; `worklogs` looks at
the end for what a process does. Only blocks are held in memory, never a file; reading happens in threads, since a disk
may be slow. Nothing here writes.
"""

from reconciler.adapters.logfiles.choosing import log_files
from reconciler.adapters.logfiles.reading import LogFile, read_logs
from reconciler.adapters.logfiles.spans import LogOptions
from reconciler.adapters.logfiles.worklogs import WorkLogThreads

__all__ = ["LogFile", "LogOptions", "WorkLogThreads", "log_files", "read_logs"]
