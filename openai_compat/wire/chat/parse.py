"""Parses `POST /v1/chat/completions` into one request for the agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, cast

from pydantic import ValidationError

from ...agent_request import (
    NO_SAMPLING,
    NO_TOOLS,
    ONLY_TEXT,
    AgentRequest,
    Caller,
    CustomTool,
    FunctionTool,
    Resume,
    Sampling,
    Tool,
    ToolChoice,
    choice_by_mode,
    choice_by_name,
)
from ...backend import Capabilities
from ...errors import InvalidRequest
from ...messages import Message, ToolMessage
from ..conversation_rules import parse_messages
from ..json import check_finite, check_length, check_tools, decode_object, parse_schema, validate
from ..misplaced_parameters import RESPONSES_PARAMETERS, refuse_misplaced
from .request_types import (
    ChatCompletionRequest,
    ChatCustomToolParam,
    ChatJsonSchemaFormat,
    CustomChoiceParam,
    FunctionChoiceParam,
    StopParam,
    TextFormat,
    ToolParam,
)

MAX_MESSAGES = 10_000
"""A body within its size limit may hold millions of messages; reading them would block the event loop."""

ANONYMOUS = Caller()
EXTRA_PARAMETERS = (
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
)
"""Documented parameters without meaning to the server: an agent that calls a model may pass them on."""


_ROLES = frozenset(["user", "assistant", "system", "developer"])
_TEXT_OR_NONE, _BOOL_OR_NONE = (str, NoneType), (bool, NoneType)
NO_NAMES: frozenset[str] = frozenset()
"""Shared by all requests: an empty set takes 216 bytes."""
_PLACEHOLDER_MESSAGES = [{"role": "user", "content": ""}]
"""Stands in for messages already known to be valid, so that the model validates only the other fields."""

_PLAIN_FIELDS = frozenset(["model", "messages", "stream"])

_SAMPLING_FIELDS = frozenset(Sampling.__dataclass_fields__) | {"logprobs", "max_completion_tokens"}


@dataclass(slots=True, kw_only=True)  # not frozen: that takes three times as long to create
class ParsedChat:
    """A validated chat request: the agent's request, and the options that concern only the format of the response.

    Attributes:
        body: the request as it was sent.
        choices: the number of choices requested (`n`), 1 by default.
        include_usage: True if a stream ends with a usage chunk.
        store: True if the response is to be stored as a completion.
        tool_places: maps each client tool's name to the path of that name in the request.
        custom_tools: the names of the client's free-text tools.
    """

    request: AgentRequest
    body: dict[str, Any]
    choices: int = 1
    include_usage: bool = False
    store: bool = False
    tool_places: Mapping[str, str] = field(default_factory=dict[str, str])
    custom_tools: frozenset[str] = NO_NAMES


def parse_chat(body: bytes, caller: Caller = ANONYMOUS) -> ParsedChat:
    """Parse `body`. Raises InvalidRequest with the `param` at fault.

    The caller must still check that the messages form a conversation (`check_conversation`), since the earlier messages may
    be stored on the server.
    """
    raw = decode_object(body)
    return parse_plain_chat(raw, caller) or parse_chat_object(raw, caller)


def parse_plain_chat(raw: dict[str, Any], caller: Caller) -> ParsedChat | None:
    """Parse a decoded body that has only a model, plain messages and `stream`; return None for any other body.

    Most requests are plain, and the checks here are all the validation they need.
    """
    model, messages = raw.get("model"), raw.get("messages")
    if not (
        raw.keys() <= _PLAIN_FIELDS
        and isinstance(model, str)
        and model
        and isinstance(raw.get("stream"), _BOOL_OR_NONE)
    ):
        return None
    if not _are_plain(messages):
        return None
    request = AgentRequest.of_texts(model, raw["messages"], stream=raw.get("stream") is True, caller=caller)
    return ParsedChat(request=request, body=raw, tool_places={})  # the default factory takes ten times as long


def parse_chat_object(raw: dict[str, Any], caller: Caller = ANONYMOUS) -> ParsedChat:
    """Parse any decoded body."""
    # Checked before validation, which takes time for each message.
    check_length("messages", raw.get("messages"), MAX_MESSAGES)
    plain = _are_plain(raw.get("messages"))
    check_finite([value for name, value in raw.items() if name != "messages"] if plain else raw)
    if not RESPONSES_PARAMETERS.keys().isdisjoint(raw):
        refuse_misplaced(raw, RESPONSES_PARAMETERS)
    wire = _validate_request(raw, plain=plain)
    _refuse_deprecated(wire)
    options = wire.stream_options
    named = [(f"tools[{index}].{param.type}.name", _to_tool(param)) for index, param in enumerate(wire.tools or [])]
    request = _build_request(wire, raw, caller, check_tools(named), () if plain else parse_messages(wire.messages))
    if plain:
        # An agent that uses the raw messages never needs typed ones.
        request.type_later()
    return ParsedChat(
        request=request,
        body=raw,
        choices=wire.n or 1,
        include_usage=options is not None and options.include_usage is True,
        store=wire.store is True,
        tool_places={tool.name: param for param, tool in named},
        custom_tools=frozenset([tool.name for tool in request.tools if isinstance(tool, CustomTool)]),
    )


def _build_request(
    wire: ChatCompletionRequest, raw: dict[str, Any], caller: Caller, tools: list[Tool], messages: tuple[Message, ...]
) -> AgentRequest:
    choice = _tool_choice(wire, tools)
    return AgentRequest(
        model=wire.model,
        messages=messages,
        raw_messages=raw["messages"],
        tools=tuple([tool for tool in tools if tool.name in choice.names]),
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls is not False,
        sampling=_sampling(wire),
        response_format=_response_format(wire, raw),
        modalities=frozenset(wire.modalities) if wire.modalities else ONLY_TEXT,
        audio=raw.get("audio"),
        logprobs=wire.logprobs is True,
        prediction=wire.prediction,
        web_search_options=wire.web_search_options,
        stream=wire.stream is True,
        principal=caller.principal,
        headers=caller.headers,
        metadata=wire.metadata or {},
        user=wire.user,
        resume=resume_of(messages),
        extra=(wire.__pydantic_extra__ or {})
        | {name: raw[name] for name in EXTRA_PARAMETERS if raw.get(name) is not None},
    )


def _are_plain(messages: object) -> bool:
    """True if all messages are plain, each tool call has its result, and no result comes last."""
    if messages.__class__ is not list or not messages:
        return False
    open_calls: set[str] = set()
    given = cast("list[Any]", messages)
    if len(given) > MAX_MESSAGES:
        return False
    try:
        for message in given:
            text = message["content"]
            is_text = len(message) == 2 and text.__class__ is str and message["role"] in _ROLES
            if not (is_text and not open_calls) and not _is_plain_call_or_result(message, text, open_calls):
                return False
        return not open_calls and bool(given[-1]["role"] != "tool")
    except (KeyError, TypeError):
        return False


def _is_plain_call_or_result(message: dict[str, Any], text: Any, open_calls: set[str]) -> bool:
    if len(message) != 3:
        return False
    if message["role"] == "tool":
        known = text.__class__ is str and message["tool_call_id"] in open_calls
        open_calls.discard(message["tool_call_id"])
        return known
    calls = message["tool_calls"]
    if (
        message["role"] != "assistant"
        or open_calls
        or calls.__class__ is not list
        or text.__class__ not in _TEXT_OR_NONE
    ):
        return False
    for call in calls:
        function = call["function"]
        fields = [call["id"], function["name"], function["arguments"]]
        if len(call) != 3 or call["type"] != "function" or len(function) != 2 or set(map(type, fields)) != {str}:
            return False
        open_calls.add(call["id"])
    # With two calls of the same id, a result could belong to either: the full check reports the error.
    return "" not in open_calls and len(open_calls) == len(calls) > 0


def _validate_request(raw: dict[str, Any], *, plain: bool) -> ChatCompletionRequest:
    if plain:
        with suppress(ValidationError):  # the error is reported for the body as it was sent
            return ChatCompletionRequest.model_validate({**raw, "messages": _PLACEHOLDER_MESSAGES})
    return validate(ChatCompletionRequest, raw)


def check_capabilities(request: AgentRequest, can: Capabilities) -> None:
    """Raise InvalidRequest if the request needs a capability that the agent has not declared: nothing is ignored silently."""
    param = _unsupported_parameter(request, can)
    if param is not None:
        raise InvalidRequest(f"This agent does not support '{param}'.", param=param, code="unsupported_parameter")


def _unsupported_parameter(request: AgentRequest, can: Capabilities) -> str | None:
    """Return the first parameter that needs an undeclared capability."""
    if request.logprobs and not can.logprobs:
        return "logprobs"
    if "audio" in request.modalities and not can.audio_output:
        return "modalities"
    if request.web_search_options is not None and not can.web_search:
        return "web_search_options"
    if request.prediction is not None and not can.prediction:
        return "prediction"
    if request.response_format is not None and not can.structured_output:
        return "response_format"
    # Not `tools`: Open WebUI, opencode and Codex send theirs with every request, without requiring a call.
    if request.tool_choice.required and not can.client_tools:
        return "tool_choice"
    if request.extra.get("security_mode") is not None and not can.security_modes:
        return "security_mode"
    # Most agents support all three, so that no part needs a check.
    if request.plain or (can.vision and can.audio_input and can.files):
        return None
    return next((param for param, needed, capable in _media_needs(request, can) if needed and not capable), None)


def _media_needs(request: AgentRequest, can: Capabilities) -> Iterator[tuple[str, bool, bool]]:
    for index, message in enumerate(request.raw_messages):
        content: Any = message.get("content")
        for position, part in enumerate(cast("list[Any]", content) if isinstance(content, list) else []):
            where = f"messages[{index}].content[{position}]"
            yield where, part["type"] == "image_url", can.vision
            yield where, part["type"] == "input_audio", can.audio_input
            yield where, part["type"] == "file", can.files


def _refuse_deprecated(wire: ChatCompletionRequest) -> None:
    # Rejected, not ignored: a client that waits for `function_call` would never get one.
    for name, instead in (("functions", "tools"), ("function_call", "tool_choice")):
        if getattr(wire, name) is not None:
            text = f"'{name}' is deprecated and not supported; use '{instead}'."
            raise InvalidRequest(text, param=name, code="unsupported_parameter")
    if wire.top_logprobs is not None and not wire.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs", code="invalid_value")
    if "audio" in (wire.modalities or ()) and wire.audio is None:
        raise InvalidRequest("Missing required parameter: 'audio'.", param="audio", code="missing_required_parameter")


def _to_tool(param: ToolParam) -> Tool:
    if isinstance(param, ChatCustomToolParam):
        return CustomTool(param.custom.name, param.custom.description, param.custom.format)
    function = param.function
    return FunctionTool(function.name, function.description, function.parameters, function.strict)


def _tool_choice(wire: ChatCompletionRequest, tools: list[Tool]) -> ToolChoice:
    choice = wire.tool_choice
    if not tools and choice is None:
        return NO_TOOLS
    names = frozenset([tool.name for tool in tools])
    if choice is None or isinstance(choice, str):
        return choice_by_mode(choice, names)
    if isinstance(choice, FunctionChoiceParam):
        return choice_by_name({choice.function.name}, names, "tool_choice.function.name")
    if isinstance(choice, CustomChoiceParam):
        return choice_by_name({choice.custom.name}, names, "tool_choice.custom.name")
    allowed = choice.allowed_tools
    wanted = {_allowed_name(tool) for tool in allowed.tools}
    return choice_by_name(wanted, names, "tool_choice.allowed_tools.tools", required=allowed.mode == "required")


def _allowed_name(tool: dict[str, Any]) -> str:
    """Return the name in `{"type": "function", "function": {"name": …}}`, or "", which matches no tool."""
    try:
        return str(tool[tool["type"]]["name"])
    except (KeyError, TypeError):
        return ""


def _sampling(wire: ChatCompletionRequest) -> Sampling:
    # All requests without sampling parameters, which are most, share one object.
    if wire.model_fields_set.isdisjoint(_SAMPLING_FIELDS):
        return NO_SAMPLING
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        # `max_tokens` is the older name, which most programs still send.
        max_tokens=wire.max_completion_tokens or wire.max_tokens,
        stop=stop_sequences(wire.stop),
        seed=wire.seed,
        frequency_penalty=wire.frequency_penalty,
        presence_penalty=wire.presence_penalty,
        logit_bias=wire.logit_bias,
        top_logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        reasoning_effort=wire.reasoning_effort,
        verbosity=wire.verbosity,
    )


def stop_sequences(stop: StopParam | None) -> tuple[str, ...]:
    """Return `stop`, one string or several, as a tuple."""
    return () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)


def _response_format(wire: ChatCompletionRequest, raw: dict[str, Any]) -> dict[str, Any] | None:
    wanted = wire.response_format
    if isinstance(wanted, ChatJsonSchemaFormat) and wanted.json_schema.schema_ is not None:
        # Checked before the agent runs: otherwise the agent would be blamed (502) for the client's schema.
        parse_schema(wanted.json_schema.schema_, "response_format.json_schema.schema")
    return None if wanted is None or isinstance(wanted, TextFormat) else raw["response_format"]


def resume_of(messages: tuple[Message, ...]) -> Resume | None:
    """Return the tool results at the end of the conversation, with which the agent resumes its paused turn."""
    results: dict[str, ToolMessage] = {}
    for message in reversed(messages):
        # Earlier results belong to a turn that has already resumed with them.
        if not isinstance(message, ToolMessage):
            break
        results[message.call_id] = message
    return Resume(dict(reversed(results.items()))) if results else None
