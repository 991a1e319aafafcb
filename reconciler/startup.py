"""What a controller is started with: its arguments, the configuration, limits; and whether it could work with them.

Everything here happens before anything is taken over, and again at a rehearsal, when nothing shall be.
"""

import argparse
import asyncio
import errno
import fcntl
import grp
import json
import logging
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reconciler import __version__, wire
from reconciler.adapters.documents import read_documents, read_manifest_file
from reconciler.core.outputs import Policy
from reconciler.model.decode import decode
from reconciler.model.manifest import Config
from reconciler.model.problems import Problem
from reconciler.server.access import AccessRules, Level

STARTING_PER_CPU = 4
CONNECTIONS_SHARE, MOST_CONNECTIONS = 4, 4096  # of the descriptors that we may have; and at most
OWN_DESCRIPTORS = 40  # sockets, watches, journals, and files that are open for a moment
CLAIM_SECONDS = 0.01
THREADS = 6
ABOUT = {"version": __version__, "python": platform.python_version(), "wire": wire.VERSION}
FAULT_SECONDS = 10.0
_told: dict[int, int] = {}  # errors that were told, and in which span of time

log = logging.getLogger("reconciler")


class UsageError(Exception):
    """What the controller was started with makes no sense. The text is for the person who did."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the keeper was told by the command line, and what it adds."""
    parser = argparse.ArgumentParser(prog="reconciler run", allow_abbrev=False)
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--safe-mode", action="store_true")
    parser.add_argument("--config")
    parser.add_argument("-f", "--filename", action="append", default=[], dest="directories")
    parser.add_argument("--up", action="store_true", help="run for a person: HUP ends it")
    parser.add_argument("--base-path", default="", help="PATH that processes start from")
    parser.add_argument("--logs", choices=("files", "stdout"), default="files", help="where all output goes")
    parser.add_argument("--logs-format", choices=("prefix", "json"), default="prefix", help="how, on stdout")
    parser.add_argument("--rehearse", action="store_true", help="say who we are and whether this could be, and end")
    return parser.parse_args(argv)


def read_config(path: str | None) -> Config:
    """The configuration file, or the defaults. Raises UsageError with every error in it."""
    if path is None:
        return Config()
    content = read_manifest_file(path)
    if isinstance(content, Problem):
        raise UsageError(str(content))
    documents, problems = read_documents(content, path)
    reading = decode(documents, file=path, base_dir=os.path.dirname(os.path.abspath(path)))
    errors = [str(p) for p in (*problems, *reading.problems) if p.severity == "error"]
    specs = [manifest.spec for manifest in reading.manifests if isinstance(manifest.spec, Config)]
    if not errors and len(specs) != 1:
        errors = [f"{path}: expected one document of kind Config"]
    if errors:
        raise UsageError("\n".join(errors))
    return specs[0]


def access_rules(config: Config) -> AccessRules:
    """Who may use the socket beside root and the controller's own user."""
    groups = {}
    for name in config.access.groups:
        try:
            groups[grp.getgrnam(name).gr_gid if not name.isdigit() else int(name)] = Level.OPERATE
        except KeyError:
            raise UsageError(f"access.groups: group {name!r} does not exist") from None
    return AccessRules(groups=groups)


def output_policy(options: argparse.Namespace) -> Policy:
    """Where the output of processes goes, whatever their specs say."""
    return Policy(console=options.logs_format if options.logs == "stdout" else "", captured=options.up)


def most_starting(config: Config) -> int:
    """How many processes may be starting at a time; 0: no bound."""
    written = config.max_starting
    return STARTING_PER_CPU * len(os.sched_getaffinity(0)) if written is None else written


def most_connections() -> int:
    """How many clients may be connected: what they take of the descriptors, processes cannot have."""
    return max(8, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // CONNECTIONS_SHARE, MOST_CONNECTIONS))


def most_processes() -> int:
    """How many processes may be watched: without a descriptor for ourselves nobody could even ask what is wrong."""
    return max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - most_connections() - OWN_DESCRIPTORS)


def tell_faults(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop met something. That it has no descriptor for a client it would tell sixteen times a second."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        moment = int(loop.time() / FAULT_SECONDS)
        if moment != _told.get(error.errno):
            _told[error.errno] = moment
            log.warning("no descriptor is left for clients: %s", error.strerror)
        return
    loop.default_exception_handler(context)


def ready_threads(most: int = THREADS) -> ThreadPoolExecutor:
    """Threads for what the event loop hands away, all of them from the start; fewer where the host gives no more.

    A pool that grows when it needs to takes work first and asks for a thread then. Where none is to be had it says that
    the work was refused, and does it all the same. Raises RuntimeError when there is not one thread.
    """
    pool, gate, begun = ThreadPoolExecutor(most, "aside"), threading.Event(), 0
    try:
        for _ in range(most):
            pool.submit(gate.wait)
            begun += 1
    except RuntimeError:
        if not begun:
            raise
    finally:
        gate.set()
    if begun == most:
        return pool
    pool.shutdown()
    return ready_threads(begun)


def raise_limits() -> dict[str, tuple[int, int]]:
    """Take all the descriptors we may have; answers with the limits that processes shall get: those of before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    boot = os.environ.pop("RECONCILER_BOOT_NOFILE", f"{soft}:{hard}").split(":")
    return {"nofile": (int(boot[0]), int(boot[1]))}


def claim(path: str) -> bool:
    """Be the only controller of this state, to the end of this process. False: our keeper is gone while we waited.

    The keeper starts one after the other; but one that a killed keeper left behind may be on its way out still, and two
    would write into one journal.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a lock writes nothing, and what runs is to be looked after
    keeper = os.getppid()
    while os.getppid() == keeper:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(CLAIM_SECONDS)
        else:
            return True
    os.close(fd)
    return False


def rehearsal(options: argparse.Namespace) -> int:
    """Everything was imported and the arguments make sense, or it says why not: an upgrade is tried out this way."""
    try:
        access_rules(read_config(options.config))
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(ABOUT) + "\n")
    return 0
