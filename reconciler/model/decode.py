"""From documents to manifests: what every document must have, and where each error stands.

Each spec is read twice: the readers turn text into canonical values, Pydantic then judges these values and fills in the
defaults, and its errors are brought back to their place in the file. Nothing is raised; what cannot be read is a
Problem.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reconciler.model import fields, node
from reconciler.model.faults import judged
from reconciler.model.manifest import API_VERSION, KINDS, Manifest
from reconciler.model.node import Document, Node, Scalar, kind_of, shown
from reconciler.model.problems import Problem
from reconciler.model.program import ProgramSpec
from reconciler.model.readers import is_null, map_of, read_text
from reconciler.model.reading import MISSING, Context, Trail, nearest
from reconciler.model.shapes import struct_reader

_TOP = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "labels", "annotations")
_OURS = ("uid", "generation", "creationTimestamp", "source")

_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

_read_texts = map_of(read_text)


class Reading(NamedTuple):
    """What an input declares and what is wrong with it, in the order of its lines."""

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are more than warnings."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def decode(documents: Iterable[Document], *, file: str, base_dir: str | None) -> Reading:
    """Read all documents of one input. Relative paths are taken from `base_dir`, an absolute path or None."""
    context = Context(file, base_dir)
    manifests: dict[tuple[str, str], Manifest] = {}
    repeated: set[tuple[str, str]] = set()  # nobody can tell which one is meant, so none is
    for document in documents:
        manifest = _read_document(document, context)
        if manifest is None:
            continue
        identity = (manifest.kind, manifest.name)
        first = manifests.setdefault(identity, manifest)
        if first is not manifest:
            repeated.add(identity)
            _tell_repeated(document, manifest, first, context)
    problems = sorted(context.problems, key=lambda problem: (problem.line, problem.column))
    return Reading(tuple(m for identity, m in manifests.items() if identity not in repeated), tuple(problems))


def _tell_repeated(document: Document, manifest: Manifest, first: Manifest, context: Context) -> None:
    metadata = document.root.get("metadata") if isinstance(document.root, node.Mapping) else None
    message = f"{manifest.kind} {manifest.name} stands in this file already, in line {first.line}"
    context.refuse(metadata or document.root, ((_start(document), "metadata"), "name"), message)


def _start(document: Document) -> Trail:
    return (None, document.path) if document.path else None


def _read_document(document: Document, context: Context) -> Manifest | None:
    """One object, or None when something about it is wrong."""
    root, start = document.root, _start(document)
    if not isinstance(root, node.Mapping):
        context.refuse(root, start, f"must be a map of {', '.join(_TOP)}, not {kind_of(root)}")
        return None
    context.failed.clear()
    if not _is_ours(root, start, context):
        return None
    kind = _read_kind(root, start, context)
    if kind is None:
        return None
    _tell_strange_keys(root, start, context)
    metadata = _read_metadata(root, start, context)
    canonical = _read_spec(root, (start, "spec"), kind, metadata.name, context)
    if canonical is None:
        return None
    spec = judged(KINDS[kind], canonical, root.get("spec") or root, (start, "spec"), context)
    if spec is None or context.failed or document.broken:
        return None
    labels, annotations = metadata.labels, metadata.annotations
    written = root.get("spec")
    return Manifest(kind, metadata.name, labels, annotations, spec, canonical, context.file, root.line, written)


def _is_ours(root: node.Mapping, start: Trail, context: Context) -> bool:
    """Whether the apiVersion lets us read on. When it is missing, the rest is judged all the same."""
    written = root.get("apiVersion")
    if written is None:
        context.refuse(root, (start, "apiVersion"), f"is required: {API_VERSION}")
        return True
    text = read_text(written, (start, "apiVersion"), context)
    if text is MISSING or text == API_VERSION:
        return text is not MISSING
    message = f"{shown(text)} is not ours; {context.file} may hold {API_VERSION} only"
    context.refuse(written, (start, "apiVersion"), message, nearest(text, [API_VERSION], listed=True))
    return False


def _read_kind(root: node.Mapping, start: Trail, context: Context) -> str | None:
    written, trail = root.get("kind"), (start, "kind")
    *others, last = KINDS
    known = f"{', '.join(others)} and {last}"
    if written is None:
        context.refuse(root, trail, f"is required; known are {known}")
        return None
    text = read_text(written, trail, context)
    if text is MISSING or text in KINDS:
        return None if text is MISSING else str(text)
    message = f"{shown(text)} is not a kind; known are {known}"
    context.refuse(written, trail, message, nearest(text, KINDS, listed=True))
    return None


def _tell_strange_keys(root: node.Mapping, start: Trail, context: Context) -> None:
    """Keys that mean nothing are errors; those that `get -o yaml` shows are ignored, and it is said so once."""
    ignored: list[tuple[Scalar, str]] = []
    for key, entry in root.entries.items():
        if key == "status":
            ignored.append((entry.key, key))
        elif key not in _TOP:
            context.unknown(entry.key, (start, key), _TOP)
    metadata = root.get("metadata")
    if isinstance(metadata, node.Mapping):
        for key, entry in metadata.entries.items():
            if key in _OURS:
                ignored.append((entry.key, f"metadata.{key}"))
            elif key not in _METADATA:
                context.unknown(entry.key, ((start, "metadata"), key), _METADATA)
    if ignored:
        names = ", ".join(name for _, name in ignored)
        place = min((key for key, _ in ignored), key=lambda key: (key.line, key.column))
        verb = "is ignored: the controller sets it" if len(ignored) == 1 else "are ignored: the controller sets them"
        context.warn(place, start, f"{names} {verb}")


class _Metadata(NamedTuple):
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


def _read_metadata(root: node.Mapping, start: Trail, context: Context) -> _Metadata:
    """What is wrong shows in `context.failed`; the values returned are then of no use."""
    written, trail = root.get("metadata"), (start, "metadata")
    if written is None or is_null(written):
        context.refuse(written or root, (trail, "name"), "is required")
        return _Metadata("", {}, {})
    if not isinstance(written, node.Mapping):
        context.refuse(written, trail, f"must be a map, not {kind_of(written)}")
        return _Metadata("", {}, {})
    labels = _read_map(written, "labels", trail, context)
    for key, value in labels.items():
        _check_label(written, key, value, (trail, "labels"), context)
    return _Metadata(_read_name(written, trail, context), labels, _read_map(written, "annotations", trail, context))


def _read_name(metadata: node.Mapping, trail: Trail, context: Context) -> str:
    written = metadata.get("name")
    if written is None:
        context.refuse(metadata, (trail, "name"), "is required")
        return ""
    name = read_text(written, (trail, "name"), context)
    if name is MISSING:
        return ""
    try:
        return fields.dns_label(name)
    except ValueError as error:
        context.refuse(written, (trail, "name"), f"{shown(name)} is not a name: it {error}")
        return ""


def _read_map(metadata: node.Mapping, key: str, trail: Trail, context: Context) -> dict[str, str]:
    written = metadata.get(key)
    values = MISSING if written is None else _read_texts(written, (trail, key), context)
    return {} if values is MISSING else values


def _check_label(metadata: node.Mapping, key: str, value: str, trail: Trail, context: Context) -> None:
    """The grammar of Kubernetes, so that selectors can name every label."""
    labels = metadata.get("labels")
    entry = labels.entries.get(key) if isinstance(labels, node.Mapping) else None
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        message = "is not the name of a label: at most 63 letters, digits, -, _ and ., after an optional domain and /"
        context.refuse(entry.key if entry else metadata, (trail, key), message)
    if value and not _LABEL_NAME.fullmatch(value):
        message = f"{shown(value)} is not the value of a label: at most 63 letters, digits, -, _ and ."
        context.refuse(entry.value if entry else metadata, (trail, key), message)


def _read_spec(root: node.Mapping, trail: Trail, kind: str, name: str, context: Context) -> dict[str, Any] | None:
    """The canonical spec, as far as it could be read; None when there is none to judge."""
    written: Node | None = root.get("spec")
    if written is not None and not isinstance(written, node.Mapping) and not is_null(written):
        context.refuse(written, trail, f"must be a map, not {kind_of(written)}")
        return None
    model = KINDS[kind]
    canonical: Any = MISSING if written is None else struct_reader(model)(written, trail, context)
    canonical = {} if canonical is MISSING else canonical
    if model is ProgramSpec:
        _place(canonical, written or root, trail, context)
        _check_dependencies(canonical, name, written, trail, context)
    return dict(canonical)


def _place(canonical: dict[str, Any], written: Node, trail: Trail, context: Context) -> None:
    """A Program lives in the folder of its manifest unless it says otherwise."""
    if "workingDir" in canonical or (isinstance(written, node.Mapping) and "workingDir" in written.entries):
        return
    if context.base_dir is None:
        hint = "write it, or give --base-dir"
        context.refuse(written, (trail, "workingDir"), "is required, because this input has no folder", hint)
    else:
        canonical["workingDir"] = context.base_dir


def _check_dependencies(
    canonical: Mapping[str, Any], name: str, written: Node | None, trail: Trail, context: Context
) -> None:
    """The one cycle that can be seen in a single document."""
    for index, dependency in enumerate(canonical.get("dependsOn", ())):
        if name and dependency.get("name") == name:
            place = written.get("dependsOn") if isinstance(written, node.Mapping) else None
            here = ((trail, "dependsOn"), index)
            context.refuse(place or Scalar("", False, 0, 1), here, f"{name} cannot wait for itself")
