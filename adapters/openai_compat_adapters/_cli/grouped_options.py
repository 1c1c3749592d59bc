"""Option groups, which `--help` shows under their headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

OTHER_GROUP = "Help"


class GroupedOption(click.Option):
    """An option of a group."""

    group = OTHER_GROUP


class GroupedCommand(click.Command):
    """A command whose `--help` shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, in order of appearance."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", OTHER_GROUP), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def option_group(name: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds `options`, made by `option`, as a group called `name`."""

    def add(command: Command) -> Command:
        for decorate in reversed(options):
            command = decorate(command)
            parameters: Any = getattr(command, "__click_params__")  # noqa: B009  (click keeps them there)
            # The option just added is last; click reverses the list at the end.
            parameters[-1].group = name
        return command

    return add


def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """A `click.option` whose help `option_group` can put under a heading."""
    return click.option(*names, cls=GroupedOption, **settings)
