"""The front door: global options and the table of verbs. A verb's module is imported when the verb is used.

`reconciler version` and `--help` take some 50 ms this way, most of them the interpreter's and click's own.
"""

import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.exits import guarded
from reconciler.cli.lazy import Chapters, LazyGroup, Verb
from reconciler.cli.session import DURATION, Session
from reconciler.cli.text import terminal_columns
from reconciler.client import REQUEST_SECONDS

HELP_COLUMNS = 100


CHAPTERS: Chapters = {
    "Run": {
        "run": Verb("daemon", "Run the daemon in the foreground, for systemd and containers."),
        "up": Verb("daemon", "Try out a directory: run it, show live what happens, Ctrl-C drains."),
        "reexec": Verb("reexec", "Replace the daemon by the code that is installed now; processes stay."),
        "shutdown": Verb("operate", "End the daemon in good order."),
    },
    "Declare": {
        "apply": Verb("manifests", "Hand in manifests: all or nothing."),
        "delete": Verb("manifests", "Delete objects that were applied."),
        "diff": Verb("manifests", "Show what apply would do to which process."),
        "validate": Verb("validate", "Check manifests without a controller."),
    },
    "Look": {
        "status": Verb("status", "Show how things are, what is wrong, and why."),
        "get": Verb("get", "List Programs, processes or QueueBindings."),
        "describe": Verb("describe", "Show all there is to know about an object."),
        "logs": Verb("logs", "Print or follow the log of a Program or replica."),
        "events": Verb("describe", "Show what happened."),
    },
    "Operate": {
        "scale": Verb("operate", "Override the number of replicas."),
        "stop": Verb("operate", "Stop a Program or replica until it is started again."),
        "start": Verb("operate", "Start what was stopped."),
        "restart": Verb("operate", "Replace all processes, within the strategy."),
        "reset": Verb("operate", "End overrides and forget failures."),
        "queue": Verb("queue", "Work with queues and with the bindings that scale by them."),
    },
    "Other": {
        "version": Verb("meta", "Print the version."),
        "completion": Verb("meta", "Print a completion script for a shell."),
    },
}
VERBS = {name: verb for chapter in CHAPTERS.values() for name, verb in chapter.items()}


class FrontDoor(LazyGroup):
    """The group of all verbs, and the one place where a verb comes to its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb to its exit code."""
        return guarded(lambda: super(FrontDoor, self).invoke(ctx))


@click.group(cls=FrontDoor, chapters=CHAPTERS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="Read defaults from this file (/etc/reconciler/config.yaml).")
@click.option("--state-dir", metavar="DIR", help="Keep and find state here ($RECONCILER_STATE_DIR).")
@click.option("--socket", metavar="PATH", help="Find the controller here ($RECONCILER_SOCKET).")
@click.option(
    "--request-timeout",
    type=DURATION,
    default=REQUEST_SECONDS,
    show_default="30s",
    help="How long to wait for an answer.",
)
@click.pass_context
def cli(
    ctx: click.Context, config: str | None, state_dir: str | None, socket: str | None, request_timeout: float
) -> None:
    """Keep the processes of this host equal to a directory of YAML manifests.

    \b
    reconciler up -f ./manifests       try it out
    reconciler status                  how things are, and what is wrong
    reconciler VERB --help             options and examples
    """
    ctx.obj = Session(config=config, state_dir=state_dir, socket=socket, timeout_seconds=request_timeout)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one call of the command line to its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a terminal without UTF-8 shows a question mark, not a trace
    width = max(50, min(terminal_columns(), HELP_COLUMNS) - 2)
    try:
        code = cli.main(
            None if arguments is None else list(arguments),
            prog_name="reconciler",
            standalone_mode=False,
            terminal_width=width,
        )
    except click.ClickException as error:
        sys.stdout.flush()
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0
