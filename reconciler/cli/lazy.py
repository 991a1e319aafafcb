"""Groups of verbs whose modules are imported when a verb is used: the overview is printed from the table alone."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class Verb(NamedTuple):
    """Where a verb is found, and its line in the overview (which must not import it)."""

    module: str
    help: str


Chapters = Mapping[str, Mapping[str, Verb]]


class LazyGroup(click.Group):
    """A group whose commands are imported by name: that of the verb, in the module that the table says."""

    def __init__(self, *arguments: Any, chapters: Chapters, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.chapters = chapters
        self.verbs = {name: verb for chapter in chapters.values() for name, verb in chapter.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the overview."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        verb = self.verbs.get(cmd_name)
        if verb is None:
            return None
        command = getattr(importlib.import_module(f"reconciler.cli.{verb.module}"), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but name the verb that was probably meant."""
        if args and args[0] not in self.verbs and not args[0].startswith("-"):
            from reconciler.cli.session import nearest

            ctx.fail(f"there is no verb {args[0]!r}{nearest(args[0], list(self.verbs))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, from the table alone."""
        width = max(map(len, self.verbs))
        for chapter, verbs in self.chapters.items():
            with formatter.section(chapter):
                formatter.write_dl([(name.ljust(width), verb.help) for name, verb in verbs.items()])
