"""Serializes events as a message: the events of a stream, or one whole response.

Only one block is open at a time. The client's calls are written at the very end: Claude Code runs a call as soon as its
block is complete, even if the answer fails afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, assert_never

from ...backend import CHARACTERS_PER_TOKEN
from ...errors import AgentError
from ...events import (
    Citation,
    Compacted,
    Finished,
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
from ...messages import ToolCall
from ..json import dumps
from ..presentation import ACTIVITY, ACTIVITY_END, tool_ended_line, tool_running_line
from ..reducer import Item, Texts, Usage
from .conversation import EMPTY_ANSWER_TEXT
from .events import PING, BlockEvents, BlockFold, BlockWriter, event
from .parse import Thinking
from .signatures import seal_signature

OwnTools: TypeAlias = Literal["blocks", "hidden", "thinking", "text"]
"""Where users see calls of the agent's own tools: in blocks, nowhere, or in the agent's reasoning or text."""

SERVER_NAME = "agent"
"""The `server_name` of the agent's own tools in blocks."""

FILTERED = "(The rest of the answer was held back by a content filter.)"
"""Ends a filtered answer whose stop reason does not show that it was filtered."""

STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageForm:
    """The format of a response.

    Attributes:
        id: `msg_…`.
        model: the model name that the client requested.
        streams: True if the response is streamed.
        thinking: how much of the agent's reasoning the response includes.
        own_tools: where the agent's own tool calls are shown.
        refuses: True if a refused answer ends with `refusal`: Claude Code then asks again and shows its own text.
        most: maximum number of characters of the client's calls to hold back.
        estimate: returns the estimated token count of the request, for agents that report none.
    """

    id: str
    model: str
    streams: bool
    thinking: Thinking = "hidden"
    own_tools: OwnTools = "hidden"
    refuses: bool = True
    most: int = 50_000_000
    estimate: Callable[[], int] = int


class AnswerWriter:
    """Serializes the agent's items into one response."""

    def __init__(self, form: MessageForm, ask: Callable[[Paused], Sequence[Item]]) -> None:
        """`ask` returns the items that ask users about calls waiting for approval."""
        self._form = form
        self._ask = ask
        self._fold, self._events = BlockFold(), BlockEvents()
        self._blocks: BlockWriter = self._events if form.streams else self._fold
        self._begun = False
        self._open = ""
        self._closed_any = False
        self._before_end = (False, "", False, -1)
        self._signed = False
        self._signature: str | None = None
        self._spoke = False
        self._said = 0
        self._names: dict[str, str] = {}
        self._calls: dict[str, ToolCall | None] = {}
        self._held = 0
        self._reason = "end_turn"
        self._stop_sequence: str | None = None
        self._refusal: list[str] = []

    def begin(self) -> bytes:
        """Return the beginning of a stream unless it was written."""
        if self._begun or not self._form.streams:
            return b""
        self._begun = True
        usage = {
            "input_tokens": self._form.estimate(),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,  # as in Anthropic's API, which counts the first token here
        }
        return event("message_start", message=self._message_object([], None, usage)) + PING

    def feed(self, items: list[Item]) -> bytes:
        """Return the events for these items; empty if there is nothing to show, or if the response is not streamed."""
        data = (
            self._write_texts(items) if type(items) is Texts else b"".join([self._write_item(item) for item in items])
        )
        return data if self._begun or not data else self.begin() + data

    def end(self, usage: Usage, *, may_be_silent: bool = False) -> bytes:
        """Return the last events of a stream, or the whole response. Unless `may_be_silent`, an empty answer gets a text."""
        self._before_end = (self._begun, self._open, self._closed_any, self._events.index)
        data = self.begin() + self._close_block()
        # A call that was cut off does not count.
        calls = [call for call in self._calls.values() if call is not None and not self._refusal]
        if self._reason == "refusal" and not self._refusal and not self._form.refuses:
            data += self._write_text_block(FILTERED)
        if not self._spoke and not calls and not may_be_silent:
            data += self._write_text_block(EMPTY_ANSWER_TEXT)
        for call in calls:
            data += self._blocks.start({"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}})
            # All of the input in a delta: Claude Code ignores the input in `content_block_start`.
            data += self._blocks.add_delta("input_json_delta", "partial_json", dumps(call.input).decode())
            data += self._blocks.stop()
        reason = self._stop_reason(calls)
        counts = self._counts(usage)
        if not self._form.streams:
            return dumps(self._message_object(self._fold.blocks, reason, counts))
        delta = {"stop_reason": reason, "stop_sequence": self._stop_sequence, **self._stop_details(reason)}
        return data + event("message_delta", delta=delta, usage=counts) + event("message_stop")

    def undo_end(self) -> None:
        """Undo the last events, which were not sent: the blocks that they closed are open again."""
        self._begun, self._open, self._closed_any, self._events.index = self._before_end

    def empty_response(self) -> bytes:
        """Return the response to a request that wants no answer (`max_tokens: 0`), for which no agent ran."""
        counts = {"input_tokens": self._form.estimate(), "output_tokens": 0}
        if not self._form.streams:
            return dumps(self._message_object([], "max_tokens", counts))
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        return self.begin() + event("message_delta", delta=delta, usage=counts) + event("message_stop")

    def events_before_error(self) -> bytes:
        """Return the events to send before an error in a stream.

        If a stream fails before any of its blocks is complete, Claude Code resends the request without streaming.
        """
        data = self.begin() + self._close_block()
        return data if self._closed_any else data + self._write_text_block("")

    def _message_object(
        self, content: list[dict[str, Any]], reason: str | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": self._form.id,
            "type": "message",
            "role": "assistant",
            "model": self._form.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": self._stop_sequence,
            **self._stop_details(reason),
            "usage": usage,
        }

    def _stop_reason(self, calls: Sequence[ToolCall]) -> str:
        reason = "refusal" if self._refusal else self._reason
        if reason == "refusal" and not self._form.refuses:
            reason = "end_turn"
        return "tool_use" if calls and reason == "end_turn" else reason

    def _stop_details(self, reason: str | None) -> dict[str, Any]:
        if reason != "refusal":
            return {}
        return {"stop_details": {"type": "refusal", "category": None, "explanation": "".join(self._refusal) or None}}

    def _counts(self, usage: Usage) -> dict[str, Any]:
        """Return the token counts in this API's format, which counts cached tokens separately; estimated if none are reported."""
        if not usage.reported:
            output = -(-self._said // CHARACTERS_PER_TOKEN)
            return {
                "input_tokens": self._form.estimate(),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output,
            }
        read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        counts: dict[str, Any] = {
            "input_tokens": max(usage.input_tokens - read - written, 0),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "output_tokens": usage.output_tokens,
        }
        if usage.reasoning_tokens is not None:
            counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
        return counts

    # content blocks

    def _write_texts(self, texts: list[str]) -> bytes:
        if not self._spoke:
            self._spoke = any([text.strip() for text in texts])
        self._said += sum(map(len, texts))
        if self._open == "text":
            return self._blocks.add_texts(texts)
        return self._start_block({"type": "text", "text": ""}) + self._blocks.add_texts(texts)

    def _start_block(self, block: dict[str, Any]) -> bytes:
        closed = self._close_block()
        self._open = block["type"]
        return closed + self._blocks.start(block)

    def _close_block(self) -> bytes:
        if not self._open:
            return b""
        data = b""
        if self._open == "thinking":
            data = self._blocks.add_delta(
                "signature_delta", "signature", seal_signature(self._form.model, self._signature)
            )
            self._signature, self._signed = None, False
        self._open, self._closed_any = "", True
        return data + self._blocks.stop()

    def _write_block(self, block: dict[str, Any]) -> bytes:
        return self._start_block(block) + self._close_block()

    def _write_text_block(self, text: str) -> bytes:
        """Return a text as a block of its own."""
        return (
            self._close_block()
            + (self._write_texts([text]) if text else self._start_block({"type": "text", "text": ""}))
            + self._close_block()
        )

    def _write_item(self, item: Item) -> bytes:  # noqa: C901, PLR0912  (one arm for each event)
        match item:
            case str():
                return self._write_texts([item])
            case TextDelta():
                return self._write_texts([item.text]) if item.text else b""
            case MessageBreak():
                return self._close_block()
            case ReasoningDelta():
                return self._write_reasoning(item)
            case RefusalDelta():
                self._refusal.append(item.text)
                return self._write_texts([item.text]) if item.text else b""
            case Citation():
                return self._write_citation(item)
            case MediaDelta():
                return self._write_text_block(
                    item.transcript or f"[A file of type {item.media_type}: this API has no place for it.]"
                )
            case ToolCallStarted() | ToolCallDelta():
                if isinstance(item, ToolCallStarted):
                    self._register_call(item)
                return b""
            case ToolCallReady():
                return self._write_call(item)
            case ToolResult():
                return self._write_result(item)
            case Progress():
                return self._write_activity(item.status)
            case Notice() | Compacted() | UsageReported():
                return b""
            case Paused():
                asks = any([call.waits_for == "approval" for call in item.pending])
                said = self._ask(item) if asks else ()
                return b"".join(
                    [self._write_text_block(it) if isinstance(it, str) else self._write_item(it) for it in said]
                )
            case Finished():
                self._stop_sequence = item.stop_sequence
                found = "end_turn" if item.stop_sequence is None else "stop_sequence"
                self._reason = STOP_REASONS.get(item.reason, found)
                return b""
            case _:
                assert_never(item)

    def _write_reasoning(self, item: ReasoningDelta) -> bytes:
        if self._form.thinking == "hidden":
            return b""
        if item.redacted:
            return self._write_block(
                {"type": "redacted_thinking", "data": seal_signature(self._form.model, item.signature)}
            )
        if not item.text and item.signature is None:
            return b""
        data = b""
        if self._open != "thinking" or (self._signed and item.text):
            data = self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        if item.text and self._form.thinking == "shown":
            data += self._blocks.add_delta("thinking_delta", "thinking", item.text)
        if item.signature is not None:
            self._signature, self._signed = item.signature, True
        return data

    def _write_citation(self, item: Citation) -> bytes:
        location = {
            "type": "web_search_result_location",
            "url": item.url,
            "title": item.title,
            "cited_text": "",  # text of the source, which agents do not report
            "encrypted_index": "",
        }
        started = b"" if self._open == "text" else self._start_block({"type": "text", "text": ""})
        return started + self._blocks.add_delta("citations_delta", "citation", location)

    # tool calls

    def _register_call(self, item: ToolCallStarted) -> None:
        if item.executor == "agent":
            self._names[item.call_id] = item.name
        else:  # calls keep the order in which they began
            self._calls[item.call_id] = None

    def _write_call(self, item: ToolCallReady) -> bytes:
        call = ToolCall(item.call_id, item.name, item.arguments)
        if item.call_id not in self._names:  # a client's tool
            self._held += len(item.arguments)
            if self._held > self._form.most:
                raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
            self._calls[item.call_id] = call
            return b""
        if self._form.own_tools != "blocks":
            return self._write_activity(tool_running_line(item.name))
        # All input goes in the start, unlike a client's: Claude Code fails on a delta here. Never a `tool_use`: it would run it.
        block = {"type": "mcp_tool_use", "id": item.call_id, "name": item.name, "server_name": SERVER_NAME}
        return self._write_block({**block, "input": call.input})

    def _write_result(self, item: ToolResult) -> bytes:
        if self._form.own_tools != "blocks":
            return self._write_activity(tool_ended_line(item, self._names.get(item.call_id, "tool")))
        if item.call_id not in self._names:
            return b""  # of a call that was never shown
        content = [{"type": "text", "text": item.output}]
        block = {"type": "mcp_tool_result", "tool_use_id": item.call_id, "is_error": item.is_error or item.denied}
        return self._write_block({**block, "content": content})

    def _write_activity(self, status: str) -> bytes:
        match self._form.own_tools:
            case "hidden" | "blocks":
                return b""
            case "thinking":
                return self._write_reasoning(ReasoningDelta(status + "\n"))
            case "text":
                return self._write_status_line(f"{ACTIVITY}{status}{ACTIVITY_END}")
            case _:
                assert_never(self._form.own_tools)

    def _write_status_line(self, line: str) -> bytes:
        """Return a status line, which does not count as an answer."""
        spoke = self._spoke
        data = self._write_text_block(line)
        self._spoke = spoke
        return data
