"""Our wire types compared with those of the installed openai SDK: whatever the SDK adds and we lack fails here by name."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import pydantic
import pytest
from openai.types import Completion as SdkCompletion
from openai.types import Model as SdkModel
from openai.types import completion_create_params as sdk_completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as sdk_chat
from typing_extensions import is_typeddict

from openai_compat import ToolCallReady, UsageReported
from openai_compat.wire import models as our_models
from openai_compat.wire.chat import request_types as chat_request
from openai_compat.wire.chat import response_types as chat_response
from openai_compat.wire.chat import response_types as completion_response
from tests.api.chat.test_stream import CASES, CODE
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says
from tests.support.listening import data_of

pytestmark = pytest.mark.anyio

# Differences between the SDK and us, in both directions, each with its reason. "*" stands for anything.

REQUEST_FIELDS_WE_LEAVE_OUT = {
    "messages[function].*": "deprecated, and refused with the name of what replaced it",
    "*.prompt_cache_breakpoint*": "taken as an unknown field; agents see it in raw_messages",
}
ANSWER_FIELDS_WE_LEAVE_OUT = {
    "metadata": "only stored completions have it, and none are stored",
    "moderation*": "no moderation is run",
    "service_tier": "an agent has no service tiers",
    "system_fingerprint": "the older API's answers have none, and by OpenAI's document it cannot be null",
    "obfuscation": "padding against listeners is the transport's business",
    "choices.message.function_call*": "deprecated; tool_calls took its place",
    "choices.delta.function_call*": "deprecated; tool_calls took its place",
    "choices.logprobs.text_offset": "the older API's probabilities are refused",
    "choices.logprobs.token_logprobs": "the older API's probabilities are refused",
    "choices.logprobs.tokens": "the older API's probabilities are refused",
    "choices.logprobs.top_logprobs": "the older API's probabilities are refused",
    "usage.completion_tokens_details.accepted_prediction_tokens": "agents do not report it",
    "usage.completion_tokens_details.audio_tokens": "agents do not report it",
    "usage.completion_tokens_details.rejected_prediction_tokens": "agents do not report it",
    "usage.completion_tokens_details.text_tokens": "agents do not report it",
    "usage.prompt_tokens_details.audio_tokens": "agents do not report it",
    "usage.prompt_tokens_details.cache_write_tokens": "agents do not report it",
    "usage.prompt_tokens_details.image_tokens": "agents do not report it",
    "usage.prompt_tokens_details.text_tokens": "agents do not report it",
    "shutdown_date": "an agent's end is not announced",
}
ANSWER_FIELDS_WE_ADD = {
    "choices.message.reasoning_content": "the agent's thinking: clients read this name",
    "choices.delta.reasoning_content": "the agent's thinking: clients read this name",
    "choices.message.images*": "pictures that the agent made: clients read this name",
    "choices.delta.images*": "pictures that the agent made: clients read this name",
    "capabilities*": "what an agent can do, for pages that let one choose",
    "description": "what it is for, for the same",
    "choices.delta.annotations*": "the SDK knows citations in plain answers only",
    "choices.delta.tool_calls.custom*": "the SDK knows custom calls in plain answers only",
    "usage.reported": "false where the agent reported no usage",
    "event*": "a status line that Open WebUI draws",
}

REQUESTS = [
    pytest.param(sdk_chat.CompletionCreateParamsStreaming, chat_request.ChatCompletionRequest, id="chat"),
    pytest.param(sdk_completion.CompletionCreateParamsStreaming, chat_request.CompletionRequest, id="completion"),
]
ANSWERS = [
    pytest.param(ChatCompletion, chat_response.ChatCompletion, id="chat"),
    pytest.param(ChatCompletionChunk, chat_response.ChatCompletionChunk, id="chunk"),
    pytest.param(SdkCompletion, completion_response.TextCompletion, id="completion"),
    pytest.param(SdkModel, our_models.Model, id="model"),
]


def members(kind: Any) -> Iterator[Any]:
    """The types that a value may have, without wrappers."""
    origin = get_origin(kind)
    if origin in (Annotated, Required, NotRequired):
        yield from members(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(kind):
            yield from members(member)
    elif isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, dict):
        yield from members(get_args(kind)[0])
    elif kind is not type(None):
        yield kind


def fields(kind: Any) -> dict[str, Any]:
    """The fields of a model or typed dict, by their names on the wire."""
    if is_typeddict(kind):
        return typing.get_type_hints(kind, include_extras=True)
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return {}


def literals(kind: Any) -> list[Any]:
    """The values that a field is restricted to; empty if it is not restricted."""
    return [value for member in members(kind) if get_origin(member) is Literal for value in get_args(member)]


def labels(kind: Any) -> list[str]:
    """The discriminator of a union member: its roles, or its type."""
    tags = literals(fields(kind).get("role", str)) or literals(fields(kind).get("type", str))
    return [f"[{tag}]" for tag in tags] or [""]


def walk(kind: Any, path: str = "", *, tell_apart: bool = False) -> Iterator[tuple[str, Any]]:
    """Every field below a type: its path and its type. `tell_apart` writes unions as `messages[user]`."""
    found = [member for member in members(kind) if fields(member)]
    for member in found:
        for label in labels(member) if tell_apart and path else [""]:
            for name, below in fields(member).items():
                here = f"{path}{label}.{name}".lstrip(".")
                yield here, below
                yield from walk(below, here, tell_apart=tell_apart)


def explained(name: str, reasons: Iterable[str]) -> bool:
    return any(re.fullmatch(re.escape(reason).replace(r"\*", ".*"), name) for reason in reasons)


def takes_anything(kind: Any) -> bool:
    return any(member is Any or dict in (member, get_origin(member)) for member in members(kind))


def lacking(theirs: Any, ours: Any) -> set[str]:
    """Fields that the SDK has and we lack, except those below one of our fields that accepts any object."""
    known = dict(walk(ours, tell_apart=True))
    open_fields = tuple(name for name, kind in known.items() if takes_anything(kind))
    below_open = tuple(f"{name}{mark}" for name in open_fields for mark in ".[")
    return {name for name, _ in walk(theirs, tell_apart=True) if name not in known and not name.startswith(below_open)}


def refused_values(theirs: Any, ours: Any) -> set[str]:
    """Values that the SDK sends and we would refuse."""
    known = dict(walk(ours, tell_apart=True))
    return {
        f"{name} {value}"
        for name, kind in walk(theirs, tell_apart=True)
        for value in literals(kind)
        if name in known and only_literals(known[name]) and value not in literals(known[name])
    }


def only_literals(kind: Any) -> bool:
    return all(get_origin(member) is Literal or fields(member) for member in members(kind))


def plain_fields(kind: Any) -> set[str]:
    return {name for name, _ in walk(kind)}


def not_produced(sdk: Any, ours: Any) -> set[str]:
    return plain_fields(sdk) - plain_fields(ours)


def below(names: set[str], parents: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith(tuple(f"{parent}." for parent in parents))}


# requests


@requirement("sdk.request")
@pytest.mark.parametrize(("sdk", "ours"), REQUESTS)
def test_every_request_field_of_the_sdk_is_one_of_ours(sdk: Any, ours: Any) -> None:
    missing = lacking(sdk, ours)
    assert {name for name in missing if not explained(name, REQUEST_FIELDS_WE_LEAVE_OUT)} == set()


@requirement("sdk.request")
@pytest.mark.parametrize(("sdk", "ours"), REQUESTS)
def test_every_value_that_the_sdk_can_send_is_taken(sdk: Any, ours: Any) -> None:
    assert refused_values(sdk, ours) == set()


@requirement("sdk.request")
def test_no_request_field_is_explained_that_needs_no_explanation() -> None:
    chat = sdk_chat.CompletionCreateParamsStreaming, chat_request.ChatCompletionRequest
    for reason in REQUEST_FIELDS_WE_LEAVE_OUT:
        assert any(explained(name, [reason]) for name in lacking(*chat)), reason


# answers


@requirement("sdk.answer")
@pytest.mark.parametrize(("sdk", "ours"), ANSWERS)
def test_every_answer_field_of_the_sdk_is_produced_or_named_here(sdk: Any, ours: Any) -> None:
    missing = not_produced(sdk, ours)
    open_fields = [name for name, kind in walk(ours) if takes_anything(kind)]
    missing -= below(missing, open_fields)
    assert {name for name in missing if not explained(name, ANSWER_FIELDS_WE_LEAVE_OUT)} == set()


@requirement("sdk.answer")
@pytest.mark.parametrize(("sdk", "ours"), ANSWERS)
def test_every_answer_field_that_the_sdk_does_not_know_is_named_here(sdk: Any, ours: Any) -> None:
    assert {name for name in not_produced(ours, sdk) if not explained(name, ANSWER_FIELDS_WE_ADD)} == set()


@requirement("sdk.answer")
def test_no_answer_field_is_explained_that_needs_no_explanation() -> None:
    pairs = [parameters.values for parameters in ANSWERS]
    missing = {name for sdk, ours in pairs for name in not_produced(sdk, ours)}
    added = {name for sdk, ours in pairs for name in not_produced(ours, sdk)}
    for reason in ANSWER_FIELDS_WE_LEAVE_OUT:
        assert any(explained(name, [reason]) for name in missing), reason
    for reason in ANSWER_FIELDS_WE_ADD:
        assert any(explained(name, [reason]) for name in added), reason


# real answers


def unknown(value: Any, path: str = "") -> Iterator[str]:
    """The fields of a parsed answer that the SDK does not know."""
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, path)
    elif isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}".lstrip(".")
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name), f"{path}.{name}")


def strictly(sdk: type[pydantic.BaseModel], text: str) -> set[str]:
    """Validate an answer as the SDK's type, without coercion; returns the fields that the SDK does not know."""
    return set(unknown(sdk.model_validate_json(text, strict=True)))


@requirement("sdk.strict")
@pytest.mark.parametrize("name", CASES)
@in_process
async def test_answers_and_chunks_are_valid_by_the_sdks_types_strictly(name: str, http: Http) -> None:
    case = CASES[name]
    ask = {"model": "agent", "messages": HELLO, **case.ask, "stream_options": {"include_usage": True}}
    async with http(Says(*case.items)) as client:
        plain = await client.post("/v1/chat/completions", json=ask)
        streamed = await client.post("/v1/chat/completions", json=ask | {"stream": True})
    found = strictly(ChatCompletion, plain.text)
    for event in data_of(streamed.text)[:-1]:
        found |= strictly(ChatCompletionChunk, event)
    assert {name for name in found if not explained(name, ANSWER_FIELDS_WE_ADD)} == set()


@requirement("sdk.strict")
@in_process
async def test_a_streamed_custom_call_is_the_one_thing_the_sdk_has_no_type_for(http: Http) -> None:
    ask = {"model": "agent", "messages": HELLO, "tools": [CODE]}
    async with http(Says(ToolCallReady("c", "code", "print(1)"))) as client:
        plain = await client.post("/v1/chat/completions", json=ask)
        streamed = await client.post("/v1/chat/completions", json=ask | {"stream": True})
    assert strictly(ChatCompletion, plain.text) == {"usage.reported"}
    with pytest.raises(pydantic.ValidationError) as caught:
        ChatCompletionChunk.model_validate_json(data_of(streamed.text)[1], strict=True)
    assert [error["loc"][-2:] for error in caught.value.errors()] == [(0, "type")]


@requirement("sdk.strict")
@in_process
async def test_completions_and_models_are_valid_by_the_sdks_types_strictly(http: Http) -> None:
    ask = {"model": "agent", "prompt": "x"}
    async with http(Says("Hi", UsageReported(1, 2, 3, 4))) as client:
        plain = await client.post("/v1/completions", json=ask)
        models = await client.get("/v1/models")
    assert strictly(SdkCompletion, plain.text) == set()
    assert [strictly(SdkModel, json.dumps(model)) for model in models.json()["data"]] == [{"capabilities"}]
