"""Removes secrets from the output of a command before it is sent or logged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from ...errors import AgentError
from ...events import (
    AgentEvent,
    Citation,
    Compacted,
    Notice,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolResult,
)

Redact: TypeAlias = Callable[[str], str]

LONGEST_LINE = 65536
"""Maximum number of characters of a line that are held back."""

DeltaType: TypeAlias = type[TextDelta] | type[ReasoningDelta] | type[RefusalDelta]


class Redaction:
    """Passes events on with `redact` applied to their text.

    A secret may be split into chunks, so text is held back until the end of its line, and `redact` sees whole lines.
    """

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._held: list[str] = []
        self._size = 0
        self._kind: DeltaType = TextDelta

    def apply(self, items: Iterable[AgentEvent | str]) -> Iterator[AgentEvent]:
        """The redacted events for `items`. An event that is not text flushes the text before it."""
        try:
            yield from self._redact_items(items)
        except AgentError as error:
            if error.__cause__ is not None:  # the cause is logged
                error.__cause__ = RuntimeError(self._redact(str(error.__cause__)))
            raise

    def _redact_items(self, items: Iterable[AgentEvent | str]) -> Iterator[AgentEvent]:
        for item in items:
            if isinstance(item, str):
                yield from self._redact_text(TextDelta, item)
            elif isinstance(item, TextDelta | ReasoningDelta | RefusalDelta):
                yield from self._redact_text(type(item), item.text)
            else:
                yield from self._flush()
                yield from self._redact_event(item)

    def _redact_text(self, kind: DeltaType, text: str) -> Iterator[AgentEvent]:
        if kind is not self._kind:
            yield from self._flush()
            self._kind = kind
        self._held.append(text)
        self._size += len(text)
        if "\n" not in text and self._size <= LONGEST_LINE:
            return
        held = self._take_held()
        whole, end, rest = held.rpartition("\n")
        # Cut overlong lines, or a line without an end would be held back for ever. A secret across the cut is missed.
        if len(rest) > LONGEST_LINE:
            whole, end, rest = held, "", ""
        self._held, self._size = [rest], len(rest)
        yield self._kind(self._redact(whole) + end)

    def _take_held(self) -> str:
        held, self._held, self._size = "".join(self._held), [], 0
        return held

    def _flush(self) -> Iterator[AgentEvent]:
        held = self._take_held()
        if held:
            yield self._kind(self._redact(held))

    def _redact_event(self, event: AgentEvent) -> Iterator[AgentEvent]:
        redact = self._redact
        match event:
            case ToolCallDelta():
                return  # the whole arguments follow; a secret split into chunks would be missed
            case ToolCallReady():
                yield replace(event, arguments=redact(event.arguments))
            case ToolResult():
                yield replace(event, output=redact(event.output))
            case Progress():
                yield replace(event, status=redact(event.status), data={})  # data of unknown shape cannot be redacted
            case Notice():
                yield replace(event, message=redact(event.message))
            case Compacted():
                yield replace(event, summary=redact(event.summary))
            case Citation():
                yield replace(event, url=redact(event.url), title=redact(event.title))
            case _:
                yield event
