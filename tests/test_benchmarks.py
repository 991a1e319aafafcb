"""The benchmarks as a whole: each is told of, one that fails stops no other, and figures stand beside their goals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "bench"
OWN = """
import sys
sys.path.insert(0, {bench!r})
from measuring import Result, show
show([Result("quick", 7.0, 10.0), Result("slow", 70.0, 10.0), Result("plain", 0.25, unit="s")])
sys.exit({code})
"""


def run(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """`make bench` over the benchmarks of this folder."""
    code = f"import sys, pathlib, run_all; run_all.HERE = pathlib.Path({str(folder)!r})"
    code += f"; sys.exit(run_all.main({list(names)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in (("bench_a.py", 3), ("bench_b.py", 0)):
        (tmp_path / name).write_text(OWN.format(bench=str(BENCHMARKS), code=code))
    return tmp_path


def test_each_benchmark_is_told_of() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for path in BENCHMARKS.glob("bench_*.py"):
        assert f"| `{path.stem.removeprefix('bench_')}` |" in page


def test_all_figures_stand_in_one_table_at_the_end_with_their_goals(folder: Path) -> None:
    ended = run(folder, "b")
    assert ended.returncode == 0
    table = ended.stdout.partition("== all figures")[2].split("\n")
    assert [" ".join(line.split()) for line in table if line] == [
        "b",
        "7.0 us quick (goal 10)",
        "70.0 us slow (goal 10, MISSED)",
        "0.250 s plain",
    ]


def test_one_that_fails_stops_no_other_and_is_named(folder: Path) -> None:
    ended = run(folder)
    assert ended.returncode == 1
    assert ended.stdout.endswith("failed: bench_a\n")
    assert ended.stdout.count("quick") == 4


def test_a_name_that_nobody_knows_is_refused_with_those_that_there_are(folder: Path) -> None:
    ended = run(folder, "c")
    assert ended.returncode == 1
    assert "no benchmark c; there are a, b" in ended.stderr


def test_what_valgrind_counts_is_done_as_often_as_was_asked() -> None:
    """The side of `bench_hot.py --instructions` that runs below valgrind."""
    command = [sys.executable, str(BENCHMARKS / "bench_hot.py"), "--repeat", "journal", "5"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
