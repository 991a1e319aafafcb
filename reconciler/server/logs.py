"""Which logs a request means, what of them cannot be told, and how that is said. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from reconciler.model.problems import ApiError
from reconciler.server.answers import Json

NOTE_HEADER = "Reconciler-Note"
_CONSOLES = {"/dev/stdout": "standard output", "/dev/stderr": "standard error"}
_REMEDY = "logs.format: prefix or json would say whose each line is"


class Asked(NamedTuple):
    """Whose logs somebody wants. None: of all."""

    name: str
    replica: int | None
    stream: str | None
    previous: int | None

    def means(self, log: Json) -> bool:
        """Whether this replica and stream are meant."""
        return self.replica in (None, log["ordinal"]) and self.stream in (None, log["stream"])

    def __str__(self) -> str:
        replica = "" if self.replica is None else f"/{self.replica}"
        return f"{self.name}{replica}" + ("" if self.stream is None else f" {self.stream}")


def meant(logs: list[Json], asked: Asked) -> list[Json]:
    """The logs to be read, each with all that write to it: `wanted` are those whose lines are."""
    marked = [{**log, "wanted": asked.means(log)} for log in logs if log["path"] not in _CONSOLES]
    paths = {log["path"] for log in marked if log["wanted"]}
    return [log for log in marked if log["path"] in paths]


def notes(logs: list[Json], asked: Asked) -> list[str]:
    """What the reader has to know. Raises ApiError when there is nothing to be read, or nothing could be told."""
    wanted = [log for log in logs if asked.means(log)]
    elsewhere = sorted({_CONSOLES[log["path"]] for log in wanted if log["path"] in _CONSOLES})
    found = [f"{asked} prints to the daemon's {' and '.join(elsewhere)}, which is not kept here"] if elsewhere else []
    raw = sorted(_mixed(meant(logs, asked), asked))
    if raw and asked.previous is not None:
        message = f"{', '.join(raw)} is one raw log of several: where a run of one of them ended cannot be told"
        raise ApiError(409, 6, "CannotTell", f"{message}; {_REMEDY}")
    if len(wanted) == sum(log["path"] in _CONSOLES for log in wanted):
        why = found[0] if found else f"program/{asked} has no log: it never ran, or its logs.path is `none`"
        raise ApiError(404, 3, "NoLogs", why)
    if raw:
        found.append(
            f"{', '.join(raw)} is one raw log of several: which lines are of {asked} cannot be told, all are shown;"
            f" {_REMEDY}"
        )
    return found


def _mixed(logs: list[Json], asked: Asked) -> set[str]:
    """Raw logs of which only a part is wanted, or a run of one of several."""
    writers: dict[str, list[bool]] = {}
    for log in logs:
        if log["format"] == "raw":
            writers.setdefault(log["path"], []).append(log["wanted"])
    return {
        path for path, wanted in writers.items() if len(wanted) > 1 and (asked.previous is not None or not all(wanted))
    }


def note_headers(found: Iterable[str]) -> dict[str, str]:
    """As a header, in which not everything may stand that may stand in a path."""
    text = "; ".join(found)
    return {NOTE_HEADER: "".join(c if c.isascii() and c.isprintable() else "?" for c in text)} if text else {}
