"""Converts a request to the arguments of `chat.completions.create`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast

from ...agent_request import AgentRequest, CustomTool

LimitName: TypeAlias = Literal["max_completion_tokens", "max_tokens"]
Message: TypeAlias = dict[str, Any]

TOOL_FIELDS = ("name", "description", "parameters", "strict", "format")

SEE_BELOW = "(The result is in the next message.)"
"""Text of a tool result without text, whose pictures are sent in a separate message."""


def create_params(
    request: AgentRequest,
    *,
    model: str,
    system: str,
    limit_name: LimitName,
    pass_fields: Iterable[str],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the arguments; `extra` overrides the request. Parameters that the client did not set are left out."""
    own = [{"role": "system", "content": system}] if system else []
    params: dict[str, Any] = {
        "model": model,
        "messages": own + separate_pictures(request.raw_messages),
        # Always stream: a disconnect of the client is noticed between two chunks, and the call can be ended.
        "stream": True,
        # Otherwise a stream has no usage, and the server would report zeros.
        "stream_options": {"include_usage": True},
        **_request_options(request, limit_name),
        **_tools(request),
    }
    passed = {name: request.extra[name] for name in pass_fields if name in request.extra}
    if passed:
        params["extra_body"] = passed
    return params | dict(extra)


def separate_pictures(messages: Iterable[Message]) -> list[Message]:
    """Move pictures and other media of tool results to a user message after the results: the API accepts them from users only.

    Other messages stay unchanged.
    """
    sent: list[Message] = []
    pictures: list[Message] = []
    for message in messages:
        # All results of one step come first: the API refuses a user message between them.
        if message["role"] != "tool" and pictures:
            sent.append({"role": "user", "content": pictures})
            pictures = []
        content = message.get("content")
        if message["role"] == "tool" and isinstance(content, list):
            parts = cast("list[Message]", content)
            pictures += [part for part in parts if part["type"] != "text"]
            texts = [part for part in parts if part["type"] == "text"]
            sent.append({**message, "content": texts or SEE_BELOW})
        else:
            sent.append(message)
    return [*sent, {"role": "user", "content": pictures}] if pictures else sent


def _request_options(request: AgentRequest, limit_name: LimitName) -> dict[str, Any]:
    sampling = request.sampling
    wanted: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        limit_name: sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logit_bias": sampling.logit_bias,
        "logprobs": request.logprobs or None,
        "top_logprobs": sampling.top_logprobs or None,
        "reasoning_effort": sampling.reasoning_effort,
        "verbosity": sampling.verbosity,
        "response_format": request.response_format,
        "prediction": request.prediction,
        "web_search_options": request.web_search_options,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _tools(request: AgentRequest) -> dict[str, Any]:
    """The tools that may be called now; `tool_choice` only says if a call is required."""
    # `parallel_tool_calls` without tools is a 400 at OpenAI.
    if not request.tools:
        return {}
    tools: list[dict[str, Any]] = []
    for tool in request.tools:
        kind = "custom" if isinstance(tool, CustomTool) else "function"
        fields = {name: getattr(tool, name, None) for name in TOOL_FIELDS}
        tools.append({"type": kind, kind: {name: value for name, value in fields.items() if value is not None}})
    params: dict[str, Any] = {"tools": tools}
    if request.tool_choice.required:
        params["tool_choice"] = "required"
    if not request.parallel_tool_calls:
        params["parallel_tool_calls"] = False
    return params
