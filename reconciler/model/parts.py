"""The parts of a Program's spec that are maps of their own: limits, back-off, strategy, logs, resources.

Values and what fits within one part; what has to fit across parts is in program.py. What talks to processes or for
them (sockets, probes, preStop) is in contacts.py.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PlainValidator

from reconciler.model import quantities
from reconciler.model.fields import (
    CheckedSpec,
    Cores,
    Duration,
    Name,
    Octal,
    Path,
    Reads,
    Share,
    Signal,
    SomeSize,
    Spec,
)

UNLIMITED = -1


class Limit(NamedTuple):
    """A resource limit; -1 is unlimited."""

    soft: int
    hard: int

    @classmethod
    def parse(cls, value: Any) -> Self:
        """From its canonical form: a number or `unlimited`, for both or as {soft, hard}."""
        if isinstance(value, tuple):
            return cls(*value)
        if isinstance(value, dict):
            if set(value) != {"soft", "hard"}:
                raise ValueError("must have soft and hard")
            soft, hard = (UNLIMITED if value[end] == "unlimited" else int(value[end]) for end in ("soft", "hard"))
        else:
            soft = hard = UNLIMITED if value == "unlimited" else int(value)
        if hard != UNLIMITED and (soft > hard or soft == UNLIMITED):
            raise ValueError("the soft limit must not be above the hard one")
        return cls(soft, hard)


LIMITS_IN_BYTES = frozenset({"as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"})
LIMITS_IN_NUMBERS = frozenset({"cpu", "nice", "nofile", "nproc", "rtprio", "rttime", "sigpending"})
LIMITS = LIMITS_IN_BYTES | LIMITS_IN_NUMBERS

Limits = Annotated[
    dict[str, Annotated[Limit, PlainValidator(Limit.parse)]],
    Reads("limits"),
]


class FromFile(Spec):
    """The value of a variable that is the content of a file."""

    from_file: Path


class EnvFrom(Spec):
    """A file of NAME=value lines."""

    file: Path
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    optional: bool = False
    roll_on_change: bool = True


class RolloutOn(CheckedSpec):
    """A file or a link whose change rolls the processes, or signals them."""

    path: Path
    action: Literal["Roll", "Signal"] = "Roll"
    signal: Signal | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.action == "Signal" and self.signal is None:
            yield "signal", "is required with action Signal"
        if self.action == "Roll" and self.signal is not None:
            yield "signal", "has no meaning without action: Signal"


class RestartBackoff(CheckedSpec):
    """Delays between restarts after consecutive failures, in seconds."""

    initial: Duration = 1.0
    factor: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 2.0
    max: Duration = 300.0
    jitter: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    reset_after: Duration = 60.0

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.max < self.initial:
            at = "max" if "max" in self.model_fields_set else "initial"
            yield at, f"max ({self.max:g}s) must not be below initial ({self.initial:g}s)"


class Strategy(CheckedSpec):
    """How processes of an old revision are replaced."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    max_surge: Share = quantities.Amount(0)
    written_unavailable: Annotated[Share, Field(alias="maxUnavailable")] = quantities.Amount(25, percent=True)
    on_failure: Literal["Pause", "Rollback"] = "Pause"

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.type == "Recreate":
            for name, field in (("max_surge", "maxSurge"), ("written_unavailable", "maxUnavailable")):
                if name in self.model_fields_set:
                    yield field, "has no meaning with type: Recreate"

    @property
    def max_unavailable(self) -> quantities.Amount:
        """How many may be away at a time. Without surge at least one, or nothing could ever be replaced."""
        return self.written_unavailable._replace(at_least=1) if self.max_surge.is_zero else self.written_unavailable

    def without_refusals(self) -> Self:
        """The defaults of a Program with sockets: what was not written gives way to "nobody is ever refused"."""
        never_away = {"max_surge": quantities.Amount(1), "written_unavailable": quantities.Amount(0)}
        if self.type == "Recreate" or not self.model_fields_set.isdisjoint(never_away):
            return self
        changed = self.model_copy(update=never_away)
        changed.__pydantic_fields_set__.difference_update(never_away)
        return changed


class DependsOn(Spec):
    """Another Program that has to be somewhere first."""

    name: Name
    condition: Literal["Started", "Ready", "Succeeded"] = "Ready"


class Logs(Spec):
    """Where output goes and how much of it is kept."""

    path: Annotated[str, Reads("log_path")] | None = None  # None: below the state directory
    stderr: Annotated[str, Reads("stderr_path")] = "merged"
    max_size: SomeSize = 10 << 20
    max_files: Annotated[int, Field(ge=0, le=10_000)] = 5
    compress: Literal["gzip", "none"] = "gzip"
    format: Literal["raw", "prefix", "json"] = "raw"
    mode: Octal = 0o640


class MemoryResource(CheckedSpec):
    """Bounds on the memory of a replica's tree."""

    restart_above: SomeSize | None = None
    max: SomeSize | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.restart_above and self.max and self.restart_above >= self.max:
            yield "restartAbove", "must be below max, which would kill first"


class CpuResource(Spec):
    """A bound on the CPU of a replica's tree, in cores."""

    max: Cores


class PidsResource(Spec):
    """A bound on the number of processes in a replica's tree."""

    max: Annotated[int, Field(ge=1)]


class Resources(Spec):
    """What a replica's tree may use."""

    memory: MemoryResource | None = None
    cpu: CpuResource | None = None
    pids: PidsResource | None = None


def repeated(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The names that stood before, with their place."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield index, name
        seen.add(name)
