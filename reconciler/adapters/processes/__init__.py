"""The process table: starts, signals, watches and ends processes; the only room that does.

`table` keeps one pidfd per process and reports exits, `spawn` starts, `prepared` keeps what is started again and again
in the form in which that is quick, `shim` writes the command line that takes on another user or other limits, `reasons`
says why something could not be started, `priority` lets the controller run before them, `signals` hits nobody else,
`trees` knows who descends from whom, `procfs` reads the kernel's files.
"""

from reconciler.adapters.processes.priority import run_ahead
from reconciler.adapters.processes.table import LinuxProcessTable

__all__ = ["LinuxProcessTable", "run_ahead"]
