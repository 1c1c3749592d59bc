"""The Response object, always with all of its keys; keys that repeat the request default to OpenAI's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ....errors import OpenAICompatError
from ....events import FinishReason
from ...errors import RETRIED_TYPES
from ...reducer import Usage
from ..event_types import ErrorEvent, NestedError
from ..request_types import ResponseRequest
from ..response_types import IncompleteDetails, ResponseError, ResponseErrorCode, ResponseUsage
from .items import EventWriter

RESPONSE_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "completed_at": None,
    "error": None,
    "frequency_penalty": 0.0,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
}
"""Values of the object's keys that are missing or null in the request."""

INCOMPLETE: Mapping[FinishReason, IncompleteDetails] = {
    "length": {"reason": "max_output_tokens"},
    "content_filter": {"reason": "content_filter"},
}
"""The `incomplete_details` for finish reasons that leave a response incomplete."""

STEERED_DETAILS: IncompleteDetails = {"reason": "steered"}

SECRET_TOOL_FIELDS = frozenset(["authorization", "headers"])
"""Fields of tools that only the server may see: responses may be stored, and read by others."""

_ECHO_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": None,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
_WHOLE_NUMBERS = ("max_output_tokens", "max_tool_calls", "top_logprobs")
"""Fields that may be sent as floats but are integers in the response."""
_OPTIONAL_ECHO: Mapping[str, Mapping[str, Any]] = {
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "disabled"},
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
}
"""Objects that strict clients reject as null, each with its default fields."""


def echo_of(wire: ResponseRequest, body: Mapping[str, Any], conversation: str | None) -> dict[str, Any]:
    """Return the Response's fields that repeat the request; `body` is the request as it was sent."""
    sent = {name: value for name, value in body.items() if value is not None}
    fields = {name: sent.get(name, default) for name, default in _ECHO_DEFAULTS.items()}
    fields |= {name: getattr(wire, name) for name in _WHOLE_NUMBERS if name in sent}
    for name, always in _OPTIONAL_ECHO.items():
        given = sent.get(name)
        if isinstance(given, dict):
            # Missing fields, and those left to the server, get their defaults.
            settled = {
                key: value for key, value in cast("dict[str, Any]", given).items() if value not in (None, "auto")
            }
            fields[name] = {**always, **settled}
        elif given is not None:
            fields[name] = given
    if "prompt_cache_retention" in sent:
        fields["prompt_cache_retention"] = sent["prompt_cache_retention"]
    if isinstance(wire.user, str):
        fields["user"] = wire.user
    if conversation is not None:
        fields["conversation"] = {"id": conversation}
    tools: list[dict[str, Any]] = []
    for tool in sent.get("tools", []):
        # OpenAI's types require these keys of a function, though they may be null.
        always = {"description": None, "parameters": None, "strict": None} if tool["type"] == "function" else {}
        tools.append({**always, **{name: value for name, value in tool.items() if name not in SECRET_TOOL_FIELDS}})
    text = {name: value for name, value in sent.get("text", {}).items() if value is not None}
    return {
        **fields,
        "metadata": dict(sent.get("metadata", {})),
        "reasoning": {"effort": None, "summary": None, **sent.get("reasoning", {})},
        # `auto` is a request; the response reports the tier that was used.
        "service_tier": "default" if wire.service_tier in (None, "auto") else wire.service_tier,
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "tools": tools,
    }


def usage_of(usage: Usage) -> ResponseUsage:
    """Return the `usage` object. Clients require both details; an unreported detail is zero."""
    result: ResponseUsage = {
        "input_tokens": usage.input_tokens,
        # `cache_write_tokens` is required by the types of OpenAI's SDK.
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if not usage.reported:
        result["reported"] = False
    return result


def error_of(error: OpenAICompatError) -> ResponseError:
    """Return the `error` of a failed response."""
    return {
        "code": _response_error_code(error),
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "original_code": error.code,
    }


def error_event(error: OpenAICompatError) -> ErrorEvent:
    """Return the `error` event. As in chat, type and code are never those that make coding agents rerun the turn."""
    nested: NestedError = {
        "type": "agent_error" if error.type in RETRIED_TYPES else error.type,
        "code": _response_error_code(error),
        "message": error.message,
        "param": error.param,
        "original_code": error.code,
    }
    # OpenAI's form is flat, Open Responses' is nested: without `error`, openai-python silently ignores the event.
    return {"type": "error", "code": nested["code"], "message": error.message, "param": error.param, "error": nested}


def _response_error_code(error: OpenAICompatError) -> ResponseErrorCode:
    """Return one of OpenAI's few codes for failed responses.

    Codex and opencode rerun a turn on all but a few codes, of which `invalid_prompt` fits best: an agent that has begun must
    not run twice unless the error says that a retry is safe.
    """
    if not error.should_retry:
        return "invalid_prompt"
    return "rate_limit_exceeded" if error.status == 429 else "server_error"


def lost_response(response: dict[str, Any], error: OpenAICompatError, last: int) -> tuple[dict[str, Any], bytes, int]:
    """Return the failed Response, the events after number `last`, and the number of the last of these events."""
    failed = {**response, "status": "failed", "error": error_of(error)}
    out = EventWriter()
    out.sequence = last
    begun = b"" if last >= 0 else out.write({"type": "response.created", "response": response})
    frames = out.write(error_event(error)) + out.write({"type": "response.failed", "response": failed})
    return failed, begun + frames, out.sequence
