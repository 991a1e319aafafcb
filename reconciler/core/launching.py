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
from reconciler.core.outputs import AS_WRITTEN, LogTarget, Outputs, Policy, ends, outputs, targets
from reconciler.model.launch import Credentials, Launch
from reconciler.model.parts import FromFile
from reconciler.model.program import ProgramSpec

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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


@dataclass(slots=True, repr=False)  # a command may hold secrets
class LaunchTemplate:
    """A revision, ready to be started at any ordinal."""

    settings: Launch  # what no ordinal changes
    argv: tuple[Text, ...]
    directory: Text
    environment: Environment  # the variables that no ordinal changes
    varying: tuple[tuple[str, Text], ...]  # and those that one does
    outputs: Outputs
    display_name: Text
    secret_command: bool
    run_once: bool
    count_matters: bool  # `$(REPLICAS)` is in it: a Launch holds for one count only
    warnings: tuple[Doubt, ...]
    remembered: dict[int, Launch | None] = field(default_factory=dict)  # by ordinal; None: it was asked for once
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


def template(
    spec: ProgramSpec,
    facts: Facts,
    *,
    name: str,
    uid: str,
    revision: str,
    state_dir: str,
    policy: Policy = AS_WRITTEN,
) -> LaunchTemplate:
    """All of a launch that no ordinal changes. Only for facts that are `startable`."""
    if not facts.startable:
        # Without this, a user that cannot be found would mean: run it as the controller's user, root.
        raise ValueError(f"{name} cannot be started: {'; '.join(facts.problems)}")
    warnings: list[Doubt] = []

    def warn(at: str, what: str) -> None:
        warnings.append(Doubt(at, what))

    scope, literals, texts = _environment(spec, facts, name, revision, state_dir, warn)
    environment = {**literals, **{variable: scope.value(variable) or "" for variable in texts}}
    argv, secret_command = _command(spec, scope)
    if secret_command:
        warn("command", "holds a value from a file, and every user of this host can see it in `ps`")
    directory = scope.expand("workingDir", spec.working_dir)[0]
    if facts.directory is not None:
        directory = facts.directory
    user = facts.credentials
    owner = user and (user.uid, user.gid)
    return LaunchTemplate(
        settings=_settings(spec, facts),
        argv=argv,
        directory=directory,
        environment=Environment({key: text for key, text in environment.items() if isinstance(text, str)}),
        varying=tuple((key, text) for key, text in environment.items() if not isinstance(text, str)),
        outputs=outputs(spec.logs, scope, warn, policy, program=name, uid=uid, state_dir=state_dir, owner=owner),
        display_name=environment["SUPERVISOR_PROCESS_NAME"],
        secret_command=secret_command,
        run_once=spec.run_once,
        count_matters=any(map(depends_on_count, (*argv, *environment.values(), directory))),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _environment(
    spec: ProgramSpec, facts: Facts, name: str, revision: str, state_dir: str, warn: Callable[[str, str], None]
) -> tuple[Scope, dict[str, str], dict[str, str]]:
    """The scope of all texts, and the variables that the process gets: as they are, and above them texts."""
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
    return scope, literals, texts


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


def launch(made: LaunchTemplate, ordinal: int, replicas: int) -> Launch:
    """What to start at this ordinal; from the second time on the same object, unless the count matters and has changed.

    Most processes of a fleet are started once and run: of each of these a kilobyte would be kept for nothing.
    """
    if made.count_matters and replicas != made.remembered_count:
        made.remembered.clear()
        made.remembered_count = replicas
    known = made.remembered.get(ordinal)
    if known is None:
        known = _launch(made, ordinal, replicas)
        made.remembered[ordinal] = known if ordinal in made.remembered else None
    return known


def _launch(made: LaunchTemplate, ordinal: int, replicas: int) -> Launch:
    environment = Environment(made.environment)
    for name, text in made.varying:
        environment[name] = filled(text, ordinal, replicas)
    words = [filled(text, ordinal, replicas) for text in made.argv]
    out, err = ends(made.outputs, ordinal, replicas)
    return replace(
        made.settings,
        argv=SecretArguments(words) if made.secret_command else tuple(words),
        env=environment,
        cwd=filled(made.directory, ordinal, replicas),
        stdout=out,
        stderr=err,
    )


def streams(made: LaunchTemplate, ordinal: int, replicas: int) -> tuple[LogTarget, ...]:
    """The log streams that have to stand before this ordinal is started: none, one, or two."""
    return targets(made.outputs, ordinal, replicas)


def process_name(made: LaunchTemplate, ordinal: int, replicas: int) -> str:
    """How this process is called where people look."""
    return filled(made.display_name, ordinal, replicas)
