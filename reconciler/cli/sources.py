"""`-f` of all verbs, and what it names, read whole: files, directories and stdin, as documents for the controller.

Which files count and how they are read is the rule of the watched directories, so that `apply` and `run` see the same
manifests; nothing is parsed here.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import click

STDIN = "-"
STDIN_LIMIT_BYTES = 1 << 20


Command = TypeVar("Command", bound=Callable[..., Any])

ANY = "A file, a directory (read recursively) or - for stdin; may be repeated."
BASE_DIR = "What relative paths in the manifests are relative to."


def filename_option(text: str = ANY, *, required: bool = True) -> Callable[[Command], Command]:
    """`-f`, as `paths`."""
    return click.option("-f", "--filename", "paths", multiple=True, required=required, metavar="PATH|-", help=text)


def base_dir_option(text: str = BASE_DIR) -> Callable[[Command], Command]:
    """`--base-dir`."""
    return click.option("--base-dir", metavar="DIR", help=text)


class Source(NamedTuple):
    """One file to be handed in: its text, or what is wrong with it."""

    file: str  # absolute, or "-"
    content: bytes
    base_dir: str | None  # what relative paths in it are relative to
    problem: dict[str, Any] | None = None

    def as_document(self) -> dict[str, Any]:
        """The shape the API takes."""
        return {"file": self.file, "text": self.content.decode(), "baseDir": self.base_dir}


def read_sources(paths: Sequence[str], base_dir: str | None) -> list[Source]:
    """All that the paths name, each file once."""
    if base_dir is not None:
        base_dir = os.path.abspath(base_dir)
    sources: dict[str, Source] = {}
    for found in _files(paths):
        file = found if isinstance(found, str) else found.file
        if file in sources:
            continue
        if isinstance(found, Source):
            sources[file] = found
        elif file == STDIN:
            sources[file] = _checked(Source(STDIN, sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1), base_dir))
        else:
            sources[file] = _read(file, base_dir or os.path.dirname(file))
    return list(sources.values())


def directories(paths: Iterable[str], *, gone: bool = False) -> list[str]:
    """Those of the paths that are directories (`gone`: or are not there any more), absolute."""
    return [
        os.path.abspath(path)
        for path in paths
        if path != STDIN and (os.path.isdir(path) or (gone and not os.path.lexists(path)))
    ]


def _files(paths: Sequence[str]) -> Iterator[Source | str]:
    """Each file, or what is wrong where files should be."""
    for path in paths:
        if path == STDIN:
            yield STDIN
        elif "://" in path:
            raise click.UsageError(
                f"{path!r}: reconciler does not fetch; try: curl -fsS {path} | reconciler apply -f - --base-dir DIR"
            )
        elif os.path.isdir(path):
            yield from _below(os.path.abspath(path))
        elif os.path.lexists(path):
            yield os.path.abspath(path)
        else:
            raise click.UsageError(f"{path!r}: no such file or directory")


def _below(folder: str) -> Iterator[Source | str]:
    """The manifests of a directory, and what in it cannot be read."""
    from reconciler.adapters.manifests.survey import survey

    found = survey(folder)
    if found.error:
        yield Source(folder, b"", None, _problem(folder, found.error))
        return
    yield from found.files
    for path, problem in found.problems.items():
        yield Source(path, b"", None, problem.as_dict())


def _read(file: str, base_dir: str) -> Source:
    from reconciler.adapters.documents import read_manifest_file

    content = read_manifest_file(file)
    if isinstance(content, bytes):
        return Source(file, content, base_dir)
    return Source(file, b"", base_dir, content.as_dict())


def _checked(source: Source) -> Source:
    message = ""
    if len(source.content) > STDIN_LIMIT_BYTES:
        message = "is larger than 1 MiB"
    else:
        try:
            source.content.decode()
        except UnicodeDecodeError as error:
            message = f"is not UTF-8 (byte {error.start})"
    if not message:
        return source
    return source._replace(content=b"", problem=_problem("<stdin>" if source.file == STDIN else source.file, message))


def _problem(file: str, message: str) -> dict[str, Any]:
    from reconciler.model.problems import Problem

    return Problem(file, 0, 0, "", message).as_dict()
