"""Translates a command's standard output to events: plain text, or one JSON object per line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, cast

from ...agents.describe import describe
from ...errors import AgentError
from ...events import AgentEvent, Finished
from .claude import ClaudeRecords
from .codex import CodexRecords
from .lines import LineSplitter, LineTooLong

Items: TypeAlias = Iterator[AgentEvent | str]


class Output(Protocol):
    """Translates the output of one run to events."""

    @property
    def complete(self) -> bool:
        """True once the output has said that the turn is over, even if the command still runs."""
        ...

    def feed(self, data: bytes) -> Items:
        """The events for a chunk of output. Raises AgentError if the output reports a failure."""
        ...

    def end(self) -> Items:
        """The final events of a command that ended well. Raises AgentError if the command ended too early."""
        ...


class RecordReader(Protocol):
    """Translates JSON objects to events: implement this protocol for a program with another format."""

    @property
    def complete(self) -> bool:
        """True once a record has said that the turn is over."""
        ...

    def read(self, record: dict[str, Any]) -> Items:
        """The events for one object; none for an unknown kind. Raises AgentError for a failure."""
        ...

    def end(self) -> Items:
        """The final events, `Finished` last. Raises AgentError if the command ended too early."""
        ...


OutputFormat: TypeAlias = Literal["text", "claude", "codex"] | Callable[[], RecordReader]


def make_output(output: OutputFormat, line_limit: int, on_stray_line: Callable[[str], None]) -> Output:
    """Make the reader of one run. `on_stray_line` is called with each line that is no JSON object. Raises ValueError."""
    match output:
        case "text":
            return TextOutput()
        case "claude":
            return JsonLines(ClaudeRecords(), line_limit, on_stray_line)
        case "codex":
            return JsonLines(CodexRecords(), line_limit, on_stray_line)
        case _ if callable(output):
            return JsonLines(output(), line_limit, on_stray_line)
        case _:
            raise ValueError(f"output is 'text', 'claude', 'codex' or makes a RecordReader, not {describe(output)}")


class TextOutput:
    """Plain text, passed on as it arrives, without the line ends at the very end."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ends = ""
        self.complete = False

    def feed(self, data: bytes) -> Items:
        """The text in `data`; invalid UTF-8 is replaced."""
        text = self._ends + self._decoder.decode(data)
        stripped = text.rstrip("\r\n")
        # Hold line ends back until more text comes: those at the very end are a shell habit, not part of the answer.
        self._ends = text[len(stripped) :]
        if stripped:
            yield stripped

    def end(self) -> Items:
        """The rest of an incomplete character, and the final event."""
        rest = self._decoder.decode(b"", final=True)
        if rest:
            yield self._ends + rest
        yield Finished()


class JsonLines:
    """One JSON object per line. A line over the limit fails the turn; a line that is no object only goes to `on_stray_line`."""

    def __init__(self, reader: RecordReader, limit: int, on_stray_line: Callable[[str], None]) -> None:
        self._reader = reader
        self._lines = LineSplitter(limit)
        self._on_stray_line = on_stray_line

    @property
    def complete(self) -> bool:
        """True once the reader has seen the end."""
        return self._reader.complete

    def feed(self, data: bytes) -> Items:
        """The events for the lines that `data` completes."""
        try:
            lines = self._lines.feed(data)
        except LineTooLong as error:
            text = "The agent's command wrote a line that is too long."
            raise AgentError(text, status=502, code="agent_output_invalid") from error
        for line in lines:
            yield from self._read_line(line)

    def end(self) -> Items:
        """The events for a last line without an end, and the reader's final events."""
        for line in self._lines.end():
            yield from self._read_line(line)
        yield from self._reader.end()

    def _read_line(self, line: bytes) -> Items:
        text = line.decode("utf-8", "replace").strip()
        try:
            record = json.loads(text) if text.startswith("{") else None
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield from self._reader.read(cast("dict[str, Any]", record))
        elif text:
            self._on_stray_line(text)
