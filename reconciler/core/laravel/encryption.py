"""How a Laravel application encrypts the way to its queue, by its own settings and what the trigger says otherwise.

PHP's words for it differ by client: numbered options of PDO for MySQL, names of libpq for PostgreSQL, those of a stream
for redis. Pure.
"""

from typing import NamedTuple

from reconciler.core.laravel.configuration import Part
from reconciler.core.laravel.phpvalues import MYSQL_SSL

_MYSQL_ENCRYPTS = tuple(str(MYSQL_SSL[name]) for name in ("key", "cert", "ca", "capath", "cipher"))
SYSTEM = "system"
"""What libpq takes as sslrootcert for the authorities that the system knows."""
_POSTGRESQL_FILES = ("sslrootcert", "sslcert", "sslkey")
_POSTGRESQL_VERIFIES = frozenset({"verify-ca", "verify-full"})


class Tls(NamedTuple):
    """What the trigger says of it; None leaves it to the application."""

    wanted: bool | None = None
    ca_file: str | None = None  # with one, TLS is wanted
    verify: bool | None = None

    @property
    def decided(self) -> bool | None:
        """Whether to encrypt, as far as the trigger says."""
        return True if self.wanted is None and self.ca_file is not None else self.wanted


class Encryption(NamedTuple):
    """TLS, and who is trusted."""

    ca_file: str | None = None  # None: the system's; relative to the application's folder
    verify: bool = True
    verify_host: bool = True


def of_mysql(part: Part, tls: Tls) -> Encryption | None:
    """PDO encrypts when it is given any file or cipher for it, and verifies unless told not to. None: no TLS."""
    options = part.part("options")
    if tls.decided is None and not any(map(options.optional, _MYSQL_ENCRYPTS)):
        return None
    return _encryption(tls, options, str(MYSQL_SSL["ca"]), str(MYSQL_SSL["verify_server_cert"]))


def of_redis(part: Part, by_scheme: bool, tls: Tls) -> Encryption | None:
    """`by_scheme`: the application says tls:// or rediss://. phpredis takes a `context`, predis `ssl`. None: no TLS."""
    if tls.decided is None and not by_scheme:
        return None
    context = part.part("context")
    streams = (context.part("stream"), context.part("ssl"), context, part.part("ssl"))
    stream = next((each for each in streams if each.values), streams[-1])
    found = _encryption(tls, stream, "cafile", "verify_peer")
    if found is None or tls.verify is not None:
        return found
    return found._replace(verify_host=found.verify and stream.flag("verify_peer_name") is not False)


def _encryption(tls: Tls, settings: Part, ca_file: str, verify: str) -> Encryption | None:
    if tls.decided is False:
        return None
    verifies = settings.flag(verify) is not False if tls.verify is None else tls.verify
    return Encryption(tls.ca_file or settings.optional(ca_file), verifies, verifies)


def of_postgresql(part: Part, by_url: dict[str, str], tls: Tls) -> tuple[str | None, dict[str, str]]:
    """libpq's sslmode, and its files by the names that it has for them."""

    def said(name: str) -> str | None:
        return by_url.get(name) or part.optional(name)

    if tls.decided is False:
        return "disable", {}
    files = {name: path for name in _POSTGRESQL_FILES if (path := said(name))}
    mode = said("sslmode")
    if tls.verify is False:
        files.pop("sslrootcert", None)  # with one, libpq verifies in spite of `require`
        return "require" if tls.decided or mode in _POSTGRESQL_VERIFIES else mode, files
    if tls.decided or tls.verify:
        mode = "verify-full"
        files["sslrootcert"] = tls.ca_file or files.get("sslrootcert") or SYSTEM
    return mode, files
