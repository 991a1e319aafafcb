"""URLs of servers: taken apart leniently where passwords are concerned, strictly everywhere else."""

from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from reconciler.model.masking import masked
from reconciler.model.queues import QueueReadFailed


class Url:
    """The parts of a URL, with a default port. Raises QueueReadFailed(BadMetadata) for what is none of these schemes.

    A password may be escaped, as in every URL, or (not in http) hold `:`, `/` and `@` as they are: what is before the
    last `@` of the text belongs to it.
    """

    def __init__(self, text: str, schemes: Sequence[str], port: int) -> None:
        self.scheme, separator, rest = text.strip().partition("://")
        if not separator or self.scheme not in schemes:
            raise _bad(text, f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        end = len(rest) if not self.scheme.startswith("http") else min(rest.find(c) % (len(rest) + 1) for c in "/?#")
        who, at, place = rest[:end].rpartition("@")
        place += rest[end:]
        username, colon, password = who.partition(":")
        self.username = unquote(username) or None if at else None
        self.password = unquote(password) if colon else None
        try:
            parts = urlsplit(f"{self.scheme}://{place}")
            self.host = unquote(parts.hostname or "")
            self.port = parts.port or port
        except ValueError as error:
            raise _bad(text, str(error)) from None
        self.path = parts.path if self.scheme.startswith("http") else unquote(parts.path)
        self.raw_query = parts.query
        self.query = dict(parse_qsl(parts.query))
        if self.scheme == "unix" and not self.host:
            if not self.path:
                raise _bad(text, "must name a socket, as in unix:///run/redis/redis.sock")
        elif not self.host:
            raise _bad(text, "names no host")

    @property
    def place(self) -> str:
        """How it is called in messages."""
        if self.scheme == "unix":
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _bad(text: str, message: str) -> QueueReadFailed:
    return QueueReadFailed("BadMetadata", f"url: {masked(text)!r} {message}")
