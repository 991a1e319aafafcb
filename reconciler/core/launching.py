"""From a spec and the facts of the host to a Launch: what a process is started with.

    spec ---- surroundings (adapter) ----> Facts: users, links, contents of files      effects, at most once a revision
    spec + Facts ---- template() ----> LaunchTemplate                                  pure, once a revision
    LaunchTemplate + ordinal ---- launch() ----> Launch                                pure, remembered: the hot path

All that can be decided before an ordinal is known is decided in `template`. Nothing here looks at the host: a path is
a text, a user is the ids that Facts say. Values from files are secrets, so the records that hold them print without.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reconciler.core.expansion import Scope, Text, depends_on_count, escaped, filled, mentions_count
from reconciler.model.launch import Credentials, Launch
from reconciler.model.parts import FromFile, Logs
from reconciler.model.program import ProgramSpec

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MERGED, NONE, INHERIT = "merged", "none", "inherit"
NO_FILE = frozenset({NONE, INHERIT})


class Environment(dict[str, str]):
    """Variables of a process. Prints names only, since values may be secrets; whoever adds to one adds to a copy."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Environment({', '.join(self)})"


class SecretArguments(tuple[str, ...]):
    """A command line into which a value from a file was put. Prints the program only."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"SecretArguments({self[0]!r}, and {len(self) - 1} more)"


class Account(NamedTuple):
    """Whom a process runs as, as passwd says."""

    name: str
    uid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the host says about all that one spec names."""

    account: Account
    credentials: Credentials | None = None  # None: those of the controller
    directory: str | None = None  # where processes start, links resolved; None: only the ordinal tells
    outer: Environment = field(default_factory=Environment)  # what `env` is laid upon: clean base and envFrom
    values: Environment = field(default_factory=Environment)  # `env` entries that come from files
    secrets: frozenset[str] = frozenset()  # names of the variables that come from files
    digests: Mapping[str, str] = field(default_factory=dict)  # part of the revision: source -> digest of what it says
    problems: tuple[str, ...] = ()  # in plain words; with `startable`, what was good last stays in force
    startable: bool = True  # False: something without which no process may be started was never there
    fingerprint: tuple[object, ...] = ()  # of the files and links as they were when they were read


class Doubt(NamedTuple):
    """Something valid that is hardly meant: which field, and what it comes to."""

    field: str  # below `spec`
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class LogTarget(NamedTuple):
    """Where one stream of one ordinal goes; the fields are those of ports.Stream, which stands above this room."""

    id: str
    fifo: str
    path: str
    max_size: int
    max_files: int
    compress: str
    mode: int
    owner: tuple[int, int] | None


@dataclass(slots=True, repr=False)  # a command may hold secrets
class LaunchTemplate:
    """A revision, ready to be started at any ordinal."""

    uid: str
    state_dir: str
    settings: Launch  # what no ordinal changes
    argv: tuple[Text, ...]
    directory: Text
    environment: Environment  # the variables that no ordinal changes
    varying: tuple[tuple[str, Text], ...]  # and those that one does
    logs: Logs
    out: Text  # where standard output goes: a path, `none` or `inherit`
    err: Text  # the same; equal to `out`: merged
    display_name: Text
    secret_command: bool
    run_once: bool
    count_matters: bool  # `$(REPLICAS)` is in it: a Launch holds for one count only
    warnings: tuple[Doubt, ...]
    remembered: dict[int, Launch] = field(default_factory=dict)
    remembered_count: int = -1


def clean_environment(
    account: Account, inherit: Iterable[str], controller: Mapping[str, str], base_path: str = ""
) -> Environment:
    """What every process starts from; `controller` is the controller's environment, of which `inherit` is taken.

    `base_path` stands in for the usual PATH: `up` is run by a person who expects the commands of their own shell.
    """
    return Environment(
        {
            "PATH": base_path or CLEAN_PATH,
            "LANG": "C.UTF-8",
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
            **{name: controller[name] for name in inherit if name in controller},
        }
    )


def written_values(spec: ProgramSpec) -> dict[str, str]:
    """The `env` entries that are written in the manifest itself, as written."""
    return {name: value for name, value in spec.env.items() if isinstance(value, str)}


def file_values(spec: ProgramSpec) -> dict[str, FromFile]:
    """The `env` entries whose value is the content of a file."""
    return {name: value for name, value in spec.env.items() if not isinstance(value, str)}


def working_directory(spec: ProgramSpec, program: str, literals: Mapping[str, str]) -> Text:
    """The directory as far as it is known without an ordinal, before links are resolved."""
    scope = Scope(written_values(spec), literals, program=program, warn=lambda _field, _message: None)
    return scope.expand("workingDir", spec.working_dir)[0]


def count_matters(spec: ProgramSpec) -> bool:
    """Whether what a process is started with depends on how many there are: then the count is part of the revision."""
    return mentions_count([*spec.command, *written_values(spec).values(), spec.working_dir])


def template(spec: ProgramSpec, facts: Facts, *, name: str, uid: str, revision: str, state_dir: str) -> LaunchTemplate:
    """All of a launch that no ordinal changes. Only for facts that are `startable`."""
    if not facts.startable:
        # Without this, a user that cannot be found would mean: run it as the controller's user, root.
        raise ValueError(f"{name} cannot be started: {'; '.join(facts.problems)}")
    warnings: list[Doubt] = []

    def warn(at: str, what: str) -> None:
        warnings.append(Doubt(at, what))

    scope, variables = _environment(spec, facts, name, revision, state_dir, warn)
    environment = {variable: scope.value(variable) or "" for variable in variables}
    argv, secret_command = _command(spec, scope)
    if secret_command:
        warn("command", "holds a value from a file, and every user of this host can see it in `ps`")
    directory = scope.expand("workingDir", spec.working_dir)[0]
    if facts.directory is not None:
        directory = facts.directory
    out, err = _outputs(spec, scope, state_dir, warn)
    return LaunchTemplate(
        uid=uid,
        state_dir=state_dir,
        settings=_settings(spec, facts),
        argv=argv,
        directory=directory,
        environment=Environment({key: text for key, text in environment.items() if isinstance(text, str)}),
        varying=tuple((key, text) for key, text in environment.items() if not isinstance(text, str)),
        logs=spec.logs,
        out=out,
        err=err,
        display_name=environment["SUPERVISOR_PROCESS_NAME"],
        secret_command=secret_command,
        run_once=spec.run_once,
        count_matters=any(map(depends_on_count, (*argv, *environment.values(), directory))),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _environment(
    spec: ProgramSpec, facts: Facts, name: str, revision: str, state_dir: str, warn: Callable[[str, str], None]
) -> tuple[Scope, list[str]]:
    """The scope of all texts, and the names of the variables that the process gets; later layers win."""
    ours = {
        "RECONCILER_PROGRAM": escaped(name),
        "RECONCILER_REPLICA": "$(REPLICA)",
        "RECONCILER_REVISION": escaped(revision),
        "SUPERVISOR_ENABLED": "1",
        "SUPERVISOR_PROCESS_NAME": spec.process_name,
        "SUPERVISOR_GROUP_NAME": escaped(name),
    }
    if spec.api_access != "none":
        socket = f"{escaped(state_dir)}/run/reconciler.sock"
        ours |= {"RECONCILER_SOCKET": socket, "SUPERVISOR_SERVER_URL": f"unix://{socket}"}
    texts = written_values(spec) | ours
    literals = {**facts.outer, **facts.values}
    scope = Scope(texts, literals, program=name, secrets=facts.secrets, warn=warn)
    return scope, list(literals | texts)


def _command(spec: ProgramSpec, scope: Scope) -> tuple[tuple[Text, ...], bool]:
    expanded = [scope.expand(f"command[{index}]", word) for index, word in enumerate(spec.command)]
    return tuple(text for text, _ in expanded), any(secret for _, secret in expanded)


def _settings(spec: ProgramSpec, facts: Facts) -> Launch:
    return Launch(
        argv=(),
        env=Environment(),
        cwd="",
        umask=spec.umask,
        credentials=facts.credentials,
        nice=spec.nice,
        limits=tuple((name, limit.soft, limit.hard) for name, limit in sorted(spec.limits.items())),
        cpu_affinity=spec.cpu_affinity,
        oom_score_adjust=spec.oom_score_adjust,
        no_new_privileges=spec.no_new_privileges,
        stop_signal=spec.stop_signal_number,
        stop_scope=spec.stop_scope,
    )


def _outputs(spec: ProgramSpec, scope: Scope, state_dir: str, warn: Callable[[str, str], None]) -> tuple[Text, Text]:
    """Where standard output and standard error go."""
    # `$(PROGRAM)` may be written in a text, but the dollars of the state directory are its own.
    usual = f"{escaped(state_dir)}/logs/$(PROGRAM)/$(REPLICA)"
    out = _log_path("logs.path", spec.logs.path or f"{usual}.log", f"{usual}.log", scope, warn)
    if spec.logs.stderr == MERGED:
        return out, out
    return out, _log_path("logs.stderr", spec.logs.stderr, f"{usual}.err.log", scope, warn)


def _log_path(at: str, written: str, usual: str, scope: Scope, warn: Callable[[str, str], None]) -> Text:
    path, _ = scope.expand(at, written)
    if path in NO_FILE or is_absolute(path):
        return path
    warn(at, f"{written} does not expand to an absolute path; the usual one is used")
    return scope.expand(at, usual)[0]


def is_absolute(path: Text) -> bool:
    """Whether it is a path from the root, whatever the ordinal."""
    start = path if isinstance(path, str) else path[0]
    return isinstance(start, str) and start.startswith("/")


def launch(made: LaunchTemplate, ordinal: int, replicas: int) -> Launch:
    """What to start at this ordinal; the same object as before unless the count matters and has changed."""
    if made.count_matters and replicas != made.remembered_count:
        made.remembered.clear()
        made.remembered_count = replicas
    known = made.remembered.get(ordinal)
    if known is None:
        known = made.remembered[ordinal] = _launch(made, ordinal, replicas)
    return known


def _launch(made: LaunchTemplate, ordinal: int, replicas: int) -> Launch:
    environment = Environment(made.environment)
    for name, text in made.varying:
        environment[name] = filled(text, ordinal, replicas)
    words = [filled(text, ordinal, replicas) for text in made.argv]
    out, err = (_end_of(made, ordinal, *output) for output in _resolved_outputs(made, ordinal, replicas))
    return replace(
        made.settings,
        argv=SecretArguments(words) if made.secret_command else tuple(words),
        env=environment,
        cwd=filled(made.directory, ordinal, replicas),
        stdout=out,
        stderr=err,
    )


def _resolved_outputs(made: LaunchTemplate, ordinal: int, replicas: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """For standard output and standard error: the stream it is written to, and where that one goes."""
    out, err = filled(made.out, ordinal, replicas), filled(made.err, ordinal, replicas)
    return ("out", out), ("out" if err == out else "err", err)


def _end_of(made: LaunchTemplate, ordinal: int, stream: str, path: str) -> str | None:
    """What the process gets as descriptor 1 or 2, in the words of Launch."""
    if path == NONE:
        return None
    return INHERIT if path == INHERIT else f"{made.state_dir}/run/fifos/{made.uid}-{ordinal}-{stream}"


def streams(made: LaunchTemplate, ordinal: int, replicas: int) -> tuple[LogTarget, ...]:
    """The log streams that have to stand before this ordinal is started: none, one, or two."""
    owner = made.settings.credentials
    return tuple(
        LogTarget(
            id=f"{made.uid}/{ordinal}/{stream}",
            fifo=f"{made.state_dir}/run/fifos/{made.uid}-{ordinal}-{stream}",
            path=path,
            max_size=made.logs.max_size,
            max_files=made.logs.max_files,
            compress=made.logs.compress,
            mode=made.logs.mode,
            owner=owner and (owner.uid, owner.gid),
        )
        for stream, path in dict(_resolved_outputs(made, ordinal, replicas)).items()
        if path not in NO_FILE
    )


def process_name(made: LaunchTemplate, ordinal: int, replicas: int) -> str:
    """How this process is called where people look."""
    return filled(made.display_name, ordinal, replicas)
