"""Where the two outputs of a process go: into which log or onto which console, framed how, through which FIFO. Pure.

    logs of a spec + policy of `run` ---- outputs() ----> Outputs                  once a revision
    Outputs + ordinal ---- ends() ----> what the process gets as descriptors 1 and 2
                      ---- targets() ----> the streams that have to stand before it is started

The pump knows consoles by the names of STDOUT and STDERR; a manifest may use these, or say `inherit`.
"""

from collections.abc import Callable
from typing import NamedTuple

from reconciler.core.expansion import Scope, Text, depends_on_count, escaped, filled
from reconciler.model.parts import Logs

MERGED, NONE, INHERIT, RAW = "merged", "none", "inherit", "raw"
STDOUT, STDERR = "/dev/stdout", "/dev/stderr"
_OUT, _ERR = "out", "err"


class Policy(NamedTuple):
    """What the one who started the daemon wants of all output."""

    console: str = ""  # it goes to the daemon's standard output, framed so; empty: where each spec says
    captured: bool = False  # nothing goes there, for a person watches what is in the files


AS_WRITTEN = Policy()


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
    format: str
    program: str
    replica: int
    stream: str
    shared: bool


class Outputs(NamedTuple):
    """Of one revision. `out` and `err` are a path or `none`; merged, both go through one FIFO, in the order written."""

    out: Text
    err: Text
    merged: bool
    format: str
    logs: Logs
    fifos: str  # how the paths of the FIFOs begin
    uid: str
    program: str
    owner: tuple[int, int] | None


def outputs(
    logs: Logs,
    scope: Scope,
    warn: Callable[[str, str], None],
    policy: Policy,
    *,
    program: str,
    uid: str,
    state_dir: str,
    owner: tuple[int, int] | None,
) -> Outputs:
    """Where standard output and standard error of this revision go."""
    # `$(PROGRAM)` may be written in a text, but the dollars of the state directory are its own.
    usual = f"{escaped(state_dir)}/logs/$(PROGRAM)/$(REPLICA)"
    merged = logs.stderr == MERGED
    out = _place("logs.path", logs.path or f"{usual}.log", f"{usual}.log", STDOUT, scope, warn, policy)
    err = out if merged else _place("logs.stderr", logs.stderr, f"{usual}.err.log", STDERR, scope, warn, policy)
    form = policy.console or logs.format
    return Outputs(out, err, merged, form, logs, f"{state_dir}/run/fifos/{uid}-", uid, program, owner)


def _place(
    at: str, written: str, usual: str, console: str, scope: Scope, warn: Callable[[str, str], None], policy: Policy
) -> Text:
    if written == NONE:
        return NONE
    if policy.console:
        return STDOUT
    if written in (INHERIT, STDOUT, STDERR):
        if policy.captured:
            return scope.expand(at, usual)[0]
        return console if written == INHERIT else written
    path, _ = scope.expand(at, written)
    if is_absolute(path):
        return path
    warn(at, f"{written} does not expand to an absolute path; the usual one is used")
    return scope.expand(at, usual)[0]


def is_absolute(path: Text) -> bool:
    """Whether it is a path from the root, whatever the ordinal."""
    start = path if isinstance(path, str) else path[0]
    return isinstance(start, str) and start.startswith("/")


def _resolved(made: Outputs, ordinal: int, replicas: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """For standard output and standard error: the stream it is written to, and where that one goes.

    To one raw file both go through one FIFO. Framed, their lines are told apart.
    """
    out, err = filled(made.out, ordinal, replicas), filled(made.err, ordinal, replicas)
    merged = made.merged or (out == err and made.format == RAW)
    return (_OUT, out), (_OUT if merged else _ERR, err)


def ends(made: Outputs, ordinal: int, replicas: int) -> tuple[str | None, str | None]:
    """What the process gets as descriptors 1 and 2: a FIFO each, the same one when they are merged, or None."""
    first, second = _resolved(made, ordinal, replicas)
    return _end(made, ordinal, *first), _end(made, ordinal, *second)


def _end(made: Outputs, ordinal: int, stream: str, path: str) -> str | None:
    return None if path == NONE else f"{made.fifos}{ordinal}-{stream}"


def targets(made: Outputs, ordinal: int, replicas: int) -> tuple[LogTarget, ...]:
    """The log streams that have to stand before this ordinal is started: none, one, or two."""
    logs = made.logs
    return tuple(
        LogTarget(
            id=f"{made.uid}/{ordinal}/{stream}",
            fifo=f"{made.fifos}{ordinal}-{stream}",
            path=path,
            max_size=logs.max_size,
            max_files=logs.max_files,
            compress=logs.compress,
            mode=logs.mode,
            owner=made.owner,
            format=made.format,
            program=made.program,
            replica=ordinal,
            stream=stream,
            shared=replicas > 1 and _is_one_for_all(made.out if stream == _OUT else made.err, replicas),
        )
        for stream, path in dict(_resolved(made, ordinal, replicas)).items()
        if path != NONE
    )


def follow_count(made: Outputs) -> bool:
    """Whether a change of the count changes something for the streams that stand already."""
    return any(_is_one_for_all(path, 2) or depends_on_count(path) for path in (made.out, made.err))


def _is_one_for_all(path: Text, replicas: int) -> bool:
    """Whether the ordinal makes no difference to where it leads."""
    return filled(path, 0, replicas) == filled(path, 1, replicas)
