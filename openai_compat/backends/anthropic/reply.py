"""Translates a streamed message of the API to events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from pydantic_core import to_json

from ...errors import AgentError
from ...events import (
    AgentEvent,
    Citation,
    Finished,
    FinishReason,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..content_blocks import Block

if TYPE_CHECKING:
    from anthropic.types import RawMessageStreamEvent

REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

DECLINED = "The model declined to answer."


class AnthropicReply:
    """Reads one streamed message. `custom_tools` are the names of client tools that accept free text.

    Attributes:
        content: the blocks of the message, in the form that the API expects back.
        stop_reason: why the message ended; None until then.
    """

    def __init__(self, custom_tools: frozenset[str], text_length: int = 0) -> None:
        self._custom_tools = custom_tools
        self._text_length = text_length
        self._block_start = text_length
        self._usage: dict[str, Any] = {}
        self._pending: list[PendingCall] = []
        self._refusal_text = DECLINED
        self.content: list[Block] = []
        self.stop_reason: str | None = None

    @property
    def text_length(self) -> int:
        """Number of text characters so far, in this message and the earlier messages of the turn."""
        return self._text_length

    def read(self, event: RawMessageStreamEvent) -> Iterator[AgentEvent | str]:
        """The events for one event of the stream."""
        match event.type:
            case "message_start":
                self._add_usage(event.message.usage)
            case "content_block_start":
                yield from self._start_block(_to_dict(event.content_block))
            case "content_block_delta":
                yield from self._apply_delta(_to_dict(event.delta))
            case "content_block_stop":
                yield from self._end_block(self.content[-1])
            case "message_delta":
                self._add_usage(event.usage)
                self.stop_reason = event.delta.stop_reason
                details = event.delta.stop_details
                self._refusal_text = (details and details.explanation) or DECLINED
            case "message_stop":
                yield self._total_usage()
            case _:  # unknown event types
                pass

    def end(self) -> Iterator[AgentEvent]:
        """The end of the turn. Raises AgentError if the stream broke off."""
        # Only `message_delta` has the reason: a stream without a reason was cut off, however cleanly it ended.
        if self.stop_reason is None:
            raise AgentError("The model behind the agent broke off.", status=502, code="upstream_incomplete")
        if self.stop_reason == "refusal":
            yield RefusalDelta(self._refusal_text)
        yield (
            Paused(tuple(self._pending))
            if self.stop_reason == "tool_use"
            else Finished(REASONS.get(self.stop_reason, "stop"))
        )

    # blocks

    def _start_block(self, block: Block) -> Iterator[AgentEvent | str]:
        self.content.append(block)
        self._block_start = self._text_length
        match block["type"]:
            case "text":
                yield from self._emit_text(block["text"])
            # The block begins empty in most streams: thinking comes in deltas.
            case "thinking" if block["thinking"]:
                yield ReasoningDelta(block["thinking"])
            case "redacted_thinking":
                yield ReasoningDelta("", block["data"], redacted=True)
            case "tool_use" | "server_tool_use" as kind:
                block["json"] = ""
                yield ToolCallStarted(block["id"], block["name"], "client" if kind == "tool_use" else "agent")
            case _ if "tool_use_id" in block:
                content = block.get("content")  # of a tool that Anthropic runs
                failed = isinstance(content, dict) and str(cast("Block", content).get("type")).endswith("_error")
                yield ToolResult(block["tool_use_id"], to_json(content).decode(), is_error=failed)
            case _:
                pass

    def _apply_delta(self, delta: Block) -> Iterator[AgentEvent | str]:
        block = self.content[-1]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
                yield from self._emit_text(delta["text"])
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
                yield ReasoningDelta(delta["thinking"])
            case "signature_delta":
                block["signature"] = delta["signature"]
                yield ReasoningDelta("", delta["signature"])
            case "input_json_delta":
                block["json"] += delta["partial_json"]
                # Free text arrives as JSON (`{"input": …}`), so it is sent whole at the end.
                if block["name"] not in self._custom_tools:
                    yield ToolCallDelta(block["id"], delta["partial_json"])
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case _:
                pass

    def _emit_text(self, text: str) -> Iterator[str]:
        self._text_length += len(text)
        yield text

    def _end_block(self, block: Block) -> Iterator[AgentEvent]:
        if block["type"] in ("tool_use", "server_tool_use"):
            yield self._finish_call(block)
        for citation in block.get("citations") or ():
            if citation.get("url"):
                yield Citation(citation["url"], citation.get("title") or "", self._block_start, self._text_length)

    def _finish_call(self, block: Block) -> ToolCallReady:
        arguments = block.pop("json") or to_json(block["input"]).decode()
        block["input"] = _parse_object(arguments)
        if block["name"] in self._custom_tools:
            arguments = str(block["input"].get("input", ""))
        client = block["type"] == "tool_use"
        if client:
            self._pending.append(PendingCall(block["id"], block["name"], arguments))
        return ToolCallReady(block["id"], block["name"], arguments, "client" if client else "agent")

    # usage

    def _add_usage(self, usage: BaseModel | None) -> None:
        if usage is not None:  # some compatible servers leave it out
            self._usage |= {name: value for name, value in _to_dict(usage).items() if value is not None}

    def _total_usage(self) -> UsageReported:
        usage = self._usage
        # Anthropic's input_tokens exclude the tokens read from or written to a cache.
        cached = usage.get("cache_read_input_tokens", 0)
        written = usage.get("cache_creation_input_tokens")
        fresh = usage.get("input_tokens", 0) + (written or 0)
        thinking = usage.get("output_tokens_details", {}).get("thinking_tokens")
        return UsageReported(fresh + cached, usage.get("output_tokens", 0), cached, thinking, written)


def _to_dict(model: BaseModel) -> dict[str, Any]:
    """The model as received, without warnings about values that the SDK does not know."""
    return model.model_dump(mode="json", exclude_unset=True, warnings=False)


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:  # cut off by max_tokens
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
