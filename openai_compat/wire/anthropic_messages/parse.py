"""Parses `POST /v1/messages` and `/v1/messages/count_tokens` into one request for the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

from ...agent_request import (
    NO_TOOLS,
    AgentRequest,
    Caller,
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
from ...messages import ImagePart, Message, SystemMessage, ToolMessage
from ..json import check_length, check_tools, parse_object, parse_schema, validate
from ..serialize_messages import chat_message
from .conversation import ConversationReader
from .request_types import (
    Block,
    ContinuedThread,
    MessagesRequest,
    OneTool,
    OutputFormatParam,
    ServerToolDefinition,
    TokenCountRequest,
    ToolDefinition,
)

MAX_MESSAGES = 10_000
"""A body within its size limit may hold millions of messages; reading them would block the event loop."""

EXTRA_PARAMETERS = ("thinking", "top_k")
"""Documented parameters without meaning to the server: an agent that calls a model may pass them on."""

NON_EXTRA_FIELDS = ("cache_control",)

MODES: Mapping[str, Literal["none", "auto", "required"]] = {"auto": "auto", "any": "required", "none": "none"}

Thinking: TypeAlias = Literal["hidden", "signed", "shown"]
"""The reasoning that the client receives: none, only its signature, or all of it."""


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool in a request that Anthropic would run, or defines a schema for."""

    name: str
    type: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedMessages:
    """A request, validated except for the end of its conversation (see `ConversationReader`), and its response options.

    Attributes:
        body: the request as it was sent.
        conversation: the messages with their paths, to be checked once the history is known.
        thread: None for a standalone request, "" for one that begins a thread, else the id of the message to continue after.
    """

    request: AgentRequest
    body: dict[str, Any]
    conversation: ConversationReader
    thinking: Thinking = "hidden"
    thread: str | None = None
    server_tools: tuple[ServerTool, ...] = ()
    tool_places: Mapping[str, str]


def parse_messages_request(body: bytes, caller: Caller) -> ParsedMessages:
    """Parse `body`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    thread: Any = raw.get("thread")
    if isinstance(thread, dict) and cast("Block", thread).get("type") == "continue":
        for name in ("system", "tools"):
            if raw.get(name) is not None:
                text = f"'{name}' is kept with the thread, and cannot be sent when it is continued."
                raise InvalidRequest(text, param=name, code="invalid_value")
    return _parse_messages_request(raw, caller)


def with_history(parsed: ParsedMessages, before: Sequence[Message], tools: list[Block] | None) -> ParsedMessages:
    """Return the request with the thread's history, and with the tools that the thread began with."""
    request = parsed.request
    caller = Caller(request.principal, request.headers)
    return _parse_messages_request({**parsed.body, "tools": tools}, caller, before)


def parse_token_count(body: bytes, caller: Caller) -> ParsedMessages:
    """Parse a request for a token count. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("messages", raw.get("messages"), MAX_MESSAGES)
    return _to_parsed(validate(TokenCountRequest, raw), raw, caller)


def _parse_messages_request(raw: dict[str, Any], caller: Caller, before: Sequence[Message] = ()) -> ParsedMessages:
    check_length("messages", raw.get("messages"), MAX_MESSAGES)
    wire = validate(MessagesRequest, raw)
    parsed = _to_parsed(wire, raw, caller, before)
    request = replace(
        parsed.request,
        stream=wire.stream is True,
        user=wire.metadata.user_id if wire.metadata is not None else None,
        sampling=replace(
            parsed.request.sampling,
            temperature=wire.temperature,
            top_p=wire.top_p,
            max_tokens=wire.max_tokens,
            stop=tuple(wire.stop_sequences or ()),
        ),
    )
    thread = wire.thread
    after = thread.previous_message_id if isinstance(thread, ContinuedThread) else "" if thread is not None else None
    return replace(parsed, request=request, thread=after)


def _to_parsed(
    wire: TokenCountRequest, raw: dict[str, Any], caller: Caller, before: Sequence[Message] = ()
) -> ParsedMessages:
    conversation = ConversationReader(wire.model)
    conversation.add_history(before)
    conversation.add_system(wire.system)
    conversation.read(wire.messages)
    named, server_tools = _parse_tools(wire.tools or ())
    tools = check_tools(named, "input_schema")
    choice = _tool_choice(wire, tools)
    chosen = wire.tool_choice
    known = MessagesRequest.model_fields.keys()
    extra = {name: value for name, value in raw.items() if name not in known and name not in NON_EXTRA_FIELDS}
    request = AgentRequest(
        model=wire.model,
        messages=tuple(conversation.messages),
        raw_messages=[chat_message(message) for message in conversation.messages],
        tools=tuple([tool for tool in tools if tool.name in choice.names]),
        tool_choice=choice,
        parallel_tool_calls=chosen is None or chosen.disable_parallel_tool_use is not True,
        sampling=Sampling(reasoning_effort=wire.output_config.effort if wire.output_config is not None else None),
        response_format=_response_format(wire),
        principal=caller.principal,
        headers=caller.headers,
        resume=resume_of(conversation.messages),
        extra=extra | {name: raw[name] for name in EXTRA_PARAMETERS if raw.get(name) is not None},
    )
    return ParsedMessages(
        request=request,
        body=raw,
        conversation=conversation,
        thinking=_thinking_mode(wire),
        server_tools=server_tools,
        tool_places={tool.name: place for place, tool in named},
    )


def resume_of(messages: list[Message]) -> Resume | None:
    """Return the tool results at the end of the conversation, with which the agent resumes its paused turn."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            results.append(message)
        elif not isinstance(message, SystemMessage):  # clients put system messages anywhere
            break
    return Resume({result.call_id: result for result in reversed(results)}) if results else None


def check_messages_capabilities(parsed: ParsedMessages, can: Capabilities) -> None:
    """Raise InvalidRequest if the request needs a capability that the agent has not declared: nothing is ignored silently."""
    param = None
    if parsed.request.response_format is not None and not can.structured_output:
        param = "output_config.format"
    # Not `tools`: programs send theirs with every request, without requiring a call.
    elif parsed.request.tool_choice.required and not can.client_tools:
        param = "tool_choice"
    else:
        taken = {kind: can.vision if kind is ImagePart else can.files for _, kind in parsed.conversation.media}
        param = next((place for place, kind in parsed.conversation.media if not taken[kind]), None)
    if param is not None:
        raise InvalidRequest(f"This agent does not support '{param}'.", param=param, code="unsupported_parameter")


def resolve_server_tools(parsed: ParsedMessages, own: frozenset[str], can: Capabilities) -> AgentRequest:
    """Return the request, with web search enabled if it is requested and the agent supports it.

    Raises InvalidRequest for a tool that Anthropic would run and that this agent does not have. A tool that the agent has needs
    no action: requests do not enable tools of an agent.
    """
    request = parsed.request
    for tool in parsed.server_tools:
        if tool.type.startswith("web_search") and can.web_search:
            request = replace(request, web_search_options={})
        elif tool.name not in own:
            text = f"This agent has no tool '{tool.name or tool.type}' of its own: this server runs only what its agents do."
            raise InvalidRequest(text, param=tool.place, code="unsupported_parameter")
    return request


def _parse_tools(sent: list[Block] | tuple[()]) -> tuple[list[tuple[str, Tool]], tuple[ServerTool, ...]]:
    """Return the client's tools, each with the path of its name, and all other tools."""
    named: list[tuple[str, Tool]] = []
    others: list[ServerTool] = []
    for index, tool in enumerate(sent):
        place = f"tools[{index}]"
        if tool.get("type") not in (None, "custom"):
            other = validate(ServerToolDefinition, tool, place)
            others.append(ServerTool(other.name[:64], other.type[:64], f"{place}.type"))
            continue
        param = validate(ToolDefinition, tool, place)
        named.append((f"{place}.name", FunctionTool(param.name, param.description, param.input_schema, param.strict)))
    return named, tuple(others)


def _tool_choice(wire: TokenCountRequest, tools: list[Tool]) -> ToolChoice:
    choice = wire.tool_choice
    if not tools and (choice is None or choice.type == "none"):
        return NO_TOOLS
    names = frozenset([tool.name for tool in tools])
    if choice is None:
        return ToolChoice(names)
    if isinstance(choice, OneTool):
        return choice_by_name({choice.name}, names, "tool_choice.name")
    return choice_by_mode(MODES[choice.type], names)


def _response_format(wire: TokenCountRequest) -> dict[str, Any] | None:
    wanted: OutputFormatParam | None = wire.output_format
    param = "output_format.schema"
    if wire.output_config is not None and wire.output_config.format is not None:
        wanted, param = wire.output_config.format, "output_config.format.schema"
    if wanted is None:
        return None
    parse_schema(wanted.schema_, param)
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": wanted.schema_, "strict": True}}


def _thinking_mode(wire: TokenCountRequest) -> Thinking:
    """Return "hidden" unless reasoning is requested: programs that did not request it read `content[0].text`."""
    if wire.thinking is None or wire.thinking.type == "disabled":
        return "hidden"
    return "signed" if wire.thinking.display == "omitted" else "shown"
