"""Reads Claude Code's `--output-format stream-json`, with or without `--include-partial-messages`.

Whole messages come as `assistant` records, one per block. With partial messages, their text has already come in
`stream_event` records (the raw events of the Anthropic API). The final `result` repeats the last text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import AgentError
from ...events import (
    AgentEvent,
    Finished,
    FinishReason,
    MessageBreak,
    ReasoningDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from .json_fields import count, json_text, mapping, objects, text

REASONS: dict[str, FinishReason] = {"max_tokens": "length", "refusal": "content_filter"}

SYNTHETIC = "<synthetic>"
"""The "model" of messages that Claude Code makes up, mostly to report errors, which `result` repeats."""


class ClaudeRecords:
    """Translates stream-json records to events. `complete` is True once the result has been read."""

    def __init__(self) -> None:
        self.complete = False
        self._message: object = None
        self._streamed: set[object] = set()
        self._has_text = False
        self._reason: FinishReason = "stop"

    def read(self, record: dict[str, Any]) -> Iterator[AgentEvent | str]:
        """The events for one record. Raises AgentError for a result that is an error."""
        # The text of sub-agents is not part of the answer; their tool calls are shown.
        speaks = record.get("parent_tool_use_id") is None
        match record.get("type"):
            case "stream_event":
                yield from self._translate_stream_event(mapping(record.get("event")), speaks=speaks)
            case "assistant":
                yield from self._translate_assistant(mapping(record.get("message")), speaks=speaks)
            case "user":
                yield from _tool_results(mapping(record.get("message")))
            case "result":
                yield from self._translate_result(record)
            case _:
                pass

    def end(self) -> Iterator[AgentEvent | str]:
        """The final event. Raises AgentError if there was no result."""
        if not self.complete:
            raise AgentError("The agent ended without a result.", status=502, code="agent_output_incomplete")
        yield Finished(self._reason)

    def _translate_stream_event(self, event: dict[str, Any], *, speaks: bool) -> Iterator[AgentEvent | str]:
        block, delta = mapping(event.get("content_block")), mapping(event.get("delta"))
        match event.get("type"), block.get("type") or delta.get("type"):
            case "message_start", _ if speaks:
                identity = mapping(event.get("message")).get("id")
                self._streamed.add(identity)
                yield from self._start_message(identity)
            case "content_block_start", "tool_use":
                yield ToolCallStarted(text(block.get("id")), text(block.get("name")), "agent")
            case "content_block_delta", "text_delta" if speaks:
                yield from self._emit_text(text(delta.get("text")))
            case "content_block_delta", "thinking_delta" if speaks:
                yield ReasoningDelta(text(delta.get("thinking")))
            case _:
                pass

    def _translate_assistant(self, message: dict[str, Any], *, speaks: bool) -> Iterator[AgentEvent | str]:
        identity = message.get("id")
        # Do not show the text twice: the whole message repeats its deltas.
        shown = speaks and identity not in self._streamed and message.get("model") != SYNTHETIC
        if shown:
            yield from self._start_message(identity)
        for block in objects(message.get("content")):
            match block.get("type"):
                case "text" if shown:
                    yield from self._emit_text(text(block.get("text")))
                case "thinking" if shown:
                    yield ReasoningDelta(text(block.get("thinking")))
                case "tool_use":
                    arguments = json_text(block.get("input"))
                    yield ToolCallReady(text(block.get("id")), text(block.get("name")), arguments, "agent")
                case _:
                    pass

    def _start_message(self, identity: object) -> Iterator[AgentEvent]:
        if self._has_text and identity != self._message:
            yield MessageBreak()
        self._message = identity

    def _emit_text(self, chunk: str) -> Iterator[str]:
        self._has_text = self._has_text or bool(chunk)
        yield chunk

    def _translate_result(self, record: dict[str, Any]) -> Iterator[AgentEvent | str]:
        yield from _usage(record.get("usage"))
        self.complete = True
        if record.get("is_error") is True or text(record.get("subtype")).startswith("error"):
            raise _failure(record)
        self._reason = REASONS.get(text(record.get("stop_reason")), "stop")
        if not self._has_text:  # a slash command, such as /cost, answers only in the result
            yield text(record.get("result"))


def _tool_results(message: dict[str, Any]) -> Iterator[AgentEvent]:
    for block in objects(message.get("content")):
        if block.get("type") == "tool_result":
            output = block.get("content")
            if not isinstance(output, str):
                parts = objects(output)
                output = "\n".join([text(part.get("text")) or f"[{text(part.get('type'))}]" for part in parts])
            yield ToolResult(text(block.get("tool_use_id")), output, is_error=block.get("is_error") is True)


def _usage(value: object) -> Iterator[AgentEvent]:
    usage = mapping(value)
    if usage:
        # Anthropic's input_tokens exclude the tokens read from or written to a cache.
        cached = count(usage.get("cache_read_input_tokens"))
        fresh = count(usage.get("input_tokens")) + count(usage.get("cache_creation_input_tokens"))
        thinking = mapping(usage.get("output_tokens_details")).get("thinking_tokens")
        reasoning = None if thinking is None else count(thinking)
        yield UsageReported(fresh + cached, count(usage.get("output_tokens")), cached, reasoning)


def _failure(record: dict[str, Any]) -> AgentError:
    reason = str(record.get("errors") or record.get("result") or record.get("subtype"))
    error = _public_error(record, reason)
    error.__cause__ = RuntimeError(f"Claude Code: {reason}"[:2000])  # for the log only
    return error


def _public_error(record: dict[str, Any], reason: str) -> AgentError:
    status = record.get("api_error_status")
    if isinstance(status, int):
        return AgentError.upstream(status, too_long="prompt is too long" in reason.lower())
    if record.get("subtype") == "error_max_turns":
        return AgentError("The agent reached its limit of turns.", status=502, code="agent_max_turns")
    if record.get("stop_reason") == "refusal":
        return AgentError("The model behind the agent declined to answer.", status=400, code="content_filter")
    return AgentError("The agent failed.", status=502, code="agent_command_failed")
