"""Errors of the command line, each in one line: exit code 2 for what was typed wrong, 1 for what has failed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from openai_compat.package import MissingExtra

from .wrong_target import CannotLoad

OF_CLICK = ("No such ", "Got unexpected ", "Missing ")
"""How texts of click's own begin that do not say what to do."""


class WrongCall(click.ClickException):
    """Something was typed that cannot be done. Told without the usage, which hides the line that says what."""

    exit_code = 2


class Program(click.Group):
    """A group whose commands fail with a sentence, whatever was wrong."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options. Raises click.ClickException."""
        with _in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises click.ClickException."""
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Generator[None]:
    try:
        yield
    except MissingExtra as error:
        raise click.ClickException(f"{error}") from error
    except CannotLoad as error:
        raise WrongCall(f"{error}") from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        text = " ".join(error.format_message().split())
        if not text.endswith((".", "?", "?)")):
            text = f"{text}."
        if error.ctx is not None and text.startswith(OF_CLICK) and "Did you mean" not in text:
            text = f"{text} All that there is: {error.ctx.command_path} --help"
        raise WrongCall(text) from error
