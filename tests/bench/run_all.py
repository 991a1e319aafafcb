"""All benchmarks, one after the other, and all their figures in one table at the end: `make bench`.

    python tests/bench/run_all.py respawn hot     only these

One that fails does not keep the others from running; the exit code says so in the end.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import RESULTS, kept, line

HERE = Path(__file__).resolve().parent


def scripts(names: list[str]) -> list[Path]:
    """The benchmarks of these names; without names, all."""
    found = sorted(HERE.glob("bench_*.py"))
    unknown = set(names) - {path.stem.removeprefix("bench_") for path in found}
    if unknown:
        known = ", ".join(path.stem.removeprefix("bench_") for path in found)
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {known}")
    return [path for path in found if not names or path.stem.removeprefix("bench_") in names]


def runs_to_its_end(path: Path, results: str) -> bool:
    """Run one."""
    try:
        return not subprocess.run([sys.executable, path], env={**os.environ, RESULTS: results}, check=False).returncode
    except OSError as error:  # nobody can be started now: the host is at the end of its pids or memory
        print(f"{path.stem} cannot be started: {error}", file=sys.stderr)
        return False


def main(names: list[str]) -> int:
    """Run them. The exit code."""
    failed, table = [], []
    for path in scripts(names):
        print(f"== {path.stem}", flush=True)
        with tempfile.NamedTemporaryFile() as results:
            if not runs_to_its_end(path, results.name):
                failed.append(path.stem)
            table += [f"\n{path.stem.removeprefix('bench_')}", *map(line, kept(results.name))]
    print("\n== all figures", *table, sep="\n")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
