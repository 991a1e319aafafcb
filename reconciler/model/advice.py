"""Warnings: what is valid, and yet hardly what its author means.

Only what can be told from the manifest alone. A warning names the field, what will happen, and what to write.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from reconciler.model.binding import QueueBindingSpec
from reconciler.model.manifest import Manifest
from reconciler.model.placing import place_of
from reconciler.model.problems import Problem
from reconciler.model.program import ProgramSpec
from reconciler.model.quantities import seconds
from reconciler.model.support import SENTENCES, not_yet_supported

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_GIVES_WAY = re.compile(r"(?:^|[;&|(\s])(?:exec|trap)\s")  # to its program, or passes signals on itself
_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*c")

LARAVEL_SECONDS = 60.0  # queue:work --timeout, and horizon.php's timeout, when nothing else is said
SIDEKIQ_SECONDS = 25.0


class _Advice(NamedTuple):
    field: str
    message: str
    hint: str = ""


def advice(manifest: Manifest) -> list[Problem]:
    """Warnings about one manifest."""
    spec = manifest.spec
    found: list[_Advice] = []
    if isinstance(spec, ProgramSpec):
        found = [*_without_effect(spec), *_shell(spec), *_queue_time(spec), *_once(spec)]
    elif isinstance(spec, QueueBindingSpec):
        found = list(_scaling(spec))
    return [warning(manifest, *row) for row in found]


def doubtful(spec: ProgramSpec) -> list[str]:
    """The same in one line each, as far as no condition of its own tells of it."""
    found = [*_shell(spec), *_queue_time(spec), *_once(spec)]
    return [f"{row.field}: {row.message}{f' ({row.hint})' if row.hint else ''}" for row in found]


def root_warning(file: str, line: int) -> Problem:
    """For who knows that it would be run as root, and whether the defaults name a user."""
    return Problem(file, line, 1, f"spec.{_ROOT.field}", _ROOT.message, _ROOT.hint, "warning")


def warning(manifest: Manifest, field: str, message: str, hint: str = "") -> Problem:
    """A warning about a field below `spec`, with its place."""
    place = place_of(manifest.written, field) if manifest.written else None
    line, column = (place.line, place.column) if place else (manifest.line, 1)
    return Problem(manifest.file, line, column, f"spec.{field}", message, hint, "warning")


def _scaling(spec: QueueBindingSpec) -> Iterator[_Advice]:
    if all(trigger.metric == "age" for trigger in spec.triggers):
        yield _Advice(
            "triggers",
            "ask for more by the age of work only: the count comes down when there is nothing left to do, not before",
            "put a trigger with metric: depth beside",
        )
    if spec.behavior.scale_up.select_policy == "Disabled" and spec.min_replica_count == 0:
        yield _Advice(
            "behavior.scaleUp.selectPolicy",
            "Disabled keeps the count from ever rising, from 0 too",
            "write minReplicaCount: 1",
        )


def _without_effect(spec: ProgramSpec) -> Iterator[_Advice]:
    for field in not_yet_supported(spec):
        yield _Advice(field, f"has no effect in this release: {SENTENCES[field]}")


def _shell(spec: ProgramSpec) -> Iterator[_Advice]:
    """A shell in between keeps the stop signal to itself, and the program is killed without having heard of a stop.

    Whether it stays is the shell's own affair: bash gives way to the last command of a script, dash does not.
    """
    if spec.run_once or spec.stop_scope != "process":
        return  # no signal is sent, or all get it
    if posixpath.basename(spec.command[0]) not in _SHELLS:
        return
    for index, argument in enumerate(spec.command[1:-1], start=1):
        if _SCRIPT_OPTION.fullmatch(argument):
            if not _GIVES_WAY.search(spec.command[index + 1]):
                yield _Advice(
                    "command",
                    "runs a shell that may stay in between: then the stop signal reaches the shell, not the program",
                    "begin the last command of the script with exec, or use stopScope: group",
                )
            return
        if not argument.startswith("-"):
            return


_ROOT = _Advice("user", "is not written, so this runs as root", "name the user it shall run as, even if it is root")


def _once(spec: ProgramSpec) -> Iterator[_Advice]:
    if "queue:work" in spec.command and "--once" in spec.command and not spec.run_once:
        yield _Advice(
            "runOnce",
            "queue:work --once ends after one job, but without runOnce a stop interrupts that job",
            "write runOnce: true",
        )


# ---- work that takes longer than the grace period -------------------------------------------------------------------


def _queue_time(spec: ProgramSpec) -> Iterator[_Advice]:
    grace = spec.grace_period_seconds
    for marks, needed in _QUEUES:
        if not marks(spec.command):
            continue
        longest, why = needed(spec.command, spec.termination_grace_period is not None)
        if longest > grace:
            until = f"{longest:g}s" if longest != float("inf") else "as long as they like"
            yield _Advice(
                "terminationGracePeriod",
                f"is {grace:g}s, but {why} {until}: a stop would kill them half done",
                f"write terminationGracePeriod: {_rounded(longest)}",
            )
        return


def _rounded(longest: float) -> str:
    return "infinity" if longest == float("inf") else f"{int(longest) + 5}s"


def _laravel(command: Sequence[str], written: bool) -> tuple[float, str]:
    value = _option(command, "--timeout")
    longest = LARAVEL_SECONDS if value is None else value or float("inf")
    return longest, "queue:work lets jobs run for"


def _horizon(command: Sequence[str], written: bool) -> tuple[float, str]:
    # Its time-outs stand in horizon.php, which is not ours to read: a written grace period is taken for a thought.
    return (0.0 if written else LARAVEL_SECONDS), "Horizon by its own default lets jobs run for"


def _celery(command: Sequence[str], written: bool) -> tuple[float, str]:
    value = _option(command, "--time-limit")
    if value is None and written:
        return 0.0, ""
    return value or float("inf"), "Celery lets tasks run for"


def _sidekiq(command: Sequence[str], written: bool) -> tuple[float, str]:
    value = _option(command, "--timeout", "-t")
    # At its time-out Sidekiq itself gives jobs back, which takes it a moment more.
    return (SIDEKIQ_SECONDS if value is None else value) + 1, "Sidekiq lets jobs finish for"


def _option(command: Sequence[str], *names: str) -> float | None:
    """The value of `--name=5`, `--name 5` or `-t5`, None when it is not given or not a number."""
    for index, argument in enumerate(command):
        for name in names:
            text = None
            if argument == name and index + 1 < len(command):
                text = command[index + 1]
            elif argument.startswith(f"{name}="):
                text = argument[len(name) + 1 :]
            elif not name.startswith("--") and argument.startswith(name):
                text = argument[len(name) :]
            if text is not None:
                try:
                    return seconds(text)
                except ValueError:
                    return None
    return None


def _names(command: Sequence[str]) -> set[str]:
    return {posixpath.basename(argument) for argument in command}


_Needs = Callable[[Sequence[str], bool], tuple[float, str]]
_QUEUES: tuple[tuple[Callable[[Sequence[str]], bool], _Needs], ...] = (
    (lambda command: not {"queue:work", "queue:listen"}.isdisjoint(command), _laravel),
    (lambda command: "horizon" in command and "artisan" in _names(command), _horizon),
    (lambda command: "celery" in _names(command) and "worker" in command, _celery),
    (lambda command: "sidekiq" in _names(command), _sidekiq),
)
