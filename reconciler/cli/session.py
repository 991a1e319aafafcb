"""What all verbs share: the global options, the client they lead to, common options, targets and names."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from reconciler.client import REQUEST_SECONDS, ApiFailure, ClientError, find_state_dir, socket_paths

if TYPE_CHECKING:
    from reconciler.client import Client

F = TypeVar("F", bound=Callable[..., Any])

PROGRAM_WORDS = frozenset({"program", "programs", "prog", "progs"})
BINDING_WORDS = frozenset({"queuebinding", "queuebindings", "qb", "qbs"})
PROCESS_WORDS = frozenset({"process", "processes", "ps"})


class Session:
    """One call of the command line."""

    def __init__(
        self,
        *,
        config: str | None = None,
        state_dir: str | None = None,
        socket: str | None = None,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.config = config
        self.given_state_dir = state_dir
        self.socket = socket
        self.timeout_seconds = timeout_seconds

    @property
    def state_dir(self) -> str:
        """The state directory that this call is about."""
        return find_state_dir(self.given_state_dir)

    def client(self) -> "Client":
        """The controller that this call is about."""
        from reconciler.client import Client

        return Client(socket_paths(self.socket, self.given_state_dir), timeout_seconds=self.timeout_seconds)


pass_session = click.make_pass_decorator(Session, ensure=True)


class Duration(click.ParamType[float]):
    """`500ms`, `30s`, `1h30m`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """To seconds."""
        if isinstance(value, float):
            return value
        from reconciler.model.quantities import seconds

        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


DURATION = Duration()


class Target(NamedTuple):
    """A Program, or one of its replicas: `web`, `program/web`, `web/3`."""

    name: str
    ordinal: int | None = None

    def __str__(self) -> str:
        return f"program/{self.name}" if self.ordinal is None else f"{self.name}/{self.ordinal}"


class TargetType(click.ParamType[Target]):
    """Reads a Target; completes the names of living Programs."""

    name = "name[/replica]"

    def __init__(self, *, allows_replica: bool = True) -> None:
        self.allows_replica = allows_replica
        if not allows_replica:
            self.name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """To a Target."""
        if isinstance(value, Target):
            return value
        parts = str(value).split("/")
        is_replica = len(parts) == 2 and parts[1].isdigit()  # `ps/3` is a replica of a Program called ps
        if len(parts) > 1 and parts[0] in PROGRAM_WORDS | PROCESS_WORDS and not is_replica:
            del parts[0]
        name, rest = parts[0], parts[1:]
        if not name or len(rest) > 1 or (rest and not (rest[0].isascii() and rest[0].isdigit())):
            self.fail(f"{value!r} names nothing; write NAME or NAME/REPLICA, as in web or web/3", param, ctx)
        if rest and not self.allows_replica:
            self.fail(f"{value!r} is one replica; this verb is about a whole Program: {name}", param, ctx)
        return Target(name, int(rest[0]) if rest else None)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The names of Programs that begin so; silence when no controller answers at once."""
        from click.shell_completion import CompletionItem

        session = ctx.find_object(Session) or Session()
        session.timeout_seconds = 0.5
        try:
            names = known_names(session.client())
        except ClientError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def binding_names(words: Sequence[str], *, required: bool = False) -> list[str] | None:
    """`qb`, `qb NAME...` and `qb/NAME...` as names of QueueBindings; None: the words are about something else."""
    first = words[0].partition("/")[0].lower() if words else ""
    if first not in BINDING_WORDS:
        return None
    names = []
    for word in words if "/" in words[0] else words[1:]:
        kind, slash, name = word.partition("/")
        names.append(name if slash and kind.lower() in BINDING_WORDS else word)
    strange = [name for name in names if not name or "/" in name]
    if strange or (required and not names):
        raise click.UsageError(f"{strange[0] if strange else words[0]!r} names no QueueBinding; write qb/NAME")
    return names


REPLICA_TARGET = TargetType()
PROGRAM_TARGET = TargetType(allows_replica=False)


def dry_run_option(verb: F) -> F:
    """--dry-run."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")(verb)


def override_options(verb: F) -> F:
    """--for and --reason, of what an operator overrides."""
    verb = click.option("--reason", default="", help="Why, for those who wonder later.")(verb)
    return click.option("--for", "for_seconds", type=DURATION, help="End by itself after this time.")(verb)


def known_names(client: "Client") -> list[str]:
    """The names of all Programs, sorted."""
    return sorted(str(item.get("metadata", {}).get("name", "")) for item in client.programs().get("items", ()))


def with_nearest(client: "Client", name: str, failure: ApiFailure) -> ApiFailure:
    """A not-found, with the name that was probably meant."""
    if failure.exit_code != 3 or "did you mean" in failure.message:
        return failure
    try:
        known = known_names(client)
    except ClientError:
        return failure
    if name in known:  # it was a replica, or a run, that is not there
        return failure
    return ApiFailure(failure.exit_code, failure.reason, failure.message + nearest(name, known), failure.problems)


def not_found(name: str, known: Sequence[str]) -> ApiFailure:
    """The same, found out here."""
    return ApiFailure(3, "NotFound", f"program/{name} not found{nearest(name, known)}")


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean web?)`, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""
