"""`logs`: the bytes that processes wrote, as they wrote them, or as `logs.format` has them kept."""

import sys
import time

import click

from reconciler.cli.exits import DONE
from reconciler.cli.output import hint, note
from reconciler.cli.session import DURATION, REPLICA_TARGET, Session, Target, pass_session, with_nearest
from reconciler.client import ApiFailure

_RECONNECT_SECONDS = 0.2
TAIL_LINES = 100


class Tail(click.ParamType[int]):
    """A number of lines, or `all`."""

    name = "lines"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """To a count; -1 is all."""
        text = str(value)
        if text in ("all", "-1"):
            return -1
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{text!r} is no number of lines; write a number or all", param, ctx)
        return int(text)


@click.command()
@click.argument("target", type=REPLICA_TARGET, metavar="NAME[/REPLICA]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, by new replicas too.")
@click.option("--tail", type=Tail(), default=TAIL_LINES, show_default=True, help="Begin so many lines before the end.")
@click.option("--since", type=DURATION, help="Only what was written in the last 10m, 1h, ...")
@click.option("--timestamps", is_flag=True, help="Say when each line was written.")
@click.option("--prefix", is_flag=True, help="Say which replica wrote each line.")
@click.option(
    "--previous",
    is_flag=False,
    flag_value="1",
    type=click.IntRange(min=1),
    help="The run before this one, or with =N the Nth before.",
)
@click.option("--stream", type=click.Choice(["out", "err"]), help="Only stdout or stderr, where they are kept apart.")
@pass_session
def logs(
    session: Session,
    target: Target,
    follow: bool,
    tail: int,
    since: float | None,
    timestamps: bool,
    prefix: bool,
    previous: int | None,
    stream: str | None,
) -> int:
    """Print the log of a Program or of one replica.

    \b
    reconciler logs web                the last 100 lines
    reconciler logs web -f --prefix    follow all replicas
    reconciler logs web/3 --previous   how the run before this one ended
    reconciler logs web --since 10m --tail all
    """
    if follow and previous:
        raise click.UsageError("--previous is over: it cannot be followed")
    client = session.client()
    lines: int | None = None if tail < 0 else tail
    told: set[str] = set()
    nothing = True

    def tell_once(text: str) -> None:
        if text not in told:
            told.add(text)
            hint(text)

    while True:
        try:
            pieces = client.logs(
                target.name,
                replica=target.ordinal,
                follow=follow,
                tail=lines,
                since_seconds=since,
                timestamps=timestamps,
                prefix=prefix,
                previous=previous,
                stream=stream or "",
                note=tell_once,
            )
            for piece in pieces:
                sys.stdout.buffer.write(piece)
                nothing = False
                if follow:
                    sys.stdout.buffer.flush()
        except ApiFailure as failure:
            if not follow or failure.reason != "Disconnected":
                raise with_nearest(client, target.name, failure) from None
        if not follow:
            if previous and nothing:
                hint("nothing is kept of that run: it printed nothing, was not there, or its part of the log is gone")
            return DONE
        note("the controller ended the stream; following again (what was written meanwhile is in the log)")
        lines, since = 0, None
        time.sleep(_RECONNECT_SECONDS)
