"""`queue`: what one does with QueueBindings and the queues they look at. Each verb is in a module of its own."""

import click

from reconciler.cli.lazy import Chapters, LazyGroup, Verb

QUEUE_CHAPTERS: Chapters = {
    "Look": {
        "test": Verb("steering", "Ask queues now: what waits, and what count follows."),
        "simulate": Verb("simulate", "Show what a binding would make of a load, beside other policies."),
        "listen-sql": Verb("listensql", "Print the SQL that makes PostgreSQL tell of new work."),
    },
    "Operate": {
        "pause": Verb("steering", "Freeze the count of a bound Program."),
        "resume": Verb("steering", "Let it follow its queues again."),
        "poke": Verb("steering", "Have queues looked at now."),
    },
}


@click.group(cls=LazyGroup, chapters=QUEUE_CHAPTERS)
def queue() -> None:
    """Work with queues and with the bindings that scale by them.

    \b
    reconciler queue test mails        ask now: what waits, and what follows
    reconciler queue pause mails       the count stays as it is
    reconciler get qb                  all bindings
    reconciler queue simulate -f mails.yaml --load burst:300 --compare
    """
