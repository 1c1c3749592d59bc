"""An agent that is a plain function asks in the middle of its work and continues in place, with any client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest

from openai_compat import AgentRequest, Conversations, Deadlines, Decision, Limits, MemoryStore, Server
from openai_compat.backend import RunContext
from openai_compat.errors import Unavailable
from openai_compat.stores.port import TurnCommit
from tests.connecting import Connect, in_process
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.transports import reach

pytestmark = pytest.mark.anyio

DELETE: Any = [{"role": "user", "content": "Delete a"}]
APPROVER: Any = {"type": "mcp", "server_label": "agent", "server_url": "https://example.org"}
WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
stays = pytest.mark.parametrize("transport", ["in-process", "asgi", "socket"], indirect=True)
"""Transports whose event loop outlives the request; WSGI has none."""


async def careful(prompt: str, context: RunContext) -> AsyncIterator[Any]:
    steps = [prompt]  # a local variable, which no store could keep
    yield "Let me see."
    decision = await context.approve("delete", '{"file":"a"}')
    steps.append(f"{decision.approved} {decision.reason}")
    yield f"{steps} {context.request_id.startswith('req_')}"


async def curious(request: AgentRequest, context: RunContext) -> str:
    result = await context.call_client_tool("get_weather", '{"city":"Paris"}')
    return f"It is {result.text}."


def history(asked: Any, word: str) -> Any:
    return [
        *DELETE,
        {"role": "assistant", "content": asked.choices[0].message.content},
        {"role": "user", "content": word},
    ]


@requirement("agent.asks")
@stays
@pytest.mark.parametrize("stream", [True, False])
async def test_a_function_asks_in_chat_and_goes_on_where_it_was(connect: Connect, stream: bool) -> None:
    async with connect(careful) as client:
        asked = await client.chat.completions.create(model="agent", messages=DELETE)
        said = history(asked, "yes")
        if stream:
            async with client.chat.completions.stream(model="agent", messages=said) as made:
                told = await made.get_final_completion()
        else:
            told = await client.chat.completions.create(model="agent", messages=said)
    assert "May I run delete" in (asked.choices[0].message.content or "")
    assert told.choices[0].message.content == "['Delete a', 'True None'] True"


@requirement("agent.asks")
@stays
async def test_a_function_asks_over_responses(connect: Connect) -> None:
    async with connect(careful) as client:
        asked = await client.responses.create(model="agent", input="Delete a", tools=[APPROVER])
        request: Any = asked.output[-1]
        no: Any = [
            {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": False, "reason": "Mine"}
        ]

        async def decide() -> Any:
            return await client.responses.create(
                model="agent", input=no, previous_response_id=asked.id, tools=[APPROVER]
            )

        told = await decide()
        with pytest.raises(openai.ConflictError) as late:
            await decide()
    assert (request.name, request.arguments) == ("delete", '{"file":"a"}')
    assert told.output_text == "['Delete a', 'False Mine'] True"
    assert late.value.code == "approval_decided"


@requirement("agent.asks")
@stays
async def test_a_function_calls_the_clients_tool_and_waits_for_its_result(connect: Connect) -> None:
    async with connect(curious) as client:
        asked = await client.responses.create(model="agent", input="How is it?", tools=[WEATHER])
        call: Any = asked.output[-1]
        result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
        told = await client.responses.create(
            model="agent", input=result, previous_response_id=asked.id, tools=[WEATHER], stream=False
        )
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    assert told.output_text == "It is sunny."


@requirement("agent.asks")
@stays
@pytest.mark.parametrize("conversation", [None, "trip"])
async def test_and_in_chat_also_where_nothing_else_tells_which_turn_it_was(
    connect: Connect, conversation: str | None
) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    said: Any = [{"role": "user", "content": "How is it?"}]
    headers = {} if conversation is None else {"X-Conversation-Id": conversation}
    async with connect(curious, conversations=Conversations()) as client:
        asked = await client.chat.completions.create(model="agent", messages=said, tools=tools, extra_headers=headers)
        message: Any = asked.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
        said += [message.model_dump(include={"role", "content", "tool_calls"}), result]
        told = await client.chat.completions.create(model="agent", messages=said, tools=tools, extra_headers=headers)
    assert (asked.choices[0].finish_reason, told.choices[0].message.content) == ("tool_calls", "It is sunny.")


@requirement("agent.asks")
@in_process
async def test_another_message_is_a_no_to_the_one_that_waits_and_is_answered_anew(connect: Connect) -> None:
    agent = Ends()
    async with connect(agent, limits=Limits(parked=1, slots=2)) as client:
        asked = await client.chat.completions.create(model="agent", messages=DELETE)
        again = await client.chat.completions.create(model="agent", messages=history(asked, "What is that?"))
        with anyio.fail_after(5):
            await agent.ended.wait()
        told = await client.chat.completions.create(model="agent", messages=history(again, "yes"))
    assert [decision.approved for decision in agent.decisions] == [False, True]
    assert told.choices[0].message.content == "heard by who decides"


@requirement("agent.asks")
@in_process
async def test_what_is_asked_at_the_same_time_is_asked_in_one_turn_and_again_as_long_as_something_is_open(
    connect: Connect,
) -> None:
    async def both(context: RunContext) -> str:
        decided: dict[str, Decision] = {}

        async def ask(tool: str) -> None:
            decided[tool] = await context.approve(tool)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "first")
            group.start_soon(ask, "second")
        return f"{decided['first'].approved} {decided['second'].approved}"

    async with connect(both) as client:

        async def decide(before: Any, request: Any, approve: bool) -> Any:
            said: Any = [{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}]
            return await client.responses.create(
                model="agent", input=said, previous_response_id=before.id, tools=[APPROVER]
            )

        asked = await client.responses.create(model="agent", input="Go", tools=[APPROVER])
        assert [item.name for item in asked.output] == ["first", "second"]
        open_still = await decide(asked, asked.output[0], True)
        assert [item.name for item in open_still.output] == ["second"]
        told = await decide(open_still, open_still.output[0], False)
    assert told.output_text == "True False"


@requirement("agent.asks")
@in_process
async def test_with_a_state_nothing_waits_and_the_agent_is_run_again(connect: Connect) -> None:
    runs: list[Any] = []

    async def again(request: AgentRequest, context: RunContext) -> str:
        runs.append(None if request.resume is None else request.resume.state)
        decision = await context.approve("delete", '{"file": "a"}', state={"step": 7})
        return f"{decision.approved}"

    async with connect(again, limits=Limits(parked=1, slots=1)) as client:
        asked = [await client.chat.completions.create(model="agent", messages=DELETE) for _ in range(3)]
        told = await client.chat.completions.create(model="agent", messages=history(asked[1], "yes"))
    assert told.choices[0].message.content == "True"
    assert runs == [None, None, None, {"step": 7}]


@requirement("agent.parked")
async def test_another_process_says_that_the_run_is_lost_and_the_decision_can_still_be_sent_to_the_right_one(
    tmp_path: Any,
) -> None:
    store = f"sqlite:///{tmp_path / 'state.db'}"
    body = {"model": "agent", "messages": DELETE}
    async with (
        reach(Server(careful, store=store), "asgi") as here,
        reach(Server(careful, store=store), "asgi") as other,
    ):
        asked = (await here.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        decision = {**body, "messages": [*DELETE, asked, {"role": "user", "content": "yes"}]}
        lost = await other.post("/v1/chat/completions", json=decision)
        told = await here.post("/v1/chat/completions", json=decision)
    assert (lost.status_code, lost.json()["error"]["code"]) == (409, "run_lost")
    assert told.json()["choices"][0]["message"]["content"] == "['Delete a', 'True None'] True"


@requirement("agent.parked")
@in_process
async def test_a_parked_run_keeps_its_slot_until_it_goes_on(connect: Connect) -> None:
    async with connect(careful, limits=Limits(slots=2)) as client:
        asked = [await client.chat.completions.create(model="agent", messages=DELETE) for _ in range(2)]
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="agent", messages=DELETE)
        # The parked run itself provides the slot for the turn that resumes it.
        await client.chat.completions.create(model="agent", messages=history(asked[0], "yes"))
        await client.chat.completions.create(model="agent", messages=DELETE)


@requirement("agent.parked")
@in_process
async def test_more_than_may_wait_is_refused(connect: Connect) -> None:
    async with connect(careful, limits=Limits(parked=1)) as client:
        await client.chat.completions.create(model="agent", messages=DELETE)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="agent", messages=DELETE)
    assert (refused.value.status_code, refused.value.code) == (503, "too_many_waiting")


class Ends:
    """An agent that records the decisions it gets, and its end."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.ended = anyio.Event()

    async def __call__(self, context: RunContext) -> AsyncIterator[str]:
        try:
            self.decisions.append(await context.approve("delete"))
            yield "heard by who decides"
        finally:
            self.ended.set()


@requirement("agent.parked")
@in_process
async def test_when_its_time_is_over_the_answer_is_no_and_the_agent_ends(connect: Connect) -> None:
    agent = Ends()
    async with connect(agent, limits=Limits(slots=1), deadlines=Deadlines(parked=0.05)) as client:
        asked = await client.chat.completions.create(model="agent", messages=DELETE)
        with anyio.fail_after(5):
            await agent.ended.wait()
        with pytest.raises(openai.ConflictError) as lost:
            await client.chat.completions.create(model="agent", messages=history(asked, "yes"))
    assert lost.value.code == "run_lost"
    assert [(decision.approved, decision.reason) for decision in agent.decisions] == [
        (False, "Nobody has decided in time.")
    ]


@requirement("agent.parked")
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_server_that_shuts_down_denies_and_ends_them() -> None:
    agent = Ends()
    server = Server(agent)
    async with server.lifespan(), reach(server, "in-process") as client:
        asked = await client.post("/v1/chat/completions", json={"model": "agent", "messages": DELETE})
        assert asked.status_code == 200
        assert not agent.ended.is_set()
    assert agent.ended.is_set()
    assert [decision.reason for decision in agent.decisions] == ["The server is shutting down."]


@requirement("agent.parked")
@in_process
async def test_a_client_that_leaves_the_turn_that_went_on_stops_the_agent(connect: Connect) -> None:
    ended = anyio.Event()

    async def endless(context: RunContext) -> AsyncIterator[Any]:
        await context.approve("delete")
        try:
            while True:
                await anyio.lowlevel.checkpoint()
                yield "on "
        finally:
            ended.set()

    async with connect(endless) as client:
        asked = await client.chat.completions.create(model="agent", messages=DELETE)
        stream = await client.chat.completions.create(model="agent", messages=history(asked, "yes"), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        with anyio.fail_after(5):
            await ended.wait()


@requirement("agent.parked")
async def test_a_run_whose_turn_could_not_be_kept_ends() -> None:
    class Fails(MemoryStore):
        async def commit(self, outcome: TurnCommit) -> bool:
            raise Unavailable("The store cannot be used now.", code="store_unavailable")

    agent = Ends()
    async with reach(Server(agent, store=Fails()), "in-process") as client:
        asked = await client.post("/v1/chat/completions", json={"model": "agent", "messages": DELETE})
    assert asked.status_code == 503
    assert agent.ended.is_set()


@requirement("agent.parked")
async def test_a_run_that_ends_while_it_is_parked_frees_its_slot_and_is_lost() -> None:
    ended = anyio.Event()

    async def impatient(context: RunContext) -> AsyncIterator[Any]:
        try:
            with anyio.move_on_after(0.05):
                await context.approve("delete")
        finally:
            ended.set()
        yield "too late"

    body = {"model": "agent", "messages": DELETE}
    async with reach(Server(impatient, limits=Limits(slots=1)), "in-process") as client:
        asked = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        with anyio.fail_after(5):
            await ended.wait()
        decision = {**body, "messages": [*DELETE, asked, {"role": "user", "content": "yes"}]}
        lost = await client.post("/v1/chat/completions", json=decision)
        again = await client.post("/v1/chat/completions", json=body)
    assert lost.json()["error"]["code"] == "run_lost"
    assert again.status_code == 200


@requirement("agent.asks")
async def test_nobody_can_be_asked_without_a_server() -> None:
    context = RunContext("chatcmpl-1", "req_1", 60.0, None)
    with pytest.raises(RuntimeError, match="Nobody can be asked"):
        await context.approve("delete")
