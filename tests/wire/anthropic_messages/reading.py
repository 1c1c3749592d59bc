"""Checks the order of a message's events, and folds them as Anthropic's SDK does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anthropic.types.beta as types
from pydantic import TypeAdapter

from openai_compat.events import Paused
from openai_compat.wire.anthropic_messages.serialize import AnswerWriter, MessageForm
from openai_compat.wire.presentation import approval_question
from openai_compat.wire.reducer import Item, Usage

EVENTS: TypeAdapter[Any] = TypeAdapter(types.BetaRawMessageStreamEvent)

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "redacted_thinking": set[str](),
    "mcp_tool_use": set[str](),
    "mcp_tool_result": set[str](),
}


def approval_questions(paused: Paused) -> Sequence[Item]:
    return [approval_question(call) for call in paused.pending if call.waits_for == "approval"]


def write_answer(items: list[Item], usage: Usage | None = None, **form: Any) -> bytes:
    writer = AnswerWriter(MessageForm(id="msg_1", model="agent", **form), approval_questions)
    return writer.feed(items) + writer.end(usage or Usage())


def parse_stream(data: bytes) -> list[dict[str, Any]]:
    """Parse the events, in the framing that the SDKs require."""
    events: list[dict[str, Any]] = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, line = frame.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """Check for one message, with one open block at a time, no gaps in the indexes, and nothing after the end."""
    names = [event["type"] for event in events]
    assert names[:2] == ["message_start", "ping"]
    assert names[-2:] == ["message_delta", "message_stop"]
    assert {"input_tokens", "output_tokens"} <= events[0]["message"]["usage"].keys()
    assert "output_tokens" in events[-2]["usage"]
    index, block = -1, None
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert block is None
            index, block = index + 1, event["content_block"]["type"]
        else:
            assert block is not None
            assert event["type"] in ("content_block_delta", "content_block_stop")
            if event["type"] == "content_block_delta":
                assert event["delta"]["type"] in DELTAS[block]
            else:
                block = None
        assert event["index"] == index
    assert block is None


def check_types(events: list[dict[str, Any]]) -> None:
    """Check each event strictly against the SDK's type."""
    for event in events:
        if event["type"] not in ("ping", "error"):  # not in the SDK's union
            EVENTS.validate_python(event, strict=True)


def fold_stream(events: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: C901  (one arm for each event)
    """Fold the events into a message, as a third-party client would."""
    message: dict[str, Any] = {}
    partial: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "citations_delta":
                        block.setdefault("citations", []).append(delta["citation"])
                    case "input_json_delta":
                        partial[event["index"]] = partial.get(event["index"], "") + delta["partial_json"]
            case "content_block_stop" if event["index"] in partial:
                message["content"][event["index"]]["input"] = json.loads(partial[event["index"]])
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message
