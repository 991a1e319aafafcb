"""`run` and `up`: start the keeper, which starts the rest. `run` becomes it; `up` stays beside it (live.py)."""

import os
import sys
from collections.abc import Sequence

import click

import reconciler
from reconciler.cli.exits import PERMISSION, Failure
from reconciler.cli.output import hint, warning
from reconciler.cli.session import Session, pass_session
from reconciler.client import find_state_dir
from reconciler.client.places import user_state_home

SYSTEM_CONFIG = "/etc/reconciler/config.yaml"
SYSTEM_STATE = "/var/lib/reconciler"

directories_option = click.option(
    "-f", "--filename", "paths", multiple=True, metavar="DIR", help="A directory of manifests; may be repeated."
)
config_option = click.option("--config", metavar="FILE", help="As the global option of that name.")


@click.command()
@directories_option
@config_option
@click.option(
    "--logs",
    type=click.Choice(["files", "stdout"]),
    default="files",
    show_default=True,
    help="Where all processes print to: files as their specs say, or the standard output of this daemon.",
)
@click.option("--logs-format", type=click.Choice(["prefix", "json"]), show_default="prefix", help="How, on stdout.")
@pass_session
def run(session: Session, paths: tuple[str, ...], config: str | None, logs: str, logs_format: str | None) -> int:
    """Run the daemon in the foreground, for systemd and containers.

    TERM and INT drain everything in order and end with 0; a later INT kills. HUP reads all manifests again, USR1
    replaces the controller and keeps the processes, USR2 reopens logs.

    \b
    reconciler run -f /etc/reconciler/manifests
    reconciler run -f /srv/shop/manifests -f /srv/blog/manifests
    reconciler run -f /manifests --logs stdout --logs-format json    (in a container)
    """
    if logs_format and logs != "stdout":
        raise click.UsageError("--logs-format is about standard output; say --logs stdout, too")
    state_dir = find_state_dir(session.given_state_dir)
    config = config or session.config or _system_config(state_dir)
    for path in paths:
        if os.path.exists(path) and not os.path.isdir(path):
            raise click.UsageError(f"{path!r} is not a directory")
        if not os.path.isdir(path):
            # Not refused: after a boot it may be mounted later, and what runs already shall be kept running.
            warning(f"{path}: no such directory yet; it is watched for")
    if not paths and config is None:
        hint("no directory is watched; what `reconciler apply` hands in is run")
    make_state_dir(state_dir)
    arguments = daemon_arguments(paths, config)
    if logs == "stdout":
        arguments += ["--logs", "stdout", "--logs-format", logs_format or "prefix"]
    command = keeper_command(state_dir, arguments)
    os.execve(command[0], command, keeper_environment())  # noqa: S606  # no shell is wanted


@click.command()
@directories_option
@config_option
@click.option("--no-output", is_flag=True, help="Leave out what the processes print.")
@pass_session
def up(session: Session, paths: tuple[str, ...], config: str | None, no_output: bool) -> int:
    """Try out a directory: run it, and show live what happens and what the processes print.

    Ctrl-C drains and ends; pressed again, it asks and kills. State and logs are kept apart from those of other
    directories. Ends with 1 if not everything had become available.

    \b
    reconciler up -f ./manifests
    """
    if not paths:
        raise click.UsageError("say which directory: reconciler up -f DIR")
    for path in paths:
        if not os.path.isdir(path):
            raise click.UsageError(f"{path!r} is not a directory")
    state_dir = os.path.abspath(session.given_state_dir) if session.given_state_dir else state_dir_of(paths)
    make_state_dir(state_dir)
    arguments = daemon_arguments(paths, config or session.config)
    arguments += ["--up", f"--base-path={os.environ.get('PATH', os.defpath)}"]
    from reconciler.cli.live import Live

    return Live(
        state_dir, keeper_command(state_dir, arguments), keeper_environment(), paths, output=not no_output
    ).run()


def daemon_arguments(paths: Sequence[str], config: str | None) -> list[str]:
    """What the controller is told; absolute, because the keeper may be started anew from elsewhere."""
    arguments = [word for path in paths for word in ("-f", os.path.abspath(path))]
    return arguments + (["--config", os.path.abspath(config)] if config else [])


def keeper_command(state_dir: str, arguments: Sequence[str]) -> list[str]:
    """How the keeper is started."""
    return [sys.executable, "-m", "reconciler.keeper", "--state-dir", state_dir, "--", *arguments]


def keeper_environment() -> dict[str, str]:
    """Ours, but nothing is imported from the folder that somebody happens to stand in: `-m` would look there first."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    root = os.path.dirname(os.path.dirname(os.path.abspath(reconciler.__file__)))
    if root not in map(os.path.abspath, sys.path[1:]):  # run from a checkout that is not installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return environment


def make_state_dir(state_dir: str) -> None:
    """Make it, or say who may."""
    try:
        os.makedirs(state_dir, mode=0o755, exist_ok=True)
    except PermissionError as error:
        message = f"cannot make the state directory {state_dir}: {error.strerror}; choose another with --state-dir"
        raise Failure(message, PERMISSION) from None
    except OSError as error:
        raise Failure(f"cannot make the state directory {state_dir}: {error.strerror}") from None


def state_dir_of(paths: Sequence[str]) -> str:
    """The state directory of what is tried out: one per directory, found again by the next `up`."""
    from hashlib import sha256

    places = [os.path.abspath(path) for path in paths]
    name = os.path.basename(places[0]) or "root"
    digest = sha256("\0".join(places).encode()).hexdigest()[:8]
    return os.path.join(user_state_home(), "up", f"{name}-{digest}")


def _system_config(state_dir: str) -> str | None:
    """The host's configuration is for the host's daemon, not for everybody who starts one of their own."""
    return SYSTEM_CONFIG if state_dir == SYSTEM_STATE and os.path.exists(SYSTEM_CONFIG) else None
