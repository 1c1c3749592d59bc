"""The fields of a Response object that repeat its request, with OpenAI's defaults for what was not sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from ..request_types import ResponseRequest

Json: TypeAlias = dict[str, Any]

SECRETS = frozenset(["authorization", "headers"])
"""Fields of tools that are for the server alone: what is answered may be stored, and read by others."""

_AS_SENT: Mapping[str, Any] = {
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
"""Fields that may be sent as floats, and are integers in what is answered."""
_IF_SENT: Mapping[str, Mapping[str, Any]] = {
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "disabled"},
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
}
"""Objects that strict clients do not want as null, with what each always has."""


def echo_of(wire: ResponseRequest, body: Mapping[str, Any], conversation: str | None) -> dict[str, Any]:
    """The fields of the Response object that repeat the request, of which `body` is what was sent."""
    sent = {name: value for name, value in body.items() if value is not None}
    fields = {name: sent.get(name, default) for name, default in _AS_SENT.items()}
    fields |= {name: getattr(wire, name) for name in _WHOLE_NUMBERS if name in sent}
    for name, always in _IF_SENT.items():
        given = sent.get(name)
        if isinstance(given, dict):
            # What is left out, or left to the server, is its default.
            settled = {key: value for key, value in cast("Json", given).items() if value not in (None, "auto")}
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
        # OpenAI's types require these of a function, though they may be null.
        always = {"description": None, "parameters": None, "strict": None} if tool["type"] == "function" else {}
        tools.append({**always, **{name: value for name, value in tool.items() if name not in SECRETS}})
    text = {name: value for name, value in sent.get("text", {}).items() if value is not None}
    return {
        **fields,
        "metadata": dict(sent.get("metadata", {})),
        "reasoning": {"effort": None, "summary": None, **sent.get("reasoning", {})},
        # `auto` is a wish; what is told is what was used.
        "service_tier": "default" if wire.service_tier in (None, "auto") else wire.service_tier,
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "tools": tools,
    }
