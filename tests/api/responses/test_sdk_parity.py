"""Responses, conversations, files and embeddings compared with the installed openai SDK: what we lack fails by name.

Items, tools and events are told apart by their `type`. A new type fails here until it is added to one of the lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse, FileDeleted, FileObject
from openai.types import embedding_create_params as sdk_embedding
from openai.types import file_create_params as sdk_file
from openai.types import file_list_params as sdk_files
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItemList
from openai.types.conversations import conversation_create_params as sdk_conversation
from openai.types.conversations import conversation_update_params as sdk_conversation_update
from openai.types.conversations import item_create_params as sdk_items
from openai.types.conversations import item_list_params as sdk_item_list
from openai.types.responses import (
    CompactedResponse,
    InputTokenCountResponse,
    Response,
    ResponseItemList,
    ResponseStreamEvent,
    input_item_list_params,
    input_token_count_params,
    response_compact_params,
    response_create_params,
    response_retrieve_params,
)
from openai.types.responses.response_input_param import ResponseInputItemParam
from openai.types.responses.responses_client_event import ResponsesClientEvent
from openai.types.responses.responses_server_event import ResponsesServerEvent
from openai.types.responses.tool_param import ToolParam

from openai_compat.api.openapi import path_items
from openai_compat.api.routes import openai_api
from openai_compat.wire import conversations, embeddings, files
from openai_compat.wire.chat import stored_types as stored
from openai_compat.wire.items import types as items
from openai_compat.wire.responses import event_types as response_events
from openai_compat.wire.responses import request_types as response_request
from openai_compat.wire.responses import response_types as response
from openai_compat.wire.responses import response_types as response_answers
from openai_compat.wire.responses import tool_types as response_tools
from openai_compat.wire.responses.parse.request import COMPACT_FIELDS, TOKEN_FIELDS
from openai_compat.wire.responses.parse.websocket import parse_command
from tests.api.chat.test_sdk_parity import (
    explained,
    fields,
    lacking,
    literals,
    members,
    not_produced,
    plain_fields,
    refused_values,
)
from tests.requirements import requirement

CREATE: Any = response_create_params.ResponseCreateParamsStreaming

ITEMS_TAKEN_AS_THEY_ARE = frozenset(
    [
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "compaction_trigger",
        "computer_call",
        "computer_call_output",
        "configuration_update",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "web_search_call",
    ]
)
"""Not validated: stored, listed and passed to agents as they were sent."""
TOOLS_TAKEN_AS_THEY_ARE = frozenset(
    [
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    ]
)
"""Hosted tools: passed to agents as they were sent."""
ITEM_FIELDS_WE_LEAVE_OUT = {
    "*.prompt_cache_breakpoint*": "taken as an unknown field; agents see it in raw_items",
    "*.annotations*": "what the assistant said before is taken as it is, below its text",
    "*.logprobs*": "what the assistant said before is taken as it is, below its text",
    "*.caller*": "taken as an unknown field; agents see it in raw_items",
    "*.namespace": "taken as an unknown field; the name that the agent sees has it",
    "*.async*": "taken as an unknown field, and obeyed: such a call may stay without a result",
    "additional_tools.tools.*": "tools are those of a request",
    "tool_search_output.tools.*": "tools are those of a request",
    "tool_search_output.*": "taken as unknown fields: the tools count",
    "function_call_output.output.*": "parts are told apart by type, and these are chat's",
    "custom_tool_call_output.output.*": "parts are told apart by type, and these are chat's",
}
REQUEST_FIELDS_WE_LEAVE_OUT = {
    "reasoning.context": "taken as an unknown field, repeated, and passed on",
    "reasoning.mode": "taken as an unknown field, repeated, and passed on",
}
TOOL_FIELDS_WE_LEAVE_OUT = {
    "*.allowed_callers": "taken as an unknown field; who may call is for the agent to see to",
    "*.defer_loading": "taken as an unknown field: all tools are shown to the agent",
    "*.output_schema": "taken as an unknown field; the client keeps to it, or not",
    "custom.format.*": "handed over as it is",
}
QUERIES_WITHOUT_EFFECT = frozenset(["include", "include_obfuscation"])
"""Items are shown whole, and stored streams have no padding."""

EVENTS_OF_HOSTED_TOOLS = (
    "response.code_interpreter_call",
    "response.file_search_call.",
    "response.mcp_list_tools.",
    "response.shell_call_",
    "response.web_search_call.",
)
"""Calls of the agent's own tools are `mcp_call` items, whatever the tools do."""
EVENTS_WE_LEAVE_OUT = {
    "response.image_generation_call.generating": "a picture of an agent comes whole",
    "response.image_generation_call.partial_image": "a picture of an agent comes whole",
    "response.reasoning_text.delta": "thinking is written as a summary, which all clients show",
    "response.reasoning_text.done": "thinking is written as a summary, which all clients show",
}
EVENT_FIELDS_WE_ADD = {
    "event": "a status line that Open WebUI draws",
    "error": "the Python client looks for it, and takes no notice of a flat error",
    "response_id": "in OpenAI's document, though not in the SDK",
    "name": "in OpenAI's document, though not in the SDK",
}
ITEMS_WE_NEVER_MAKE = ITEMS_TAKEN_AS_THEY_ARE - {
    "compaction_trigger",
    "configuration_update",
    "image_generation_call",
    "mcp_approval_request",
    "mcp_call",
}
RESULTS = frozenset(
    [
        "function_call_output",
        "custom_tool_call_output",
        "mcp_approval_response",
        "additional_tools",
        "tool_search_output",
    ]
)
"""Items that only clients create."""
OUTPUT_FIELDS_WE_LEAVE_OUT = {
    "*.caller*": "agents have no programs that call tools",
    "compaction.created_by": "always by the agent",
    "image_generation_call.*": "how a picture was made is the agent's own business",
    "mcp_call.error.*": "the SDK merges three kinds of errors; ours has the content of a tool's",
    "message.content.annotations.*": "agents cite URLs, not files",
    "reasoning.content*": "thinking is written as a summary, which all clients show",
    "reasoning.encrypted_content": "there is nothing to encrypt, and null is refused by strict clients",
}
OUTPUT_FIELDS_WE_ADD = {
    "custom_tool_call.status": "in OpenAI's document, though not in the SDK",
    "mcp_call.error.content*": "the SDK knows an error as any object",
}
RESPONSE_FIELDS_WE_LEAVE_OUT = {
    "access_programs": "repeated if it was sent",
    "conversation*": "there if it belongs to one",
    "image*": "repeated if it was sent",
    "input_transformations*": "inputs are not transformed",
    "moderation*": "no moderation is run",
    "prompt*": "there are no prompt templates and no prompt cache; what was sent of them is repeated",
    "tool_usage*": "hosted tools are not counted",
    "user": "repeated if it was sent",
    "usage.input_tokens_details.cache_write_tokens_details*": "agents do not report it",
    "error.misalignment*": "answers are not judged",
}
RESPONSE_FIELDS_WE_ADD = {
    "frequency_penalty": "Open Responses wants it",
    "presence_penalty": "Open Responses wants it",
    "store": "Open Responses wants it",
    "usage.reported": "false where the agent reported no usage",
    "error.original_code": "the error's own code, of which OpenAI allows few",
    "error.type": "as in the envelope of an error",
    "error.param": "as in the envelope of an error",
}


def by_type(kind: Any) -> dict[str, list[Any]]:
    """The members of a union by their `type`."""
    found: dict[str, list[Any]] = {}
    for member in members(kind):
        for name in literals(fields(member).get("type", str)):
            found.setdefault(name, []).append(member)
    return found


def of_types(union: dict[str, list[Any]], names: Iterable[str]) -> set[str]:
    """The fields of these types, each with the type before it."""
    return {f"{name}.{field}" for name in names for member in union[name] for field in plain_fields(member)}


def unexplained(found: set[str], reasons: Iterable[str]) -> set[str]:
    reasons = list(reasons)
    return {name for name in found if not explained(name, reasons)}


# requests


THEIR_ITEMS, OUR_ITEMS = by_type(ResponseInputItemParam), by_type(items.ItemInput)
THEIR_TOOLS, OUR_TOOLS = by_type(ToolParam), by_type(response_tools.ToolParam)


@requirement("sdk.request")
def test_every_parameter_of_a_response_is_one_of_ours() -> None:
    apart = ("input", "tools", "tool_choice")
    missing = {name for name in lacking(CREATE, response_request.ResponseRequest) if not name.startswith(apart)}

    assert unexplained(missing, REQUEST_FIELDS_WE_LEAVE_OUT) == set()
    assert set(REQUEST_FIELDS_WE_LEAVE_OUT) == missing
    assert set(fields(CREATE)) <= set(fields(response_request.ResponseRequest))


@requirement("sdk.request")
def test_every_value_of_a_parameter_of_a_response_is_taken() -> None:
    refused = refused_values(CREATE, response_request.ResponseRequest)

    assert {value for value in refused if not value.startswith(("input", "tools", "tool_choice"))} == set()


@requirement("sdk.request")
@pytest.mark.parametrize(
    ("sdk", "ours"),
    [
        (input_token_count_params.InputTokenCountParams, TOKEN_FIELDS),
        (response_compact_params.ResponseCompactParams, COMPACT_FIELDS),
    ],
    ids=["input_tokens", "compact"],
)
def test_what_is_asked_about_a_request_has_the_fields_of_the_sdk(sdk: Any, ours: frozenset[str]) -> None:
    assert set(fields(sdk)) == ours


@requirement("sdk.request")
def test_every_type_of_item_is_checked_or_taken_as_it_is() -> None:
    assert set(THEIR_ITEMS) == items.VALIDATED_TYPES | ITEMS_TAKEN_AS_THEY_ARE
    assert not items.VALIDATED_TYPES & ITEMS_TAKEN_AS_THEY_ARE


@requirement("sdk.request")
def test_every_field_of_an_item_that_is_checked_is_one_of_ours() -> None:
    missing = of_types(THEIR_ITEMS, items.VALIDATED_TYPES) - of_types(OUR_ITEMS, items.VALIDATED_TYPES)

    assert unexplained(missing, ITEM_FIELDS_WE_LEAVE_OUT) == set()
    assert [
        reason for reason in ITEM_FIELDS_WE_LEAVE_OUT if not any(explained(name, [reason]) for name in missing)
    ] == []


@requirement("sdk.request")
def test_every_type_of_tool_is_the_clients_or_taken_as_it_is() -> None:
    own = {"function", "custom", "namespace"}
    missing = of_types(THEIR_TOOLS, own) - of_types(OUR_TOOLS, own)

    assert set(THEIR_TOOLS) == own | TOOLS_TAKEN_AS_THEY_ARE
    missing = {name for name in missing if not name.startswith("namespace.tools.")}  # they are the same two types
    assert unexplained(missing, TOOL_FIELDS_WE_LEAVE_OUT) == set()


@requirement("sdk.request")
@pytest.mark.parametrize(
    ("sdk", "ours"),
    [
        (sdk_conversation.ConversationCreateParams, conversations.ConversationCreate),
        (sdk_conversation_update.ConversationUpdateParams, stored.MetadataUpdate),
        (sdk_embedding.EmbeddingCreateParams, embeddings.EmbeddingRequest),
    ],
    ids=["conversation", "conversation update", "embedding"],
)
def test_every_other_body_has_the_fields_of_the_sdk(sdk: Any, ours: Any) -> None:
    assert set(fields(sdk)) == set(fields(ours))


@requirement("sdk.request")
def test_a_form_with_a_file_has_the_fields_of_the_sdk() -> None:
    form = path_items(openai_api(bare_paths=False).routes)["/v1/files"]["post"]["requestBody"]["content"][
        "multipart/form-data"
    ]["schema"]["properties"]
    sent = fields(sdk_file.FileCreateParams)
    expiry = {f"expires_after[{name}]" for name in fields(sdk_file.ExpiresAfter)}

    assert set(form) == set(sent) - {"expires_after"} | expiry
    assert set(form["purpose"]["enum"]) >= set(literals(sent["purpose"]))


@requirement("sdk.request")
@pytest.mark.parametrize(
    ("sdk", "path"),
    [
        (response_retrieve_params.ResponseRetrieveParamsStreaming, "/v1/responses/{response_id}"),
        (input_item_list_params.InputItemListParams, "/v1/responses/{response_id}/input_items"),
        (sdk_item_list.ItemListParams, "/v1/conversations/{conversation_id}/items"),
        (sdk_files.FileListParams, "/v1/files"),
    ],
)
def test_every_query_of_the_sdk_is_one_of_ours(sdk: Any, path: str) -> None:
    known = {
        parameter["name"]
        for parameter in path_items(openai_api(bare_paths=False).routes)[path]["get"]["parameters"]
        if parameter["in"] == "query"
    }

    assert set(fields(sdk)) - QUERIES_WITHOUT_EFFECT == known


@requirement("sdk.request")
def test_items_are_added_with_the_fields_of_the_sdk() -> None:
    sent = set(fields(sdk_items.ItemCreateParams)) - QUERIES_WITHOUT_EFFECT

    assert sent == set(fields(conversations.ConversationItems))


@requirement("sdk.request")
def test_every_event_that_the_sdk_sends_over_a_websocket_is_understood() -> None:
    event = {"previous_response_id": "resp_1", "input": "more", "model": "agent"}
    steer = {name: event[name] for name in ("previous_response_id", "input")}

    for kind in by_type(ResponsesClientEvent):
        parse_command({**(steer if kind == "response.steer" else event), "type": kind}, None, 1)


# answers


THEIR_EVENTS, OUR_EVENTS = by_type(ResponseStreamEvent), by_type(response_events.StreamEvent)
THEIR_OUTPUT, OUR_OUTPUT = by_type(fields(Response)["output"]), by_type(response.OutputItem)


@requirement("sdk.answer")
def test_every_stream_event_is_written_or_named_here() -> None:
    missing = set(THEIR_EVENTS) - set(OUR_EVENTS)

    assert {name for name in missing if not name.startswith(EVENTS_OF_HOSTED_TOOLS)} == set(EVENTS_WE_LEAVE_OUT)
    assert set(OUR_EVENTS) <= set(THEIR_EVENTS)


@requirement("sdk.answer")
@pytest.mark.parametrize("name", sorted(OUR_EVENTS))
def test_a_stream_event_has_the_fields_of_the_sdk(name: str) -> None:
    theirs = {field for member in THEIR_EVENTS[name] for field in fields(member)}
    ours = {field for member in OUR_EVENTS[name] for field in fields(member)}

    assert theirs - ours == set()
    assert ours - theirs <= set(EVENT_FIELDS_WE_ADD)


@requirement("sdk.answer")
def test_every_event_of_a_websocket_is_one_of_a_stream_or_of_steering() -> None:
    steering = {"response.steer.accepted", "response.steer.pending", "response.steer.failed"}

    assert set(by_type(ResponsesServerEvent)) == set(THEIR_EVENTS) | steering


@requirement("sdk.answer")
def test_every_type_of_output_is_made_or_named_here() -> None:
    assert set(THEIR_OUTPUT) - set(OUR_OUTPUT) == ITEMS_WE_NEVER_MAKE | RESULTS
    assert set(OUR_OUTPUT) <= set(THEIR_OUTPUT)


@requirement("sdk.answer")
def test_every_field_of_an_output_item_is_made_or_named_here() -> None:
    theirs, ours = of_types(THEIR_OUTPUT, OUR_OUTPUT), of_types(OUR_OUTPUT, OUR_OUTPUT)

    assert unexplained(theirs - ours, OUTPUT_FIELDS_WE_LEAVE_OUT) == set()
    assert unexplained(ours - theirs, OUTPUT_FIELDS_WE_ADD) == set()


@requirement("sdk.answer")
def test_every_field_of_a_response_is_made_or_named_here() -> None:
    below = ("usage", "error", "incomplete_details")
    theirs, ours = set(fields(Response)), set(fields(response.Response))
    for name in below:
        theirs |= {f"{name}.{field}" for field in plain_fields(fields(Response)[name])}
        ours |= {f"{name}.{field}" for field in plain_fields(fields(response.Response)[name])}

    assert unexplained(theirs - ours, RESPONSE_FIELDS_WE_LEAVE_OUT) == set()
    assert unexplained(ours - theirs, RESPONSE_FIELDS_WE_ADD) == set()


@requirement("sdk.answer")
@pytest.mark.parametrize(
    ("sdk", "ours", "left_out"),
    [
        (Conversation, conversations.ConversationObject, set[str]()),
        (ConversationDeletedResource, conversations.DeletedConversation, set[str]()),
        (FileObject, files.File, {"status_details"}),  # deprecated, and about fine-tuning
        (FileDeleted, files.DeletedFile, set[str]()),
        (CreateEmbeddingResponse, embeddings.EmbeddingList, set[str]()),
        (InputTokenCountResponse, response_answers.InputTokens, set[str]()),
    ],
)
def test_every_field_of_another_answer_is_made(sdk: Any, ours: Any, left_out: set[str]) -> None:
    assert not_produced(sdk, ours) == left_out
    assert not_produced(ours, sdk) == set()


@requirement("sdk.answer")
@pytest.mark.parametrize(
    ("sdk", "ours", "left_out"),
    [
        (ConversationItemList, conversations.ItemPage, set[str]()),
        (ResponseItemList, response_answers.InputItemPage, set[str]()),
        (CompactedResponse, response_answers.CompactedResponse, {"image"}),  # requests that are only stored
    ],
)
def test_every_field_of_a_list_of_items_is_made(sdk: Any, ours: Any, left_out: set[str]) -> None:
    assert set(fields(sdk)) == set(fields(ours)) | left_out
