"""Serializes events for the older completions API: text only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from ...events import (
    Citation,
    Compacted,
    Finished,
    FinishReason,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..json import DONE, dumps, sse
from ..reducer import FinalMessage, Item, Usage
from ..usage import usage_object
from .response_types import TextChoice, TextCompletion

CompletionReason: TypeAlias = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class CompletionForm:
    """The fields shared by all parts of one completion. `echo` holds the initial text of each choice."""

    id: str
    created: int
    model: str
    include_usage: bool
    echo: tuple[str, ...]

    def part(self, choices: list[TextChoice]) -> TextCompletion:
        """Return the whole response, or one event of its stream."""
        # Without chat's `system_fingerprint`: no client was found that requires it in the older API.
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def stream(self, index: int) -> CompletionStream:
        """Return the serializer of one streamed choice."""
        return CompletionStream(self, index)

    def stream_end(self, usage: Usage) -> bytes:
        """Return the bytes after the last choice."""
        if not self.include_usage:
            return DONE
        return sse({**self.part([]), "usage": usage_object(usage)}) + DONE

    def whole_response(self, messages: Sequence[FinalMessage]) -> bytes:
        """Return a whole response with one choice per message."""
        usage = Usage()
        for message in messages:
            usage.add(message.usage)
        choices: list[TextChoice] = []
        for echo, message in zip(self.echo, messages, strict=False):
            reason = _completion_reason(message.finish_reason)
            text = echo + message.text
            choices.append({"index": len(choices), "text": text, "logprobs": None, "finish_reason": reason})
        return dumps({**self.part(choices), "usage": usage_object(usage)})


class CompletionStream:
    """One choice of a streamed completion."""

    def __init__(self, form: CompletionForm, index: int) -> None:
        self._form = form
        self._index = index
        self._echo = form.echo[index]

    def begin(self) -> bytes:
        """Return the prompt if it is to be echoed."""
        echo, self._echo = self._echo, ""
        return self._text_chunk(echo) if echo else b""

    def feed(self, items: list[Item]) -> bytes:
        """Return the events for these items."""
        return self.begin() + b"".join([self._write_item(item) for item in items])

    def _write_item(self, item: Item) -> bytes:
        match item:
            case str():
                return self._text_chunk(item)
            case TextDelta():
                return self._text_chunk(item.text)
            case Finished():
                return self._chunk("", _completion_reason(item.reason))
            case Paused():
                return self._chunk("", "stop")
            case (
                MessageBreak()
                | ReasoningDelta()
                | RefusalDelta()
                | Citation()
                | MediaDelta()
                | ToolCallStarted()
                | ToolCallDelta()
                | ToolCallReady()
                | ToolResult()
                | Progress()
                | Notice()
                | Compacted()
                | UsageReported()
            ):
                return b""
            case _:
                assert_never(item)

    def _text_chunk(self, text: str) -> bytes:
        return self._chunk(text, None)

    def _chunk(self, text: str, reason: CompletionReason | None) -> bytes:
        part = self._form.part([{"index": self._index, "text": text, "logprobs": None, "finish_reason": reason}])
        if self._form.include_usage:
            part["usage"] = None
        return sse(part)


def _completion_reason(reason: FinishReason) -> CompletionReason:
    return "stop" if reason == "tool_calls" else reason
