"""The files of a Laravel application that say where its queue is, and whether one of them has changed since.

In the order in which Laravel asks: the cached configuration; else `.env`, and with it the files of `config`, merged
over the framework's own. Nothing is executed.
"""

import os
from collections.abc import Mapping

from reconciler import hostfiles
from reconciler.core.laravel import conventions, dotenv, phpfile
from reconciler.core.laravel.configuration import Configuration, bad, merged
from reconciler.core.laravel.phptokens import NotPhp
from reconciler.core.laravel.phpvalues import Value
from reconciler.model.launch import Credentials

LARGEST_BYTES = 4 << 20
CACHED = "bootstrap/cache/config.php"
FRAMEWORK = "vendor/laravel/framework/config"

_Identity = tuple[int, int, int, int]


class Application:
    """One application's files, read again when asked."""

    def __init__(
        self, folder: str, environment: Mapping[str, str], reader: Credentials | None, env_file: str | None = None
    ) -> None:
        """What its processes start with, the ids on whose behalf files are read, and another file than `.env`."""
        self.folder = folder
        self._reader = reader
        self._environment = environment
        self._env_file = env_file
        self._seen: dict[str, _Identity | None] = {}

    def has_changed(self) -> bool:
        """Whether a file that was looked for is another one now, is gone, or has come."""
        return any(_identity(path) != before for path, before in self._seen.items())

    def configuration(self, *, may_be_missing: bool) -> Configuration:
        """What the files say; what the framework ships where they say nothing.

        Raises QueueReadFailed(BadMetadata), also for a folder without any of them unless it `may_be_missing`.
        """
        self._seen = {}
        cached = os.path.join(self.folder, self._environment.get("APP_CONFIG_CACHE") or CACHED)
        content = self._read(cached)
        if content is not None:
            whole = _returned(cached, content, self.folder, {})
            how = f"as it was when {cached} was written; php artisan config:cache writes it anew"
            parts = whole if isinstance(whole, dict) else {}
            return Configuration(parts.get("queue"), parts.get("database"), cached, how)
        variables, where = self._variables()
        queue, database = (self._file(name, variables) for name in ("queue", "database"))
        if queue is database is None and not may_be_missing and where.startswith("there is no"):
            raise bad(
                f"{self.folder} is no Laravel application: it has neither .env, config/queue.php nor {CACHED}. "
                "Is the Program's workingDir right?"
            )
        return Configuration(
            conventions.queue(variables, self.folder) if queue is None else queue,
            conventions.database(variables, self.folder) if database is None else database,
            os.path.join(self.folder, "config"),
            where,
        )

    def certificates(self, path: str, what: str) -> str:
        """Where a file is that the application's settings or the trigger name for TLS, once it is one that may be read.

        Raises QueueReadFailed(BadMetadata).
        """
        path = os.path.join(self.folder, path)
        try:
            hostfiles.content(path, LARGEST_BYTES, self._reader)
        except hostfiles.Refused as refused:
            raise bad(f"{what} {path} cannot be used: {refused}") from None
        return path

    def _variables(self) -> tuple[Mapping[str, str], str]:
        """What env() reads, and where that comes from."""
        path = os.path.join(self.folder, self._env_file or ".env")
        of_this_environment = self._environment.get("APP_ENV")
        if self._env_file is None and of_this_environment:
            special = f"{path}.{of_this_environment}"
            path = special if self._note(special) is not None else path
        content = self._read(path)
        if content is None:
            if self._env_file is not None:
                raise bad(f"envFile: there is no {path}")
            return self._environment, f"there is no {path}"
        try:
            return dotenv.variables(content, self._environment), f"in {path}"
        except dotenv.Invalid as error:
            raise bad(f"{path}, {error}") from None

    def _file(self, name: str, variables: Mapping[str, str]) -> Value:
        """What `config/NAME.php` returns, over what the framework's own of that name does; None when there is none."""
        found: list[Value] = []
        for folder in (FRAMEWORK, "config"):
            path = os.path.join(self.folder, folder, f"{name}.php")
            content = self._read(path)
            if content is not None:
                found.append(_returned(path, content, self.folder, variables))
        return merged(found)

    def _read(self, path: str) -> bytes | None:
        """The content of a regular file, None when it is not there."""
        if self._note(path) is None:
            return None
        try:
            return hostfiles.content(path, LARGEST_BYTES, self._reader)
        except hostfiles.Missing:
            return None
        except hostfiles.Refused as refused:
            raise bad(f"{path} {refused}") from None

    def _note(self, path: str) -> _Identity | None:
        found = self._seen[path] = _identity(path)
        return found


def _identity(path: str) -> _Identity | None:
    """Which file it is, and since when; None when there is none, or nobody can say."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return (0, 0, 0, 0)  # reading it will tell
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _returned(path: str, content: bytes, folder: str, variables: Mapping[str, str]) -> Value:
    try:
        return phpfile.returned(content, folder, variables)
    except NotPhp as error:
        raise bad(f"{path}: {error}") from None
