"""Debian packages that tests want: installed when missing and allowed, else named.

A test says `@pytest.mark.debian("redis-server")`. Before the first test runs, what is missing is installed (as root,
with apt-get), one process at a time, without starting any service or making any database. Where that may not be, the
test is skipped with the name of the package; under CI=true that is a failure.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Where there is no Debian, this in PATH or in one of the folders below says that the thing is there.
PROOFS = {
    "beanstalkd": "beanstalkd",
    "mariadb-server-core": "mariadbd",
    "openssl": "openssl",
    "postgresql": "postgres",
    "prometheus": "prometheus",
    "rabbitmq-server": "rabbitmq-server",
    "redis-server": "redis-server",
}
FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin")
_POLICY = Path("/usr/sbin/policy-rc.d")
_CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")


def program(name: str) -> str | None:
    """The path of an installed program, also where no PATH leads."""
    if found := shutil.which(name):
        return found
    places = [path for folder in FOLDERS for path in sorted(Path("/").glob(f"{folder[1:]}/{name}"))]
    return str(places[-1]) if places else None


def is_there(package: str) -> bool:
    """Whether a package, or what it would bring, is installed."""
    if package in PROOFS:
        return program(PROOFS[package]) is not None
    if shutil.which("dpkg-query") is None:
        return False
    asked = ["dpkg-query", "-W", "-f", "${Status}", package]
    return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.endswith(" installed")


def need(package: str) -> None:
    """Skip or fail the test that asks when a package is not there."""
    if not is_there(package):
        message = f"needs the Debian package {package}: apt-get install {package}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


def install(packages: Iterable[str]) -> None:
    """Install what is missing, if that may be. Never raises: `need` tells the tests that have to do without."""
    wanted = sorted(set(packages))
    if os.geteuid() != 0 or shutil.which("apt-get") is None or all(map(is_there, wanted)):
        return
    with _one_at_a_time():
        missing = [package for package in wanted if not is_there(package)]
        if missing:
            with _nothing_starts():
                _apt("update", "-qq")
                _apt("install", "-y", "-qq", "--no-install-recommends", *missing)


def _apt(*arguments: str) -> None:
    options = ("-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        ["apt-get", *options, *arguments],
        check=False, env=environment, timeout=900, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / "reconciler-tests-apt.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _nothing_starts() -> Iterator[None]:
    """Debian's packages start their services and make databases unless they are told not to."""
    made_policy, made_clusters = not _POLICY.exists(), not _CLUSTERS.exists()
    if made_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        _POLICY.chmod(0o755)
    if made_clusters:
        _CLUSTERS.parent.mkdir(exist_ok=True)
        _CLUSTERS.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        yield
    finally:
        if made_policy:
            _POLICY.unlink()
        if made_clusters:
            shipped = _CLUSTERS.with_name(f"{_CLUSTERS.name}.dpkg-dist")
            if shipped.exists():
                shipped.replace(_CLUSTERS)
            else:
                _CLUSTERS.unlink()
