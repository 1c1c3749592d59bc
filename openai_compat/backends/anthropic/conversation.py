"""Converts a conversation to the Messages API: alternating roles, and every call answered in the next message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from ...messages import AssistantMessage, Message, SystemMessage, Thought, ToolMessage, UserMessage
from ..content_blocks import Block, assistant_blocks, input_blocks, result_content

Recall: TypeAlias = Callable[[Sequence[str]], list[Block] | None]
"""Returns the original blocks of an earlier answer by the ids of its calls, or None if they are unknown."""

NO_RESULT = "(There is no result yet.)"

CONTINUE = "Continue."
"""User message added to a conversation that ends with the assistant, which many models refuse to continue, or that has
only instructions, which the API refuses."""


def convert_messages(messages: Iterable[Message], recall: Recall) -> list[dict[str, Any]]:
    """Convert all messages but instructions. Raises InvalidRequest for parts that the API does not accept."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        match message:
            case SystemMessage():
                pass
            case UserMessage():
                _append_blocks(turns, "user", input_blocks(message.parts))
            case AssistantMessage():
                _append_blocks(turns, "assistant", _answer_blocks(message, recall))
            case ToolMessage():
                result = _result_block(message.call_id, result_content(message.text, message.media))
                _append_blocks(turns, "user", [{**result, "is_error": True} if message.is_error else result])
    # Newer models refuse a prefilled answer: a conversation must end with the user.
    if not turns or turns[-1]["role"] == "assistant":
        _append_blocks(turns, "user", [{"type": "text", "text": CONTINUE}])
    _add_missing_results(turns)
    return turns


def safe_call_id(identity: str) -> str:
    """An id with only the characters that the API accepts."""
    # Ids of other APIs may have other characters, which this API answers with a 400.
    return re.sub(r"[^a-zA-Z0-9_-]", "_", identity)


def _append_blocks(turns: list[dict[str, Any]], role: str, blocks: Iterable[Block]) -> None:
    new = list(blocks)
    # Roles alternate: the results of several calls are blocks of one user message.
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += new
    elif new:
        turns.append({"role": role, "content": new})


def _answer_blocks(message: AssistantMessage, recall: Recall) -> list[Block]:
    calls = message.tool_calls
    # The original blocks, if known: the API requires the signed thinking before a call.
    recalled = recall([safe_call_id(call.call_id) for call in calls]) if calls else None
    return recalled or [
        *[_thinking_block(thought) for thought in message.thoughts],
        *assistant_blocks(message.parts),
        *[{"type": "tool_use", "id": safe_call_id(c.call_id), "name": c.name, "input": c.input} for c in calls],
    ]


def _thinking_block(thought: Thought) -> Block:
    if thought.redacted:
        return {"type": "redacted_thinking", "data": thought.signature}
    return {"type": "thinking", "thinking": thought.text, "signature": thought.signature}


def _result_block(identity: str, content: str | list[Block]) -> Block:
    return {"type": "tool_result", "tool_use_id": safe_call_id(identity), "content": content}


def _add_missing_results(turns: list[dict[str, Any]]) -> None:
    """Add a placeholder result to calls that may stay open (`"async": true`): the API refuses a call without a result."""
    for turn, after in pairwise(turns):
        if turn["role"] == "assistant":
            answered = [block["tool_use_id"] for block in after["content"] if block["type"] == "tool_result"]
            called = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
            after["content"][:0] = [
                _result_block(identity, NO_RESULT) for identity in called if identity not in answered
            ]
