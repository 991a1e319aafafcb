"""Servers with certificates that nobody knows, and triggers that ask them."""

import os
import shutil
from typing import Any, ClassVar

from support.certificates import HOST, certify
from support.servers import Mariadb, Postgresql, Redis, free_port


class TlsRedis(Redis):
    """Plain on its port, as tests ask it, and encrypted on another."""

    kind = "redis"
    also: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        self.known = certify(self.folder, *self.also)
        self.tls_port = free_port()

    def command(self) -> list[str]:
        files = ("--tls-cert-file", str(self.known.certificate), "--tls-key-file", str(self.known.key))
        trusts = ("--tls-ca-cert-file", str(self.known.certificate), "--tls-auth-clients", "no")
        return [*super().command(), "--tls-port", str(self.tls_port), *files, *trusts]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        who = {"url": f"rediss://{host}:{self.tls_port}/0", "username": "guarded", "password": self.password}
        trust = {"caFile": str(self.known.certificate)} if known else {"verifyTls": False} if careless else {}
        return {**who, **trust, "key": "q"}


class TlsMariadb(Mariadb):
    """Either, on one port."""

    kind = "mysql"
    also: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        super().prepare()
        self.known = certify(self.folder, *self.also)

    def command(self) -> list[str]:
        return [*super().command(), f"--ssl-cert={self.known.certificate}", f"--ssl-key={self.known.key}"]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        who = {"url": self.url.replace("127.0.0.1", host), "password": self.password, "query": SECRETLY, "tls": True}
        trust = {"caFile": str(self.known.certificate)} if known else {"verifyTls": False} if careless else {}
        return {**who, **trust}


SECRETLY = (
    "SELECT if(variable_value = '', 'not encrypted', 0) FROM information_schema.session_status "
    "WHERE variable_name = 'ssl_cipher'"
)


class TlsPostgresql(Postgresql):
    """Either, on one port. What is trusted stands in the URL, in the words of PostgreSQL's own clients."""

    kind = "postgresql"
    also: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        super().prepare()
        self.known = certify(self.folder, *self.also)
        if os.geteuid() == 0:
            shutil.chown(self.known.key, self.user)
        self.known.certificate.chmod(0o644)

    def command(self) -> list[str]:
        files = (f"ssl_cert_file={self.known.certificate}", f"ssl_key_file={self.known.key}")
        return [*super().command(), *(word for each in ("ssl=on", *files) for word in ("-c", each))]

    def asked(self, *, host: str = HOST, known: bool = False, careless: bool = False) -> dict[str, Any]:
        trust = "require" if careless else "verify-full"
        root = f"&sslrootcert={self.known.certificate}" if known else "&sslrootcert=system"
        url = f"{self.url.replace('127.0.0.1', host)}?sslmode={trust}{'' if careless else root}"
        query = "SELECT CASE WHEN ssl THEN '0' ELSE 'not encrypted' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return {"url": url, "password": self.password, "query": query}
