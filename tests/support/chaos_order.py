"""What must not be left over: processes, zombies, FIFOs, descriptors."""

import os
from pathlib import Path

from reconciler.adapters.logs.fifos import note_of
from support.chaos_fleet import PRINTING
from support.chaos_house import House
from support.chaos_ledger import Ledger, fds_of
from support.daemon import Json, process

MOST_OTHER_FDS = 64  # of any of the three, beside those that there is one of per process or stream


def strangeness(house: House, ledger: Ledger, objects: dict[str, Json]) -> list[str]:
    """All that should not be there."""
    services = {name: pid for name, (pid, _) in house.started().items()}
    services["keeper"] = house.keeper
    rows = [(o, row) for o in objects.values() for row in o["status"]["processes"]]
    fifos = {
        str(house.state / "run" / "fifos" / f"{o['metadata']['uid']}-{row['replica']}-out")
        for o, row in rows
        if o["metadata"]["name"] in PRINTING
    }
    running = sum(row["pid"] is not None for _, row in rows)
    return [
        *_processes(house, ledger, set(services.values())),
        *_zombies(services),
        *_fifos(house.state, fifos),
        *_descriptors(services, fifos, running),
    ]


def _processes(house: House, ledger: Ledger, services: set[int]) -> list[str]:
    known = services | {life.pid for life in ledger.alive()}
    living = {life.spawn for life in ledger.alive()}
    known |= {pid for pid, spawn in ledger.left.items() if spawn in living}
    found = []
    for proc in house.everybody():
        # `sleep`, while a shell of ours stands still
        if proc.pid not in known and proc.parent not in known:
            found.append(f"process {proc.pid} of {proc.parent}: {proc.command}")
    return found


def _zombies(services: dict[str, int]) -> list[str]:
    found = []
    for name, pid in services.items():
        for each in _processes_of(pid):
            proc = process(each)
            if proc is not None and proc.state == "Z":
                found.append(f"{name} has a zombie, {each}")
    return found


def _processes_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _fifos(state: Path, fifos: set[str]) -> list[str]:
    folder = state / "run" / "fifos"
    wanted = fifos | {note_of(fifo) for fifo in fifos}
    there = {str(path) for path in folder.iterdir()} if folder.exists() else set()
    found = [f"FIFO {path} is left" for path in there - wanted]
    return found + [f"FIFO {path} is missing" for path in wanted - there]


def _descriptors(services: dict[str, int], fifos: set[str], running: int) -> list[str]:
    found = []
    for name, pid in services.items():
        links = fds_of(pid)
        held = [link for link in links if "/run/fifos/" in link]
        if name == "controller":
            pidfds = sum("pidfd" in link for link in links)
            if pidfds != running:
                found.append(f"the controller has {pidfds} pidfds for {running} processes")
        elif sorted(held) != sorted(fifos):
            found.append(f"the {name} holds FIFOs {_differences(held, fifos)}")
        others = [link for link in links if "/run/fifos/" not in link and "pidfd" not in link and ".log" not in link]
        if len(others) > MOST_OTHER_FDS:
            found.append(f"the {name} has {len(others)} other descriptors: {others[-20:]}")
        if gone := [
            link for link in links if link.endswith("(deleted)") and "/tmp" not in link and "memfd" not in link
        ]:
            found.append(f"the {name} holds what is removed: {gone}")
    return found


def _differences(held: list[str], wanted: set[str]) -> str:
    more = [os.path.basename(link) for link in held if link not in wanted]
    twice = [os.path.basename(link) for link in set(held) if held.count(link) > 1]
    missing = [os.path.basename(path) for path in wanted - set(held)]
    return f"that are not wanted {more}, twice {twice}, but not {missing}"
