"""Every value that the SDK's types let a client write is accepted, and is returned as the SDK's types describe it.

The values are generated from the types (`sdk_values`): whatever the SDK adds is tried as soon as it is installed.
"""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any, get_args

import pytest
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseItem, ToolParam, response_create_params
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from pydantic import TypeAdapter
from typing_extensions import get_type_hints

from openai_compat.agent_request import Caller
from openai_compat.errors import InvalidRequest
from openai_compat.wire.responses.parse.request import ParsedResponse, parse_response, with_context
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says
from tests.support.sdk_values import values

Json = dict[str, Any]

ITEMS: dict[str, Any] = {member.__name__: member for member in get_args(ResponseInputItemParam)}
TOOLS: dict[str, Any] = {member.__name__: member for member in get_args(ToolParam)}
CREATE = get_type_hints(response_create_params.ResponseCreateParamsNonStreaming, include_extras=True)
NOT_ALONE = frozenset(["input", "conversation", "prompt", "tools", "tool_choice"])
"""Parameters that are tested elsewhere, or that refer to something that must exist."""
TRIED_ELSEWHERE = frozenset(["ItemReference", "McpApprovalResponse"])
"""Items that refer to something that must exist."""
NOTHING_IN_THEM = "needs one of"
"""An image or a file of which the types require only its type has no content: it is refused."""


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parsed(**fields: Any) -> ParsedResponse:
    numbers = itertools.count()
    body = json.dumps({"model": "agent", "input": "hi", **fields}).encode()
    return parse_response(body, Caller(), lambda prefix: f"{prefix}{next(numbers)}")


def kept(item: Json) -> tuple[Json, ...]:
    """The input that is stored for an item; empty if the item has an empty part."""
    try:
        return parsed(input=[item]).conversation_items
    except InvalidRequest as error:
        if NOTHING_IN_THEM not in error.message:
            raise
        return ()


def of_item(item: Json, union: Any) -> Any:
    """The member of the SDK's union that an item belongs to."""
    kinds = [m for m in get_args(get_args(union)[0]) if item["type"] in get_args(m.model_fields["type"].annotation)]
    said = item.get("role") == "assistant"
    return next(kind for kind in kinds if len(kinds) == 1 or kind.__name__ in (MESSAGES[said], "Message"))


MESSAGES = {True: "ResponseOutputMessage", False: "ResponseInputMessageItem"}


@requirement("sdk.values")
@pytest.mark.parametrize("name", [name for name in ITEMS if name != "ItemReference"])
def test_every_item_that_can_be_written_is_taken_and_listed_as_it_should_be(name: str) -> None:
    for value in values(ITEMS[name]):
        for item in kept(value):
            for union in (ResponseItem, ConversationItem):
                adapter(of_item(item, union)).validate_python(item, strict=True)


@requirement("sdk.values")
@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_that_can_be_written_is_taken_and_repeated_as_it_should_be(name: str) -> None:
    for tool in values(TOOLS[name]):
        repeated(parsed(tools=[tool]))
        parsed(input=[{"type": "additional_tools", "role": "developer", "tools": [tool]}])


@requirement("sdk.values")
@pytest.mark.parametrize("name", sorted(CREATE.keys() - NOT_ALONE))
def test_every_parameter_that_can_be_written_is_taken_and_repeated_as_it_should_be(name: str) -> None:
    for value in values(CREATE[name], name):
        alone: Json = {"store": True} if name == "background" else {}
        repeated(parsed(**{**alone, name: value if name != "model" else "agent"}))


def repeated(request: ParsedResponse) -> None:
    rest = {"id": "resp_1", "created_at": 1.0, "object": "response", "output": [], "status": "completed"}
    adapter(Response).validate_python({**request.echo, **rest, "error": None, "incomplete_details": None}, strict=True)


def test_a_trigger_is_for_the_agent_and_no_part_of_the_conversation() -> None:
    request = with_context(parsed(input=[{"role": "user", "content": "hi"}, {"type": "compaction_trigger"}]), [])
    assert [item["type"] for item in request.request.raw_items or ()] == ["message", "compaction_trigger"]
    assert [item["type"] for item in request.conversation_items] == ["message"]


@pytest.mark.anyio
@in_process
async def test_a_trigger_cannot_be_put_into_a_conversation(http: Http) -> None:
    async with http(Says("ok")) as client:
        answer = await client.post("/v1/conversations", json={"items": [{"type": "compaction_trigger"}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "items[0].type")


@requirement("sdk.values")
@pytest.mark.anyio
@in_process
async def test_the_least_and_the_most_of_every_item_come_back_from_the_list_as_they_should_be(http: Http) -> None:
    async with http(Says("ok")) as client:
        for name in ITEMS.keys() - TRIED_ELSEWHERE:
            for value in values(ITEMS[name])[:2]:
                sent = [{"role": "user", "content": "hi"}, *answering(value), value, *answered(value)]
                made = await client.post("/v1/responses", json={"model": "agent", "input": sent})
                if made.status_code == 400 and NOTHING_IN_THEM in made.json()["error"]["message"]:
                    continue
                assert made.status_code == 200, (name, made.text)
                listed = (await client.get(f"/v1/responses/{made.json()['id']}/input_items?order=asc")).json()["data"]
                for item in listed:
                    adapter(of_item(item, ResponseItem)).validate_python(item, strict=True)


def answering(value: Json) -> list[Json]:
    """The call that a result needs."""
    call = {"call_id": "call_x", "name": "text", "arguments": "{}", "input": "", "id": "call_0"}
    kind = str(value.get("type")).removesuffix("_output")
    return [{"type": kind, **call}] if value.get("type") in ("function_call_output", "custom_tool_call_output") else []


def answered(value: Json) -> list[Json]:
    """The result that a call needs."""
    needs = value.get("type") in ("function_call", "custom_tool_call") and not value.get("async")
    return [{"type": f"{value['type']}_output", "call_id": value["call_id"], "output": "x"}] if needs else []
