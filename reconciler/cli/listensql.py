"""`queue listen-sql`: prints what a PostgreSQL database needs to tell of new work. Nothing is sent anywhere."""

import click

from reconciler.cli.exits import DONE
from reconciler.cli.output import say

LONGEST_CHANNEL = 63
"""PostgreSQL cuts longer names."""


@click.command("listen-sql")
@click.argument("table")
@click.argument("channel")
def listen_sql(table: str, channel: str) -> int:
    """Print the SQL that makes PostgreSQL tell CHANNEL of rows put into TABLE.

    For the owner of the table to read, and to run; a postgresql trigger with `listen: CHANNEL` then notices new work
    at once.

    \b
    reconciler queue listen-sql jobs work | psql shop
    """
    from reconciler.adapters.queues.notifying import notifying

    for what, text in (("TABLE", table), ("CHANNEL", channel)):
        if not text or not text.isprintable():
            raise click.UsageError(f"{what} {text!r} is no name")
    if len(channel.encode()) > LONGEST_CHANNEL or "$" in channel:
        raise click.UsageError(f"CHANNEL is a name of up to {LONGEST_CHANNEL} bytes without $")
    say(notifying(table, channel).rstrip())
    return DONE
