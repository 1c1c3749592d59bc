"""Converts a request to the arguments of `messages.create`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...agent_request import AgentRequest, FunctionTool, Tool
from ...messages import AssistantMessage
from ..refused_parameter import sent_parameters, unsupported_parameter
from .conversation import Recall, convert_messages

JSON_ONLY = "Answer with one JSON object and nothing else."

VERBOSITY = {"low": "Keep your answers short.", "high": "Answer in detail."}
"""Instructions by `verbosity`, for which the API has no parameter; "medium" is the default of the models."""

PASSED_PARAMETERS = ("temperature", "top_p")
"""Sampling parameters that the API has. Newer models refuse them, which is reported to the client; the SDK no longer knows
them, hence `extra_body`."""

EFFORTS = {
    "none": "low",  # the lowest effort of the API
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def create_params(
    request: AgentRequest, *, model: str, max_tokens: int, system: str, extra: Mapping[str, Any], recall: Recall
) -> dict[str, Any]:
    """Build the arguments; `extra` overrides the request, except for its tools, which are added.

    Raises InvalidRequest for parameters without a counterpart in the API: `seed`, penalties and `logit_bias`.
    """
    params: dict[str, Any] = {
        "model": model,
        "max_tokens": request.sampling.max_tokens or max_tokens,
        "messages": convert_messages(request.messages, recall),
    }
    request_params = {**_instructions(request, system), **_output_config(request), **_sampling_params(request)}
    sequences = [sequence for sequence in request.sampling.stop if sequence.strip()]  # the API refuses blank ones
    if sequences:
        request_params["stop_sequences"] = sequences
    params |= {**request_params, **extra}
    if "extra_body" in request_params and "extra_body" in extra:
        params["extra_body"] = {**request_params["extra_body"], **extra["extra_body"]}
    tools = [*extra.get("tools", ()), *[_tool(tool) for tool in request.tools]]
    params |= _tools(request, tools)
    if "thinking" in params and not _may_think(params, request):
        params["thinking"] = {"type": "disabled"}
    return params


def _instructions(request: AgentRequest, system: str) -> dict[str, Any]:
    # The operator's instructions, then the client's.
    text = "\n\n".join([each for each in (system, request.system) if each.strip()])
    if request.response_format is not None and request.response_format["type"] == "json_object":
        text = f"{text}\n\n{JSON_ONLY}".strip()
    verbosity = VERBOSITY.get(request.sampling.verbosity or "")
    if verbosity:
        text = f"{text}\n\n{verbosity}".strip()
    return {"system": text} if text else {}


def _output_config(request: AgentRequest) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.json_schema is not None:
        config["format"] = {"type": "json_schema", "schema": request.json_schema.schema}
    effort = EFFORTS.get(request.sampling.reasoning_effort or "")
    if effort:
        config["effort"] = effort
    return {"output_config": config} if config else {}


def _sampling_params(request: AgentRequest) -> dict[str, Any]:
    sent = sent_parameters(request.sampling)
    for name in sent:
        if name not in PASSED_PARAMETERS:
            raise unsupported_parameter(name)
    passed = {name: getattr(request.sampling, name) for name in sent}
    return {"extra_body": passed} if passed else {}


def _tools(request: AgentRequest, tools: list[dict[str, Any]]) -> dict[str, Any]:
    choice = request.tool_choice
    if not tools:
        # The API refuses a conversation with calls but without tools, even if no tool may be called now.
        names = {c.name for m in request.messages if isinstance(m, AssistantMessage) for c in m.tool_calls}
        stubs = [{"name": name, "input_schema": {"type": "object"}} for name in sorted(names)]
        return {"tools": stubs, "tool_choice": {"type": "none"}} if stubs else {}
    wanted: dict[str, Any] = {"type": "auto"}
    if choice.required:
        wanted = {"type": "any"} if len(choice.names) > 1 else {"type": "tool", "name": next(iter(choice.names))}
    if not request.parallel_tool_calls:
        wanted["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": wanted}


def _tool(tool: Tool) -> dict[str, Any]:
    if isinstance(tool, FunctionTool):
        fields: dict[str, Any] = {"name": tool.name, "input_schema": tool.input_schema}
        if tool.strict:
            fields["strict"] = True
        return fields | ({"description": tool.description} if tool.description else {})
    text = tool.description or ""
    if tool.format is not None and tool.format.get("type") != "text":
        text = f"{text}\nThe input must have this format: {json.dumps(dict(tool.format))}".strip()
    return {"name": tool.name, "input_schema": tool.input_schema} | ({"description": text} if text else {})


def _may_think(params: Mapping[str, Any], request: AgentRequest) -> bool:
    """True if the API allows thinking for this request.

    Thinking is refused if a tool call is forced, if `max_tokens` leaves no room for the budget, or if the model continues
    after a call whose thinking block is no longer known.
    """
    thinking = params["thinking"]
    if request.tool_choice.required or thinking.get("budget_tokens", 0) >= params["max_tokens"]:
        return False
    if thinking["type"] != "enabled" or request.resume is None:
        return True
    last = next(turn for turn in reversed(params["messages"]) if turn["role"] == "assistant")
    return last["content"][0]["type"] in ("thinking", "redacted_thinking")
