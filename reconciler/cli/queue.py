"""`queue`: what one does with QueueBindings and the queues they look at. Each verb is in a module of its own."""

import click

from reconciler.cli.lazy import Chapters, LazyGroup, Verb

QUEUE_CHAPTERS: Chapters = {
    "Look": {
        "simulate": Verb("simulate", "Show what a binding would make of a load, beside other policies."),
    },
}


@click.group(cls=LazyGroup, chapters=QUEUE_CHAPTERS)
def queue() -> None:
    """Work with queues and with the bindings that scale by them.

    \b
    reconciler queue simulate -f mails.yaml --load burst:300 --compare
    """
