"""How an answer is shown: what all ways have in common, and the plain one, for pipes and bare terminals."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias, cast

import click

from ..terminal import visible
from .answer_events import (
    Answered,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    Doing,
    Remark,
    ThoughtEnded,
    ThoughtPiece,
    ToolBegan,
    ToolEnded,
)

Reasoning: TypeAlias = Literal["full", "short", "off"]


class Display(Protocol):
    """Shows one turn after the other. Text of agents and servers is made safe by it, not before.

    Attributes:
        all_results: whether the whole result of a tool is shown, not its beginning.
    """

    all_results: bool

    def turn(self, model: str) -> Any:
        """A context in which events are shown."""
        ...

    def show(self, event: AnswerEvent) -> None:
        """Show an event of the turn as it comes."""
        ...

    def tell(self, text: str, *, error: bool = False) -> None:
        """Say something of the program's own, in lines of their own."""
        ...

    def ask(self, text: str) -> None:
        """Show what has to be decided: a title, and lines below it."""
        ...


class Clock:
    """Times of a turn, in seconds since it began."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first: float | None = None
        self.tools: dict[int, float] = {}

    def passed(self) -> float:
        """Seconds since the turn began."""
        return time.monotonic() - self.began

    def note(self, event: AnswerEvent) -> None:
        """Remember when the first text came, and when each tool began."""
        if isinstance(event, AnswerPiece) and self.first is None:
            self.first = self.passed()
        elif isinstance(event, ToolBegan):
            self.tools[event.key] = self.passed()

    def of_tool(self, key: int) -> str:
        """How long a tool took, where that is known."""
        began = self.tools.pop(key, None)
        return "" if began is None else f"{self.passed() - began:.1f} s"


def summary_line(model: str, clock: Clock, answered: Answered) -> str:
    """`model · first text 0.4 s · 4.1 s · 431 in, 212 out`."""
    words = [model] if model else []
    words += [f"first text {clock.first:.1f} s"] if clock.first is not None else []
    words += [f"{clock.passed():.1f} s"]
    if answered.tokens_in or answered.tokens_out:
        words += [f"{answered.tokens_in or 0} in, {answered.tokens_out or 0} out"]
    return " · ".join(words + ([f"cut: {answered.cut}"] if answered.cut else []))


def arguments_of(text: str) -> dict[str, str]:
    """Arguments by name, each as text; those that are no JSON object have one name."""
    try:
        given: Any = json.loads(text) if text else {}
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return {"arguments": text}
    return {
        name: value if isinstance(value, str) else _json(value) for name, value in cast("dict[str, Any]", given).items()
    }


def call_line(name: str, arguments: str) -> str:
    """A call on one line, as in Python: `name(city="Oslo", days=2)`."""
    try:
        given: Any = json.loads(arguments) if arguments else {}
    except ValueError:
        return f"{name}({arguments})"
    if not isinstance(given, dict):
        return f"{name}({arguments})"
    return f"{name}({', '.join([f'{key}={_json(value)}' for key, value in cast('dict[str, Any]', given).items()])})"


def one_line(text: str) -> str:
    """The text with its lines behind each other."""
    return visible(" ".join(text.split()))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class PlainDisplay:
    """The text of the answer to stdout, as it comes and is written; all else, if it `tells`, to stderr.

    What is to be decided and what goes wrong is told in any case. With `all_results` the whole result of a tool is told.
    """

    def __init__(self, *, tells: bool, reasoning: Reasoning = "short") -> None:
        self.all_results = False
        self._tells = tells
        self._reasoning = reasoning
        self._within_line = False
        self._doing = ""
        self._clock = Clock()
        self._model = ""
        self._thought = ""

    @contextmanager
    def turn(self, model: str) -> Generator[None]:
        """A context in which events are shown."""
        self._clock, self._model, self._doing, self._thought = Clock(), model, "", ""
        try:
            yield
        finally:
            self._end_line()

    def show(self, event: AnswerEvent) -> None:
        """Write text of the answer to stdout at once, and tell of the rest on stderr."""
        self._clock.note(event)
        match event:
            case AnswerPiece(text):
                self._within_line = not text.endswith("\n")
                click.echo(visible(text), nl=False)
            case AnswerEnded(sources):
                self._end_line()
                for number, (title, url) in enumerate(sources, 1):
                    named = f"{one_line(title)}  " if title != url else ""
                    self.tell(f"  {number}. {named}{one_line(url)}")
            case ThoughtPiece(text):
                self._thought += text if self._reasoning == "full" else ""
                self._now("Thinking …" if self._reasoning != "off" else "")
            case ThoughtEnded():
                if self._thought.strip():
                    self._note(visible(self._thought.strip()))
                self._thought = ""
            case _:
                self._show_work(event)

    def _show_work(self, event: AnswerEvent) -> None:
        match event:
            case Doing(text):
                self._now(text)
            case ToolBegan(_, name):
                self._now(f"Running {name} …")
            case ToolEnded(key, name, arguments, output, failed):
                self._note(f"{one_line(call_line(name, arguments))}  {self._clock.of_tool(key)}".rstrip())
                said = visible(output) if self.all_results else one_line(output)[:200]
                self._note(f"  {'failed: ' if failed else ''}{said}")
            case Remark(text):
                self.tell(text)
            case Answered():
                self._end_line()
                self._note(summary_line(self._model, self._clock, event))
            case _:
                pass  # the session asks, and keeps

    def tell(self, text: str, *, error: bool = False) -> None:
        """Say something of the program's own, in lines of their own, on stderr."""
        self._end_line()
        click.echo(text, err=True)

    def ask(self, text: str) -> None:
        """Show what has to be decided, on stderr."""
        self.tell(text)

    def _now(self, text: str) -> None:
        if text and text != self._doing:
            self._note(one_line(text))
        self._doing = text

    def _note(self, text: str) -> None:
        if self._tells:
            self.tell(f"· {text}")

    def _end_line(self) -> None:
        if self._within_line:
            click.echo()
        self._within_line = False
