"""Names of things: objects, replicas, revisions, processes.

A name is not an identity. An object is (name, uid), a process is (pid, start time) within one boot, a revision is the
hash of what a process is started with. Nothing is ever signalled by a bare pid.
"""

from typing import NamedTuple


class Key(NamedTuple):
    """Names one object: its kind and its name; printed `program/web`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


class ReplicaId(NamedTuple):
    """Names one replica of a Program: the program's name and the replica's ordinal; printed `web/3`."""

    program: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.program}/{self.ordinal}"


class ProcessId(NamedTuple):
    """One process for as long as the machine is up.

    `start_ticks` is field 22 of /proc/PID/stat (clock ticks since boot): with it a reused pid is told apart.
    """

    pid: int
    start_ticks: int
