"""Parses `POST /api/chat`, `/api/generate` and `/api/embed` into one request for the agent or an embed function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from ...agent_request import NO_TOOLS, AgentRequest, Caller, FunctionTool, Sampling, Tool, ToolChoice
from ...backend import Capabilities
from ...errors import InvalidRequest
from ...messages import SystemMessage, UserMessage
from ..embeddings import EmbeddingInput
from ..json import check_length, check_tools, parse_object, parse_schema, validate
from ..serialize_messages import chat_message
from .conversation import OllamaConversation, resume_of
from .request_types import (
    AnswerRequest,
    EmbedRequest,
    GenerateRequest,
    ModelOptions,
    OldEmbedRequest,
    OllamaChatRequest,
    OllamaModelRequest,
)

MAX_MESSAGES = 10_000
"""A body within its size limit may hold millions of messages; reading them would block the event loop."""

NON_EXTRA_FIELDS = frozenset(
    {"model", "messages", "prompt", "system", "images", "tools", "stream", "format", "options"}
)
"""Fields with a place of their own in AgentRequest. All others, such as `keep_alive` and `think`, are passed on unchanged."""

UNSUPPORTED_FIELDS = {
    "suffix": "This agent writes no text between two others.",
    "context": "This server gives out no 'context', and can read none: send the conversation to /api/chat.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuestion:
    """A validated request for an answer.

    Attributes:
        request: the agent's request.
        thinking: True if the client is shown the agent's reasoning.
        only: "load" or "unload" for a request without a question, which only loads or unloads a model.
        pictures: the paths of images in the request.
        tool_places: maps each client tool's name to the path of that name in the request.
    """

    request: AgentRequest
    thinking: bool = True
    only: Literal["load", "unload"] | None = None
    pictures: tuple[str, ...] = ()
    tool_places: Mapping[str, str] = field(default_factory=dict[str, str])


def parse_ollama_chat(body: bytes, caller: Caller) -> ParsedQuestion:
    """Parse the chat request in `body`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("messages", raw.get("messages"), MAX_MESSAGES)
    wire = validate(OllamaChatRequest, raw)
    conversation = OllamaConversation()
    if wire.messages:
        conversation.read(wire.messages)
    named: list[tuple[str, Tool]] = [
        (f"tools[{index}].function.name", FunctionTool(function.name, function.description, function.parameters))
        for index, function in enumerate([tool.function for tool in wire.tools or ()])
    ]
    tools = check_tools(named)
    parsed = _to_question(wire, raw, caller, conversation)
    choice = ToolChoice(frozenset([tool.name for tool in tools])) if tools else NO_TOOLS
    request = replace(parsed.request, tools=tuple(tools), tool_choice=choice, resume=resume_of(conversation.messages))
    return replace(parsed, request=request, tool_places={tool.name: place for place, tool in named})


def parse_generate(body: bytes, caller: Caller) -> ParsedQuestion:
    """Parse the request in `body`, whose prompt becomes a conversation of one message. Raises InvalidRequest."""
    raw = parse_object(body)
    wire = validate(GenerateRequest, raw)
    for name, text in UNSUPPORTED_FIELDS.items():
        if getattr(wire, name):
            raise InvalidRequest(text, param=name, code="unsupported_parameter")
    conversation = OllamaConversation()
    if wire.prompt or wire.images:
        conversation.messages += [SystemMessage(wire.system)] if wire.system else []
        conversation.messages.append(UserMessage(conversation.to_parts(wire.prompt, wire.images or (), "")))
    return _to_question(wire, raw, caller, conversation)


def check_ollama_capabilities(parsed: ParsedQuestion, can: Capabilities) -> None:
    """Raise InvalidRequest if the request needs a capability that the agent has not declared: nothing is ignored silently.

    Tools are not checked: programs send theirs with every request, without requiring a call.
    """
    request, param = parsed.request, None
    if request.response_format is not None and not can.structured_output:
        param = "format"
    elif request.logprobs and not can.logprobs:
        param = "logprobs"
    elif parsed.pictures and not can.vision:
        param = parsed.pictures[0]
    if param is not None:
        raise InvalidRequest(f"This agent does not support '{param}'.", param=param, code="unsupported_parameter")


def parse_embed(body: bytes) -> tuple[str, EmbeddingInput]:
    """Return the model and the texts; no texts if the model is only to be loaded. Raises InvalidRequest."""
    raw = parse_object(body)
    check_length("input", raw.get("input"), 100_000)
    wire = validate(EmbedRequest, raw)
    texts = (wire.input,) if isinstance(wire.input, str) else tuple(wire.input or ())
    if "" in texts and len(texts) > 1:
        raise InvalidRequest("A text to embed is not empty.", param="input", code="invalid_value")
    return wire.model, EmbeddingInput(texts=texts if any(texts) else (), dimensions=wire.dimensions)


def parse_old_embed(body: bytes) -> tuple[str, EmbeddingInput]:
    """Parse a request of the older embedding API, which has one text."""
    wire = validate(OldEmbedRequest, parse_object(body))
    return wire.model, EmbeddingInput(texts=(wire.prompt,) if wire.prompt else ())


def parse_model(body: bytes) -> str:
    """Return the requested model, sent as `model` or under its older name, `name`. Raises InvalidRequest."""
    raw = parse_object(body)
    return validate(OllamaModelRequest, {"model": raw.get("name"), **raw}).model


def _to_question(
    wire: AnswerRequest, raw: dict[str, Any], caller: Caller, conversation: OllamaConversation
) -> ParsedQuestion:
    given = cast("dict[str, Any]", raw.get("options") or {})
    others = {name: value for name, value in given.items() if name not in ModelOptions.model_fields}
    extra = {name: value for name, value in raw.items() if name not in NON_EXTRA_FIELDS and value is not None}
    request = AgentRequest(
        model=wire.model,
        messages=tuple(conversation.messages),
        raw_messages=[chat_message(message) for message in conversation.messages],
        sampling=_sampling(wire),
        response_format=_response_format(wire),
        logprobs=wire.logprobs is True,
        stream=wire.stream is not False,
        principal=caller.principal,
        headers=caller.headers,
        extra={**extra, "options": others} if others else extra,
    )
    only: Literal["load", "unload"] | None = None
    if not conversation.messages:
        only = "unload" if wire.keep_alive == 0 else "load"
    return ParsedQuestion(
        request=request, thinking=wire.think is not False, only=only, pictures=tuple(conversation.pictures)
    )


def _sampling(wire: AnswerRequest) -> Sampling:
    options = wire.options or ModelOptions()
    stop = (options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ())
    if wire.top_logprobs is not None and not wire.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs", code="invalid_value")
    return Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        # -1 means unlimited, -2 means until the context window is full.
        max_tokens=options.num_predict if (options.num_predict or 0) > 0 else None,
        stop=stop,
        seed=options.seed,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        top_logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        reasoning_effort=wire.think if isinstance(wire.think, str) else None,
    )


def _response_format(wire: AnswerRequest) -> dict[str, Any] | None:
    if isinstance(wire.format, dict):
        parse_schema(wire.format, "format")
        return {"type": "json_schema", "json_schema": {"name": "output", "schema": wire.format, "strict": True}}
    return {"type": "json_object"} if wire.format else None
