"""A command's standard output as events: plain text, or one JSON object a line."""

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
    """Makes events of one run's output."""

    @property
    def complete(self) -> bool:
        """True once the output has said that the turn is over, even if the command still runs."""
        ...

    def feed(self, data: bytes) -> Items:
        """The events for a piece of output. Raises AgentError if it tells of a failure."""
        ...

    def end(self) -> Items:
        """The events due at the end of a command that ended well. Raises AgentError if it ended too early."""
        ...


class RecordReader(Protocol):
    """Makes events of JSON objects: implement it for a program with a format of its own."""

    @property
    def complete(self) -> bool:
        """True once a record has said that the turn is over."""
        ...

    def read(self, record: dict[str, Any]) -> Items:
        """The events for one object; none for kinds that are not known. Raises AgentError for a failure."""
        ...

    def end(self) -> Items:
        """The events due at the end, `Finished` last. Raises AgentError if the end comes too early."""
        ...


OutputFormat: TypeAlias = Literal["text", "claude", "codex"] | Callable[[], RecordReader]


def make_output(output: OutputFormat, line_limit: int, stray: Callable[[str], None]) -> Output:
    """The reader for one run. `stray` is told the lines that are no JSON objects. Raises ValueError."""
    match output:
        case "text":
            return TextOutput()
        case "claude":
            return JsonLines(ClaudeRecords(), line_limit, stray)
        case "codex":
            return JsonLines(CodexRecords(), line_limit, stray)
        case _ if callable(output):
            return JsonLines(output(), line_limit, stray)
        case _:
            raise ValueError(f"output is 'text', 'claude', 'codex' or makes a RecordReader, not {describe(output)}")


class TextOutput:
    """Plain text, passed on as it comes; only the line ends at its very end are left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ends = ""
        self.complete = False

    def feed(self, data: bytes) -> Items:
        """The text in `data`; what is not UTF-8 is replaced."""
        text = self._ends + self._decoder.decode(data)
        said = text.rstrip("\r\n")
        # Line ends are held back until more text comes: those at the very end are the shell's habit, not the answer's.
        self._ends = text[len(said) :]
        if said:
            yield said

    def end(self) -> Items:
        """A character that was cut in half, and the end."""
        rest = self._decoder.decode(b"", final=True)
        if rest:
            yield self._ends + rest
        yield Finished()


class JsonLines:
    """One JSON object a line. A line over the limit fails the turn; one that is no object is only reported."""

    def __init__(self, reader: RecordReader, limit: int, stray: Callable[[str], None]) -> None:
        self._reader = reader
        self._lines = LineSplitter(limit)
        self._stray = stray

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
            yield from self._line(line)

    def end(self) -> Items:
        """The events for a last line without an end, and what the reader has to say at the end."""
        for line in self._lines.end():
            yield from self._line(line)
        yield from self._reader.end()

    def _line(self, line: bytes) -> Items:
        text = line.decode("utf-8", "replace").strip()
        try:
            record = json.loads(text) if text.startswith("{") else None
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield from self._reader.read(cast("dict[str, Any]", record))
        elif text:
            self._stray(text)
