"""Renders an agent's Markdown in the terminal. Nothing in it is executed, dropped or fetched."""

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
"""Characters above which a block, or a code block, is shown unformatted: pairing the marks of a long text is slow."""

# If parsed, HTML, pictures and the URLs of reference links would be dropped.
PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["image", "reference"])


SETTINGS = vars(Markdown("", hyperlinks=False))


class LeftHeading(Heading):
    """A left-aligned heading, like all other text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the text, without a frame."""
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
        """Yield the table, without its outer border."""
        for part in super().__rich_console__(console, options):
            table: Any = part
            table.show_edge = False
            yield Padding(table, (0, 0, 0, 1))


class AgentMarkdown(Markdown):
    """A block of Markdown, without blank lines around it or trailing spaces."""

    elements: ClassVar[dict[str, Any]] = {
        **Markdown.elements,
        "heading_open": LeftHeading,
        "fence": BareCode,
        "code_block": BareCode,
        "table_open": BareTable,
    }

    def __init__(self, text: str) -> None:
        vars(self).update(SETTINGS)  # rich's own constructor makes a parser, which takes longer than parsing a block
        self.markup = text
        self.parsed = PARSER.parse(text)
        _make_visible(self.parsed)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [
            _strip_line(line) for line in console.render_lines(Rendered(super().__rich_console__), options, pad=False)
        ]
        shown = [number for number, line in enumerate(lines) if line]
        for line in lines[shown[0] : shown[-1] + 1] if shown else []:
            yield from line
            yield Segment.line()


class Rendered:
    """Wraps a render method as a renderable."""

    def __init__(self, render: Callable[[Console, ConsoleOptions], RenderResult]) -> None:
        self._render = render

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._render(console, options)


def _strip_line(line: list[Segment]) -> list[Segment]:
    """The line without trailing spaces."""
    line = list(line)
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        last = line[-1]
        line[-1] = Segment(last.text.rstrip(), last.style, last.control)
    return line


def render_block(text: str) -> Markdown | Text:
    """Render a block for printing."""
    most = PLAIN_CODE_ABOVE if FENCE.match(text) else PLAIN_ABOVE
    return AgentMarkdown(visible(text)) if len(text) <= most else Text(visible(text.rstrip("\n")))


def _make_visible(tokens: Iterable[Token]) -> None:
    """Make control characters visible in parsed tokens, since `&#x202e;` and `%1b` in a URL become characters only then."""
    for token in tokens:
        token.content = visible(token.content)
        token.attrs = {name: visible(value) if isinstance(value, str) else value for name, value in token.attrs.items()}
        _make_visible(token.children or ())
