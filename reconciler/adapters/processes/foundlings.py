"""Looks for processes that nobody knows any more: started by an earlier controller while the disk took no records.

Only the keeper's own are looked at: another reconciler on the same host has processes of its own, with the same marks
and perhaps with the same names.
"""

import os
from collections.abc import Container, Sequence

from reconciler.adapters.processes import procfs
from reconciler.model.identity import ProcessId
from reconciler.ports import Foundling

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def foundlings(
    keeper: int | None, known: Container[str], watched: Container[int], *, marked: bool
) -> Sequence[Foundling]:
    """Living main processes that the keeper inherited, neither `watched` (pids) nor with a `known` spawn id.

    `marked`: whatever we start carries a birthmark, so who has none need not be asked.
    """
    if keeper is None:
        return ()
    inherited = procfs.offspring(keeper)
    found: dict[str, Foundling] = {}
    for pid in procfs.pids() if inherited is None else inherited:
        if pid in watched or (marked and not procfs.birthmark_of(pid)):
            continue
        stat, environment = procfs.read_stat(pid), procfs.environment_of(pid, "RECONCILER_")
        spawn_id, uid = environment.get(procfs.SPAWN_ID, ""), procfs.owner_of(pid)
        if not spawn_id or spawn_id in known or stat is None or uid is None:
            continue
        if stat.alive and stat.session == pid and stat.parent == keeper:
            process, began = ProcessId(pid, stat.start_ticks), stat.start_ticks / TICKS_PER_SECOND
            one = Foundling(process, spawn_id, began, uid, uid == os.geteuid(), environment)
            # A daemonised descendant looks the same, but it was not the first.
            found[spawn_id] = min(one, found.get(spawn_id, one), key=lambda each: (each.started_at, each.process))
    return tuple(found.values())
