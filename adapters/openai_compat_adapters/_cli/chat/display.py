"""Displays of an answer: their common interface, and plain text for pipes and simple terminals."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias, cast

import click

from ..terminal import visible
from .answer_events import (
    Activity,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    ProgramNotice,
    ThoughtEnded,
    ThoughtPiece,
    ToolEnded,
    ToolStarted,
    TurnEnded,
)

Reasoning: TypeAlias = Literal["full", "short", "off"]


class Display(Protocol):
    """Shows one turn after the other, and makes control characters in text of agents and servers visible.

    Attributes:
        all_results: True shows whole tool results instead of their beginnings.
    """

    all_results: bool

    def turn(self, model: str) -> Any:
        """A context in which the events of one turn are shown."""
        ...

    def show(self, event: AnswerEvent) -> None:
        """Show an event of the turn."""
        ...

    def notify(self, text: str, *, error: bool = False) -> None:
        """Show a notice of the program, on its own lines."""
        ...

    def ask(self, text: str) -> None:
        """Show a question: a title, and lines below it."""
        ...


class Clock:
    """Times of a turn, in seconds since it began."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first: float | None = None
        self.tools: dict[int, float] = {}

    def elapsed(self) -> float:
        """Seconds since the turn began."""
        return time.monotonic() - self.began

    def note(self, event: AnswerEvent) -> None:
        """Record when the first text arrived and when each tool began."""
        if isinstance(event, AnswerPiece) and self.first is None:
            self.first = self.elapsed()
        elif isinstance(event, ToolStarted):
            self.tools[event.key] = self.elapsed()

    def tool_duration(self, key: int) -> str:
        """Return how long a tool took, or "" if that is unknown."""
        began = self.tools.pop(key, None)
        return "" if began is None else f"{self.elapsed() - began:.1f} s"


def summary_line(model: str, clock: Clock, answered: TurnEnded) -> str:
    """`model · first text 0.4 s · 4.1 s · 431 in, 212 out`."""
    words = [model] if model else []
    words += [f"first text {clock.first:.1f} s"] if clock.first is not None else []
    words += [f"{clock.elapsed():.1f} s"]
    if answered.tokens_in or answered.tokens_out:
        words += [f"{answered.tokens_in or 0} in, {answered.tokens_out or 0} out"]
    return " · ".join(words + ([f"cut: {answered.cut}"] if answered.cut else []))


def parse_arguments(text: str) -> dict[str, str]:
    """Return arguments as text, by name; all but a JSON object are named `arguments`."""
    try:
        given: Any = json.loads(text) if text else {}
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return {"arguments": text}
    return {
        name: value if isinstance(value, str) else _to_json(value)
        for name, value in cast("dict[str, Any]", given).items()
    }


def call_line(name: str, arguments: str) -> str:
    """A call on one line, as in Python: `name(city="Oslo", days=2)`."""
    try:
        given: Any = json.loads(arguments) if arguments else {}
    except ValueError:
        return f"{name}({arguments})"
    if not isinstance(given, dict):
        return f"{name}({arguments})"
    return f"{name}({', '.join([f'{key}={_to_json(value)}' for key, value in cast('dict[str, Any]', given).items()])})"


def one_line(text: str) -> str:
    """Join the lines of a text, with control characters made visible."""
    return visible(" ".join(text.split()))


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class PlainDisplay:
    """Writes the answer to stdout as it arrives, unformatted, and everything else to stderr, if `verbose`.

    Questions and errors go to stderr in any case. With `all_results`, tool results are written in full.
    """

    def __init__(self, *, verbose: bool, reasoning: Reasoning = "short") -> None:
        self.all_results = False
        self._verbose = verbose
        self._reasoning = reasoning
        self._within_line = False
        self._doing = ""
        self._clock = Clock()
        self._model = ""
        self._thought = ""

    @contextmanager
    def turn(self, model: str) -> Generator[None]:
        """A context in which the events of one turn are shown."""
        self._clock, self._model, self._doing, self._thought = Clock(), model, "", ""
        try:
            yield
        finally:
            self._end_line()

    def show(self, event: AnswerEvent) -> None:
        """Write the answer's text to stdout at once, and the rest to stderr."""
        self._clock.note(event)
        match event:
            case AnswerPiece(text):
                self._within_line = not text.endswith("\n")
                click.echo(visible(text), nl=False)
            case AnswerEnded(sources):
                self._end_line()
                for number, (title, url) in enumerate(sources, 1):
                    named = f"{one_line(title)}  " if title != url else ""
                    self.notify(f"  {number}. {named}{one_line(url)}")
            case ThoughtPiece(text):
                self._thought += text if self._reasoning == "full" else ""
                self._show_activity("Thinking …" if self._reasoning != "off" else "")
            case ThoughtEnded():
                if self._thought.strip():
                    self._notify_detail(visible(self._thought.strip()))
                self._thought = ""
            case _:
                self._show_work(event)

    def _show_work(self, event: AnswerEvent) -> None:
        match event:
            case Activity(text):
                self._show_activity(text)
            case ToolStarted(_, name):
                self._show_activity(f"Running {name} …")
            case ToolEnded(key, name, arguments, output, failed):
                self._notify_detail(
                    f"{one_line(call_line(name, arguments))}  {self._clock.tool_duration(key)}".rstrip()
                )
                said = visible(output) if self.all_results else one_line(output)[:200]
                self._notify_detail(f"  {'failed: ' if failed else ''}{said}")
            case ProgramNotice(text):
                self.notify(text)
            case TurnEnded():
                self._end_line()
                self._notify_detail(summary_line(self._model, self._clock, event))
            case _:
                pass  # the session handles questions and media

    def notify(self, text: str, *, error: bool = False) -> None:
        """Write a notice of the program to stderr, on its own lines."""
        self._end_line()
        click.echo(text, err=True)

    def ask(self, text: str) -> None:
        """Show a question on stderr."""
        self.notify(text)

    def _show_activity(self, text: str) -> None:
        if text and text != self._doing:
            self._notify_detail(one_line(text))
        self._doing = text

    def _notify_detail(self, text: str) -> None:
        if self._verbose:
            self.notify(f"· {text}")

    def _end_line(self) -> None:
        if self._within_line:
            click.echo()
        self._within_line = False
