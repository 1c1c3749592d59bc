"""Parses bodies and query strings of the chat REST API."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs

from ...agent_request import AgentRequest, Caller, Sampling
from ...errors import InvalidRequest
from ...messages import AssistantMessage, Message, SystemMessage, TextPart, UserMessage
from ..json import check_length, parse_object, validate
from ..serialize_messages import chat_message
from .types import (
    DEFAULT_BUDGET,
    DEFAULT_STEPS,
    MAX_MESSAGES,
    AgenticRequest,
    CamelModel,
    ChatMessage,
    RestNewConversation,
    ToolMessageRequest,
    TurnRequest,
)

Model = TypeVar("Model", bound=CamelModel)

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
LABELS = ("taskId", "ticketId", "projectId", "presetId")
"""The labels that a conversation can have, and by which it can be found."""


def parse_body(model: type[Model], body: bytes) -> Model:
    """Parse the body as `model`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("messages", raw.get("messages"), MAX_MESSAGES)
    return validate(model, raw)


def to_message(message: ChatMessage) -> Message:
    """Convert a message to the typed message that agents receive."""
    match message.role:
        case "user":
            return UserMessage((TextPart(message.content),))
        case "assistant":
            return AssistantMessage((TextPart(message.content),) if message.content else ())
        case "system":
            return SystemMessage(message.content)


def agent_request(asked: TurnRequest, messages: tuple[Message, ...], model: str, caller: Caller) -> AgentRequest:
    """Return the agent's request, without the client's system prompt."""
    return AgentRequest(
        model=model,
        messages=messages,
        raw_messages=[chat_message(message) for message in messages],
        sampling=Sampling(
            temperature=asked.temperature,
            max_tokens=asked.max_tokens,
            reasoning_effort=asked.effort if isinstance(asked, AgenticRequest) else None,
        ),
        principal=caller.principal,
        headers=caller.headers,
        metadata=labels(asked),
        extra=_turn_limits(asked),
    )


def labels(asked: TurnRequest | RestNewConversation) -> dict[str, str]:
    """Return the ids in a request, by their names on the wire."""
    sent = asked.model_dump(by_alias=True)
    return {name: sent[name] for name in LABELS if sent.get(name) is not None}


def _turn_limits(asked: TurnRequest) -> dict[str, Any]:
    """Return the extra fields that limit a turn of the tool loop."""
    extra: dict[str, Any] = {}
    if asked.security_mode is not None:
        extra["security_mode"] = asked.security_mode
    if isinstance(asked, ToolMessageRequest) and asked.enable_tools is False:
        # Disabled tools are not mode "ask": a user who disabled them does not want to be asked either.
        extra["security_mode"] = "deny"
    if isinstance(asked, AgenticRequest):
        extra["max_steps"] = asked.max_steps or DEFAULT_STEPS
        extra["max_budget"] = asked.max_budget or DEFAULT_BUDGET
        extra["report_steps"] = True
    return extra


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The page of conversations to list; `before` is the end of the previous page."""

    limit: int
    offset: int
    labels: Mapping[str, str]
    before: tuple[float, str] | None


def parse_list(query: str) -> ListQuery:
    """Parse the query string of a listing. Raises InvalidRequest."""
    sent = parse_query(query)
    return ListQuery(
        _parse_number(sent, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        _parse_number(sent, "offset", 0, 0, 1_000_000_000),
        {name: sent[name] for name in LABELS if name in sent},
        _decode_cursor(sent["cursor"]) if sent.get("cursor") else None,
    )


def parse_query(query: str) -> dict[str, str]:
    """Parse a query string's fields; the last value of a name wins."""
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}


def encode_cursor(touched: float, identifier: str) -> str:
    """Return the `cursor` of the next page."""
    return base64.urlsafe_b64encode(json.dumps([touched, identifier]).encode()).decode()


def _decode_cursor(sent: str) -> tuple[float, str]:
    try:
        found = json.loads(base64.b64decode(sent.encode(), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        found = None
    # A cursor is untrusted input.
    match cast("Any", found):
        case [float() as touched, str() as identifier]:
            return touched, identifier
        case _:
            text = "'cursor' is not the 'nextCursor' of a page."
            raise InvalidRequest(text, param="cursor", code="invalid_value")


def _parse_number(sent: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = sent.get(name)
    if value is None:
        return default
    # Checked as text first: `int` accepts spaces, signs and digits of other scripts.
    if value.isascii() and value.isdigit() and len(value) <= 10 and least <= int(value) <= most:
        return int(value)
    raise InvalidRequest(f"'{name}' is a whole number from {least} to {most}.", param=name, code="invalid_value")
