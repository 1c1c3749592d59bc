"""Continues a conversation: tools declared in items, results in any position, open calls."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest

from openai_compat import AgentRequest, Conversations, Server, ToolCallReady
from openai_compat.agent_request import Caller
from openai_compat.errors import InvalidRequest
from openai_compat.messages import AssistantMessage, ToolMessage
from openai_compat.wire.responses.continuation import NOT_RUN
from openai_compat.wire.responses.parse.request import ParsedResponse, parse_response, with_context
from tests.requirements import requirement
from tests.transports import reach

Item = dict[str, Any]
FIND: Item = {"type": "function", "name": "find", "parameters": {"type": "object"}}
RUN: Item = {"type": "custom", "name": "run"}
SPACE: Item = {"type": "namespace", "name": "functions", "description": "", "tools": [RUN, {**FIND, "name": "wait"}]}
MORE: Item = {"id": "at_1", "type": "additional_tools", "role": "developer", "tools": [SPACE, {"type": "web_search"}]}
USER: Item = {"id": "msg_u", "type": "message", "role": "user", "content": "hi"}
CALL: Item = {"id": "fc_c", "type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"}
RESULT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "found"}
AGAIN: Item = {"role": "user", "content": "again"}


def parse_request(*items: Item, **fields: Any) -> ParsedResponse:
    numbers = itertools.count(1)
    body = {"model": "agent", "input": [*items], **fields}
    return parse_response(json.dumps(body).encode(), Caller(), lambda prefix: f"{prefix}{next(numbers)}")


def parse_stateless(*items: Item, **fields: Any) -> ParsedResponse:
    return with_context(parse_request(*items, **fields), [])


def parse_after(context: list[Item], *items: Item, **fields: Any) -> ParsedResponse:
    return with_context(parse_request(*items, previous_response_id="resp_1", **fields), context)


def offered_names(request: ParsedResponse) -> list[str]:
    return [tool.name for tool in request.request.tools]


def result_texts(request: ParsedResponse) -> dict[str, str]:
    resume = request.request.resume
    return {} if resume is None else {call_id: result.text for call_id, result in resume.results.items()}


# Tools declared in items


@requirement("responses.more_tools")
def test_tools_that_an_item_brings_are_offered_like_those_of_the_request() -> None:
    request = parse_stateless(MORE, USER, tools=[FIND])
    assert offered_names(request) == ["find", "functions__run", "functions__wait"]
    assert request.tools.custom == {"functions__run"}
    assert request.tools.namespaces["functions__run"] == ("functions", "run")
    assert request.request.extra["hosted_tools"] == [{"type": "web_search"}]
    assert request.input[0] == MORE
    assert request.echo["tools"] == [{"description": None, "strict": None, **FIND}]


@requirement("responses.more_tools")
def test_tools_stay_on_offer_in_what_continues_the_conversation() -> None:
    request = parse_after([MORE, USER], AGAIN, tool_choice={"type": "custom", "name": "run"})
    assert offered_names(request) == ["functions__run"]
    assert request.request.tool_choice.required
    assert parse_after([MORE, USER], AGAIN, tool_choice="required").request.tool_choice.names == {
        "functions__run",
        "functions__wait",
    }


@requirement("responses.more_tools")
def test_tools_that_the_clients_own_search_has_found_are_offered() -> None:
    search = {"type": "tool_search_call", "call_id": "ts_1", "execution": "client", "arguments": {"query": "find"}}
    found = {"type": "tool_search_output", "call_id": "ts_1", "execution": "client", "tools": [FIND]}
    assert offered_names(parse_stateless(USER, search, found)) == ["find"]


@requirement("responses.more_tools")
def test_a_tool_that_is_offered_again_is_the_later_one() -> None:
    newer = {**MORE, "id": None, "tools": [{**RUN, "name": "find"}]}
    request = parse_after([{**MORE, "tools": [FIND]}, USER], {**MORE, "id": None}, newer, AGAIN, tools=[FIND])
    assert offered_names(request) == ["functions__run", "functions__wait", "find"]
    assert request.tools.custom == {"functions__run", "find"}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "input[0].tools"),
        ([{}], "input[0].tools[0].type"),
        ([{"type": "function"}], "input[0].tools[0].name"),
        ([FIND, FIND], "input[0].tools[1].name"),
        ([{**SPACE, "tools": [RUN, RUN]}], "input[0].tools[0].tools[1].name"),
    ],
)
def test_tools_of_an_item_are_refused_where_those_of_the_request_are(tools: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_stateless({**MORE, "tools": tools}, USER)
    assert (refused.value.param or "").startswith(param)


def test_a_choice_of_a_tool_that_nothing_brings_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_after([USER], AGAIN, tool_choice={"type": "function", "name": "find"})
    assert refused.value.param == "tool_choice.name"


def test_what_was_stored_without_being_checked_brings_nothing() -> None:
    assert offered_names(parse_after([{**MORE, "tools": "all"}, {**MORE, "tools": [FIND, FIND]}, USER], AGAIN)) == []


# Prewarming


@requirement("responses.warm_up")
@pytest.mark.parametrize(
    "fields", [{"generate": False}, {"prompt_cache_options": {"prewarm": True}}, {"generate": False, "input": None}]
)
def test_a_client_may_warm_up_with_nothing_to_say(fields: Item) -> None:
    assert parse_stateless(**fields).request.messages == ()


# Calls made by other servers


SHELL: Item = {"type": "local_shell_call", "call_id": "ls_1", "action": {"type": "exec", "command": ["ls"], "env": {}}}


@requirement("responses.other_calls")
@pytest.mark.parametrize(
    ("call", "result", "name", "told"),
    [
        (SHELL, {**RESULT, "call_id": "ls_1"}, "local_shell", "found"),
        ({**SHELL, "call_id": None, "id": "ls_1"}, {**RESULT, "call_id": "ls_1"}, "local_shell", "found"),
        (SHELL, {"type": "local_shell_call_output", "id": "ls_1", "output": "found"}, "local_shell", "found"),
        (
            {"type": "shell_call", "call_id": "s_1", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "s_1", "output": [{"stdout": "a"}]},
            "shell",
            '[{"stdout":"a"}]',
        ),
        (
            {"type": "apply_patch_call", "call_id": "p_1", "operation": {"type": "delete_file", "path": "a"}},
            {"type": "apply_patch_call_output", "call_id": "p_1", "status": "completed"},
            "apply_patch",
            "completed",
        ),
        (
            {"type": "computer_call", "call_id": "c_1", "action": {"type": "screenshot"}},
            {"type": "computer_call_output", "call_id": "c_1", "output": {"image_url": "data:,"}},
            "computer",
            "",
        ),
    ],
)
def test_a_result_of_a_call_that_another_server_made_is_taken(call: Item, result: Item, name: str, told: str) -> None:
    request = parse_stateless(USER, call, result).request
    called, answer = request.messages[1:]
    assert isinstance(called, AssistantMessage)
    assert isinstance(answer, ToolMessage)
    assert [(made.name, made.call_id) for made in called.tool_calls] == [(name, answer.call_id)]
    assert (answer.name, answer.text) == (name, told)
    assert request.resume is not None
    assert request.raw_messages[2]["tool_call_id"] == answer.call_id


@requirement("responses.other_calls")
def test_a_call_that_another_server_made_needs_no_result() -> None:
    assert len(parse_stateless(USER, SHELL, AGAIN).request.messages) == 2


# Results in any position


@requirement("responses.results")
@pytest.mark.parametrize("items", [[RESULT, AGAIN], [AGAIN, RESULT], [AGAIN, RESULT, AGAIN]])
def test_results_are_found_wherever_they_stand_in_the_new_input(items: list[Item]) -> None:
    assert result_texts(parse_after([USER, CALL], *items)) == {"call_1": "found"}
    assert result_texts(parse_stateless(USER, CALL, *items)) == {"call_1": "found"}
    assert parse_after([USER, CALL], *items).request.prompt == "again"


@requirement("responses.results")
def test_all_results_of_one_answer_are_found() -> None:
    more = [{**CALL, "id": f"fc_{n}", "call_id": f"call_{n}"} for n in (2, 3)]
    outputs = [{**RESULT, "call_id": f"call_{n}"} for n in (3, 1, 2)]
    request = parse_after([USER, CALL, *more], outputs[0], AGAIN, *outputs[1:])
    assert set(result_texts(request)) == {"call_1", "call_2", "call_3"}


@requirement("responses.results")
def test_results_that_were_answered_before_resume_nothing() -> None:
    said = {"role": "assistant", "content": "It is there."}
    assert result_texts(parse_stateless(USER, CALL, RESULT, said, AGAIN)) == {}
    assert result_texts(parse_after([USER, CALL, {**RESULT, "id": "fco_1"}, said], AGAIN)) == {}


@requirement("responses.results")
@pytest.mark.parametrize(
    "result",
    [
        {"type": "function_call_output", "output": "found"},
        {"type": "function_call_output", "output": "found", "name": "find"},
        {"type": "function_call_output", "output": "found", "call_id": None, "name": "find", "namespace": None},
    ],
)
def test_a_result_without_a_call_id_answers_the_call_that_it_can_only_mean(result: Item) -> None:
    request = parse_after([USER, CALL], result)
    assert result_texts(request) == {"call_1": "found"}
    assert request.input[0]["call_id"] == "call_1"
    other = {**CALL, "id": "fc_d", "call_id": "call_2", "name": "look"}
    assert result_texts(parse_after([USER, CALL, other], {**RESULT, "call_id": "call_2"}, {**result, "name": "find"}))


@requirement("responses.results")
def test_a_result_without_a_call_id_may_name_a_tool_of_a_namespace() -> None:
    call = {**CALL, "namespace": "functions"}
    for name in ({"name": "find", "namespace": "functions"}, {"name": "find"}, {"name": "functions__find"}):
        assert result_texts(parse_after([USER, call], {"type": "function_call_output", "output": "found", **name}))


@requirement("responses.results")
@pytest.mark.parametrize(
    ("context", "result"),
    [
        ([USER], {"output": "found"}),
        ([USER, CALL], {"output": "found", "name": "look"}),
        ([USER, CALL], {"output": "found", "name": "find", "namespace": "other"}),
        ([USER, CALL, {**CALL, "id": "fc_d", "call_id": "call_2"}], {"output": "found", "name": "find"}),
        ([USER, CALL, {**RESULT, "id": "fco_9"}], {"output": "found"}),
    ],
)
def test_a_result_that_could_mean_no_call_or_several_is_refused(context: list[Item], result: Item) -> None:
    with pytest.raises(InvalidRequest, match="send the 'call_id'") as refused:
        parse_after(context, {"type": "function_call_output", **result})
    assert refused.value.param == "input[0].call_id"


# Open calls in a stored conversation


class Finder:
    """Calls the client's tool on the prompt "call", and otherwise says "said"."""

    def __init__(self) -> None:
        self.requests: list[AgentRequest] = []

    async def __call__(self, request: AgentRequest) -> AsyncIterator[Any]:
        self.requests.append(request)
        if request.prompt == "call" and request.resume is None:
            yield ToolCallReady("call_1", "find", "{}")
        else:
            yield "said"


def open_client(agent: Any) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    return reach(Server({"agent": agent}, conversations=Conversations()), "in-process")


@requirement("responses.heals")
@pytest.mark.anyio
@pytest.mark.parametrize("named", ["body", "header"])
async def test_a_kept_conversation_goes_on_after_a_call_that_nobody_answered(named: str) -> None:
    agent = Finder()
    async with open_client(agent) as client:
        identifier = (await client.post("/v1/conversations", json={})).json()["id"]
        where: Item = {"conversation": identifier} if named == "body" else {}
        headers = {"X-Conversation-Id": identifier} if named == "header" else {}

        async def ask(*items: Item) -> httpx2.Response:
            body = {"model": "agent", "input": [*items], "tools": [FIND], **where}
            return await client.post("/v1/responses", json=body, headers=headers)

        assert (await ask({"role": "user", "content": "call"})).json()["output"][0]["type"] == "function_call"
        for _ in range(2):
            assert (await ask(AGAIN)).status_code == 200
            assert agent.requests[-1].resume is None
            (passed,) = [m for m in agent.requests[-1].raw_messages if m["role"] == "tool"]
            assert passed == {"role": "tool", "tool_call_id": "call_1", "content": NOT_RUN}
        assert (await ask(RESULT)).status_code == 200
        late = agent.requests[-1].resume
        assert late is not None
        assert late.results["call_1"].text == "found"
        kept = (await client.get(f"/v1/conversations/{identifier}/items?order=asc")).json()["data"]
        assert [item["type"] for item in kept].count("function_call_output") == 1


@requirement("responses.heals")
@pytest.mark.anyio
async def test_a_conversation_goes_on_after_a_call_was_taken_out_of_it() -> None:
    agent = Finder()
    async with open_client(agent) as client:
        items = [{"role": "user", "content": "look"}, CALL, RESULT]
        made = (await client.post("/v1/conversations", json={"items": items})).json()["id"]
        await client.delete(f"/v1/conversations/{made}/items/fc_c")
        answer = await client.post("/v1/responses", json={"model": "agent", "input": "hi", "conversation": made})
    assert answer.status_code == 200
    assert [message["role"] for message in agent.requests[-1].raw_messages] == ["user", "user"]


@requirement("responses.heals")
@pytest.mark.anyio
async def test_a_request_that_brings_an_open_call_of_its_own_is_refused_and_not_kept() -> None:
    agent = Finder()
    async with open_client(agent) as client:
        made = (await client.post("/v1/conversations", json={})).json()["id"]
        body = {"model": "agent", "input": [AGAIN, CALL], "conversation": made}
        answer = await client.post("/v1/responses", json=body)
        kept = (await client.get(f"/v1/conversations/{made}/items")).json()["data"]
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert (kept, agent.requests) == ([], [])
