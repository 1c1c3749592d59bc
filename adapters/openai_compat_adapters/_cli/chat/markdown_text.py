"""Markdown of an agent in the terminal: nothing of it is obeyed, dropped or fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.padding import Padding
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

from ..terminal import visible
from .markdown_blocks import FENCE

PLAIN_ABOVE, PLAIN_CODE_ABOVE = 8_000, 20_000
"""Characters of a block, or of a block of code, that is shown as it is: marks in a long text take long to pair."""

# HTML would be dropped, and so would pictures and the addresses of links by reference.
PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["image", "reference"])


SETTINGS = vars(Markdown("", hyperlinks=False))


class LeftHeading(Heading):
    """A heading at the left, as all else is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The text, without a frame."""
        yield self.text


class BareCode(CodeBlock):
    """Code on the terminal's own background, without blank lines around it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(
            code, self.lexer_name, theme="ansi_dark", word_wrap=True, padding=(0, 2), background_color="default"
        )


class BareTable(TableElement):
    """A table without blank lines around it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, without the lines of its edge."""
        for part in super().__rich_console__(console, options):
            table: Any = part
            table.show_edge = False
            yield Padding(table, (0, 0, 0, 1))


class AgentMarkdown(Markdown):
    """A block of Markdown, without blank lines around it and spaces at the ends of its lines."""

    elements: ClassVar[dict[str, Any]] = {
        **Markdown.elements,
        "heading_open": LeftHeading,
        "fence": BareCode,
        "code_block": BareCode,
        "table_open": BareTable,
    }

    def __init__(self, text: str) -> None:
        vars(self).update(SETTINGS)  # rich's own constructor makes a parser, which takes longer than to parse a block
        self.markup = text
        self.parsed = PARSER.parse(text)
        _make_visible(self.parsed)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [
            _stripped(line) for line in console.render_lines(Rendered(super().__rich_console__), options, pad=False)
        ]
        shown = [number for number, line in enumerate(lines) if line]
        for line in lines[shown[0] : shown[-1] + 1] if shown else []:
            yield from line
            yield Segment.line()


class Rendered:
    """What a method renders, as something to be rendered."""

    def __init__(self, render: Callable[[Console, ConsoleOptions], RenderResult]) -> None:
        self._render = render

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._render(console, options)


def _stripped(line: list[Segment]) -> list[Segment]:
    """A line without spaces at its end."""
    line = list(line)
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        last = line[-1]
        line[-1] = Segment(last.text.rstrip(), last.style, last.control)
    return line


def shown_block(text: str) -> Markdown | Text:
    """A block as it is printed."""
    most = PLAIN_CODE_ABOVE if FENCE.match(text) else PLAIN_ABOVE
    return AgentMarkdown(visible(text)) if len(text) <= most else Text(visible(text.rstrip("\n")))


def _make_visible(tokens: Iterable[Token]) -> None:
    """`&#x202e;` and the `%1b` of an address become characters only when they are parsed."""
    for token in tokens:
        token.content = visible(token.content)
        token.attrs = {name: visible(value) if isinstance(value, str) else value for name, value in token.attrs.items()}
        _make_visible(token.children or ())
