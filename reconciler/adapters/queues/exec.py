"""The `exec` trigger: a number that a command prints, for queues that nobody has a driver for.

One at a time, for two seconds at most; then it is killed with all of its process group, and with what it started in
sessions of their own. It runs as the controller's user unless `user` names another: who may write its file may then do
what the controller may.
"""

import os
import pwd
import secrets
import selectors
import signal
import subprocess
import threading
import time
from typing import Any

from reconciler.adapters.queues import opening, strays
from reconciler.adapters.queues.answers import LARGEST_BYTES, reading_of
from reconciler.adapters.queues.polling import Polled
from reconciler.model.metadata import Exec
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

_END_SECONDS = 0.1
_MARGIN_SECONDS = 0.2  # of the longest time that a look may take, for starting and ending
_COMPLAINT_BYTES = 4096
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ExecReader(Polled):
    """Implements ports.QueueReader."""

    def __init__(self, settings: Exec, asked: QueueAsked) -> None:
        """Raises QueueReadFailed(BadMetadata)."""
        self._settings = settings
        self._what = f"the output of {settings.command[0]}"
        self._mark = secrets.token_hex(8)
        self._environment = {"PATH": _PATH, **asked.environment, strays.VARIABLE: self._mark}
        self._directory = asked.working_dir or "/"
        self._account = _account(settings.user)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self) -> QueueReading:
        """Run it once."""
        if self._process is not None and self._process.poll() is None:
            raise QueueReadFailed("TimedOut", f"{self._settings.command[0]} was killed and has not ended yet")
        deadline = time.monotonic() + min(self._settings.timeout, 2.0 - _MARGIN_SECONDS)
        process = self._start()
        was_cut = True
        try:
            output, complaint = self._collect(process, deadline)
            was_cut = False
        except TimeoutError:
            message = f"{self._settings.command[0]} did not end within {self._settings.timeout:g} s, and was killed"
            raise QueueReadFailed("TimedOut", message) from None
        finally:
            self._end(process, was_cut=was_cut)
        if code := process.returncode:
            lines = complaint.decode(errors="replace").strip().splitlines()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise QueueReadFailed(
                "ServerError", f"{self._settings.command[0]} failed with {how}: {(lines or [''])[-1]}"
            )
        return reading_of(output, self._settings.json_path, self._what)

    def close(self) -> None:
        """End it, if it runs."""
        self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                self._settings.command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                **self._account,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            name = getattr(error, "filename", None) or self._settings.command[0]
            raise QueueReadFailed("NotFound", f"{name} cannot be run in {self._directory}: {reason}") from None
        with self._lock:
            self._process = process
        return process

    def _collect(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
        """Both outputs to their ends, and the process to its own; it is not reaped yet. Raises TimeoutError."""
        assert process.stdout is not None
        assert process.stderr is not None
        output, complaint = bytearray(), bytearray()
        ended = os.pidfd_open(process.pid)
        try:
            with selectors.PollSelector() as selector:
                for descriptor, kept in ((process.stdout.fileno(), output), (process.stderr.fileno(), complaint)):
                    selector.register(descriptor, selectors.EVENT_READ, kept)
                selector.register(ended, selectors.EVENT_READ)
                while selector.get_map():
                    ready = selector.select(max(deadline - time.monotonic(), 0.0))
                    if not ready or time.monotonic() > deadline:
                        raise TimeoutError
                    for key, _ in ready:
                        part = os.read(key.fd, 1 << 16) if key.fd != ended else b""
                        if not part:
                            selector.unregister(key.fd)
                            continue
                        key.data.extend(part)
                    if len(output) > LARGEST_BYTES:
                        raise QueueReadFailed("NotANumber", f"{self._what} is longer than {LARGEST_BYTES >> 20} MiB")
                    del complaint[:-_COMPLAINT_BYTES]
        finally:
            os.close(ended)
        return bytes(output), bytes(complaint)

    def _end(self, process: subprocess.Popen[bytes], *, was_cut: bool) -> None:
        """Nothing of its group is left, and its pipes are closed. Had it to be ended, nothing is left at all."""
        self._kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return  # the kernel holds it; the next look finds out
        with self._lock:
            self._process = None
        if was_cut or process.returncode < 0:
            strays.end_marked(self._mark)

    def _kill(self) -> None:
        """Its group. The number is its own still: it has not been reaped."""
        with self._lock:
            if self._process is not None:
                try:
                    os.killpg(self._process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass


def _account(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    try:
        found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise QueueReadFailed("BadMetadata", f"user: this host has no user {user}") from None
    if os.geteuid() not in {0, found.pw_uid}:
        raise QueueReadFailed("BadMetadata", f"user: only a controller that runs as root can run commands as {user}")
    if os.geteuid() != 0:
        return {}
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": groups}


class _Driver:
    polling_seconds = 5.0

    def open(self, asked: QueueAsked) -> ExecReader:
        """Make a reader."""
        return ExecReader(opening.settings(asked, Exec), asked)


DRIVER = _Driver()
