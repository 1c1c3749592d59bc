"""Reads typed lines, without prompt_toolkit or without a terminal for it."""

from __future__ import annotations

import importlib
import select
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

import click

from . import ctrl_c

PASTE_SECONDS = 0.02
"""Seconds within which the next line counts as pasted: nobody types that fast."""


class LineReader:
    """Reads from stdin, line by line; pasted lines are one message."""

    def __init__(self) -> None:
        with suppress(ImportError):
            importlib.import_module("readline")  # gives `input` editing keys and a history

    def read_message(self, model: str) -> str | None:
        """Return the next message; "" if the user aborted it, None at the end of input."""
        try:
            with ctrl_c.interrupt_once():
                lines = [input("> ")]
                while _has_more():
                    lines.append(input())
            return "\n".join(lines)
        except KeyboardInterrupt:
            click.echo()
            return ""
        except EOFError:
            click.echo()
            return None

    def read_answer(self, prompt: str) -> str:
        """Read one line in answer to a question. Raises EOFError and KeyboardInterrupt."""
        drop_typeahead()
        click.echo(prompt, nl=False, err=True)  # stdout is for answers
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


def _has_more() -> bool:
    """True if another line is already waiting."""
    try:
        return bool(select.select([sys.stdin], [], [], PASTE_SECONDS)[0])
    except (OSError, ValueError):  # `select` on Windows accepts only sockets: each line is a message
        return False


def drop_typeahead() -> None:
    """Drop input that was typed ahead, since it was not meant for the next question."""
    with suppress(ImportError):  # Windows
        console = importlib.import_module("msvcrt")
        while console.kbhit():
            console.getwch()
    with suppress(ImportError, OSError, ValueError):
        termios = importlib.import_module("termios")
        with suppress(termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


@contextmanager
def without_echo() -> Generator[None]:
    """Hide typed keys while an answer is drawn, which they would tear apart. They go into the next message."""
    try:
        termios = importlib.import_module("termios")
    except ImportError:  # Windows
        yield
        return
    try:
        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (OSError, ValueError, termios.error):  # no terminal
        yield
        return
    quiet = list(before)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(number, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)
