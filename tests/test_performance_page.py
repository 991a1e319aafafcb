"""The tables and pictures of docs/performance.md: drawn from measurements, goals beside figures, missed ones marked."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.scripts import loaded

ROOT = Path(__file__).parent.parent
HERE = {"date": "2026-01-02", "cores": 2, "memory_gib": 4.0, "kernel": "6.1", "python": "3.11.2"}
ELSEWHERE = {**HERE, "cores": 64}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def performance() -> ModuleType:
    return loaded(ROOT / "docs" / "performance.py")


def row(
    peer: str, value: float | str, *, of: str = "W1", case: str = "6 slots, 0 ms job", **more: Any
) -> dict[str, Any]:
    standard = {"metric": "jobs/s", "unit": "1/s", "better": "higher", "round": 1, "load": 0.5}
    return {"workload": of, "case": case, "peer": peer, "value": value, **standard, **more}


def recovery(peer: str, value: float | str) -> dict[str, Any]:
    return row(peer, value, of="W2", case="1 worker", metric="recovery", unit="ms", better="lower")


def raw(*rows: dict[str, Any], machine: dict[str, Any] = HERE) -> dict[str, Any]:
    versions = {"limit": "limitd.c", "supervisord": "4.3.0", "reconciler": "reconciler 0.1"}
    return {"machine": machine, "versions": versions, "options": {}, "rows": list(rows)}


def table(performance: ModuleType, name: str, *rows: dict[str, Any]) -> list[list[str]]:
    """The cells of a table that is drawn from these rows, without its rule."""
    text = performance.Figures(performance.summary([raw(*rows)])).table(performance.TABLES[name])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [lines[0], *lines[2:]]


def test_the_page_is_what_would_be_drawn_from_the_figures_that_are_kept(performance: ModuleType) -> None:
    assert performance.outdated() == [], "run `python docs/performance.py`"


# ---- tables ----


def test_who_was_measured_has_a_column_and_what_was_measured_a_line(performance: ModuleType) -> None:
    drawn = table(performance, "respawn", row("supervisord", 580.0), row("reconciler", 3000.0), row("limit", 3600.0))
    assert drawn == [
        ["6 slots", "limit", "reconciler", "supervisord", "goal"],
        [
            "6 slots, exit at once: per second",
            "3,600/s",
            "3,000/s (0.83 of limit)",
            "580/s (0.16 of limit)",
            "≥ 0.8 of limit, met",
        ],
    ]


@pytest.mark.parametrize(("ours", "verdict"), [(2880.0, "met"), (2879.0, "**missed**")])
def test_a_share_of_limit_is_missed_from_just_below_it(performance: ModuleType, ours: float, verdict: str) -> None:
    drawn = table(performance, "respawn", row("limit", 3600.0), row("reconciler", ours))
    assert drawn[1][-1] == f"≥ 0.8 of limit, {verdict}"


@pytest.mark.parametrize(("ours", "verdict"), [(1.9, "met"), (1.91, "**missed**")])
def test_a_time_is_missed_from_just_above_it(performance: ModuleType, ours: float, verdict: str) -> None:
    drawn = table(performance, "recovery", recovery("reconciler", ours))
    assert drawn[1] == ["median", f"{ours:g} ms", f"≤ 1.9 ms, {verdict}"]


def test_without_limit_nobody_says_whether_a_share_of_it_is_reached(performance: ModuleType) -> None:
    assert table(performance, "respawn", row("reconciler", 3000.0))[1][-1] == "≥ 0.8 of limit"


def test_a_goal_beside_the_best_looks_at_all_others(performance: ModuleType) -> None:
    def moved(peer: str, value: float) -> dict[str, Any]:
        return row(peer, value, of="W6", case="2.1 GB of 100-byte lines", metric="throughput", unit="MB/s")

    drawn = table(performance, "logs", moved("limit", 970.0), moved("supervisord", 1100.0), moved("reconciler", 1000.0))
    assert drawn[1][-1] == "≥ 1 of the best of the others, **missed**"


def test_the_median_and_the_worst_of_many_are_lines_of_their_own(performance: ModuleType) -> None:
    values = [*[1.0] * 60, *[2.0] * 38, 12.0, 50.0]
    drawn = table(performance, "recovery", *(recovery("reconciler", value) for value in values))
    assert [line[1:] for line in drawn[1:]] == [["1 ms", "≤ 1.9 ms, met"], ["50 ms", "≤ 10 ms, **missed**"]]


def test_words_that_came_instead_of_a_number_are_shown(performance: ModuleType) -> None:
    drawn = table(performance, "recovery", recovery("reconciler", "none in 15 s"), recovery("limit", 1.0))
    assert drawn[1] == ["median", "1 ms", "none in 15 s", "≤ 1.9 ms"]


def test_what_is_missed_is_listed(performance: ModuleType) -> None:
    figures = performance.Figures(performance.summary([raw(recovery("reconciler", 13.0))]))
    assert figures.missed().splitlines() == [
        "- recovery: median: 13 ms, the goal is ≤ 1.9 ms",
        "- recovery: p99: 13 ms, the goal is ≤ 10 ms",
    ]
    assert "met" in performance.Figures(performance.summary([raw(recovery("reconciler", 1.0))])).missed()


@pytest.mark.parametrize(
    ("workers", "name"), [(999, "fleet"), (4500, "large-fleet"), (5000, "large-fleet"), (100, ""), (10000, "")]
)
def test_small_and_large_fleets_have_a_table_each(performance: ModuleType, workers: int, name: str) -> None:
    started = row("limit", 1.5, of="W3", case=f"{workers} workers", metric="cold start", unit="s", better="lower")
    figures = performance.Figures(performance.summary([raw(started)]))
    drawn = {name for name, lines in performance.TABLES.items() if "1.5 s" in figures.table(lines)}
    assert drawn == ({name} if name else set())


def test_every_table_can_be_empty(performance: ModuleType) -> None:
    figures = performance.Figures(performance.summary([raw(row("limit", 1.0, case="7 slots, 3 ms job"))]))
    assert {figures.table(lines) for lines in performance.TABLES.values()} == {"Not measured."}


def test_it_says_where_on_what_and_how_quiet_it_was(performance: ModuleType) -> None:
    said = performance.Figures(performance.summary([raw(row("limit", 1.0), row("limit", 2.0, load=7.25))])).about()
    for word in (
        "2026-01-02",
        "2 cores",
        "Linux 6.1",
        "Python 3.11.2",
        "load average 0.5 to 7.25",
        "supervisord 4.3.0",
    ):
        assert word in said


# ---- taking in ----


def test_several_rounds_in_several_files_are_one_case(performance: ModuleType) -> None:
    kept = performance.summary([raw(row("limit", 1.0), row("limit", 3.0)), raw(row("limit", 8.0), row("limit", "no"))])
    (case,) = kept["cases"]
    assert case["peers"]["limit"] == {"n": 3, "min": 1, "median": 3, "p99": 8, "max": 8, "words": ["no"]}


def test_what_is_measured_again_replaces_its_case_and_leaves_the_others(performance: ModuleType) -> None:
    known = performance.summary([raw(row("limit", 1.0), row("pm2", 5.0), recovery("limit", 2.0))])
    now = performance.merged(known, performance.summary([raw(row("limit", 9.0))]))
    found = {case["workload"]: {peer: kept["median"] for peer, kept in case["peers"].items()} for case in now["cases"]}
    assert found == {"W1": {"limit": 9}, "W2": {"limit": 2}}


def test_figures_of_two_machines_are_never_set_side_by_side(performance: ModuleType) -> None:
    known = performance.summary([raw(recovery("limit", 2.0))])
    now = performance.merged(known, performance.summary([raw(row("limit", 9.0), machine=ELSEWHERE)]))
    assert [case["workload"] for case in now["cases"]] == ["W1"]
    assert now["machine"] == ELSEWHERE


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"rows": []}', '{"machine": {}, "versions": {}, "rows": [{}]}', '{"rows": 1}', "\x00"],
)
def test_a_file_that_is_no_measurement_is_named_and_changes_nothing(
    performance: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    figures = tmp_path / "figures.json"
    monkeypatch.setattr(performance, "FIGURES", figures)
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(SystemExit, match=r"broken\.json is not a measurement"):
        performance.main([str(tmp_path / "broken.json")])
    assert not figures.exists()


# ---- the page ----


@pytest.fixture
def page(performance: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with a place for everything, in a folder of its own."""
    path = tmp_path / "performance.md"
    names = ["measured", "missed", *performance.TABLES]
    path.write_text("".join(f"# {name}\n<!-- generated: {name} -->\nold\n<!-- end -->\n" for name in names))
    (tmp_path / "measured").mkdir()
    monkeypatch.setattr(performance, "PAGE", path)
    monkeypatch.setattr(performance, "FIGURES", tmp_path / "measured" / "figures.json")
    monkeypatch.setattr(performance, "DOCS", tmp_path / "measured")
    return path


def test_measurements_become_tables_and_pictures(performance: ModuleType, page: Path) -> None:
    (page.parent / "raw.json").write_text(json.dumps(raw(row("limit", 3600.0), row("reconciler", 3000.0))))
    performance.main([str(page.parent / "raw.json")])
    text = page.read_text()
    assert "3,000/s (0.83 of limit)" in text
    assert "![respawn](measured/respawn.svg)" in text
    assert "old" not in text
    assert [path.name for path in (page.parent / "measured").glob("*.svg")] == ["respawn.svg"]
    performance.main(["--check"])
    performance.main([])  # nothing to do, and nothing done
    assert page.read_text() == text


def test_a_page_that_somebody_changed_by_hand_is_noticed(performance: ModuleType, page: Path) -> None:
    (page.parent / "raw.json").write_text(json.dumps(raw(row("limit", 3600.0), row("reconciler", 3000.0))))
    performance.main([str(page.parent / "raw.json")])
    page.write_text(page.read_text().replace("3,000/s", "9,000/s"))
    with pytest.raises(SystemExit, match="out of date"):
        performance.main(["--check"])


def test_a_page_without_a_place_for_a_table_is_refused(performance: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no place for measured"):
        performance.drawn("# Nothing\n", performance.Figures(performance.summary([raw(row("limit", 1.0))])))


# ---- pictures ----


def dots(performance: ModuleType, goal: float | None, **values: tuple[float, float, float]) -> ET.Element:
    labels = {name: f"<{middle:g}>" for name, (_, middle, _) in values.items()}
    return ET.fromstring(performance.picture([performance.Dots("a & b", values, labels, goal, "reconciler")]))


def test_a_dot_stands_where_its_logarithm_is(performance: ModuleType) -> None:
    drawn = dots(performance, None, limit=(1.0, 1.0, 1.0), reconciler=(5.0, 10.0, 20.0), pm2=(100.0, 100.0, 100.0))
    first, middle, last = (float(dot.attrib["cx"]) for dot in drawn.iter(f"{SVG}circle"))
    assert middle - first == pytest.approx(last - middle)
    assert len({dot.attrib["fill"] for dot in drawn.iter(f"{SVG}circle")}) == 2  # ours is another colour


def test_the_goal_is_a_dashed_line(performance: ModuleType) -> None:
    with_goal, without = (
        dots(performance, 10.0, limit=(1.0, 1.0, 100.0)),
        dots(performance, None, limit=(1.0, 1.0, 9.0)),
    )
    (line,) = (line for line in with_goal.iter(f"{SVG}line") if "stroke-dasharray" in line.attrib)
    marks = {text.text: float(text.attrib["x"]) for text in with_goal.iter(f"{SVG}text")}
    assert float(line.attrib["x1"]) == marks["10"]
    assert not [line for line in without.iter(f"{SVG}line") if "stroke-dasharray" in line.attrib]


def test_nothing_at_all_stands_at_the_left_edge_and_breaks_nothing(performance: ModuleType) -> None:
    drawn = dots(performance, 0.0, limit=(0.0, 0.0, 0.0), reconciler=(1.0, 2.0, 3.0))
    assert next(dot.attrib["cx"] for dot in drawn.iter(f"{SVG}circle")) == "110.0"
