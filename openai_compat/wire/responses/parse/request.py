"""Parses `POST /v1/responses` into one request for the agent, and puts the conversation history before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, cast

from ....agent_request import AgentRequest, Caller, Decision, Resume, Sampling, Tool, ToolChoice
from ....backend import Capabilities
from ....errors import InvalidRequest
from ....messages import Message, ToolMessage
from ...chat.request_types import TextFormat
from ...items.parse import NewId, input_items, parse_items
from ...items.types import ACTION_TYPES, ID_PREFIXES
from ...json import check_length, dumps, is_quick, parse_object, validate
from ...misplaced_parameters import CHAT_PARAMETERS, refuse_misplaced
from ...serialize_messages import chat_message
from ..continuation import OUTPUTS, check_calls, check_not_empty, own_items, repair_history, result_ids
from ..request_types import ConversationField, ResponseJsonSchemaFormat, ResponseRequest, TextParam
from ..serialize.response import echo_of
from .tools import NO_TOOLS, TOOL_ITEM_TYPES, ResponseTools, merge_tools, parse_tool_choice, parse_tools, tools_of_items

Fields: TypeAlias = Mapping[str, Any]
Items: TypeAlias = tuple[dict[str, Any], ...]

# Like the limit on chat messages: reading millions of items would block the event loop.
MAX_ITEMS = 10_000
LOGPROBS = "message.output_text.logprobs"

TYPES_WITH_PARTS = frozenset(["message", *OUTPUTS])
"""Types of items whose content is checked part by part."""

ROLES = frozenset(["user", "assistant", "system", "developer"])
TEXT_TYPES = frozenset(["input_text", "output_text"])
"""Types of text parts."""

EXTRA_PARAMETERS = (
    "access_programs",
    "background_options",
    "context_management",
    "image",
    "include",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "truncation",
)
"""Parameters that an agent may pass on to a model."""

WEBSOCKET_FIELDS = frozenset(["type", "stream_id", "event_id"])
"""Extra fields of requests on a WebSocket, which no agent needs."""

# The parameters that OpenAI's document and the SDK's types list for these two paths. Any other field that a program sends
# is ignored when tokens are counted or the conversation is compacted.
TOKEN_FIELDS = frozenset(
    [
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "personality",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    ]
)
COMPACT_FIELDS = frozenset(
    [
        "image",
        "input",
        "instructions",
        "model",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
    ]
)


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A validated Responses request.

    Attributes:
        wire: the request as it was sent, typed.
        request: the agent's request without any history; see `with_context`.
        body: the request as it was sent.
        input: the request's own items, as the API lists them.
        echo: the fields of the request that the Response repeats.
        tools: the request's tools, both client and hosted ones.
        store: True if the response is to be stored.
        background: True if the response is returned at once and runs on in the background.
        stream: True if the response is streamed.
        generate: False if no answer is wanted: the response only stores its input.
        conversation: the id of the conversation that the response belongs to.
        previous: the id of the response that is continued.
        decisions: maps the ids of approval requests to the client's decisions.
        long: True if the request is too large to process on the event loop.
    """

    wire: ResponseRequest
    request: AgentRequest
    body: dict[str, Any]
    input: Items
    echo: dict[str, Any]
    tools: ResponseTools
    store: bool
    background: bool
    stream: bool
    generate: bool
    conversation: str | None
    previous: str | None
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    long: bool = False

    @property
    def conversation_items(self) -> Items:
        """The items that become part of the conversation."""
        return tuple([item for item in self.input if item["type"] not in ACTION_TYPES])


def parse_response(
    body: bytes | dict[str, Any], caller: Caller, new_id: NewId, *, long: bool = False
) -> ParsedResponse:
    """Parse `body`, JSON or the decoded object. Raises InvalidRequest with the `param` at fault.

    `new_id` creates an id with the given prefix. The items are checked to form a conversation only in `with_context`, since the
    history may be on the server.
    """
    raw = body if isinstance(body, dict) else parse_object(body)
    # Before validation: of a million items, each invalid one would be an error of its own.
    check_length("input", raw.get("input"), MAX_ITEMS)
    if not CHAT_PARAMETERS.keys().isdisjoint(raw):
        refuse_misplaced(raw, CHAT_PARAMETERS)
    wire = validate(ResponseRequest, raw)
    conversation = wire.conversation.id if isinstance(wire.conversation, ConversationField) else wire.conversation
    # OpenAI has two ways to request that the input is only read ahead.
    prewarm = wire.prompt_cache_options is not None and wire.prompt_cache_options.get("prewarm") is True
    generate = wire.generate is not False and not prewarm
    goes_on = conversation is not None or wire.previous_response_id is not None
    _refuse_unsupported(wire, nothing_said=generate and not goes_on and wire.input in (None, []))
    if isinstance(wire.input, str):  # shorthand for a user message
        fields = {"id": new_id(ID_PREFIXES["message"]), "type": "message", "status": "completed", "role": "user"}
        items: Items = ({**fields, "content": [{"type": "input_text", "text": wire.input}]},)
    else:
        items = input_items([] if wire.input is None else raw["input"], new_id)
    tools = parse_tools(wire, raw) if wire.tools or isinstance(wire.input, list) else NO_TOOLS
    choice, decisions = _tool_choice(wire, tools, final=not goes_on), _decisions(items)
    said = _build_conversation(wire, (), items)
    return ParsedResponse(
        wire,
        _build_request(wire, raw, said, tools=tools, choice=choice, caller=caller, conversation=conversation),
        raw,
        items,
        echo_of(wire, raw, conversation),
        tools,
        # OpenAI's default: clients continue from a response's id without having set `store`.
        store=wire.store is not False,
        background=wire.background is True,
        stream=wire.stream is True,
        generate=generate,
        conversation=conversation,
        previous=wire.previous_response_id,
        decisions=decisions,
        long=long,
    )


def parse_input_tokens(body: bytes, caller: Caller, new_id: NewId) -> ParsedResponse:
    """Parse the body of `POST /v1/responses/input_tokens` as if it were a request to answer."""
    return parse_response(_select_fields(body, TOKEN_FIELDS), caller, new_id, long=not is_quick(body))


def parse_compact(body: bytes, caller: Caller, new_id: NewId) -> ParsedResponse:
    """Parse the body of `POST /v1/responses/compact` as if it were a request to answer."""
    return parse_response(_select_fields(body, COMPACT_FIELDS), caller, new_id, long=not is_quick(body))


def _select_fields(body: bytes, names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in parse_object(body).items() if name in names}


def _refuse_unsupported(wire: ResponseRequest, *, nothing_said: bool) -> None:
    # Templates are stored at OpenAI: without the template, the agent would get a different prompt.
    if wire.prompt is not None:
        text = "Prompt templates are not supported; send 'input' and 'instructions'."
        raise InvalidRequest(text, param="prompt", code="unsupported_parameter")
    if wire.conversation is not None and wire.previous_response_id is not None:
        text = "Send either 'conversation' or 'previous_response_id', not both."
        raise InvalidRequest(text, param="conversation", code="invalid_value")
    # No client could fetch it.
    if wire.background and wire.store is False:
        text = "A response in the background has to be stored."
        raise InvalidRequest(text, param="background", code="invalid_value")
    if nothing_said:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")


def _tool_choice(wire: ResponseRequest, tools: ResponseTools, *, final: bool) -> ToolChoice:
    """Return which tools may be called. Unless `final`, unknown tools are allowed, since the history may define them."""
    if wire.tool_choice is None:
        return ToolChoice(tools.names)
    try:
        return parse_tool_choice(wire.tool_choice, tools)
    except InvalidRequest:
        if final:
            raise
        return ToolChoice(tools.names, required=getattr(wire.tool_choice, "mode", "required") == "required")


def _build_request(
    wire: ResponseRequest,
    raw: Fields,
    said: _ConversationForms,
    *,
    tools: ResponseTools,
    choice: ToolChoice,
    caller: Caller,
    conversation: str | None,
) -> AgentRequest:
    logprobs = LOGPROBS in (wire.include or ())
    request = AgentRequest(
        model=wire.model,
        messages=said.messages,
        raw_messages=said.raw_messages,
        raw_items=said.raw_items,
        resume=said.resume,
        tools=_callable_tools(tools, choice),
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls is not False,
        sampling=_sampling(wire, logprobs=logprobs),
        response_format=None if wire.text is None else _response_format(wire.text),
        logprobs=logprobs,
        stream=wire.stream is True,
        principal=caller.principal,
        headers=caller.headers,
        metadata=wire.metadata or {},
        user=wire.user,
        conversation_id=conversation,
        is_kept=wire.store is not False,
        extra=_extra(wire, raw, tools),
    )
    if said.plain:
        request.type_later()
    return request


def _sampling(wire: ResponseRequest, *, logprobs: bool) -> Sampling:
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        max_tokens=wire.max_output_tokens,
        max_tool_calls=wire.max_tool_calls,
        frequency_penalty=wire.frequency_penalty,
        presence_penalty=wire.presence_penalty,
        # 0 is a value: log probabilities are requested, but not those of alternative tokens.
        top_logprobs=(wire.top_logprobs or 0) if logprobs else None,
        reasoning_effort=wire.reasoning.effort if wire.reasoning is not None else None,
        verbosity=wire.text.verbosity if wire.text is not None else None,
    )


def _response_format(text: TextParam) -> dict[str, Any] | None:
    """Return the format in chat's shape, where a schema is in an object of its own."""
    given = text.format
    if given is None or isinstance(given, TextFormat):
        return None
    fields = given.model_dump(by_alias=True, exclude_none=True)
    if not isinstance(given, ResponseJsonSchemaFormat):
        return fields
    return {"type": "json_schema", "json_schema": {name: fields[name] for name in fields if name != "type"}}


def _extra(wire: ResponseRequest, raw: Fields, tools: ResponseTools) -> dict[str, Any]:
    unknown = {name: value for name, value in (wire.__pydantic_extra__ or {}).items() if name not in WEBSOCKET_FIELDS}
    extra = {**unknown, **{name: raw[name] for name in EXTRA_PARAMETERS if raw.get(name) is not None}}
    if tools.hosted:
        # Hosted tools of OpenAI mean nothing here; an agent that calls a model may pass them on.
        extra["hosted_tools"] = list(tools.hosted)
        extra |= {"tool_choice": raw["tool_choice"]} if isinstance(raw.get("tool_choice"), dict) else {}
    return extra


def _decisions(items: Sequence[Fields]) -> dict[str, Decision]:
    found: dict[str, Decision] = {}
    for item in items:
        if item["type"] == "mcp_approval_response":
            # As JSON text, the form that agents receive; clients may send the object itself.
            changed: Any = item.get("arguments")
            arguments = changed if changed is None or isinstance(changed, str) else dumps(changed).decode()
            decision = Decision(item["approve"], item.get("reason"), arguments, always=bool(item.get("always")))
            found[item["approval_request_id"]] = decision
    return found


def _callable_tools(tools: ResponseTools, choice: ToolChoice) -> tuple[Tool, ...]:
    return tuple([tool for tool in tools.offered if tool.name in choice.names])


def with_context(
    parsed: ParsedResponse,
    context: Sequence[dict[str, Any]],
    lookup: Mapping[str, dict[str, Any]] | None = None,
    *,
    heal: bool = False,
) -> ParsedResponse:
    """Return the request with the conversation's items `context` before its own; `lookup` holds referenced items by id.

    The request's instructions come first; those of earlier requests are not among the items. With `heal`, unanswered calls
    count as not run. Raises InvalidRequest if results and calls do not match or if there is no input at all, NotFound for a
    dangling reference.
    """
    before, own = context, parsed.input
    # Text after plain messages has no calls or references that could be wrong.
    if not isinstance(parsed.wire.input, str) or any([item.get("type") != "message" for item in context]):
        placed = own_items(parsed.input, context, lookup or {})
        before = repair_history(context, placed) if heal else context
        check_calls(before, placed)
        # `placed` maps items to their positions in the request, which the errors above report.
        own = tuple(placed.values())
        if parsed.generate:
            check_not_empty([*before, *own])
    if not context and own == parsed.input and parsed.conversation is None and parsed.previous is None:
        return parsed  # already parsed without history, and there is none
    # Tools offered by earlier items can still be called.
    brought = [item for item in context if item.get("type") in TOOL_ITEM_TYPES]
    tools = merge_tools(tools_of_items(brought), parsed.tools) if brought else parsed.tools
    choice = _tool_choice(parsed.wire, tools, final=True)
    said = _build_conversation(parsed.wire, before, own)
    request = replace(
        parsed.request,
        messages=said.messages,
        raw_messages=said.raw_messages,
        raw_items=said.raw_items,
        resume=said.resume,
        tools=_callable_tools(tools, choice),
        tool_choice=choice,
        extra=_extra(parsed.wire, parsed.body, tools),
    )
    if said.plain:
        request.type_later()
    return replace(parsed, input=own, tools=tools, request=request)


class _ConversationForms(NamedTuple):
    """The conversation in the forms that an AgentRequest needs, and the tool results that it resumes with.

    `plain` is True for text-only conversations: their messages are typed only on access.
    """

    messages: tuple[Message, ...]
    raw_messages: list[dict[str, Any]]
    raw_items: list[dict[str, Any]]
    resume: Resume | None = None
    plain: bool = False


def _build_conversation(
    wire: ResponseRequest, context: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]]
) -> _ConversationForms:
    instructions = wire.instructions
    # Instructions apply to this request only: those of the previous response are not among its items.
    first = [] if instructions is None else [{"type": "message", "role": "system", "content": instructions}]
    raw_items = [*first, *context, *own]
    texts = _plain_messages(raw_items)
    if texts:
        return _ConversationForms((), texts, raw_items, plain=True)
    messages = parse_items(raw_items)
    results = {m.call_id: m for m in messages if isinstance(m, ToolMessage)}
    if results:
        brought = result_ids(own)
        results = {call_id: result for call_id, result in results.items() if call_id in brought}
    return _ConversationForms(
        messages, [chat_message(m) for m in messages], raw_items, Resume(results) if results else None
    )


def _plain_messages(items: Sequence[Fields]) -> list[dict[str, Any]]:
    """Return the items as chat messages if each is a single text with nothing else; otherwise an empty list."""
    found: list[dict[str, Any]] = []
    for item in items:
        role, text = item.get("role"), item.get("content")
        parts = cast("list[Any]", text) if isinstance(text, list) else []
        if len(parts) == 1 and isinstance(parts[0], dict):
            part = cast("Fields", parts[0])
            text = part.get("text") if part.get("type") in TEXT_TYPES else None
        named = item.get("name") is not None  # names are for chat, which passes them to the agent
        if item.get("type") != "message" or role not in ROLES or named or not isinstance(text, str) or not text:
            return []
        found.append({"role": role, "content": text})
    return found


def check_response_capabilities(parsed: ParsedResponse, can: Capabilities) -> None:
    """Raise InvalidRequest if the request needs a capability that the agent has not declared: nothing is ignored silently."""
    for param, needed, capable in _capability_needs(parsed, can):
        if needed and not capable:
            text = f"This agent does not support '{param}'."
            raise InvalidRequest(text, param=param, code="unsupported_parameter")


def _capability_needs(parsed: ParsedResponse, can: Capabilities) -> Iterator[tuple[str, bool, bool]]:
    request = parsed.request
    yield "include", request.logprobs, can.logprobs
    yield "text.format", request.response_format is not None, can.structured_output
    # Not `tools`: coding agents and Open WebUI send theirs with every request, without requiring a call.
    yield "tool_choice", request.tool_choice.required, can.client_tools
    yield "security_mode", request.extra.get("security_mode") is not None, can.security_modes
    if not (can.vision and can.audio_input and can.files):
        yield from _media_needs(parsed, can)


def _media_needs(parsed: ParsedResponse, can: Capabilities) -> Iterator[tuple[str, bool, bool]]:
    able = {"input_image": can.vision, "input_audio": can.audio_input, "input_file": can.files}
    for index, item in enumerate(parsed.input):
        for name in ("content", "output"):
            given = (
                item.get(name) if item["type"] in TYPES_WITH_PARTS else None
            )  # the parts of other items are not known
            for position, part in enumerate(cast("list[Fields]", given) if isinstance(given, list) else ()):
                yield f"input[{index}].{name}[{position}]", part["type"] in able, able.get(part["type"], True)
