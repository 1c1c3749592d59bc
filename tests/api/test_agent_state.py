"""An agent's state comes back with the next turn of the same principal, and of the same conversation or response."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx2
import openai
import pytest

from openai_compat import (
    AgentRequest,
    Capabilities,
    ChatRest,
    ChatWebSocket,
    Conversations,
    Deadlines,
    Finished,
    Limits,
    MemoryStore,
    Paused,
    PendingCall,
    Principal,
    RunContext,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from openai_compat.agent_request import Resume
from openai_compat.stores.port import Key
from openai_compat_adapters.transport import AsyncTransport
from tests.api.chat_websocket.client import chat
from tests.api.responses.test_websocket_turns import connected
from tests.connecting import Connect
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

Body: TypeAlias = dict[str, Any]
KEYS = {"ann": Principal("ann"), "bob": Principal("bob")}
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {}}}
TOOLS: Any = [{"type": "function", "function": LOOK}]
FLAT_TOOLS: Any = [{"type": "function", **LOOK}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Clerk:
    """Reports the state that it gets, and counts the turns in the state that it leaves. The user's message is its script."""

    capabilities: Capabilities = field(default_factory=lambda: Capabilities(keeps_state=True))
    requests: list[AgentRequest] = field(default_factory=list[AgentRequest])

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.requests.append(request)
        state, resume = request.state, request.resume
        yield json.dumps(state)
        left: Any = {"turn": (state or {}).get("turn", 0) + 1}
        if resume is not None and resume.results:
            yield f" {json.dumps([list(resume.results), resume.state, resume.lost])}"
        match request.prompt:
            case "fail":
                raise RuntimeError("a failure")
            case "hang":
                await anyio.sleep_forever()
            case "nothing":
                return
            case "huge":
                left = {"x": "y" * 300_000}
            case "no json":
                left = {"x": {1}}
            case "call" if resume is None:
                yield Paused((PendingCall("call_1", "look", "{}"),), left)
            case "stream" if resume is None:
                yield ToolCallStarted("call_1", "look")
                yield ToolCallDelta("call_1", "{")
                yield ToolCallReady("call_1", "look", "{}")
                yield Paused((PendingCall("call_1", "look", "{}"),), left)
            case "ask" if resume is None:
                yield Paused((PendingCall("call_1", "delete", "{}", "approval"),), left)
        yield Finished(state=left)


def server_of(agents: Any = None, **settings: Any) -> Server:
    everything: Body = {"conversations": Conversations(), "chat_rest": ChatRest(), "chat_websocket": ChatWebSocket()}
    return Server(agents or Clerk(), **everything | settings)


def client_of(server: Server, key: str = "any", **headers: str) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost")
    return openai.AsyncOpenAI(
        base_url="http://localhost/v1", api_key=key, max_retries=0, http_client=http, default_headers=headers
    )


Say: TypeAlias = Callable[..., Awaitable[str]]


async def in_chat(server: Server, text: str, key: str = "any", model: str = "agent") -> str:
    async with client_of(server, key, **{"X-Conversation-Id": "trip"}) as client:
        said = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
        return said.choices[0].message.content or ""


async def in_stream(server: Server, text: str, key: str = "any", model: str = "agent") -> str:
    async with client_of(server, key, **{"X-Conversation-Id": "trip"}) as client:
        async with client.chat.completions.stream(model=model, messages=[{"role": "user", "content": text}]) as made:
            return (await made.get_final_completion()).choices[0].message.content or ""


async def in_responses(server: Server, text: str, key: str = "any", model: str = "agent") -> str:
    async with client_of(server, key, **{"X-Conversation-Id": "trip"}) as client:
        return (await client.responses.create(model=model, input=text)).output_text


async def in_rest(server: Server, text: str, key: str = "any", model: str = "agent") -> str:
    whose = Key(key if key in KEYS else "anonymous", "trip")
    if await server.services.state.store.read(whose) is None:
        await server.services.state.store.create(whose.principal, whose.id, {}, ())
    async with client_of(server, key) as client:
        answer = await client._client.post(
            "/api/chat/conversations/trip/messages",
            json={"content": text, "model": model},
            headers={"Authorization": f"Bearer {key}"},
        )
        answer.raise_for_status()
        return str(answer.json()["assistantMessage"]["content"])


async def in_socket(server: Server, text: str, key: str = "any", model: str = "agent") -> str:
    async with chat(server, authorization=f"Bearer {key}") as client:
        last = (await client.ask(text, thread_id="trip", model=model))[-1]
        assert last["type"] == "message", last
        return str(last["content"])


APIS: dict[str, Say] = {
    "chat": in_chat,
    "chat, streamed": in_stream,
    "responses": in_responses,
    "chat REST": in_rest,
    "chat WebSocket": in_socket,
}


@pytest.fixture(params=APIS)
def say(request: pytest.FixtureRequest) -> Say:
    return APIS[request.param]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The `store` setting of a server."""
    if request.param == "memory":
        return None
    return f"sqlite:///{tmp_path / 's.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


async def close(*servers: Server) -> None:
    for server in servers:
        await server.services.state.store.aclose()


# in a conversation


@requirement("state.turn")
async def test_the_next_turn_of_a_conversation_is_given_what_the_last_one_has_left(say: Say, store: Any) -> None:
    server = server_of(store=store)
    assert [await say(server, "go") for _ in range(3)] == ["null", '{"turn": 1}', '{"turn": 2}']
    await close(server)


@requirement("state.turn")
async def test_one_conversation_has_one_state_whatever_apis_its_turns_come_by() -> None:
    server = server_of()
    said = [await say(server, "go") for say in APIS.values()]
    assert said == ["null", *[f'{{"turn": {number}}}' for number in range(1, len(said))]]


@requirement("state.failed")
async def test_a_turn_that_fails_leaves_the_state_as_it_was(say: Say, store: Any) -> None:
    server = server_of(store=store)
    await say(server, "go")
    with pytest.raises((openai.APIError, httpx2.HTTPStatusError, AssertionError)):
        await say(server, "fail")
    assert await say(server, "go") == '{"turn": 1}'
    await close(server)


@requirement("state.failed")
async def test_a_turn_that_its_client_leaves_leaves_the_state_as_it_was(store: Any) -> None:
    server = server_of(store=store)
    await in_chat(server, "go")
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        stream = await client.chat.completions.create(
            model="agent", messages=[{"role": "user", "content": "hang"}], stream=True
        )
        async with aclosing(stream.response.aiter_raw()) as raw:
            assert await anext(raw)
        await stream.close()
    assert await in_chat(server, "go") == '{"turn": 1}'
    await close(server)


@requirement("state.failed")
async def test_a_turn_that_takes_too_long_leaves_the_state_as_it_was() -> None:
    server = server_of(deadlines=Deadlines(idle=0.05))
    await in_chat(server, "go")
    with pytest.raises(openai.APIError):
        await in_chat(server, "hang")
    assert await in_chat(server, "go") == '{"turn": 1}'


@requirement("state.turn")
async def test_a_turn_that_leaves_nothing_leaves_none(say: Say) -> None:
    server = server_of()
    assert [await say(server, word) for word in ("go", "nothing", "go")] == ["null", '{"turn": 1}', "null"]


@requirement("state.turn")
async def test_a_turn_that_the_server_cuts_leaves_none_since_the_agent_does_not_know_what_was_said() -> None:
    server = server_of()
    await in_chat(server, "go")
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        cut = await client.chat.completions.create(
            model="agent", messages=[{"role": "user", "content": "go"}], stop="turn"
        )
    assert cut.choices[0].message.content == '{"'
    assert await in_chat(server, "go") == "null"


@requirement("state.owner")
async def test_two_principals_with_one_conversation_id_see_nothing_of_each_other(say: Say, store: Any) -> None:
    clerk = Clerk()
    server = server_of(clerk, store=store, keys=KEYS)
    assert [await say(server, "go", key) for key in ("ann", "bob", "ann")] == ["null", "null", '{"turn": 1}']
    assert len({request.session_key for request in clerk.requests}) == 2
    await close(server)


@requirement("state.owner")
async def test_another_agent_in_the_conversation_is_given_nothing(say: Say) -> None:
    server = server_of({"agent": Clerk(), "other": Clerk()})
    models = ("agent", "other", "other", "agent")
    assert [await say(server, "go", model=model) for model in models] == ["null", "null", '{"turn": 1}', "null"]


@requirement("state.turn")
async def test_of_a_conversation_that_was_deleted_nothing_is_given_to_one_with_its_id(store: Any) -> None:
    server = server_of(store=store)
    await in_chat(server, "go")
    async with client_of(server) as client:
        await client.conversations.delete("trip")
    assert await in_chat(server, "go") == "null"
    await close(server)


@requirement("state.turn")
async def test_what_is_added_or_taken_out_beside_the_agent_makes_its_state_an_old_one() -> None:
    server = server_of()
    async with client_of(server) as client:
        await in_chat(server, "go")
        await client.conversations.items.create("trip", items=[{"role": "user", "content": "Aside"}])
        assert await in_chat(server, "go") == "null"
        first = (await client.conversations.items.list("trip", order="asc")).data[0]
        assert first.id is not None
        await client.conversations.items.delete(first.id, conversation_id="trip")
        assert await in_chat(server, "go") == "null"


@requirement("state.fork")
async def test_a_copy_of_a_conversation_has_its_state_and_one_of_its_beginning_has_none() -> None:
    server = server_of()
    for _ in range(2):
        await in_rest(server, "go")
    async with client_of(server) as client:
        http, api = client._client, "/api/chat/conversations"
        messages = (await http.get(f"{api}/trip/messages")).json()["messages"]
        said: list[str] = []
        for body in ({}, {"messageId": messages[-1]["id"]}, {"messageId": messages[1]["id"]}):
            fork = (await http.post(f"{api}/trip/fork", json=body)).json()["conversation"]["id"]
            answer = await http.post(f"{api}/{fork}/messages", json={"content": "go"})
            said.append(answer.json()["assistantMessage"]["content"])
    assert said == ['{"turn": 2}', '{"turn": 2}', "null"]
    assert await in_rest(server, "go") == '{"turn": 2}'


# after a response


@requirement("state.fork")
async def test_each_response_that_continues_another_is_given_the_state_of_that(store: Any) -> None:
    server = server_of(store=store)
    async with client_of(server) as client:

        async def after(previous: Any) -> Any:
            return await client.responses.create(
                model="agent", input="go", previous_response_id=None if previous is None else previous.id
            )

        first = await after(None)
        second = await after(first)
        forks = [await after(first), await after(second), await after(first)]
    said = [one.output_text for one in (first, second, *forks)]
    assert said == ["null", '{"turn": 1}', '{"turn": 1}', '{"turn": 2}', '{"turn": 1}']
    await close(server)


@requirement("state.owner")
async def test_another_principals_response_gives_nothing_away() -> None:
    server = server_of(keys=KEYS)
    async with client_of(server, "ann") as ann, client_of(server, "bob") as bob:
        hers = await ann.responses.create(model="agent", input="go")
        with pytest.raises(openai.BadRequestError):
            await bob.responses.create(model="agent", input="go", previous_response_id=hers.id)


@requirement("state.turn")
async def test_a_connection_keeps_the_states_of_responses_that_only_it_knows() -> None:
    async with connected(server_of()) as client:
        first = (await client.ask("go", store=False))["response"]
        second = (await client.ask("go", store=False, previous_response_id=first["id"]))["response"]
    assert second["output"][0]["content"][0]["text"] == '{"turn": 1}'


# the client's tools, in a conversation or after a response


@requirement("state.pause")
@pytest.mark.parametrize("word", ["call", "stream"])
async def test_results_in_a_conversation_bring_the_state_of_the_pause(store: Any, word: str) -> None:
    server = server_of(store=store)
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        create: Any = client.chat.completions.create
        asked = await create(model="agent", messages=[{"role": "user", "content": word}], tools=TOOLS)
        (call,) = asked.choices[0].message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "seen"}
        answer = await create(model="agent", messages=[result], tools=TOOLS)
    assert call.id == "call_1"  # in a conversation, ids need no mark
    assert answer.choices[0].message.content == '{"turn": 1} [["call_1"], {"turn": 1}, false]'
    await close(server)


@requirement("state.pause")
async def test_results_after_a_response_bring_its_state_each_time(store: Any) -> None:
    server = server_of(store=store)
    async with client_of(server) as client:
        create: Any = client.responses.create
        asked = await create(model="agent", input="stream", tools=FLAT_TOOLS)
        result = {"type": "function_call_output", "call_id": asked.output[-1].call_id, "output": "seen"}
        said = [
            (await create(model="agent", input=[result], previous_response_id=asked.id, tools=FLAT_TOOLS)).output_text
            for _ in range(2)
        ]
    assert said == ['{"turn": 1} [["call_1"], {"turn": 1}, false]'] * 2
    await close(server)


@requirement("state.pause")
async def test_a_message_instead_of_results_is_given_the_state_of_the_pause() -> None:
    clerk = Clerk()
    server = server_of(clerk)
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        create: Any = client.chat.completions.create
        await create(model="agent", messages=[{"role": "user", "content": "call"}], tools=TOOLS)
        answer = await create(model="agent", messages=[{"role": "user", "content": "go"}], tools=TOOLS)
    assert answer.choices[0].message.content == '{"turn": 1}'
    assert clerk.requests[-1].resume == Resume({}, state={"turn": 1}, superseded=True)


@requirement("state.pause")
async def test_a_round_of_the_chat_websockets_tools_brings_the_state_of_the_one_before() -> None:
    async with chat(server_of()) as client:
        await client.say("stream", thread_id="trip", tools=TOOLS)
        (*_, call) = await client.until("tool_call")
        await client.send(
            type="tool_result", thread_id="trip", tool_call_id=call["tool_call_id"], ok=True, result="seen"
        )
        last = (await client.until())[-1]
        again = (await client.ask("go", thread_id="trip"))[-1]
    assert last["content"] == '{"turn": 1} [["call_1"], {"turn": 1}, false]'
    assert again["content"] == '{"turn": 2}'


# the client's tools, where the client names neither a conversation nor a response


async def asks(client: openai.AsyncOpenAI, word: str = "call", *, stream: bool = False, **more: Any) -> list[Any]:
    """The history of a client that keeps it itself, after a pause."""
    said: list[Any] = [{"role": "user", "content": word}]
    fields: Body = {"model": "agent", "messages": said, "tools": TOOLS, **more}
    if stream:
        async with client.chat.completions.stream(**fields) as made:
            message: Any = (await made.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.create(**fields)).choices[0].message
    return [*said, message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})]


def results(said: list[Any], text: str = "seen") -> list[Any]:
    """The history with a result for each call."""
    return [*said, *[{"role": "tool", "tool_call_id": call["id"], "content": text} for call in said[-1]["tool_calls"]]]


async def resumed(client: openai.AsyncOpenAI, messages: list[Any]) -> str:
    answer: Any = await client.chat.completions.create(model="agent", messages=messages, tools=TOOLS)
    return str(answer.choices[0].message.content)


RESUMED = '{"turn": 1} [["call_1"], {"turn": 1}, false]'
LOST = 'null [["call_1"], null, true]'


@requirement("state.pause")
@pytest.mark.parametrize("word", ["call", "stream"])
@pytest.mark.parametrize("stream", [True, False])
async def test_results_bring_the_state_by_the_ids_of_their_calls(store: Any, word: str, stream: bool) -> None:
    clerk = Clerk()
    server = server_of(clerk, store=store)
    async with client_of(server) as client:
        said = results(await asks(client, word, stream=stream))
        assert await resumed(client, said) == RESUMED
    await close(server)
    assert said[-1]["tool_call_id"].startswith("call_1_st")
    # The agent does not know the ids that its client has seen.
    request = clerk.requests[-1]
    (call,) = request.messages[-2].tool_calls
    assert (call.call_id, request.messages[-1].call_id) == ("call_1", "call_1")
    assert request.raw_messages[-2]["tool_calls"][0]["id"] == request.raw_messages[-1]["tool_call_id"] == "call_1"


@requirement("state.pause")
async def test_states_come_back_over_every_transport(connect: Connect) -> None:
    async with connect(Clerk(), conversations=Conversations()) as client:
        assert await resumed(client, results(await asks(client, "stream", stream=True))) == RESUMED
        trip = {"extra_headers": {"X-Conversation-Id": "trip"}}
        go: Any = {"model": "agent", "messages": [{"role": "user", "content": "go"}], **trip}
        said = [(await client.chat.completions.create(**go)).choices[0].message.content for _ in range(2)]
    assert said == ["null", '{"turn": 1}']


@requirement("state.pause")
async def test_a_responses_client_that_sends_the_items_itself_brings_it_too(store: Any) -> None:
    server = server_of(store=store)
    async with client_of(server) as client:
        create: Any = client.responses.create
        for kept in (True, False):
            said: list[Any] = [{"role": "user", "content": "stream"}]
            asked = await create(model="agent", input=said, tools=FLAT_TOOLS, store=kept)
            call = next(item for item in asked.output if item.type == "function_call")
            said += [item.model_dump(exclude_none=True, exclude={"id", "status"}) for item in asked.output]
            said.append({"type": "function_call_output", "call_id": call.call_id, "output": "seen"})
            answer = await create(model="agent", input=said, tools=FLAT_TOOLS, store=kept)
            assert answer.output_text == RESUMED
    await close(server)


@requirement("state.pause")
async def test_models_that_use_one_id_again_and_again_get_each_their_own_state() -> None:
    server = server_of()
    async with client_of(server) as client:
        first, second = await asks(client), await asks(client)
        assert await resumed(client, results(second)) == RESUMED
        # The second round of the first chat: the call has the same id again.
        again = [*results(first), {"role": "assistant", "content": "Well."}, {"role": "user", "content": "call"}]
        more: Any = await client.chat.completions.create(model="agent", messages=again, tools=TOOLS)
        assert more.choices[0].message.tool_calls[0].id != first[-1]["tool_calls"][0]["id"]
        again.append(more.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        assert await resumed(client, results(again)) == RESUMED
        assert await resumed(client, results(first)) == RESUMED


@requirement("state.owner")
async def test_the_ids_of_anothers_calls_lead_nowhere() -> None:
    server = server_of(keys=KEYS)
    async with client_of(server, "ann") as ann, client_of(server, "bob") as bob:
        said = results(await asks(ann))
        assert await resumed(bob, said) == LOST
        assert await resumed(ann, said) == RESUMED


@requirement("state.pause")
async def test_a_state_is_used_once_and_told_to_be_lost_from_then_on(store: Any) -> None:
    server = server_of(store=store)
    async with client_of(server) as client:
        said = results(await asks(client))
        assert [await resumed(client, said) for _ in range(3)] == [RESUMED, LOST, LOST]
    await close(server)


@requirement("state.pause")
async def test_a_state_that_has_expired_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.state.agent_state.APPROVAL_LIFETIME", -1.0)
    for store in (None, f"sqlite:///{tmp_path / 's.db'}"):
        server = server_of(store=store)
        async with client_of(server) as client:
            assert await resumed(client, results(await asks(client))) == LOST
        await close(server)


@requirement("state.pause")
async def test_a_state_in_the_memory_of_another_process_is_lost() -> None:
    one, another = server_of(), server_of()
    async with client_of(one) as here, client_of(another) as there:
        assert await resumed(there, results(await asks(here))) == LOST


@requirement("state.pause")
async def test_another_agent_is_not_given_it() -> None:
    server = server_of({"agent": Clerk(), "other": Clerk()})
    async with client_of(server) as client:
        said = results(await asks(client))
        other: Any = await client.chat.completions.create(model="other", messages=said, tools=TOOLS)
    assert other.choices[0].message.content == LOST


@requirement("state.failed")
async def test_results_can_be_sent_again_if_their_turn_fails(store: Any) -> None:
    class Unlucky(Clerk):
        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
            if request.resume is not None and len(self.requests) == 1:
                self.requests.append(request)
                raise RuntimeError("a failure")
            async for item in super().run(request, context):
                yield item

    server = server_of(Unlucky(), store=store)
    async with client_of(server) as client:
        said = results(await asks(client))
        with pytest.raises(openai.InternalServerError):
            await resumed(client, said)
        assert await resumed(client, said) == RESUMED
    await close(server)


@requirement("state.pause")
async def test_of_two_requests_with_the_same_results_at_once_one_goes_on() -> None:
    class Both(MemoryStore):
        """Both requests read the state before one of them uses it."""

        waiting = 0
        there = anyio.Event()

        async def use_pause(self, key: Key, seconds: float) -> bool:
            self.waiting += 1
            if self.waiting == 2:
                self.there.set()
            await self.there.wait()
            return await super().use_pause(key, seconds)

    server = server_of(store=Both())
    said: list[str | None] = []

    async def send(client: openai.AsyncOpenAI, messages: list[Any]) -> None:
        try:
            said.append(await resumed(client, messages))
        except openai.ConflictError as error:
            said.append(error.code)

    async with client_of(server) as client:
        messages = results(await asks(client))
        async with anyio.create_task_group() as group:
            group.start_soon(send, client, messages)
            group.start_soon(send, client, messages)
    assert sorted(map(str, said)) == sorted([RESUMED, "results_used"])


@requirement("state.pause")
async def test_while_another_process_goes_on_with_the_results_the_agent_does_not_run(store: Any) -> None:
    class Slow(Clerk):
        began, goes_on = anyio.Event(), anyio.Event()

        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
            if request.resume is not None:
                self.began.set()
                await self.goes_on.wait()
            async with aclosing(super().run(request, context)) as items:
                async for item in items:
                    yield item

    slow, other = Slow(), Clerk()
    kept = MemoryStore() if store is None else store
    first, second = server_of(slow, store=kept), server_of(other, store=kept)
    said: list[str] = []

    async def send(client: openai.AsyncOpenAI, messages: list[Any]) -> None:
        said.append(await resumed(client, messages))

    async with client_of(first) as client, client_of(second) as elsewhere:
        messages = results(await asks(client))
        async with anyio.create_task_group() as group:
            group.start_soon(send, client, messages)
            await slow.began.wait()
            with pytest.raises(openai.ConflictError) as refused:
                await resumed(elsewhere, messages)
            slow.goes_on.set()
        assert (said, refused.value.code, other.requests) == ([RESUMED], "results_used", [])
        # The turn is over: sending the results again starts a new one from the messages.
        assert await resumed(elsewhere, messages) == 'null [["call_1"], null, true]'
    await close(first, second)


@requirement("state.pause")
async def test_an_agent_that_does_not_declare_it_keeps_the_ids_that_are_out_and_the_log_says_what_that_costs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = server_of(Clerk(Capabilities()))
    async with client_of(server) as client:
        assert await resumed(client, results(await asks(client, "call"))) == RESUMED
        with caplog.at_level(logging.WARNING):
            said = results(await asks(client, "stream"))
            await asks(client, "stream")
        assert await resumed(client, said) == 'null [["call_1"], null, false]'
    assert said[-1]["tool_call_id"] == "call_1"
    assert caplog.text.count("Capabilities(keeps_state=True)") == 1


@requirement("state.pause")
async def test_a_result_that_is_missing_is_the_clients_error_and_uses_nothing() -> None:
    server = server_of()
    async with client_of(server) as client:
        said = await asks(client)
        with pytest.raises(openai.BadRequestError):
            await resumed(client, [*said, {"role": "user", "content": "go"}])
        assert await resumed(client, results(said)) == RESUMED


# a new version of the agent


@requirement("state.version")
async def test_a_new_turn_begins_without_a_state_of_another_form(say: Say, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    before, after = server_of(store=url), server_of(Clerk(Capabilities(state_version=2)), store=url)
    assert [await say(server, "go") for server in (before, after, after)] == ["null", "null", '{"turn": 1}']
    await close(before, after)


@requirement("state.version")
async def test_a_pause_whose_state_has_another_form_is_a_409_that_uses_nothing_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    before = server_of(store=url)
    after = server_of(Clerk(Capabilities(keeps_state=True, state_version=2)), store=url)
    async with client_of(before) as old, client_of(after) as new:
        said = results(await asks(old))
        with pytest.raises(openai.ConflictError) as raised:
            await resumed(new, said)
        assert raised.value.code == "state_unreadable"
        assert await resumed(old, said) == RESUMED
    await in_chat(before, "ask")
    with pytest.raises(openai.ConflictError) as raised:
        await in_chat(after, "yes")
    assert raised.value.code == "state_unreadable"
    assert await in_chat(before, "yes") == '{"turn": 1}'
    await close(before, after)


# state that cannot be stored


@requirement("state.bound")
@pytest.mark.parametrize("word", ["huge", "no json"])
async def test_a_state_that_cannot_be_kept_is_the_agents_error(
    say: Say, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    server = server_of(limits=Limits(state=256 * 1024))
    await say(server, "go")
    with pytest.raises((openai.APIError, httpx2.HTTPStatusError, AssertionError)), caplog.at_level(logging.DEBUG):
        await say(server, word)
    assert "'state'" in caplog.text
    assert "yyyy" not in caplog.text.replace("y" * 200, "")
    assert await say(server, "go") == '{"turn": 1}'


@requirement("state.bound")
async def test_the_error_has_a_code_and_the_bound_is_a_setting() -> None:
    server = server_of(limits=Limits(state=300_100))
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        create: Any = client.chat.completions.create
        assert await create(model="agent", messages=[{"role": "user", "content": "huge"}])
        with pytest.raises(openai.InternalServerError) as raised:
            await create(model="agent", messages=[{"role": "user", "content": "no json"}])
    assert raised.value.code == "invalid_event"


@requirement("state.bound")
async def test_results_of_a_turn_whose_state_was_too_large_are_answered_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clerk = Clerk()
    async with client_of(server_of(clerk, limits=Limits(state=3))) as client:
        asked = await client.chat.completions.create(
            model="agent", messages=[{"role": "user", "content": "stream"}], tools=TOOLS
        )
        [call] = asked.choices[0].message.tool_calls or ()
        said: Any = [{"role": "user", "content": "stream"}, asked.choices[0].message]
        said.append({"role": "tool", "tool_call_id": call.id, "content": "seen"})
        with pytest.raises(openai.InternalServerError):  # at the end of a turn, this state is an error
            await client.chat.completions.create(model="agent", messages=said, tools=TOOLS)
    assert "Limits.state allows" in caplog.text
    resume = clerk.requests[-1].resume
    assert resume is not None
    assert (resume.state, resume.lost, list(resume.results)) == (None, True, ["call_1"])


@requirement("state.kept")
async def test_a_turn_of_a_conversation_is_kept(say: Say) -> None:
    clerk = Clerk()
    await say(server_of(clerk), "go")
    assert [request.is_kept for request in clerk.requests] == [True]


@requirement("state.kept")
async def test_of_the_others_stored_responses_alone_are_kept() -> None:
    clerk = Clerk()
    async with client_of(server_of(clerk)) as client:
        said: Any = [{"role": "user", "content": "go"}]
        await client.chat.completions.create(model="agent", messages=said)
        await client.chat.completions.create(model="agent", messages=said, store=True)  # nothing can continue this turn
        await client.responses.create(model="agent", input="go", store=False)
        first = await client.responses.create(model="agent", input="go")
        await client.responses.create(model="agent", input="go", previous_response_id=first.id, store=False)
        await client.responses.compact(model="agent", input=said, previous_response_id=first.id)
    assert [request.is_kept for request in clerk.requests] == [False, False, False, True, False, False]


# another process

PROGRAM = """
import sys
from openai_compat import AgentRequest, Conversations, Finished, Server
from openai_compat_adapters.client import sync_openai

async def agent(request: AgentRequest):
    yield str(request.state)
    yield Finished(state={"turn": (request.state or {}).get("turn", 0) + 1})

server = Server(agent, conversations=Conversations(), store=sys.argv[1])
with sync_openai(server, default_headers={"X-Conversation-Id": "trip"}) as client:
    said = client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "go"}])
    print(said.choices[0].message.content)
"""


@requirement("state.turn")
async def test_a_new_process_gives_what_the_one_before_it_has_left(store: Any) -> None:
    if store is None:
        pytest.skip("what is in memory ends with its process")
    said = []
    for _ in range(2):
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-c", PROGRAM, store], capture_output=True, text=True, timeout=60, check=False
            )
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said == ["None", "{'turn': 1}"]


# a new message instead of a decision


def told(request: AgentRequest) -> list[str]:
    """The conversation as the agent gets it."""
    return [f"{message['role']}: {message['content']}" for message in request.raw_messages]


async def superseding(ask: Callable[[Server, str], Awaitable[object]], **settings: Any) -> AgentRequest:
    """A request with a new message instead of a decision."""
    clerk = Clerk()
    server = server_of(clerk, **settings)
    for word in ("ask", "Never mind"):
        await ask(server, word)
    return clerk.requests[-1]


@requirement("approval.superseded")
async def test_another_message_is_told_to_be_one_and_the_servers_question_is_not_in_its_history(say: Say) -> None:
    request = await superseding(say)
    assert request.resume is not None
    assert (request.resume.superseded, request.resume.state) == (True, {"turn": 1})
    assert all(not decision.approved for decision in request.resume.decisions.values())
    assert told(request) == ["user: ask", "assistant: null", "user: Never mind"]
    assert [message.text for message in request.messages] == ["ask", "null", "Never mind"]


@requirement("approval.superseded")
async def test_a_decision_is_told_to_be_none_of_these() -> None:
    clerk = Clerk()
    server = server_of(clerk)
    for word in ("ask", "no"):
        await in_chat(server, word)
    resume = clerk.requests[-1].resume
    assert resume is not None
    assert (resume.superseded, [decision.approved for decision in resume.decisions.values()]) == (False, [False])


@requirement("approval.superseded")
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_question_that_a_client_has_kept_is_taken_out_of_its_history(wrapped: bool) -> None:
    clerk = Clerk()
    async with client_of(server_of(clerk)) as client:
        create: Any = client.chat.completions.create
        said: list[Any] = [{"role": "user", "content": "ask"}]
        asked = (await create(model="agent", messages=said)).choices[0].message.content
        shown = asked.replace(" with", "\n  with") if wrapped else asked
        said += [{"role": "assistant", "content": shown}, {"role": "user", "content": "Never mind"}]
        await create(model="agent", messages=said)
    assert "May I run" in shown
    assert told(clerk.requests[-1]) == ["user: ask", "assistant: null", "user: Never mind"]


@requirement("approval.superseded")
async def test_a_question_by_a_tool_is_superseded_too_and_nothing_is_left_of_its_call() -> None:
    ask: Any = [{"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}]
    clerk = Clerk()
    async with client_of(server_of(clerk), **{"X-Conversation-Id": "trip"}) as client:
        for word in ("ask", "Never mind"):
            await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": word}], tools=ask)
    request = clerk.requests[-1]
    assert request.resume is not None
    assert request.resume.superseded
    assert told(request) == ["user: ask", "assistant: null", "user: Never mind"]


@requirement("approval.superseded")
async def test_a_question_by_a_tool_is_superseded_where_the_client_has_kept_it_with_a_result() -> None:
    ask: Any = [{"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}]
    clerk = Clerk()
    async with client_of(server_of(clerk)) as client:
        create: Any = client.chat.completions.create
        said: list[Any] = [{"role": "user", "content": "ask"}]
        call = (await create(model="agent", messages=said, tools=ask)).choices[0].message.tool_calls[0]
        asked = {"id": call.id, "type": "function", "function": call.function.model_dump()}
        said += [
            {"role": "assistant", "content": None, "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": call.id, "content": "Not run."},
            {"role": "user", "content": "Never mind"},
        ]
        await create(model="agent", messages=said, tools=ask)
    request = clerk.requests[-1]
    assert request.resume is not None
    assert request.resume.superseded
    assert told(request) == ["user: ask", "user: Never mind"]


@requirement("approval.superseded")
async def test_instructions_between_a_question_and_its_answer_are_no_other_message() -> None:
    clerk = Clerk()
    async with client_of(server_of(clerk)) as client:
        create: Any = client.chat.completions.create
        said: list[Any] = [{"role": "user", "content": "ask"}]
        asked = (await create(model="agent", messages=said)).choices[0].message.content
        note = {"role": "system", "content": "The user is in a hurry."}
        said += [{"role": "assistant", "content": asked}, note, {"role": "user", "content": "no"}, note]
        await create(model="agent", messages=said)
    resume = clerk.requests[-1].resume
    assert resume is not None
    assert (resume.superseded, [decision.approved for decision in resume.decisions.values()]) == (False, [False])


@requirement("approval.superseded")
async def test_a_message_that_is_nothing_but_a_question_is_taken_out_whole() -> None:
    class Silent(Clerk):
        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
            self.requests.append(request)
            if request.resume is None:
                yield Paused((PendingCall("call_1", "delete", "{}", "approval"),), {})
            yield "Well."

    clerk = Silent()
    server = server_of(clerk)
    for word in ("go", "Never mind"):
        await in_chat(server, word)
    assert told(clerk.requests[-1]) == ["user: go", "user: Never mind"]
