"""Certificates that nobody knows, for servers of tests."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

HOST = "localhost"


class Certified(NamedTuple):
    """A certificate for HOST, signed by itself, and its key."""

    certificate: Path
    key: Path


def certify(folder: Path, *also: str) -> Certified:
    """Make one, `also` for other names, such as `IP:127.0.0.1`. Needs Debian's `openssl`."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    options = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={HOST}"
    names = ["-addext", f"subjectAltName={','.join((f'DNS:{HOST}', *also))}", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([openssl, *options.split(), *names], cwd=folder, check=True, capture_output=True)
    return Certified(folder / "cert.pem", folder / "key.pem")
