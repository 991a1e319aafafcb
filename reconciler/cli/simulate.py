"""`queue simulate`: a load through the scaling core and a modelled queue, in seconds and without a controller."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from reconciler.cli.exits import DONE, NOT_FOUND, Failure
from reconciler.cli.output import hint, problem_lines, say
from reconciler.cli.plotting import plotter
from reconciler.cli.session import DURATION, nearest
from reconciler.cli.sources import filename_option, read_sources
from reconciler.cli.text import duration as duration_text
from reconciler.cli.text import plain

if TYPE_CHECKING:
    from reconciler.model.binding import QueueBindingSpec
    from reconciler.model.program import ProgramSpec
    from reconciler.simulation.loads import Piece
    from reconciler.simulation.machine import Scaler
    from reconciler.simulation.results import Result

TRACE_LIMIT_BYTES = 64 << 20
LONGEST_SECONDS = 86_400.0
WORTH_TELLING = 0.02  # of the pieces; a few have always just come
NO_QUEUES = frozenset({"cron"})  # triggers that nothing arrives at
KEDA_TARGET = 5.0  # listLength of its redis trigger


class Subject(NamedTuple):
    """Whose behaviour is asked for."""

    name: str
    spec: "QueueBindingSpec"
    program: "ProgramSpec | None"

    @property
    def run_once(self) -> bool:
        """Whether each process takes one piece."""
        return self.program is not None and self.program.run_once


@click.command()
@click.argument("name", required=False)
@filename_option("A file or directory with the QueueBinding, and its Program if it is not elsewhere; may be repeated.")
@click.option("--program", "program_paths", multiple=True, metavar="PATH", help="A file with the Program.")
@click.option("--trigger", metavar="NAME", help="Which trigger's queue has the load, of several (the first one).")
@click.option(
    "--load",
    default="burst:300",
    show_default=True,
    help="burst:N, steady:RATE, step:RATE,..., wave:LOW,HIGH,TIME, every:TIME or trace:FILE.",
)
@click.option(
    "--service",
    default="1s",
    show_default=True,
    help="How long a piece takes: a mean (exponential), fixed:1s or lognormal:1s.",
)
@click.option(
    "--boot", type=DURATION, default=0.15, show_default="150ms", help="How long a process takes to its first piece."
)
@click.option(
    "--duration",
    type=DURATION,
    default=900.0,
    show_default="15m",
    help="How long to watch; a trace: its length and this.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same load.")
@click.option(
    "--compare", is_flag=True, help="Beside a fixed count, KEDA and Horizon, modelled from their documentation."
)
@click.option(
    "--plot", metavar="FILE", help="Draw what waits and what runs: FILE.svg or FILE.png (the latter needs matplotlib)."
)
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print as JSON.")
def simulate(
    name: str | None,
    paths: tuple[str, ...],
    program_paths: tuple[str, ...],
    trigger: str | None,
    load: str,
    service: str,
    boot: float,
    duration: float,
    seed: int,
    compare: bool,
    plot: str | None,
    output: str | None,
) -> int:
    """Show what a binding would make of a load: how long work waits, what it costs, how often the count changes.

    \b
    reconciler queue simulate -f mails.yaml --load burst:300
    reconciler queue simulate -f mails.yaml --load step:2,12,2 --service 400ms --compare
    reconciler queue simulate -f mails.yaml --load trace:arrivals.csv --plot mails.svg
    """
    from reconciler.simulation.results import simulate as run

    write_plot = plotter(plot)
    subject = _subject(paths + program_paths, name)
    pieces, length = _load(load, service, duration, seed)
    if not 0 < length <= LONGEST_SECONDS:
        raise click.UsageError(f"--duration {length:g}s: must be more than 0 and at most 24h")
    index = _trigger_index(subject.spec, trigger)
    scalers = _scalers(subject, index, compare=compare)
    results = [
        run(pieces, scaler, boot_seconds=boot, duration=length, run_once=run_once) for scaler, run_once in scalers
    ]
    say(json.dumps([result.as_dict() for result in results], indent=2) if output else _table(results))
    for result in results:
        if result.untaken > result.pieces * WORTH_TELLING:
            hint(f"{result.name}: {result.untaken} of {result.pieces} still waited at the end; see a longer --duration")
    if write_plot:
        write_plot(f"{subject.name}: {load}, {service} each", results, length)
    return DONE


def _subject(paths: Sequence[str], name: str | None) -> Subject:
    """The one binding that is meant, and its Program as far as it is there."""
    from reconciler.cli.validate import decoded
    from reconciler.model.manifest import binding_from_canonical, program_from_canonical

    found = decoded(read_sources(paths, os.getcwd()))
    problem_lines([*found.errors, *found.warnings])
    if found.errors:
        raise Failure("nothing was simulated")
    bindings = {each.name: each for _, each in found.manifests if each.kind == "QueueBinding"}
    if name is not None and name not in bindings:
        raise Failure(f"queuebinding/{name} is not in {', '.join(paths)}{nearest(name, list(bindings))}", NOT_FOUND)
    if not bindings:
        raise Failure(f"no QueueBinding in {', '.join(paths)}", NOT_FOUND)
    if name is None and len(bindings) > 1:
        raise click.UsageError(f"there are several bindings; say which: {', '.join(sorted(bindings))}")
    binding = bindings[name or next(iter(bindings))]
    spec = binding_from_canonical(binding.canonical)
    target = spec.scale_target_ref.name
    for _, each in found.manifests:
        if (each.kind, each.name) == ("Program", target):
            return Subject(binding.name, spec, program_from_canonical(each.canonical))
    hint(f"program/{target} is not in {', '.join(paths)}: taken for one that is not runOnce; --program FILE names it")
    return Subject(binding.name, spec, None)


def _load(load: str, service: str, duration: float, seed: int) -> tuple[list["Piece"], float]:
    """The pieces, and how long to watch."""
    from reconciler.simulation.loads import pieces
    from reconciler.simulation.traces import trace

    kind, _, path = load.partition(":")
    try:
        if kind != "trace":
            return pieces(load, service, duration, seed), duration
        found = trace(_trace_text(path), service, seed)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}" if kind == "trace" else str(error)) from None
    given = click.get_current_context().get_parameter_source("duration")
    is_given = given is not None and given.name != "DEFAULT"
    return found, duration if is_given else found[-1].at + duration


def _trace_text(path: str) -> str:
    with open(path, "rb") as file:
        content = file.read(TRACE_LIMIT_BYTES + 1)
    if len(content) > TRACE_LIMIT_BYTES:
        raise ValueError("is larger than 64 MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None


def _trigger_index(spec: "QueueBindingSpec", trigger: str | None) -> int:
    labels = spec.trigger_labels()
    if trigger is not None and trigger not in labels:
        raise click.UsageError(f"there is no trigger {trigger!r}; there are {', '.join(labels)}")
    if trigger is not None:
        return labels.index(trigger)
    index = next((index for index, each in enumerate(spec.triggers) if each.type not in NO_QUEUES), 0)
    if len(labels) > 1:
        hint(
            f"the load is in the queue of trigger {labels[index]}, the others ask for nothing; --trigger names another"
        )
    return index


def _scalers(subject: Subject, index: int, *, compare: bool) -> "list[tuple[Scaler, bool]]":
    """The binding, and what it is compared with; with each, whether its processes take one piece each."""
    from reconciler.simulation.scalers import Bound, Fixed, Horizon, Keda, KedaOnce

    spec, run_once = subject.spec, subject.run_once
    scalers: list[tuple[Scaler, bool]] = [(Bound(subject.name, spec, index=index, run_once=run_once), run_once)]
    if not compare:
        return scalers
    most, least = spec.max_replica_count, spec.min_replica_count
    written = subject.program.replicas if subject.program is not None else 0
    scalers += [(Fixed(replicas), False) for replicas in dict.fromkeys((written, most)) if replicas]
    trigger = spec.triggers[index]
    target = KEDA_TARGET if trigger.metric != "depth" or trigger.written_target is None else trigger.target
    scalers.append((KedaOnce(most), True) if run_once else (Keda(most, target, least=least), False))
    scalers.append((Horizon(most, least=max(1, least)), False))
    return scalers


def _table(results: Sequence["Result"]) -> str:
    from reconciler.cli.tables import Table

    header = ("SCALED BY", "WAIT P50", "P95", "P99", "LONGEST", "PROCESS SECONDS", "CHANGES", "MOST")
    return Table(header, cut=False).render(
        [
            (
                plain(result.name),
                *(duration_text(wait) for wait in (result.wait_median, result.wait_p95, result.wait_p99)),
                duration_text(result.wait_max),
                f"{result.process_seconds:.0f}",
                str(result.changes),
                str(result.most),
            )
            for result in results
        ]
    )
