"""`queue test -f`: asks the queues of a binding that is only a file yet. No controller is needed.

Reads the Program from the same input, for its environment and directory; opens the drivers here, looks once, and asks
the scaling core what would follow. Nothing is stored, nothing started.
"""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli import bindings
from reconciler.cli.exits import DONE, FAILED, Failure
from reconciler.cli.output import problem_lines, say
from reconciler.cli.sources import read_sources
from reconciler.cli.validate import decoded

if TYPE_CHECKING:
    from reconciler.model.launch import Credentials
    from reconciler.model.objects import Declaration
    from reconciler.model.scaling import Look

Json = dict[str, Any]


def test_files(paths: Sequence[str], base_dir: str | None, names: Sequence[str]) -> int:
    """Ask for each binding that the input declares (`names`: for these)."""
    found = decoded(read_sources(paths, base_dir))
    problem_lines(found.errors)
    if found.errors:
        raise Failure("the manifests cannot be read")
    declared = {(manifest.kind, manifest.name): manifest for _, manifest in found.manifests}
    asked = [m for (kind, name), m in declared.items() if kind == "QueueBinding" and (not names or name in names)]
    missing = sorted(set(names) - {manifest.name for manifest in asked})
    if missing or not asked:
        raise Failure(f"no QueueBinding {missing[0] if missing else ''} in {', '.join(paths)}".replace("  ", " "))
    code = DONE
    for index, manifest in enumerate(asked):
        say(("\n" if index else "") + f"queuebinding/{manifest.name}")
        if not _tested(manifest, declared):
            code = FAILED
    return code


def _tested(manifest: "Declaration", declared: "dict[tuple[str, str], Declaration]") -> bool:
    """Look once, and print it. Whether all queues could be read."""
    from reconciler.core.binding_status import trigger_value
    from reconciler.core.scaling import decide
    from reconciler.model.manifest import binding_from_canonical, program_from_canonical
    from reconciler.model.scaling import Counts, ScalingMemory

    spec = binding_from_canonical(manifest.canonical)
    program = declared.get(("Program", spec.scale_target_ref.name))
    if program is None:
        say(f"Program:     {spec.scale_target_ref.name} is not in the input: its environment is not known here")
    written = program_from_canonical(program.canonical) if program else None
    looks = tuple(_looks(manifest, spec, program))
    counts = Counts(written=0, running=0, ready=0)
    run_once = written is not None and written.run_once
    memory = ScalingMemory.restored(0, None, time.monotonic())
    decision = decide(spec, looks, counts, memory, time.monotonic(), run_once=run_once)
    bindings.show_triggers({"status": {"triggers": [trigger_value(each) for each in decision.triggers]}})
    asked = max((each.replicas or 0 for each in decision.triggers), default=0)
    count = min(max(asked, spec.rest_count if not decision.active else spec.min_replica_count), spec.max_replica_count)
    unread = any(each.failure for each in decision.triggers)
    follows = "stays as it is while a queue cannot be read" if unread else f"would go to {count}"
    say(f"Count:       {follows} ({spec.min_replica_count} to {spec.max_replica_count})")
    return not unread


def _looks(manifest: "Declaration", spec: Any, program: "Declaration | None") -> "Iterable[Look]":
    from reconciler.adapters.queues.meters import Asking
    from reconciler.adapters.queues.registry import driver_for
    from reconciler.engine.binding import questions
    from reconciler.model.scaling import Look

    for asked in questions(spec, *_surroundings(program)):
        asking = Asking(asked, driver_for)
        yield Look(time.monotonic(), asking.read())
        if asking.reader is not None:
            asking.reader.close()


def _surroundings(program: "Declaration | None") -> "tuple[str, dict[str, str], Credentials | None]":
    """Directory, variables and ids that the Program would have on this host."""
    from reconciler.adapters.surroundings import Surroundings
    from reconciler.core import launching
    from reconciler.model.manifest import program_from_canonical

    if program is None:
        return "", {}, None
    spec = program_from_canonical(program.canonical)
    facts = Surroundings().read(program.name, spec)
    if not facts.startable:
        return spec.working_dir, launching.written_values(spec), facts.credentials
    template = launching.template(spec, facts, name=program.name, uid="", revision="", state_dir="/")
    directory = template.directory
    where = directory if isinstance(directory, str) else spec.working_dir
    return where, dict(template.environment), facts.credentials
