"""`version` and `completion`: about the command line itself; no controller is asked."""

import os
import sys

import click

from reconciler import __version__
from reconciler.cli.exits import DONE
from reconciler.cli.output import say


@click.command()
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print as JSON.")
def version(output: str | None) -> int:
    """Print the version of the command line. The daemon's stands in `reconciler status`.

    \b
    reconciler version
    reconciler version -o json
    """
    python = ".".join(map(str, sys.version_info[:3]))
    if output:
        import json

        say(json.dumps({"version": __version__, "python": python, "platform": os.uname().machine}))
    else:
        say(f"reconciler {__version__} (Python {python}, {os.uname().machine})")
    return DONE


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a completion script. It completes verbs, options and the names of living Programs.

    \b
    reconciler completion bash > ~/.local/share/bash-completion/completions/reconciler
    reconciler completion zsh  > ~/.zfunc/_reconciler      (a folder of $fpath)
    reconciler completion fish > ~/.config/fish/completions/reconciler.fish
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import cli

    completer = get_completion_class(shell)
    assert completer is not None
    made = completer(cli, {}, "reconciler", "_RECONCILER_COMPLETE")
    # `source()` would run the shell to ask for its version; a script may be made for another machine.
    say((made.source_template % made.source_vars()).strip("\n"))
    return DONE
