"""What an agent leaves with a turn comes back with the next one: of the same principal, conversation or response."""

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
    Paused,
    PendingCall,
    Principal,
    RunContext,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from openai_compat.stores.port import Key
from openai_compat_adapters.transport import AsyncTransport
from tests.api.chat_websocket.client import chat
from tests.api.responses.test_websocket_turns import connected
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
    """Says the state that it is given, and counts the turns in the one it leaves. What the user says is what it does."""

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
    """What is given to a server as its store."""
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
    assert call.id == "call_1"  # in a conversation ids need no mark
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
    server = server_of()
    async with client_of(server, **{"X-Conversation-Id": "trip"}) as client:
        create: Any = client.chat.completions.create
        await create(model="agent", messages=[{"role": "user", "content": "call"}], tools=TOOLS)
        answer = await create(model="agent", messages=[{"role": "user", "content": "go"}], tools=TOOLS)
    assert answer.choices[0].message.content == '{"turn": 1}'


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


# what cannot be kept


@requirement("state.bound")
@pytest.mark.parametrize("word", ["huge", "no json"])
async def test_a_state_that_cannot_be_kept_is_the_agents_error(
    say: Say, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    server = server_of()
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
