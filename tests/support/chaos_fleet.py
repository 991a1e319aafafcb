"""The Programs of a chaos run: what is written about each, how it is edited, and what is there in the end.

Most stand in a watched directory, some are applied and deleted over the API. Each has a part that the others have not:
run-once work at full speed, rollouts, processes that have to be killed, that print, that always fail, that work once,
that leave others behind.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from reconciler.client import ApiFailure, ClientError
from support.daemon import Daemon, Json

FAST = str(Path(__file__).parent / "chaos_worker.sh")
WORKER = str(Path(__file__).parent / "chaos_worker.py")
HARMLESS = [0, 3, 7]
KEPT = 10_000  # segments, the most that can be asked for: the judge removes what he has read
QUICK = {"initial": "20ms", "max": "50ms"}
SICK_INITIAL_SECONDS, SICK_FACTOR, SICK_MOST_SECONDS = 0.3, 2.0, 3.0


class Role(NamedTuple):
    """One Program of the watched directory."""

    mode: str
    replicas: tuple[int, int]  # how few and how many there may be
    spec: dict[str, Any]
    edits: tuple[str, ...] = ("scale", "roll")
    rests: frozenset[str] = frozenset({"Running"})  # the states in which its replicas may be in the end


def _logs(size: str, compress: str) -> dict[str, Any]:
    return {"maxSize": size, "maxFiles": KEPT, "compress": compress}


SILENT = {"path": "none"}
ROLES: dict[str, Role] = {
    "mail": Role(
        "fast",
        (1, 3),
        {
            "run_once": True,
            "min_restart_interval": "0s",
            "success_exit_codes": HARMLESS,
            "restart_backoff": QUICK,
            "logs": _logs("64Ki", "none"),
        },
    ),
    "task": Role(
        "task",
        (1, 2),
        {
            "run_once": True,
            "min_restart_interval": "50ms",
            "success_exit_codes": HARMLESS,
            "restart_backoff": QUICK,
            "logs": SILENT,
        },
    ),
    "web": Role(
        "steady",
        (1, 4),
        {
            "min_ready": "50ms",
            "termination_grace_period": "2s",
            "restart_backoff": QUICK,
            "strategy": {"maxUnavailable": "50%"},
            "logs": SILENT,
        },
        ("scale", "roll", "tune"),
    ),
    "deaf": Role("deaf", (0, 2), {"termination_grace_period": "300ms", "restart_backoff": QUICK, "logs": SILENT}),
    "talk": Role(
        "talk",
        (1, 3),
        {"success_exit_codes": HARMLESS, "min_ready": "0s", "restart_backoff": QUICK, "logs": _logs("64Ki", "none")},
        ("scale", "roll", "tune"),
    ),
    "chat": Role(
        "talk",
        (0, 2),
        {"success_exit_codes": HARMLESS, "min_ready": "0s", "restart_backoff": QUICK, "logs": _logs("24Ki", "gzip")},
    ),
    "tree": Role(
        "tree",
        (1, 2),
        {
            "success_exit_codes": HARMLESS,
            "termination_grace_period": "200ms",
            "min_ready": "0s",
            "restart_backoff": QUICK,
            "logs": SILENT,
        },
    ),
    "sick": Role(
        "sick",
        (2, 2),
        {
            "restart_backoff": {
                "initial": SICK_INITIAL_SECONDS,
                "factor": SICK_FACTOR,
                "max": SICK_MOST_SECONDS,
                "jitter": 0,
                "resetAfter": "1h",
            },
            "logs": SILENT,
        },
        (),
        frozenset({"Running", "Starting", "BackOff", "Pending"}),
    ),
    "once": Role(
        "once",
        (2, 3),
        {"run_once": True, "restart_policy": "Never", "logs": SILENT},
        ("roll",),
        frozenset({"Succeeded", "Failed", "Unknown"}),
    ),
    "work": Role(
        "once",
        (1, 2),
        {"run_once": True, "restart_policy": "OnFailure", "restart_backoff": QUICK, "logs": SILENT},
        ("roll",),
        frozenset({"Succeeded", "Unknown"}),
    ),
}
Wish = tuple[int, int, str]
"""Replicas, version and mode of an applied Program; None in its place: it shall not be there."""

PASSING = ("temp-a", "temp-b")  # applied and deleted
PASSING_MODES = ("steady", "talk", "task")
PRINTING = frozenset({"mail", "talk", "chat", *PASSING})
DONE_ONCE = frozenset({"once", "work"})


class Fleet:
    """What is written, as far as anybody was told so."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.versions = dict.fromkeys((*ROLES, *PASSING), 1)
        self.replicas = {name: role.replicas[1] for name, role in ROLES.items()}
        self.tuned = dict.fromkeys(ROLES, 0)
        # What an applied Program may be like: the last wish, and those before it that nobody has answered.
        self.passing: dict[str, list[Wish | None]] = {name: [None] for name in PASSING}
        self.refused: list[str] = []

    # ---- the watched directory ----

    def write(self, name: str) -> None:
        role = ROLES[name]
        command = ["/bin/sh", FAST] if role.mode == "fast" else [sys.executable, "-I", "-S", "-E", WORKER]
        arguments = [str(self.daemon.folder), *([] if role.mode == "fast" else [role.mode])]
        spec = {**role.spec, "replicas": self.replicas[name], "env": {"VERSION": str(self.versions[name])}}
        if self.tuned[name]:
            spec["min_restart_interval"] = f"{10 + self.tuned[name] % 7}ms"  # takes effect on who runs, in place
        self.daemon.declare(name, *command, *arguments, **spec)

    def write_all(self) -> None:
        for name in ROLES:
            self.write(name)

    def edit(self, random: Random) -> str:
        """Change one of them, as its role allows; what was done."""
        name = random.choice([name for name, role in ROLES.items() if role.edits])
        edit = random.choice(ROLES[name].edits)
        if edit == "scale":
            self.replicas[name] = random.randint(*ROLES[name].replicas)
        elif edit == "roll":
            self.versions[name] += 1
        else:
            self.tuned[name] += 1
        self.write(name)
        return f"{edit} {name}"

    # ---- applied ----

    def next_wish(self, name: str, random: Random) -> Wish | None:
        """What is asked for next: another one, or that it goes."""
        if self.passing[name][-1] is not None and random.random() < 0.5:
            return None
        self.versions[name] += 1
        return random.randint(1, 2), self.versions[name], random.choice(PASSING_MODES)

    def manifest_of(self, name: str, wish: Wish) -> str:
        replicas, version, mode = wish
        spec: dict[str, Any] = {
            "replicas": replicas,
            "env": {"VERSION": str(version)},
            "success_exit_codes": HARMLESS,
            "min_ready": "0s",
            "min_restart_interval": "50ms",
            "restart_backoff": QUICK,
            "termination_grace_period": "2s",
            "logs": _logs("16Ki", "none"),
        }
        command = (sys.executable, "-I", "-S", "-E", WORKER, str(self.daemon.folder), mode)
        return self.daemon.manifest(name, *command, **spec)

    def ask(self, name: str, wish: Wish | None, call: Callable[[], Any]) -> None:
        """Ask for it. Not answered, it may be so or not: both count until the next answer."""
        self.passing[name].append(wish)
        try:
            call()
        except ApiFailure as failure:
            if failure.reason == "Disconnected":
                return
            if wish is not None or failure.reason != "NotFound":
                self.refused.append(f"{name} {wish}: {failure}")
                return
        except ClientError:
            return
        self.passing[name] = [wish]

    # ---- what is there in the end ----

    def unlike(self, objects: dict[str, Json]) -> list[str]:
        """What is not (yet) as it is written; empty: all is."""
        wrong = [f"{name}: nobody wants it" for name in objects.keys() - ROLES.keys() - set(PASSING)]
        for name, role in ROLES.items():
            if name not in objects:
                wrong.append(f"{name}: is not known")
                continue
            wanted = self.replicas[name], str(self.versions[name])
            wrong += [f"{name}: {each}" for each in _unlike(objects[name], *wanted, role)]
        for name, wishes in self.passing.items():
            said = _said(objects.get(name))
            if said not in [None if wish is None else (wish[0], str(wish[1])) for wish in wishes]:
                wrong.append(f"{name}: is {said}, asked for and answered was {wishes}")
            elif name in objects:
                wrong += [f"{name}: {each}" for each in _unlike(objects[name], *_said(objects[name]), PASSING_ROLE)]
        return wrong


PASSING_ROLE = Role("", (0, 2), {})


def _said(found: Json | None) -> Any:
    return None if found is None else (found["spec"]["replicas"], found["spec"]["env"]["VERSION"])


def _unlike(found: Json, replicas: int, version: str, role: Role) -> list[str]:
    """What this object lacks to be as written."""
    if _said(found) != (replicas, version):
        return [f"accepted is {_said(found)}, written {(replicas, version)}"]
    status = found["status"]
    rows = status["processes"]
    wrong = []
    if [row["replica"] for row in rows] != list(range(replicas)):
        wrong.append(f"replicas {[row['replica'] for row in rows]} of {replicas}")
    if strange := {row["state"] for row in rows} - role.rests - ({"Pending", "Starting"} if _respawns(role) else set()):
        wrong.append(f"states {sorted(strange)}")
    if status["replicas"] != replicas:
        wrong.append(f"{status['replicas']} are desired, {replicas} written")
    if role.mode not in ("sick", "once") and not status["updatedReplicas"] == status["availableReplicas"] == replicas:
        wrong.append(f"{status['updatedReplicas']} updated, {status['availableReplicas']} available of {replicas}")
    return wrong


def _respawns(role: Role) -> bool:
    return role.mode in ("fast", "task", "talk", "tree", "")
