"""Writes a simulation's picture: SVG by ourselves, PNG by matplotlib, which is an extra."""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.exits import Failure
from reconciler.cli.output import note

if TYPE_CHECKING:
    from reconciler.simulation.results import Result

Plotter = Callable[[str, Sequence["Result"], float], None]
"""(title, results, duration): draws and writes."""

INSTALL = "pip install 'reconciler[plot]'"


def plotter(path: str | None) -> Plotter | None:
    """What draws into this file; None without one. Says at once when it cannot."""
    if path is None:
        return None
    if path.lower().endswith(".svg"):
        return lambda title, results, duration: _write_svg(path, title, results, duration)
    if path.lower().endswith(".png"):
        figures = _figures()
        return lambda title, results, duration: _write_png(figures, path, title, results, duration)
    raise click.UsageError(f"--plot {path}: the name must end in .svg or .png")


def _figures() -> Any:
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError:
        raise Failure(f"--plot needs matplotlib for PNG: {INSTALL}, or name a file that ends in .svg") from None


def _write_svg(path: str, title: str, results: Sequence["Result"], duration: float) -> None:
    from reconciler.simulation.picture import svg

    with open(path, "w", encoding="utf-8") as file:
        file.write(svg(title, results, duration))
    note(f"{path} written")


def _write_png(figures: Any, path: str, title: str, results: Sequence["Result"], duration: float) -> None:
    from reconciler.simulation.picture import COLOURS, legend

    figure = figures.Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.set_title(title, loc="left")
    for index, result in enumerate(results):
        times = [*(sample.at for sample in result.samples), duration]
        last, colour = result.samples[-1], COLOURS[index % len(COLOURS)]
        waiting = [*(sample.waiting for sample in result.samples), last.waiting]
        processes = [*(sample.processes for sample in result.samples), last.processes]
        above.step(times, waiting, where="post", color=colour)
        below.step(times, processes, where="post", color=colour, label=legend(result))
    above.set_ylabel("waiting")
    below.set_ylabel("processes")
    below.set_xlabel("seconds")
    figure.legend(loc="outside lower left", fontsize="small")
    figure.savefig(path)
    note(f"{path} written")
