"""Answers in a terminal: finished blocks are printed once and never redrawn; a few rows below them show the activity."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

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
from .display import Clock, Reasoning, call_line, one_line, summary_line
from .markdown_blocks import HEADING, ITEM, BlockSplitter
from .markdown_text import render_block

TAIL_ROWS = 6

MIN_REDRAW, MAX_REDRAW = 0.02, 0.15
"""Seconds between two redraws of the live rows: at least, after a change; at most, for their clock."""

MAX_COLLECTED = 100
"""Maximum number of finished blocks to print at once. Each print redraws the live rows, so blocks are collected."""

ADJACENT_KINDS = frozenset({"item", "source", "thought", "told", "tool"})
"""Kinds of output that follow their own kind without a blank line."""

SPINNER = "-\\|/"


class LiveRows:
    """The live rows below the printed blocks: the end of the unfinished block, and the agent's activity.

    Only a few rows can be redrawn: rows that have left the screen cannot be erased and would appear twice.
    """

    def __init__(self) -> None:
        self.tail = ""
        self.style = ""
        self._doing = ""
        self._since = time.monotonic()

        self.changed = threading.Event()

    def set_activity(self, doing: str) -> None:
        """Set the agent's current activity."""
        self.changed.set()
        if doing != self._doing:
            self._doing, self._since = doing, time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield as many rows as fit."""
        self.changed.clear()
        rows = max(1, min(TAIL_ROWS, options.size.height - 2))
        if self.tail and rows > 1:
            yield from Text(self.tail, style=self.style, overflow="fold").wrap(console, options.max_width)[1 - rows :]
        passed = time.monotonic() - self._since
        turning = SPINNER[int(passed * 8) % len(SPINNER)]
        seconds = f"  {int(passed)} s" if passed >= 1 else ""
        yield Text(f"{turning} {self._doing}{seconds}", style="dim", no_wrap=True, overflow="ellipsis")


class RichDisplay:
    """Shows turns on a console. `live` allows redrawing: True for a terminal, False for a file with colors."""

    def __init__(self, console: Console, *, live: bool, reasoning: Reasoning = "full") -> None:
        self.all_results = False
        self._console = console
        self._is_live = live
        self._reasoning = reasoning
        self._lock = threading.RLock()
        self._begin("")

    def _begin(self, model: str) -> None:
        self._model, self._clock, self._rows = model, Clock(), LiveRows()
        self._answer, self._thought = BlockSplitter(), ""
        self._thinking_since: float | None = None
        self._finished: list[RenderableType] = []  # not printed yet
        self._last = ""  # kind of the last block of this turn

    @contextmanager
    def turn(self, model: str) -> Generator[None]:
        """A context in which the events of one turn are shown."""
        self._begin(model)
        self._rows.set_activity("Waiting")
        if not self._is_live:
            yield
            self._finish()
            return
        over = threading.Event()
        with Live(
            self._rows, console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        ) as live:
            drawing = threading.Thread(target=self._draw, args=(live, over), daemon=True)
            drawing.start()
            try:
                yield
            finally:
                over.set()
                self._rows.changed.set()
                drawing.join()
                self._finish()

    def _draw(self, live: Live, over: threading.Event) -> None:
        """Redraw the live rows after each change, and regularly for their clock.

        Live's own thread is not used: it may draw in the middle of another thread's output, and then leaves stale rows behind.
        """
        while not over.wait(MIN_REDRAW):
            self._rows.changed.wait(MAX_REDRAW)
            with self._lock:
                self._print_finished()
                live.refresh()

    def _finish(self) -> None:
        """Print the rest at the end of the turn."""
        with self._lock:
            self._end_thought()
            self._add_blocks(self._answer.end())
            self._print_finished()
            self._rows.tail = ""

    def show(self, event: AnswerEvent) -> None:
        """Draw an event. Complete paragraphs stay; the last one is redrawn with each piece."""
        self._clock.note(event)
        with self._lock:
            self._show_text(event)

    def _show_text(self, event: AnswerEvent) -> None:
        match event:
            case AnswerPiece(text):
                self._add_blocks(self._answer.add(text))
                self._set_tail(self._answer.tail(self._tail_characters()), "")
                self._rows.set_activity("Answering")
            case AnswerEnded(sources):
                self._add_blocks(self._answer.end())
                self._set_tail("", "")
                for number, (title, url) in enumerate(sources, 1):
                    named = f"{one_line(title)}  " if title != url else ""
                    self._print(Text(f"  {number}. {named}{one_line(url)}", style="dim"), "source")
            case ThoughtPiece(text):
                self._add_thought(text)
            case ThoughtEnded():
                self._end_thought()
                self._rows.set_activity("Waiting")
            case _:
                self._show_work(event)

    def _show_work(self, event: AnswerEvent) -> None:
        match event:
            case Activity(text):
                self._rows.set_activity(one_line(text) or "Waiting")
            case ToolStarted(_, name):
                self._add_blocks(self._answer.end())
                self._rows.set_activity(f"Running {one_line(name)}")
            case ToolEnded():
                self._print_tool(event)
                self._rows.set_activity("Waiting")
            case ProgramNotice(text):
                self.notify(text)
            case TurnEnded():
                self._finish()
                self._print(Text(summary_line(self._model, self._clock, event), style="dim"), "summary")
            case _:
                pass  # the session handles questions and media

    def notify(self, text: str, *, error: bool = False) -> None:
        """Show a notice of the program, on its own lines."""
        with self._lock:
            self._print(Text(text, style="red" if error else "dim"), "told")

    def ask(self, text: str) -> None:
        """Show a question: a title, and lines below it."""
        title, _, lines = text.partition("\n")
        self._print(Text.assemble((title, "bold yellow"), f"\n{lines}" if lines else ""), "question")

    def _tail_characters(self) -> int:
        return self._console.width * TAIL_ROWS

    def _set_tail(self, text: str, style: str) -> None:
        self._rows.tail, self._rows.style = visible(text.lstrip("\n")), style

    def _add_blocks(self, blocks: list[str]) -> None:
        if blocks:
            self._rows.tail = ""  # the blocks contain it
        for block in blocks:
            self._add(
                render_block(block), "item" if ITEM.match(block) else "heading" if HEADING.match(block) else "text"
            )
            if not self._is_live or len(self._finished) >= MAX_COLLECTED:
                self._print_finished()

    def _print(self, shown: RenderableType, kind: str) -> None:
        self._add(shown, kind)
        self._print_finished()

    def _add(self, shown: RenderableType, kind: str) -> None:
        if not (self._last in ("", "heading") or kind == "summary" or (kind == self._last and kind in ADJACENT_KINDS)):
            self._finished.append(Text())
        self._finished.append(shown)
        self._last = kind

    def _print_finished(self) -> None:
        if self._finished:
            finished, self._finished = self._finished, []
            self._console.print(Group(*finished))

    def _add_thought(self, text: str) -> None:
        if self._thinking_since is None:
            self._thinking_since = self._clock.elapsed()
        self._thought += text
        self._rows.set_activity("Thinking")
        if self._reasoning == "full":
            *lines, self._thought = self._thought.split("\n")
            self._print_thoughts(lines)
            self._set_tail(self._thought[-self._tail_characters() :], "dim italic")
        elif self._reasoning == "short":
            self._thought = self._thought[-self._console.width :].rpartition("\n")[2] or self._thought
            self._set_tail(self._thought, "dim italic")

    def _print_thoughts(self, lines: list[str]) -> None:
        for line in lines:
            if line.strip():
                self._print(Padding(Text(visible(line), style="dim italic"), (0, 0, 0, 2), expand=False), "thought")

    def _end_thought(self) -> None:
        if self._thinking_since is None:
            return
        took = self._clock.elapsed() - self._thinking_since
        if self._reasoning == "full":
            self._print_thoughts([self._thought])
        elif self._reasoning == "short":
            self._print(Text(f"Thought for {took:.0f} s", style="dim italic"), "thought")
        self._thought, self._thinking_since = "", None
        self._set_tail("", "")

    def _print_tool(self, tool: ToolEnded) -> None:
        style = "red" if tool.failed else "dim"
        took = f"  {self._clock.tool_duration(tool.key)}".rstrip()
        called = Text.assemble(
            (one_line(tool.name), "bold"), one_line(call_line(tool.name, tool.arguments))[len(one_line(tool.name)) :]
        )
        called.truncate(self._console.width - len(took) - 2, overflow="ellipsis")
        self._print(Text.assemble(("● ", "red" if tool.failed else "green"), called, (took, "dim")), "tool")
        if self.all_results:
            self._print(Padding(Text(visible(tool.output), style=style), (0, 0, 0, 4), expand=False), "tool")
        elif tool.output:
            line = Text(f"  └ {one_line(tool.output[:2000])}", style=style)
            line.truncate(self._console.width, overflow="ellipsis")
            self._print(line, "tool")
