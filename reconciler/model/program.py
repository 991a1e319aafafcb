"""The spec of a Program: every field of it, its default, and what has to fit together.

The attributes are what the rest of the house works with: seconds as floats, `infinity` as inf, sizes in bytes. Which
fields are part of the revision is told in revision.py, which have no effect yet in support.py.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.model.contacts import PreStop, Probe, Socket
from reconciler.model.fields import (
    Account,
    CheckedSpec,
    Command,
    Duration,
    EndlessDuration,
    EnvName,
    ExitStatus,
    Octal,
    Path,
    Reads,
    Signal,
    SomeDuration,
    Spec,
    Whole,
)
from reconciler.model.parts import (
    DependsOn,
    EnvFrom,
    FromFile,
    Limits,
    Logs,
    Resources,
    RestartBackoff,
    RolloutOn,
    Strategy,
    repeated,
)
from reconciler.model.quantities import signal_number
from reconciler.model.state import NEVER

DEFAULT_GRACE_SECONDS = 30.0
DEFAULT_MIN_READY_SECONDS = 1.0
MOST_REPLICAS = 100_000

PROBES = {"startupProbe": "startup_probe", "readinessProbe": "readiness_probe", "livenessProbe": "liveness_probe"}


class ProgramFields(Spec):
    """All that may also stand in Config's `defaults.program`: everything but what makes a Program that one."""

    run_once: bool = False
    follow_links: bool = True
    env: Annotated[dict[str, str | FromFile], Reads("env")] = Field(default_factory=dict)
    env_from: tuple[EnvFrom, ...] = ()
    inherit_env: tuple[EnvName, ...] = ()
    user: Account | None = None
    group: Account | None = None
    supplementary_groups: tuple[Account, ...] = ()
    umask: Annotated[Octal, Field(le=0o777)] = 0o022
    nice: Annotated[int, Field(ge=-20, le=19)] = 0
    limits: Limits = Field(default_factory=dict)
    cpu_affinity: tuple[Annotated[int, Field(ge=0, le=8191)], ...] = ()
    oom_score_adjust: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    no_new_privileges: bool = False
    rollout_on: tuple[RolloutOn, ...] = ()
    sockets: tuple[Socket, ...] = ()
    stdin: Literal["none", "pipe"] = "none"

    replicas: Annotated[int, Field(ge=0, le=MOST_REPLICAS)] = 1
    suspend: bool = False
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    success_exit_codes: tuple[ExitStatus, ...] = (0,)
    restart_backoff: RestartBackoff = RestartBackoff()
    min_restart_interval: Duration = 0.1
    max_lifetime: SomeDuration | None = None
    stop_signal: Signal = "TERM"
    termination_grace_period: EndlessDuration | None = None
    stop_scope: Literal["process", "group", "tree"] = "process"
    pre_stop: PreStop | None = None
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    min_ready: Duration | None = None
    strategy: Strategy = Strategy()
    progress_deadline: Annotated[EndlessDuration, Field(gt=0)] = 600.0
    revision_history_limit: Whole = 10
    depends_on: tuple[DependsOn, ...] = ()
    logs: Logs = Logs()
    resources: Resources | None = None
    process_name: str = "$(PROGRAM)-$(REPLICA)"
    api_access: Literal["none", "read", "operate"] = "none"

    @property
    def grace_period_seconds(self) -> float:
        """How long a drain may take; NEVER when it may take forever, which is what run-once work gets by default."""
        if self.termination_grace_period is not None:
            return self.termination_grace_period
        return NEVER if self.run_once else DEFAULT_GRACE_SECONDS

    @property
    def min_ready_seconds(self) -> float:
        """How long Ready before Available. Without a probe, not to fall over at once is all the evidence there is.

        A readiness probe will be better evidence, and make this 0; it has no effect yet (model/support.py).
        """
        return DEFAULT_MIN_READY_SECONDS if self.min_ready is None else self.min_ready

    @property
    def success_codes(self) -> frozenset[int]:
        """Exit codes that are a success."""
        return frozenset(status for status in self.success_exit_codes if isinstance(status, int))

    @property
    def success_signals(self) -> frozenset[int]:
        """Numbers of the signals whose death is a success."""
        return frozenset(signal_number(status) for status in self.success_exit_codes if isinstance(status, str))

    @property
    def stop_signal_number(self) -> int:
        """The signal a drain begins with."""
        return signal_number(self.stop_signal)

    def max_unavailable(self, replicas: int) -> int:
        """How many of `replicas` a rollout may take away at a time."""
        return self.strategy.max_unavailable.resolve(replicas)

    def max_surge(self, replicas: int) -> int:
        """How many more than `replicas` a rollout may start."""
        return self.strategy.max_surge.resolve(replicas, round_up=True)


class ProgramSpec(ProgramFields, CheckedSpec):
    """What the user wants to run, and how."""

    command: Command
    working_dir: Path

    @model_validator(mode="after")
    def _refuse_nobody(self) -> Self:
        if self.sockets:
            self.__dict__["strategy"] = self.strategy.without_refusals()
        return self

    def faults(self) -> Iterator[tuple[str, str]]:
        """What does not fit together."""
        yield from self._socket_faults()
        for field, attribute in PROBES.items():
            probe: Probe | None = getattr(self, attribute)
            if probe is None:
                continue
            if field != "readinessProbe" and probe.success_threshold != 1:
                yield f"{field}.successThreshold", "must be 1: only readiness can be lost and regained"
            if self.replicas > 1 and (taker := self._taker_of(probe)):
                yield field, f"asks where socket {taker} listens: any of the {self.replicas} replicas would answer"
        for index, name in repeated(dependency.name for dependency in self.depends_on):
            yield f"dependsOn.{index}", f"names {name} again"

    def _socket_faults(self) -> Iterator[tuple[str, str]]:
        for field in ("name", "listen"):
            for index, _ in repeated(getattr(socket, field) for socket in self.sockets):
                yield f"sockets.{index}.{field}", "is the same as that of an earlier socket"
        on_stdin = [index for index, socket in enumerate(self.sockets) if socket.handover == "stdin"]
        for index in on_stdin[1:]:
            yield f"sockets.{index}.as", "only one socket can be stdin"
        if on_stdin and self.stdin != "none":
            yield "stdin", f"is taken by socket {self.sockets[on_stdin[0]].name}"

    def _taker_of(self, probe: Probe) -> str | None:
        """The socket at which a probe would be answered by whichever replica is quickest."""
        unix = probe.http_get.socket if probe.http_get else None
        for socket in self.sockets:
            if unix is not None and socket.path == unix:
                return socket.name
            if probe.address is not None and socket.takes(probe.address):
                return socket.name
        return None
