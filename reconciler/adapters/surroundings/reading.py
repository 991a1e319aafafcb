"""Reads all that one spec names, once per revision, and says cheaply whether it has to be read again.

A host can do anything to these things: a user goes, a file is half written, a link leads in a circle, a device stands
where a file should. Each is a problem in plain words, never an exception, and what was good last stays in force.
Nothing is written here, nothing decided about processes; the calls may block, so none belongs on the way to a spawn.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from reconciler.adapters.surroundings.accounts import Accounts, Identity
from reconciler.adapters.surroundings.files import Plain, Watched, directory
from reconciler.core.envfile import content_of, parsed
from reconciler.core.expansion import LONGEST_BYTES
from reconciler.core.launching import (
    Environment,
    Facts,
    clean_environment,
    file_values,
    working_directory,
)
from reconciler.core.outputs import is_absolute
from reconciler.hostfiles import Missing, Refused, content
from reconciler.hostmounts import SILENT, Mounts
from reconciler.model.digests import blake2b
from reconciler.model.launch import Credentials
from reconciler.model.parts import EnvFrom, FromFile
from reconciler.model.program import ProgramSpec

LARGEST_ENV_FILE_BYTES = 1024 * 1024

_Value = TypeVar("_Value")


class Surroundings:
    """Reads for all Programs, and remembers for each what was good last."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        base_path: str = "",
        accounts: Accounts | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        """`environment` is the controller's, for `inheritEnv`; `base_path` replaces the usual PATH (`up`)."""
        self._environment = dict(os.environ if environment is None else environment)
        self._base_path = base_path
        self._accounts = accounts or Accounts()
        self._mounts = mounts or Mounts()
        self._plain = Plain()
        self._good: dict[str, dict[Hashable, Any]] = {}
        self._watched: dict[str, tuple[Watched, ...]] = {}

    def read(self, name: str, spec: ProgramSpec) -> Facts:
        """The facts for the Program of this name. Never raises for what a host can do to it."""
        reading = _Reading(self._good.get(name, {}), self._mounts, self._plain)
        facts = reading.facts(name, spec, self._accounts, self._environment, self._base_path)
        self._good[name] = reading.good  # of this spec only: what it no longer names is forgotten
        self._watched[name] = tuple(reading.watched)
        return facts

    def fingerprint(self, name: str) -> tuple[object, ...]:
        """Of all that the last reading depends on; other than `Facts.fingerprint`: read again. Empty: on nothing."""
        watched = self._watched.get(name)
        return tuple([_looked_at(each, self._mounts) for each in watched]) if watched else ()

    def forget(self, name: str) -> None:
        """The Program is gone."""
        self._good.pop(name, None)
        self._watched.pop(name, None)


class _Reading:
    """One reading of one spec."""

    def __init__(self, before: Mapping[Hashable, Any], mounts: Mounts, plain: Plain) -> None:
        self._before, self._mounts, self._plain = before, mounts, plain
        self.good: dict[Hashable, Any] = {}
        self.problems: list[str] = []
        self.startable = True
        self.digests: dict[str, str] = {}
        self.watched: dict[Watched, tuple[object, ...]] = {}

    def facts(
        self, name: str, spec: ProgramSpec, accounts: Accounts, controller: Mapping[str, str], base_path: str
    ) -> Facts:
        account, credentials = self._identity(spec, accounts)
        base = clean_environment(account, spec.inherit_env, controller, base_path)
        from_files = self._env_files(spec.env_from, base, credentials)
        values = self._values(file_values(spec), credentials)
        outer = Environment(base | from_files)
        return Facts(
            account=account,
            credentials=credentials,
            directory=self._directory(spec, name, outer | values),
            outer=outer,
            values=values,
            secrets=frozenset(from_files.keys() | values.keys()),
            digests=self.digests,
            problems=tuple(self.problems),
            startable=self.startable,
            fingerprint=tuple(self.watched.values()),
        )

    def _kept(self, key: Hashable, what: str, get: Callable[[], _Value], path: str = "") -> _Value | None:
        """What is there now; else the problem, and what was there when it was last good."""
        try:
            if path and not self._mounts.answers(path):
                raise Refused(SILENT)
            self.good[key] = value = get()
        except Refused as refusal:
            if key not in self._before:
                self.problems.append(f"{what}{refusal}")
                return None
            self.problems.append(f"{what}{refusal}; what was good last stays in force")
            kept: _Value = self._before[key]
            self.good[key] = kept
            return kept
        return value

    def _watch(self, watched: Watched) -> None:
        """From before it is read: what changes meanwhile is then seen as a change."""
        self.watched[watched] = _looked_at(watched, self._mounts)

    def _identity(self, spec: ProgramSpec, accounts: Accounts) -> Identity:
        asked = (spec.user, spec.group, spec.supplementary_groups)
        identity = self._kept(("user", *asked), "", lambda: accounts.identity(*asked))
        if self.problems:  # somebody may be about to create that user
            self._watch(Watched("/etc/passwd"))
            self._watch(Watched("/etc/group"))
        if identity is None:
            self.startable = False
            return Identity(accounts.controller(), None)
        return identity

    def _env_files(
        self, sources: Iterable[EnvFrom], base: Mapping[str, str], reader: Credentials | None
    ) -> dict[str, str]:
        """The variables of all `envFrom`, later files above earlier ones."""
        found: dict[str, str] = {}
        for index, source in enumerate(sources):
            self._watch(Watched(source.file))
            before = {**base, **found}
            get = partial(_env_file, source, before, reader)
            key = ("envFrom", source.file, source.optional)
            read = self._kept(key, f"env file {source.file}: ", get, source.file)
            if read is None:
                self.startable = False
                continue
            if read.digest and source.roll_on_change:
                self.digests[f"envFrom[{index}]"] = read.digest
            found |= {source.prefix + name: value for name, value in read.variables.items()}
        return found

    def _values(self, sources: Mapping[str, FromFile], reader: Credentials | None) -> Environment:
        """The `env` entries that are the content of a file."""
        values = Environment()
        for name, source in sources.items():
            self._watch(Watched(source.from_file))
            get = partial(_value, name, source.from_file, reader)
            what = f"env.{name}: file {source.from_file}: "
            read = self._kept(("env", name, source.from_file), what, get, source.from_file)
            if read is None:
                self.startable = False
                continue
            self.digests[f"env.{name}"] = read.digest
            values[name] = read.variables[name]
        return values

    def _directory(self, spec: ProgramSpec, name: str, variables: Mapping[str, str]) -> str | None:
        """Where processes start. A directory that is not there blocks nothing: the spawn says so, and backs off."""
        written = working_directory(spec, name, variables)
        if not is_absolute(written):  # it begins with a variable, or the manifest would have made it so
            self.problems.append(f"working directory {spec.working_dir} does not expand to an absolute path")
            self.startable = False
            return None
        if not isinstance(written, str):
            return None
        if not spec.follow_links:
            return written
        get = partial(directory, written)
        if self._mounts.answers(written) and (plain := self._plain(written)):
            # Looking at every plain directory of every Program once a second would cost more than all the rest.
            self.good["workingDir", written] = plain
            return plain
        watched = Watched(written, link=True)
        self._watch(watched)
        real = self._kept(("workingDir", written), f"working directory {written}: ", get, written)
        if real is None:
            return written
        if real == os.path.normpath(written):
            del self.watched[watched]
        else:
            self.digests["workingDir"] = _digest([os.fsencode(real)])
        return real


def _looked_at(watched: Watched, mounts: Mounts) -> tuple[object, ...]:
    """How it is now. One that does not answer is another than before, and so it is when it answers again."""
    return watched.look() if mounts.answers(watched.path) else (watched.path, SILENT)


class _Read(NamedTuple):
    """What one file says. No digest: there is no such file, and there need not be."""

    variables: dict[str, str]
    digest: str


def _env_file(source: EnvFrom, before: Mapping[str, str], reader: Credentials | None) -> _Read:
    try:
        read = parsed(content(source.file, LARGEST_ENV_FILE_BYTES, reader), before)
    except Missing:
        if source.optional:
            return _Read({}, "")
        raise
    if read.errors:
        raise Refused("; ".join(read.errors))
    return _Read(read.variables, _digest(content_of(read.variables)))


def _value(name: str, path: str, reader: Credentials | None) -> _Read:
    found = content(path, LONGEST_BYTES - len(name) - 1, reader)
    try:
        value = found.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Refused("is not UTF-8") from None
    if "\0" in value:
        raise Refused("holds a NUL byte, which no variable can")
    return _Read({name: value}, _digest([found]))


def _digest(parts: Iterable[bytes]) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
