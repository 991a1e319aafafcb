"""What the lives at one ordinal say together: back-off that is remembered, and work that is done once."""

from support.chaos_fleet import (
    DONE_ONCE,
    SICK_FACTOR,
    SICK_INITIAL_SECONDS,
    SICK_MOST_SECONDS,
    Fleet,
)
from support.chaos_journal import Books
from support.chaos_ledger import Life

CLOCKS_SECONDS = 0.02  # the ledger's clock is read in another process than the journal's


def backoff_seconds(failures: int) -> float:
    """What is promised after so many failures in a row."""
    if failures <= 1:
        return 0.0
    return min(SICK_MOST_SECONDS, SICK_INITIAL_SECONDS * SICK_FACTOR ** (failures - 2))


class Lives:
    """Remembers, per ordinal, what the next life is to be measured by."""

    def __init__(self) -> None:
        self.waits = 0  # how many back-offs were measured
        self._sick: dict[int, tuple[int, float]] = {}  # ordinal -> failures in a row, when the last run ended
        self._done: dict[tuple[str, int, str], list[int | None]] = {}  # (Program, ordinal, version) -> codes

    def take(self, gone: list[Life], books: Books) -> list[tuple[str, str]]:
        """These have ended, in this order."""
        found = []
        for life in gone:
            if life.program == "sick":
                found += self._backed_off(life, books)
            elif life.program in DONE_ONCE:
                found += self._repeated(life)
        return found

    def _backed_off(self, life: Life, books: Books) -> list[tuple[str, str]]:
        failures, ended = self._sick.get(life.ordinal, (0, 0.0))
        wait = backoff_seconds(failures)
        found = []
        if life.began < ended + wait - CLOCKS_SECONDS:
            text = (
                f"sick/{life.ordinal} {life.spawn}: {life.began - ended:.3f} s after failure {failures}, not {wait:g}"
            )
            found.append(("back-off", text))
        self.waits += wait > 0
        run = books.runs.get(life.spawn)
        counts = run is not None and run.outcome == "Failed"
        self._sick[life.ordinal] = failures + counts, life.ended or ended
        return found

    def _repeated(self, life: Life) -> list[tuple[str, str]]:
        codes = self._done.setdefault((life.program, life.ordinal, life.version), [])
        again = bool(codes) if life.program == "once" else 0 in codes
        codes.append(life.code)
        if again:
            return [
                ("work repeated", f"{life.program}/{life.ordinal} version {life.version}: {codes}, by {life.spawn}")
            ]
        return []

    def unfinished(self, fleet: Fleet, unknown: set[tuple[str, int]]) -> list[tuple[str, str]]:
        """In the end each piece of work was done at its last version; or (`unknown` ordinals) nobody can say."""
        found = []
        for name in sorted(DONE_ONCE):
            version = str(fleet.versions[name])
            for ordinal in range(fleet.replicas[name]):
                codes = self._done.get((name, ordinal, version), [])
                if not (bool(codes) if name == "once" else 0 in codes) and (name, ordinal) not in unknown:
                    found.append(("work lost", f"{name}/{ordinal} version {version}: {codes}"))
        last = {(name, str(fleet.versions[name])) for name in DONE_ONCE}
        self._done = {piece: codes for piece, codes in self._done.items() if (piece[0], piece[2]) in last}
        return found
