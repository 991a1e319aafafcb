"""`validate`: the controller's own reading of manifests, without a controller.

The one verb of a client that loads the model; CI runs it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from reconciler.cli.exits import DONE, FAILED, Failure
from reconciler.cli.output import error, problem_lines, say
from reconciler.cli.sources import STDIN, Source, base_dir_option, filename_option, read_sources
from reconciler.cli.text import counted, plain
from reconciler.model.problems import Problem

if TYPE_CHECKING:
    from reconciler.model.objects import Declaration

Json = dict[str, Any]


class Decoded(NamedTuple):
    """What files declare, and what is wrong with them."""

    manifests: "list[tuple[str, Declaration]]"  # (file, what stands in it)
    errors: list[Json]
    warnings: list[Json]

    @property
    def names(self) -> list[tuple[str, str]]:
        """(kind, name) of each, in the order of the files."""
        return [(manifest.kind, manifest.name) for _, manifest in self.manifests]


@click.command()
@filename_option()
@base_dir_option()
def validate(paths: tuple[str, ...], base_dir: str | None) -> int:
    """Check manifests without a controller: syntax, fields, values, names. All errors come at once.

    \b
    reconciler validate -f deploy/
    generate | reconciler validate -f - --base-dir /srv/shop
    """
    sources = read_sources(paths, base_dir)
    if not sources:
        raise Failure(f"no manifests in {', '.join(paths)} (read are *.yaml, *.yml and *.json)")
    found = decoded(sources)
    broken = {problem["file"] for problem in found.errors}
    for file, manifest in found.manifests:
        if file not in broken:
            say(f"{plain(manifest.kind.lower())}/{plain(manifest.name)} valid")
    problem_lines([*found.errors, *found.warnings])
    if found.errors:
        error(f"{counted(len(found.errors), 'error')} in {counted(len(broken), 'file')}")
        return FAILED
    return DONE


def decoded(sources: Sequence[Source]) -> Decoded:
    """Read documents as the controller does."""
    from reconciler.adapters.documents import parse

    manifests: list[tuple[str, Declaration]] = []
    problems: list[Json] = []
    for source in sources:
        if source.problem:
            problems.append(source.problem)
            continue
        file = "<stdin>" if source.file == STDIN else source.file
        reading = parse(source.content, file, source.base_dir)
        manifests += [(file, manifest) for manifest in reading.manifests]
        problems += [problem.as_dict() for problem in (*reading.problems, *reading.advice)]
    problems += _doubles(manifests)
    is_warning = [problem.get("severity") == "warning" for problem in problems]
    return Decoded(
        manifests,
        [problem for problem, soft in zip(problems, is_warning, strict=True) if not soft],
        [problem for problem, soft in zip(problems, is_warning, strict=True) if soft],
    )


def _doubles(manifests: "Sequence[tuple[str, Declaration]]") -> list[Json]:
    """A name belongs to one manifest."""
    first: dict[tuple[str, str], str] = {}
    problems = []
    for file, manifest in manifests:
        key = (manifest.kind, manifest.name)
        place = f"{file}:{manifest.line}" if manifest.line else file
        if key in first:
            message = f"{manifest.kind.lower()}/{manifest.name} is declared in {first[key]} already"
            problems.append(Problem(file, manifest.line, 1, "metadata.name", message).as_dict())
        first.setdefault(key, place)
    return problems
