"""What may be shown of settings that hold secrets: passwords in URLs and in keys of their own are masked.

Used wherever metadata or a message is shown. Pure text; which values are secrets is told by the names of their keys.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"

_SECRET_KEY = re.compile(r"passw|secret|token|credential|authorization|api-?_?key|private-?_?key|cookie", re.IGNORECASE)
_POINTERS = ("FromEnv", "FromFile")
# Up to the last `@`, whatever is before it: people forget to escape a password. Too much masked is no harm.
_URL_PASSWORD = re.compile(r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*:)(?P<password>\S+)(?=@)")
_NAMED_PASSWORD = re.compile(
    r"(?P<start>\b(?:password|passwd|pwd|token|secret)\s*=\s*)(?P<value>'[^']*'|[^\s&;,)]+)", re.IGNORECASE
)
_SHORT = 3  # shorter secrets are masked only where they stand as words of their own


def is_secret_key(key: str) -> bool:
    """Whether a value by this name is never shown. `passwordFromFile` only says where it is."""
    return _SECRET_KEY.search(key) is not None and not key.endswith(_POINTERS)


def masked(text: str) -> str:
    """A text with the passwords of the URLs and connection strings in it masked."""
    text = _URL_PASSWORD.sub(rf"\g<start>{MASK}", text)
    return _NAMED_PASSWORD.sub(rf"\g<start>{MASK}", text)


def masked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it may be shown."""
    return {key: _masked_value(key, value) for key, value in metadata.items()}


def _masked_value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked_metadata(value)
    if is_secret_key(key):
        return MASK
    if isinstance(value, list | tuple):
        return [_masked_value("", item) for item in value]
    return masked(value) if isinstance(value, str) else value


def secrets_in(metadata: Mapping[str, Any]) -> frozenset[str]:
    """The secret texts of resolved metadata: values of secret keys, and the passwords of URLs."""
    return frozenset(secret for secret in _secrets(metadata) if secret)


def _secrets(metadata: Mapping[str, Any]) -> Iterable[str]:
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from _secrets(item if isinstance(item, Mapping) else {key: item})
        elif is_secret_key(key):
            yield str(value)
        elif isinstance(value, str):
            for match in _URL_PASSWORD.finditer(value):
                yield from (match["password"], unquote(match["password"]))


def without(text: str, secrets: Iterable[str]) -> str:
    """A text from elsewhere (a library, a server) with these secrets masked, and all that `masked` knows."""
    for secret in sorted(secrets, key=len, reverse=True):
        for form in {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}:
            if len(form) >= _SHORT:
                text = text.replace(form, MASK)
            else:
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
    return masked(text)
