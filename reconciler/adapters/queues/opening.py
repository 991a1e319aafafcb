"""From a trigger as it is written to a reader that is fit for unattended use.

Values that are written elsewhere (`passwordFromEnv`, `passwordFromFile`) are fetched here, and here is the one place
where whatever a driver, a library or a server may say or raise becomes a QueueReadFailed without a secret in it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from reconciler import hostfiles
from reconciler.model.launch import Credentials
from reconciler.model.masking import secrets_in, without
from reconciler.model.metadata import Metadata
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.triggers import FROM_ENV, pointed
from reconciler.model.triggers import settings as judged
from reconciler.ports import QueueAsked, QueueDriver, QueueReader

MetadataT = TypeVar("MetadataT", bound=Metadata)
ReadFile = Callable[[str], bytes]

LARGEST_SECRET_BYTES = 64 << 10
DEFAULT_POLLING_SECONDS = 1.0
LEAST_POLLING_SECONDS = 0.05
_OPEN_AGAIN_AFTER = frozenset({"AuthenticationFailed", "BadMetadata"})
"""What may be over when a secret was written anew, a variable corrected."""


def settings(asked: QueueAsked, model: type[MetadataT]) -> MetadataT:
    """The metadata as attributes. Raises QueueReadFailed(BadMetadata): values from variables were not judged before."""
    try:
        found = judged(asked.type, asked.metadata)
    except ValueError as error:
        raise QueueReadFailed("BadMetadata", str(error)) from None
    assert isinstance(found, model)
    ca_file = getattr(found, "ca_file", None)
    return found.model_copy(update={"ca_file": os.path.join(asked.working_dir, ca_file)}) if ca_file else found


def read_secret(path: str, reader: Credentials | None = None) -> bytes:
    """The content of a regular file that is not large, for a process with these ids. Raises OSError with a reason."""
    try:
        return hostfiles.content(path, LARGEST_SECRET_BYTES, reader)
    except hostfiles.Refused as refused:
        raise OSError(str(refused)) from None


def resolved(
    metadata: Mapping[str, Any], environment: Mapping[str, str], working_dir: str, read_file: ReadFile = read_secret
) -> dict[str, Any]:
    """The metadata with what is written elsewhere put in. Raises QueueReadFailed(BadMetadata)."""
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        pointer = pointed(key)
        if pointer is not None:
            where = str(value)
            get = _from_environment if pointer[1] == FROM_ENV else _from_file
            found[pointer[0]] = get(key, where, environment, working_dir, read_file)
        elif isinstance(value, Mapping):
            found[key] = resolved(value, environment, working_dir, read_file)
        else:
            found[key] = value
    return found


def _from_environment(key: str, name: str, environment: Mapping[str, str], _: str, __: ReadFile) -> str:
    if name not in environment:
        raise QueueReadFailed("BadMetadata", f"{key}: the Program has no variable {name} in env or envFrom")
    return environment[name]


def _from_file(key: str, path: str, _: Mapping[str, str], working_dir: str, read_file: ReadFile) -> str:
    path = os.path.join(working_dir, path)
    try:
        return read_file(path).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise QueueReadFailed("BadMetadata", f"{key}: {path} is not UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise QueueReadFailed("BadMetadata", f"{key}: {path} cannot be read: {reason}") from None


class SafeDriver:
    """Implements ports.QueueDriver over any driver: ours, and those of plug-ins."""

    def __init__(self, driver: QueueDriver, read_file: ReadFile | None = None) -> None:
        """`read_file` reads for keys that end in FromFile, and raises OSError. None: as the Program's user might."""
        self._driver = driver
        self._read_file = read_file

    @property
    def polling_seconds(self) -> float:
        """How often to look when the binding does not say."""
        try:
            return max(float(self._driver.polling_seconds), LEAST_POLLING_SECONDS)
        except Exception:
            return DEFAULT_POLLING_SECONDS

    def open(self, asked: QueueAsked) -> "SafeReader":
        """Make a reader out of metadata as it is written. Never raises: what is wrong with it fails the reads."""
        return SafeReader(self._driver, asked, self._read_file)


class SafeReader:
    """Implements ports.QueueReader over a reader that is opened by the first read, and again when that may help."""

    def __init__(self, driver: QueueDriver, asked: QueueAsked, read_file: ReadFile | None = None) -> None:
        self._driver = driver
        self._written = asked
        self._read_file = read_file
        self._reader: QueueReader | None = None
        self._secrets: frozenset[str] = secrets_in(asked.metadata)

    def read(self) -> QueueReading:
        """Look once. Raises QueueReadFailed and nothing else."""
        with self._told():
            reading = self._opened().read()
            return reading._replace(found=without(reading.found, self._secrets))

    def wait(self, seconds: float) -> bool:
        """Block until there may be something new. Raises QueueReadFailed and nothing else."""
        with self._told():
            return self._opened().wait(seconds)

    @property
    def can_wait(self) -> bool:
        """Whether `wait` is any better than polling."""
        try:
            return self._reader is not None and self._reader.can_wait
        except Exception:
            return False

    def close(self) -> None:
        """Let the connection go. May be called from another thread."""
        reader = self._reader
        if reader is not None:
            try:
                reader.close()
            except Exception:
                self._reader = None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except QueueReadFailed as failed:
            if failed.reason in _OPEN_AGAIN_AFTER:
                self._forget()
            raise QueueReadFailed(failed.reason, without(str(failed), self._secrets)) from None
        except Exception as error:
            self._forget()
            text = f"the driver of {self._written.type} failed: {type(error).__name__}: {error}"
            raise QueueReadFailed("DriverFailed", without(text, self._secrets)[:500]) from None

    def _opened(self) -> QueueReader:
        if self._reader is None:
            written = self._written
            read_file = self._read_file or (lambda path: read_secret(path, written.credentials))
            metadata = resolved(written.metadata, written.environment, written.working_dir, read_file)
            self._secrets = secrets_in(metadata)
            self._reader = self._driver.open(written._replace(metadata=metadata))
        return self._reader

    def _forget(self) -> None:
        self.close()
        self._reader = None
