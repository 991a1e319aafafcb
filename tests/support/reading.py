"""Manifests from text, for tests that are about what they mean."""

from textwrap import dedent, indent
from typing import Any

from reconciler.adapters.documents import read_documents
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.decode import Reading, decode
from reconciler.model.manifest import Manifest
from reconciler.model.program import ProgramSpec


def read(text: str | bytes, *, file: str = "F", base_dir: str | None = "/base") -> Reading:
    """All that a text declares, and all that is wrong with it, of both stages."""
    data = text if isinstance(text, bytes) else dedent(text).encode()
    documents, problems = read_documents(data, file)
    reading = decode(documents, file=file, base_dir=base_dir)
    return Reading(reading.manifests, (*problems, *reading.problems))


def complaints(text: str | bytes, **options: Any) -> list[str]:
    """What is wrong with a text, as users see it."""
    return [str(problem) for problem in read(text, **options).problems]


def program_text(spec: str, name: str = "web") -> str:
    """A Program with these lines below `spec`; a command is added when there is none."""
    lines = dedent(spec).strip("\n")
    if not any(line.startswith("command:") for line in lines.splitlines()):
        lines = f"command: [run]\n{lines}"
    return f"apiVersion: reconciler/v1\nkind: Program\nmetadata: {{name: {name}}}\nspec:\n{indent(lines, '  ')}\n"


def manifest(spec: str, **options: Any) -> Manifest:
    """The Program with these lines below `spec`; nothing may be wrong with it."""
    reading = read(program_text(spec), **options)
    assert not reading.problems, [str(problem) for problem in reading.problems]
    (found,) = reading.manifests
    return found


def program(spec: str, **options: Any) -> ProgramSpec:
    """Its spec."""
    found = manifest(spec, **options).spec
    assert isinstance(found, ProgramSpec)
    return found


def binding_text(spec: str, name: str = "mails") -> str:
    """A QueueBinding with these lines below `spec`; what is required is added when it is not there."""
    lines = dedent(spec).strip("\n")
    written = {line.partition(":")[0] for line in lines.splitlines()}
    for field, line in _REQUIRED_OF_A_BINDING.items():
        lines = lines if field in written else f"{line}\n{lines}"
    return f"apiVersion: reconciler/v1\nkind: QueueBinding\nmetadata: {{name: {name}}}\nspec:\n{indent(lines, '  ')}\n"


_REQUIRED_OF_A_BINDING = {
    "triggers": "triggers: [{type: rq}]",
    "maxReplicaCount": "maxReplicaCount: 6",
    "scaleTargetRef": "scaleTargetRef: {name: web}",
}


def binding(spec: str, **options: Any) -> QueueBindingSpec:
    """Its spec; nothing may be wrong with it."""
    reading = read(binding_text(spec), **options)
    assert not reading.problems, [str(problem) for problem in reading.problems]
    (found,) = reading.manifests
    assert isinstance(found.spec, QueueBindingSpec)
    return found.spec


def refusals(spec: str, **options: Any) -> list[str]:
    """`field: message (hint)` for all that is wrong with these lines below `spec`."""
    reading = read(program_text(spec), **options)
    assert not reading.manifests, "this was accepted"
    return [str(problem._replace(line=0)).removeprefix("F: ") for problem in reading.problems]
