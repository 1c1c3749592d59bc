"""One-line errors of the command line: exit code 2 for a wrong call, 1 for a failure."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from openai_compat.package import MissingExtra

from .wrong_target import CannotLoad

TERSE_MESSAGES = ("No such ", "Got unexpected ", "Missing ")
"""Beginnings of click's messages that do not say what to do."""

FOREIGN_OPTIONS = {
    "--port": "--listen 127.0.0.1:PORT",
    "-p": "--listen 127.0.0.1:PORT",
    "--host": "--listen HOST:PORT",
    "--bind": "--listen HOST:PORT",
    "-b": "--listen HOST:PORT",
    "--verbose": "--log-level debug",
    "-v": "--log-level debug",
    "--debug": "--log-level debug",
    "--token": "--api-key-env NAME",
}
"""Options of uvicorn, gunicorn and others, with their names here: click would suggest misleading, similar names."""


class WrongCall(click.ClickException):
    """The command was called wrongly. Printed without the usage, which would hide the message."""

    exit_code = 2


class Program(click.Group):
    """A command group that reports every error in one line."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options. Raises click.ClickException."""
        with _one_line_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises click.ClickException."""
        with _one_line_errors():
            return super().invoke(ctx)


@contextmanager
def _one_line_errors() -> Generator[None]:
    try:
        yield
    except MissingExtra as error:
        raise click.ClickException(f"{error}") from error
    except CannotLoad as error:
        raise WrongCall(f"{error}") from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise _to_wrong_call(error) from error


def _to_wrong_call(error: click.UsageError) -> WrongCall:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        ours = FOREIGN_OPTIONS.get(error.option_name, "")
        if any([ours.partition(" ")[0] in option.opts for option in error.ctx.command.params]):
            return WrongCall(f"No such option '{error.option_name}'. Say {ours}.")
    text = " ".join(error.format_message().split())
    if not text.endswith((".", "?", "?)")):
        text = f"{text}."
    if error.ctx is not None and text.startswith(TERSE_MESSAGES) and "Did you mean" not in text:
        text = f"{text} All that there is: {error.ctx.command_path} --help"
    return WrongCall(text)
