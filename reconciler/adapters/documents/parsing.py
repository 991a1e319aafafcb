"""Parses manifests, in this process or (`main`) in one that does nothing else.

Parsing YAML holds the interpreter, and ten thousand files would stop the controller for seconds. This process is
handed the content (it opens no file), answers file by file in the order asked, and ends when its input does. Answers
are sent some at a time; asked to be careful, each at once, and then what it is at when it dies or hangs is known to the
one who asked. Its first line is its version: an upgrade may have come between the two. Then in both directions four
bytes of length and a pickle; both ends are this very program.
"""

import os
import pickle
import resource
import struct
from collections.abc import Iterator
from typing import Any

from reconciler import __version__
from reconciler.adapters.documents.yamltree import read_documents
from reconciler.core.doubts import doubts
from reconciler.model.advice import advice, warning
from reconciler.model.decode import decode
from reconciler.model.manifest import Manifest
from reconciler.model.objects import Declaration, FileReading
from reconciler.model.problems import Problem
from reconciler.model.program import ProgramSpec

LENGTH = struct.Struct("!I")
MEMORY_MAX = 2 << 30  # a manifest that needs more is a bomb


def parse(content: bytes, file: str, base_dir: str | None) -> FileReading:
    """What one input declares. Whatever is wrong with it is a Problem, nothing is raised.

    The understood specs are left behind: they are large, and made again from the canonical form where they are needed.
    """
    documents, unread = read_documents(content, file)
    reading = decode(documents, file=file, base_dir=base_dir)
    found = (Declaration(m.kind, m.name, m.canonical, m.labels, m.annotations, m.line) for m in reading.manifests)
    advised = tuple(said for manifest in reading.manifests for said in _advised(manifest))
    return FileReading(tuple(found), (*unread, *reading.problems), advised)


def _advised(manifest: Manifest) -> Iterator[Problem]:
    """What is valid in it and hardly meant, as far as the manifest alone tells: in the order of its lines."""
    found = advice(manifest)
    if isinstance(manifest.spec, ProgramSpec):
        found += [warning(manifest, *doubt) for doubt in doubts(manifest.name, manifest.spec)]
    yield from sorted(found, key=lambda problem: (problem.line, problem.column))


def main() -> None:
    """Answer until the input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > MEMORY_MAX:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, hard))
    with os.fdopen(os.dup(0), "rb") as asked, os.fdopen(os.dup(1), "wb") as answers:
        answers.write(f"{__version__}\n".encode())
        answers.flush()
        while head := asked.read(LENGTH.size):
            careful, sources = pickle.loads(asked.read(LENGTH.unpack(head)[0]))  # noqa: S301 - our own
            for content, file, base_dir in sources:
                _answer(answers, parse(content, file, base_dir))
                if careful:
                    answers.flush()
            answers.flush()


def _answer(answers: Any, reading: FileReading) -> None:
    data = pickle.dumps(reading, protocol=pickle.HIGHEST_PROTOCOL)
    answers.write(LENGTH.pack(len(data)) + data)
