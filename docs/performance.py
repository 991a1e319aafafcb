"""Draws the tables and pictures of performance.md from what the comparison of process managers measured.

    python docs/performance.py RAW.json ...   take in measurements, then draw
    python docs/performance.py                draw from docs/measured/figures.json again
    python docs/performance.py --check        say whether the page is what would be drawn

A RAW.json is `{machine, versions, options, rows}`; a row is `{workload, case, metric, unit, better, peer, round, value,
load}`, and a value that is text says why there is no number. Only a summary is kept. What is taken in replaces what was
known of the same case; figures of another machine are never set beside the old ones, they replace all of them.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from dotplot import Dots, picture  # noqa: E402

PAGE, FIGURES = DOCS / "performance.md", DOCS / "measured" / "figures.json"
OURS, LIMIT = "reconciler", "limit"
BEST = "the best of the others"
PEERS = (LIMIT, OURS, "supervisord", "circus", "pm2", "s6", "runit")
MISSED, MET = "**missed**", "met"


class Goal(NamedTuple):
    """What is promised of one figure."""

    most: float = 0.0
    least: float = 0.0
    beside: str = ""  # "limit" or BEST: the number is a share of what that one reached

    def text(self, unit: str) -> str:
        """`≤ 10 ms`, `≥ 0.8 of limit`."""
        sign, number = ("≥", self.least) if self.least else ("≤", self.most)
        return f"{sign} {number:g} of {self.beside}" if self.beside else f"{sign} {shown(number, unit)}"


class Line(NamedTuple):
    """One line of a table: which figure it shows, and what is promised of it."""

    what: str
    workload: str
    case: str  # `*` stands for anything
    metric: str
    goal: Goal | None = None
    of: str = "median"  # or p99, max
    plotted: bool = False


def fleet(size: str, *goals: Goal | None) -> list[Line]:
    """What is measured of so many processes, in the order of the goals."""
    case, times = f"{size} workers", ("cold start", "killed, until its successor runs: median", "the same: p99")
    shown = (
        Line(f"{times[0]}, all running", "W3", case, "cold start", plotted=True),
        Line(times[1], "W2k", case, "recovery", plotted=True),
        Line(times[2], "W2k", case, "recovery", of="p99"),
        Line("a Program is added, until it runs", "W4", case, "add 1: until it runs", plotted=True),
        Line("an environment changes, until all its replicas have it", "W4", case, "change env of 1 program*"),
        Line("touched without need: by the addition", "W4", case, "add 1: others restarted"),
        Line("touched without need: by the environment", "W4", case, "env: others restarted"),
        Line("touched without need: by nothing", "W4", case, "unchanged: restarted"),
        Line("idle: CPU", "W5", case, "idle CPU", plotted=True),
        Line("idle: memory (PSS)", "W5", case, "PSS", plotted=True),
        Line("list of all processes, as a shell sees it", "W9", case, "status command", plotted=True),
        Line("stop of all", "W7", f"{case}, SIGTERM obeyed", "stop", plotted=True),
    )
    return [line._replace(goal=goal) for line, goal in zip(shown, goals, strict=True)]


def respawn(slots: int, milliseconds: int, least: float) -> list[Line]:
    """Run-once processes of so many milliseconds."""
    case = f"{slots} slots, {milliseconds} ms job"
    what = f"{slots} slot{'s' * (slots > 1)}, {f'{milliseconds} ms each' if milliseconds else 'exit at once'}"
    rate = Line(f"{what}: per second", "W1", case, "jobs/s", Goal(least=least, beside=LIMIT))
    cpu = Line(f"{what}: CPU per run", "W1", case, "manager CPU per job")
    return [rate._replace(plotted=True), cpu if milliseconds else cpu._replace(goal=Goal(most=200))]


NONE, CHANGE = Goal(most=0), Goal(most=120)
TABLES: dict[str, list[Line]] = {
    "respawn": [
        *(line for slots in (1, 6, 50) for line in respawn(slots, 0, 0.8)),
        *(line for slots in (6, 50) for line in respawn(slots, 20, 0.97)),
    ],
    "recovery": [
        Line("median", "W2", "1 worker", "recovery", Goal(most=1.9), plotted=True),
        Line("p99", "W2", "1 worker", "recovery", Goal(most=10), of="p99"),
    ],
    "fleet": fleet(
        "999", Goal(most=0.85), Goal(most=1.9), Goal(most=10), CHANGE, CHANGE, NONE, NONE, NONE,
        Goal(most=1), Goal(most=60), CHANGE, Goal(most=0.24),
    ),
    "large-fleet": fleet(
        "[45]???", Goal(most=3), Goal(most=3.8), None, None, None, NONE, NONE, NONE, Goal(most=5), None, None, None
    ),
    "stubborn": [Line("stop of 100 that ignore TERM", "W7i", "*", "stop", Goal(most=2.1), plotted=True)],
    "logs": [
        Line("bytes per second", "W6", "*", "throughput", Goal(least=1, beside=BEST), plotted=True),
        Line("CPU per GB", "W6", "*", "manager CPU per GB", Goal(most=1), plotted=True),
        Line("what is in the files", "W6", "*", "bytes accounted for"),
    ],
    "killed": [
        Line("of 20 alive after the kill", "W8", "SIGKILL of main process*", "1 workers surviving", Goal(least=20)),
        Line("old ones alive after the restart, 1 killed on purpose", "W8", "SIGKILL of main process*", "3 old*"),
        Line("running in the end", "W8", "SIGKILL of main process*", "5 running*", Goal(most=20)),
    ],
}  # fmt: skip
"""The generated parts of the page, by their names in it."""


# ---- taking in ----


def summary(raw: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept of measurements: per case, metric and peer a few numbers, or the words that came instead."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (row for each in raw for row in each["rows"]):
        key = (row["workload"], row["case"], row["metric"])
        about = {name: row[name] for name in ("workload", "case", "metric", "unit")}
        case = found.setdefault(key, {**about, "load": [row["load"], row["load"]], "peers": {}})
        case["load"] = [min(case["load"][0], row["load"]), max(case["load"][1], row["load"])]
        case["peers"].setdefault(row["peer"], []).append(row["value"])
    for case in found.values():
        case["peers"] = {peer: condensed(values) for peer, values in case["peers"].items()}
    versions = {peer: version for each in raw for peer, version in each["versions"].items()}
    return {"machine": raw[-1]["machine"], "versions": versions, "cases": list(found.values())}


def condensed(values: Sequence[Any]) -> dict[str, Any]:
    """A few numbers that stand for many, and words that were said instead of a number."""
    numbers = sorted(value for value in values if not isinstance(value, str))
    words = sorted({value for value in values if isinstance(value, str)})
    if not numbers:
        return {"words": words}
    p99 = numbers[min(len(numbers) - 1, int(len(numbers) * 0.99))]
    kept = {"n": len(numbers), "min": numbers[0], "median": median(numbers), "p99": p99, "max": numbers[-1]}
    rounded = {name: float(f"{number:.4g}") if name != "n" else number for name, number in kept.items()}
    return rounded | ({"words": words} if words else {})


def merged(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new figures, and the old ones of what was not measured again on the same machine."""
    same = all(known["machine"].get(name) == new["machine"].get(name) for name in ("cores", "memory_gib", "kernel"))
    if not same:
        return dict(new)
    again = {(case["workload"], case["case"]) for case in new["cases"]}
    kept = [case for case in known["cases"] if (case["workload"], case["case"]) not in again]
    cases = sorted([*kept, *new["cases"]], key=lambda case: case["workload"])
    return {"machine": new["machine"], "versions": {**known["versions"], **new["versions"]}, "cases": cases}


# ---- drawing ----


def shown(number: float, unit: str) -> str:
    """Three digits that count, and the unit."""
    text = f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
    unit = {"1/s": "/s", "us": "µs", "workers": ""}.get(unit, unit)
    return text + (unit if unit.startswith("/") else f" {unit}" if unit else "")


class Figures:
    """What was measured, as the tables ask for it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.machine, self.versions, self.cases = document["machine"], document["versions"], document["cases"]

    def case(self, line: Line) -> Mapping[str, Any] | None:
        """The case of a line; None when it was not measured."""
        wanted = (line.workload, line.case, line.metric)
        fitting = [
            case
            for case in self.cases
            if all(map(fnmatchcase, (case["workload"], case["case"], case["metric"]), wanted))
        ]
        return fitting[-1] if fitting else None

    def number(self, line: Line, peer: str) -> float | None:
        """What a peer reached."""
        case = self.case(line)
        found: float | None = case["peers"].get(peer, {}).get(line.of) if case else None
        return found

    def goal(self, line: Line) -> float | None:
        """What has to be reached, in the unit of the figure; None: nothing, or what it is a share of is not known."""
        if line.goal is None:
            return None
        number = line.goal.least or line.goal.most
        if not line.goal.beside:
            return number
        others = [found for peer in PEERS if peer != OURS and (found := self.number(line, peer)) is not None]
        best = (max if line.goal.least else min)(others, default=None)
        reached = best if line.goal.beside == BEST else self.number(line, LIMIT)
        return None if reached is None else number * reached

    def is_met(self, line: Line) -> bool | None:
        """Whether we reached the goal; None: there is none, or it was not measured."""
        ours, goal = self.number(line, OURS), self.goal(line)
        if ours is None or goal is None or line.goal is None:
            return None
        return ours >= goal if line.goal.least else ours <= goal

    # One table

    def table(self, lines: Sequence[Line]) -> str:
        """Markdown. What was not measured has no line, and who was not measured no column."""
        measured = [line for line in lines if self.case(line)]
        peers = [peer for peer in PEERS if any(peer in case["peers"] for line in measured if (case := self.case(line)))]
        if not measured:
            return "Not measured."
        cases = {case["case"].partition(",")[0] for line in measured if (case := self.case(line))}
        rows = [
            f"| {cases.pop() if len(cases) == 1 else ''} | {' | '.join(peers)} | goal |",
            f"|---|{'---|' * len(peers)}---|",
        ]
        for line in measured:
            cells = [self._cell(line, peer) for peer in peers]
            rows.append(f"| {line.what} | {' | '.join(cells)} | {self._verdict(line)} |")
        return "\n".join(rows)

    def _cell(self, line: Line, peer: str) -> str:
        case = self.case(line) or {}
        number = self.number(line, peer)
        if number is None:
            return "; ".join(case["peers"].get(peer, {}).get("words", []))
        limit = self.number(line, LIMIT)
        relative = line.goal is not None and line.goal.beside and peer != LIMIT
        return shown(number, case["unit"]) + (f" ({number / limit:.2f} of {LIMIT})" if relative and limit else "")

    def _verdict(self, line: Line) -> str:
        if line.goal is None:
            return ""
        case, met = self.case(line) or {}, self.is_met(line)
        return line.goal.text(case["unit"]) + ("" if met is None else f", {MET if met else MISSED}")

    # All of them together

    def missed(self) -> str:
        """A list of what is worse than promised."""
        found = []
        for name, lines in TABLES.items():
            for line in lines:
                ours, case = self.number(line, OURS), self.case(line)
                if line.goal and case and ours is not None and self.is_met(line) is False:
                    goal = line.goal.text(case["unit"])
                    found.append(f"- {name}: {line.what}: {self._cell(line, OURS)}, the goal is {goal}")
        return "\n".join(found) or "All goals that were measured are met."

    def about(self) -> str:
        """Where and on what."""
        machine, loads = self.machine, [load for case in self.cases for load in case["load"]]
        names = [peer for peer in PEERS if peer in self.versions and peer not in (LIMIT, OURS)]
        versions = (self.versions[peer] for peer in names)
        others = ", ".join(
            said if peer in said else f"{peer} {said}" for peer, said in zip(names, versions, strict=True)
        )
        return (
            f"{machine['date']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']},"
            f" Python {machine['python']}, load average {min(loads):g} to {max(loads):g}."
            f" Medians unless a line says otherwise.\nBeside {LIMIT}: {others or 'nobody'}."
        )

    def dots(self, lines: Iterable[Line]) -> Iterator[Dots]:
        """The panels of a picture."""
        for line in lines:
            case = self.case(line)
            if case is None or not line.plotted:
                continue
            values = {
                peer: (kept["min"], kept["median"], kept["max"])
                for peer in PEERS
                if "median" in (kept := case["peers"].get(peer, {}))
            }
            unit = case["unit"]
            labels = {peer: shown(middle, unit) for peer, (_, middle, _) in values.items()}
            better = "more" if line.goal and line.goal.least else "less"
            yield Dots(f"{line.what} [{unit}, {better} is better]", values, labels, self.goal(line), OURS)


def drawn(page: str, figures: Figures) -> tuple[str, dict[str, str]]:
    """The page with its generated parts made anew, and the pictures by the names of their files."""
    pictures = {f"{name}.svg": picture(panels) for name, lines in TABLES.items() if (panels := [*figures.dots(lines)])}
    parts = {"measured": figures.about(), "missed": figures.missed()}
    for name, lines in TABLES.items():
        image = f"\n\n![{name}](measured/{name}.svg)" if f"{name}.svg" in pictures else ""
        parts[name] = figures.table(lines) + image
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        if begin not in page:
            raise SystemExit(f"{PAGE.name} has no place for {name}: {begin.strip()}")
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{part}\n\n{rest[rest.index(end) :]}"
    return page, pictures


def outdated() -> list[Path]:
    """Write nothing; the files that would be written."""
    return [path for path, text in texts() if not path.exists() or path.read_text(encoding="utf-8") != text]


def texts() -> Iterator[tuple[Path, str]]:
    """Each file that is drawn, and what it should hold."""
    figures = Figures(json.loads(FIGURES.read_text(encoding="utf-8")))
    page, pictures = drawn(PAGE.read_text(encoding="utf-8"), figures)
    yield PAGE, page
    for name, text in pictures.items():
        yield FIGURES.parent / name, text


def take_in(paths: Sequence[str]) -> None:
    """Add these measurements to what is known. SystemExit: one of them is none."""
    raw = []
    for path in paths:
        try:
            raw.append(json.loads(Path(path).read_text(encoding="utf-8")))
            summary(raw[-1:])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path} is not a measurement: {error!r}") from None
    new = summary(raw)
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else new
    FIGURES.write_text(json.dumps(merged(known, new), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if arguments == ["--check"]:
        paths = outdated()
        if paths:
            raise SystemExit(f"out of date: {', '.join(map(str, paths))}; run `python docs/performance.py`")
        return
    if arguments:
        take_in(arguments)
    for path, text in list(texts()):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
