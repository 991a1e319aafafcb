"""Where things lie below the state directory, and how an object is put down: said once for all of its rooms."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, Declaration

API_VERSION = "reconciler/v1"
ENDING = ".yaml"


def path_of(room: str, kind: str, name: str) -> str:
    """The file of an object in a room; `kind` may be several folders, or none."""
    # Names were validated long before; that no path of ours leaves its room is not left to others.
    for part in (*kind.split("/"), name):
        if part in (".", "..") or "/" in part or "\0" in part:
            raise ValueError(f"not a name: {part!r}")
    return os.path.join(room, kind, f"{name}{ENDING}")


def files_in(room: str, ending: str = ENDING) -> Iterator[str]:
    """The files of a room, in a stable order; what a crash left half-written begins with a dot."""
    for folder, folders, names in os.walk(room):
        folders.sort()
        for name in sorted(names):
            if name.endswith(ending) and not name.startswith("."):
                yield os.path.join(folder, name)


def names_in(folder: str) -> list[str]:
    """What has a file in this very folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [name.removesuffix(ENDING) for name in names if name.endswith(ENDING) and not name.startswith(".")]


def key_of(path: str) -> Key:
    """Whose file this is."""
    folder, name = os.path.split(path)
    return Key(os.path.basename(folder), name.removesuffix(ENDING))


def json_lines(document: Mapping[str, Any]) -> str:
    """JSON, which is YAML too, with a line for each part, so that a person can read it and `diff` it."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def object_document(item: Accepted | Declaration, **metadata: Any) -> dict[str, Any]:
    """An object as JSON values."""
    head = {"name": item.name, "labels": dict(item.labels), "annotations": dict(item.annotations), **metadata}
    return {"apiVersion": API_VERSION, "kind": item.kind, "metadata": head, "spec": dict(item.canonical)}


def object_fields(document: Any) -> dict[str, Any]:
    """What `object_document` put down, as the fields that both kinds of object have."""
    metadata = document["metadata"]
    return {
        "kind": str(document["kind"]),
        "name": str(metadata["name"]),
        "canonical": document["spec"],
        "labels": dict(metadata["labels"]),
        "annotations": dict(metadata["annotations"]),
        "line": int(metadata["source"]["line"]),
    }
