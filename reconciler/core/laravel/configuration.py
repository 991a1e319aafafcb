"""The configuration of a Laravel application, looked up by path; what is wrong with a value names its path. Pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from reconciler.core.laravel.phpvalues import Refused, Unknown, Value, integer_of, is_true, key_of, text_of
from reconciler.model.queues import QueueReadFailed

T = TypeVar("T")


class Configuration(NamedTuple):
    """What `config/queue.php` and `config/database.php` return, and where that was read, for messages."""

    queue: Value
    database: Value
    source: str
    environment: str  # where the variables come from: `/srv/shop/.env`, or that there is none


def bad(message: str) -> QueueReadFailed:
    """The failure for settings that cannot be used."""
    return QueueReadFailed("BadMetadata", message)


class Part:
    """An array of the configuration with its path. What is Unknown in it matters only when it is asked for."""

    def __init__(self, path: str, values: Value, source: str) -> None:
        self.path = path
        self.values = values
        self._source = source

    def part(self, key: str) -> "Part":
        """What is below; nothing when there is nothing."""
        return Part(f"{self.path}.{key}", self._below(key), self._source)

    def keys(self) -> list[str]:
        """Of what is there."""
        return [str(key) for key in self.values] if isinstance(self.values, dict) else []

    def texts(self) -> list[str]:
        """All texts in it, in order."""
        return (
            [value for value in self.values.values() if isinstance(value, str)] if isinstance(self.values, dict) else []
        )

    def text(self, key: str, default: str) -> str:
        """A value that is no more than a text. Raises QueueReadFailed(BadMetadata), as the next two."""
        found = self.optional(key)
        return default if found is None else found

    def optional(self, key: str) -> str | None:
        """The same, when it is there and not empty."""
        return self._as(text_of, key, "a text") or None

    def number(self, key: str, default: int) -> int:
        """A whole number."""
        found = self._as(integer_of, key, "a number")
        return default if found is None else found

    def flag(self, key: str) -> bool | None:
        """Yes or no, None when it is not there."""
        return self._as(is_true, key, "true or false")

    def first(self, key: str) -> str | None:
        """A text, or the first of several."""
        below = self._below(key)
        if isinstance(below, dict):
            return next(iter(self.part(key).texts()), None)
        return self.optional(key)

    def _as(self, convert: Callable[[Value], T], key: str, what: str) -> T | None:
        value = self._below(key)
        if isinstance(value, Unknown):
            raise bad(
                f"{self._source}: {self.path}.{key} is made of {value.why}, which is not read without PHP. Write it in "
                "the trigger's metadata, or let the application write all of it down: php artisan config:cache"
            )
        try:
            return None if value is None else convert(value)
        except Refused:
            raise bad(f"{self._source}: {self.path}.{key} is not {what}") from None

    def _below(self, key: str) -> Value:
        if isinstance(self.values, dict):
            return self.values.get(key_of(key))
        return self.values if isinstance(self.values, Unknown) else None


def merged(files: Sequence[Value]) -> Value:
    """One file over the other, the framework's own first: by their keys, and those of `connections` once more."""
    whole: Value = None
    for values in files:
        if not isinstance(whole, dict) or not isinstance(values, dict):
            whole = values
            continue
        below, above = whole.get("connections"), values.get("connections")
        whole = {**whole, **values}
        if isinstance(below, dict) and isinstance(above, dict):
            whole["connections"] = {**below, **above}
    return whole
