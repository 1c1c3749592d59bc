"""Approvals in chat: asked as text or through a tool of the client's, decided once, by the principal that was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from openai_compat import AgentRequest, Conversations, Finished, Paused, PendingCall, Principal, ToolResult
from openai_compat.backend import RunContext
from tests.connecting import Connect, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

DELETE: Any = [{"role": "user", "content": "Delete a"}]
ASKS: Any = {"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}


class Careful:
    """Asks before it deletes, then reports the decision and the conversation that it sees."""

    def __init__(self) -> None:
        self.requests: list[AgentRequest] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.requests.append(request)
        resume = request.resume
        if resume is None or not resume.decisions:
            yield "Let me see."
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),), {"step": 7})
            return
        decision = resume.decisions["call_1"]
        yield ToolResult("call_1", "", denied=not decision.approved)
        yield f"{decision.approved} {decision.always} {decision.arguments} {resume.state} {request.prompt}"


async def said(client: openai.AsyncOpenAI, messages: Any, *, stream: bool = False, **more: Any) -> Any:
    """The answer's message."""
    if not stream:
        return (await client.chat.completions.create(model="agent", messages=messages, **more)).choices[0].message
    async with client.chat.completions.stream(model="agent", messages=messages, **more) as made:
        return (await made.get_final_completion()).choices[0].message


@requirement("approval.text")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("yes", "True False None {'step': 7} Delete a"),
        ("Always!", "True True None {'step': 7} Delete a"),
        (" No. ", "False False None {'step': 7} Delete a"),
        ("What does that do?", "False False None {'step': 7} What does that do?"),
    ],
)
async def test_a_question_in_text_is_answered_in_text(connect: Connect, stream: bool, word: str, told: str) -> None:
    async with connect(Careful()) as client:
        asked = await said(client, DELETE, stream=stream)
        history = [*DELETE, {"role": "assistant", "content": asked.content}, {"role": "user", "content": word}]
        answer = await said(client, history, stream=stream)

    assert asked.content.startswith(
        'Let me see.\n\nMay I run delete with {"file":"a"}? Answer yes, no or always. [appr_'
    )
    assert answer.content == told


@requirement("approval.once")
@in_process
async def test_a_decision_counts_once_and_only_its_own_principals(connect: Connect) -> None:
    agent = Careful()
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with connect(agent, keys=keys, api_key="hers") as client:
        asked = await said(client, DELETE)
        history = [*DELETE, {"role": "assistant", "content": asked.content}, {"role": "user", "content": "yes"}]
        with pytest.raises(openai.NotFoundError) as foreign:
            await said(client.with_options(api_key="his"), history)
        await said(client, history)
        with pytest.raises(openai.ConflictError) as late:
            await said(client, history)

    assert (foreign.value.code, late.value.code) == ("approval_not_found", "approval_decided")
    assert len(agent.requests) == 2


@requirement("approval.text")
@in_process
async def test_in_a_conversation_only_the_answer_is_sent(connect: Connect) -> None:
    agent = Careful()
    async with connect(agent, conversations=Conversations()) as client:
        trip = {"X-Conversation-Id": "trip"}
        await said(client, DELETE, extra_headers=trip)
        answer = await said(client, [{"role": "user", "content": "yes"}], extra_headers=trip)
        items = (await client.conversations.items.list("trip", order="asc")).data

    assert answer.content == "True False None {'step': 7} Delete a"
    assert [item.role for item in items] == ["user", "assistant", "user", "assistant"]


@requirement("approval.tool")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_with_a_tool_for_it_is_asked_by_a_call_of_that(connect: Connect, stream: bool) -> None:
    async with connect(Careful()) as client:
        asked = await said(client, DELETE, tools=[ASKS], stream=stream)
        call = asked.tool_calls[0]
        decided = {"decision": "allow-once", "arguments": {"file": "b"}}
        history = [
            *DELETE,
            asked.model_dump(include={"role", "content", "tool_calls"}),
            {"role": "tool", "tool_call_id": call.id, "content": json.dumps(decided)},
        ]
        answer = await said(client, history, tools=[ASKS], stream=stream)

    asked_about = json.loads(call.function.arguments)
    assert (asked_about["tool"], asked_about["arguments"]) == ("delete", '{"file":"a"}')
    assert answer.content == 'True False {"file":"b"} {\'step\': 7} Delete a'


@requirement("approval.tool")
@in_process
async def test_a_decision_that_is_none_is_a_400(connect: Connect) -> None:
    async with connect(Careful()) as client:
        asked = await said(client, DELETE, tools=[ASKS])
        history = [
            *DELETE,
            asked.model_dump(include={"role", "content", "tool_calls"}),
            {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "perhaps"},
        ]
        with pytest.raises(openai.BadRequestError):
            await said(client, history, tools=[ASKS])


class Silent:
    """Reports only the result of a decided call, and never that the call was denied, as some frameworks do."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is None or not request.resume.decisions:
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),), {})
            return
        yield ToolResult("call_1", "Error: rejected" if not request.resume.decisions["call_1"].approved else "gone")
        yield "Well."


@requirement("approval.shown")
@in_process
@pytest.mark.parametrize(("word", "ended"), [("yes", "delete done"), ("no", "delete was denied")])
async def test_a_resumed_call_is_shown_by_its_name_and_a_denied_one_as_denied(
    connect: Connect, word: str, ended: str
) -> None:
    async with connect(Silent()) as client:
        asked = await said(client, DELETE)
        history = [*DELETE, {"role": "assistant", "content": asked.content}, {"role": "user", "content": word}]
        chunks = [c async for c in await client.chat.completions.create(model="agent", messages=history, stream=True)]
    lines = [(chunk.model_extra or {})["event"]["data"]["description"] for chunk in chunks if chunk.model_extra]
    assert lines == ["Running delete …", ended]


@requirement("approval.shown")
@in_process
@pytest.mark.parametrize("approve", [True, False])
async def test_in_the_responses_api_a_denied_call_is_no_success(connect: Connect, approve: bool) -> None:
    tools: Any = [{"type": "mcp", "server_label": "agent", "server_url": "https://example.org"}]
    async with connect(Silent()) as client:
        asked = await client.responses.create(model="agent", input="Delete a", tools=tools)
        decision: Any = [
            {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": approve}
        ]
        told = await client.responses.create(model="agent", input=decision, previous_response_id=asked.id, tools=tools)
    call: Any = told.output[0]
    assert (call.type, call.name, call.arguments) == ("mcp_call", "delete", '{"file":"a"}')
    assert (call.status, call.error is None) == (("completed", True) if approve else ("failed", False))


@requirement("tools.order")
@in_process
async def test_a_broken_contract_is_the_agents_error_and_named_in_the_log(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        if prompt == "state":
            yield Paused((PendingCall("c", "delete", "{}", "approval"),), {"seen": {1}})
        elif prompt == "late":
            yield Finished()
            yield "more"
        else:
            yield Paused((PendingCall("c", "delete", "{}", "no such"),))

    codes: list[Any] = []
    async with connect(agent) as client:
        for prompt in ("state", "else"):
            with pytest.raises(openai.InternalServerError) as refused:
                await said(client, [{"role": "user", "content": prompt}])
            codes.append(refused.value.code)
        await said(client, [{"role": "user", "content": "late"}])
    assert codes == ["invalid_event", "invalid_event"]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [text.partition(": ")[2] for text in errors] == ["the agent broke its contract (invalid_event)"] * 2
    assert "its field 'state'" in caplog.text
    assert "event_order: the agent said something (str) after its end" in caplog.text
