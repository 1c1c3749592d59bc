"""Conversations that the server stores."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import anyio
import openai
import pytest

from openai_compat import AgentRequest, Conversations, Deadlines, MemoryStore, Principal, ToolCallReady
from tests.connecting import Connect, Http, in_process
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.operated import Gate, Recorder

pytestmark = pytest.mark.anyio
TRIP = {"X-Conversation-Id": "trip"}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def ask(client: openai.AsyncOpenAI, text: str, headers: dict[str, str] = TRIP, **options: Any) -> str | None:
    answer = await client.chat.completions.create(model="agent", messages=user(text), extra_headers=headers, **options)
    return answer.choices[0].message.content


async def stream(client: openai.AsyncOpenAI, text: str, headers: dict[str, str] = TRIP) -> str:
    chunks = await client.chat.completions.create(
        model="agent", messages=user(text), extra_headers=headers, stream=True
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


@requirement("conversation.memory")
async def test_the_next_turn_sees_what_was_said_before(connect: Connect) -> None:
    agent = Recorder()
    async with connect(agent, conversations=Conversations()) as client:
        assert await ask(client, "one") == "re: one"
        assert await stream(client, "two") == "re: two"
        assert await ask(client, "three") == "re: three"
    assert agent.seen[-1] == ["one", "re: one", "two", "re: two", "three"]


@requirement("conversation.commit")
async def test_a_failed_turn_leaves_the_conversation_as_it_was(connect: Connect) -> None:
    agent = Recorder()
    async with connect(agent, conversations=Conversations()) as client:
        await ask(client, "one")
        with pytest.raises(openai.InternalServerError):
            await ask(client, "fail")
        with pytest.raises(openai.APIError):
            await stream(client, "fail")
        await ask(client, "after")
    assert agent.seen[-1] == ["one", "re: one", "after"]


@requirement("conversation.commit")
async def test_a_turn_whose_client_left_is_not_kept(connect: Connect) -> None:
    gate = Gate()
    deadlines = Deadlines(heartbeat=0.05)  # WSGI servers only notice at a write that the client has disconnected
    async with connect(gate, conversations=Conversations(), deadlines=deadlines) as client:
        chunks = await client.chat.completions.create(
            model="agent", messages=user("lost"), extra_headers=TRIP, stream=True
        )
        await gate.wait_begun()
        await chunks.close()
        with anyio.fail_after(10):
            while not gate.ended:
                await anyio.sleep(0.01)
        gate.opened.set()
        assert gate.ended == ["cancelled"]
        assert await again_when_free(client, "kept") == "begun kept"
        found = await client.get("/chat/conversations/trip", cast_to=object)
    assert [m["content"] for m in found["messages"]] == ["kept", "begun kept"]


async def again_when_free(client: openai.AsyncOpenAI, text: str) -> str | None:
    """Retry until the stopped turn before has released the conversation."""
    with anyio.fail_after(10):
        while True:
            try:
                return await ask(client, text)
            except openai.ConflictError:
                await anyio.sleep(0.01)


@requirement("conversation.busy")
async def test_a_second_turn_at_once_is_refused_and_told_not_to_retry(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate, conversations=Conversations(), max_retries=2) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "first")
            await gate.wait_begun()
            with pytest.raises(openai.ConflictError) as refused:
                await ask(client, "second")
            gate.opened.set()
    assert (refused.value.code, gate.runs) == ("conversation_busy", 1)
    assert refused.value.response.headers["x-should-retry"] == "false"


@requirement("conversation.busy.queue")
async def test_a_second_turn_can_queue(connect: Connect) -> None:
    gate = Gate()
    said: list[Any] = []

    async def second() -> None:
        said.append(await ask(client, "second"))

    async with connect(gate, conversations=Conversations(busy="queue")) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "first")
            await gate.wait_begun()
            group.start_soon(second)
            gate.opened.set()
    assert said == ["begun second"]
    assert gate.ended == ["finished", "finished"]


@requirement("conversation.busy.supersede")
async def test_a_second_turn_can_take_the_place_of_the_first(connect: Connect) -> None:
    gate = Gate()
    errors: list[str | None] = []

    async def first() -> None:
        with pytest.raises(openai.APIError) as refused:
            await ask(client, "first")
        errors.append(refused.value.code)

    async with connect(gate, conversations=Conversations(busy="supersede")) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await gate.wait_begun()
            group.start_soon(ask, client, "second")
            await gate.wait_begun()
            gate.opened.set()
        found: Any = await client.get("/chat/conversations/trip", cast_to=object)
    assert errors == ["superseded"]
    assert [m["content"] for m in found["messages"]] == ["second", "begun second"]


@requirement("conversation.busy.queue")
@in_process
async def test_those_who_queue_are_served_in_their_order(connect: Connect) -> None:
    gate = Gate()
    texts = ["first", "second", "third", "fourth", "fifth"]
    async with connect(gate, conversations=Conversations(busy="queue")) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, texts[0])
            await gate.wait_begun()
            for text in texts[1:]:
                group.start_soon(ask, client, text)
                await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        found: Any = await client.get("/chat/conversations/trip", cast_to=object)
    assert [m["content"] for m in found["messages"] if m["role"] == "user"] == texts


@requirement("conversation.busy.queue")
@in_process
async def test_the_queue_has_an_end(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate, conversations=Conversations(busy="queue", queue=0.05)) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "first")
            await gate.wait_begun()
            with pytest.raises(openai.ConflictError):
                await ask(client, "second")
            gate.opened.set()
    assert gate.runs == 1


@requirement("conversation.busy.supersede")
@in_process
async def test_of_several_who_take_the_others_place_the_latest_does(connect: Connect) -> None:
    gate = Gate()
    refused: list[str | None] = []

    async def superseded(text: str) -> None:
        with pytest.raises(openai.ConflictError) as error:
            await ask(client, text)
        refused.append(error.value.code)

    async def held(prompt: str) -> Any:  # stops slowly, so that the other turns meet in the queue
        try:
            async for piece in gate.run(prompt):
                yield piece
        finally:
            with anyio.CancelScope(shield=True):
                await released.wait()

    released = anyio.Event()
    async with connect(held, conversations=Conversations(busy="supersede")) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(superseded, "first")
            await gate.wait_begun()
            for text in ("second", "third"):
                group.start_soon(superseded, text)
                await anyio.wait_all_tasks_blocked()
            group.start_soon(ask, client, "fourth")
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
            released.set()
        found: Any = await client.get("/chat/conversations/trip", cast_to=object)
    assert refused == ["superseded"] * 3
    assert [m["content"] for m in found["messages"]] == ["fourth", "begun fourth"]


@requirement("conversation.id")
@in_process
@pytest.mark.parametrize("identifier", ["été", "日本", "a/b c?d=%2f", "🗝" * 8])
async def test_an_id_beyond_ascii_is_the_same_in_a_header_a_body_and_a_path(http: Http, identifier: str) -> None:
    agent = Recorder()
    body = {"model": "agent", "messages": user("one")}
    async with http(agent, conversations=Conversations()) as client:
        first = await client.post(
            "/v1/chat/completions", json=body, headers=[(b"x-conversation-id", identifier.encode())]
        )
        await client.post("/v1/chat/completions", json={**body, "metadata": {"conversation_id": identifier}})
        found = await client.get(f"/v1/chat/conversations/{quote(identifier, safe='')}")
    assert dict(first.headers.raw)[b"x-conversation-id"].decode() == identifier
    assert agent.seen[-1] == ["one", "re: one", "one"]
    assert (found.json()["id"], found.json()["turns"]) == (identifier, 2)


@requirement("conversation.new_only")
async def test_of_a_known_conversation_only_what_is_new_counts(connect: Connect) -> None:
    agent = Recorder()
    replayed: list[Any] = [
        {"role": "system", "content": "ignored from the second turn on"},
        {"role": "user", "content": "one, as the client remembers it"},
        {"role": "assistant", "content": "re: something else"},
        {"role": "user", "content": "two"},
    ]
    async with connect(agent, conversations=Conversations()) as client:
        await ask(client, "one")
        await client.chat.completions.create(model="agent", messages=replayed, extra_headers=TRIP)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="agent", messages=replayed[:3], extra_headers=TRIP)
    assert agent.seen[-1] == ["one", "re: one", "two"]
    assert refused.value.param == "messages"
    assert len(agent.seen) == 2


@requirement("conversation.owner")
async def test_another_key_with_the_same_id_is_another_conversation(http: Http) -> None:
    agent = Recorder()
    keys = {"key-a": Principal("alice"), "key-b": Principal("bob")}
    async with http(agent, keys=keys, conversations=Conversations()) as client:
        for key in ("key-a", "key-b"):
            headers = {"Authorization": f"Bearer {key}", **TRIP}
            body = {"model": "agent", "messages": user(f"from {key}")}
            assert (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
        foreign = await client.get("/v1/chat/conversations/nobodys", headers={"Authorization": "Bearer key-b"})
    assert agent.seen == [["from key-a"], ["from key-b"]]
    assert foreign.status_code == 404


@requirement("conversation.id")
@pytest.mark.parametrize("identifier", ["", "x" * 257, "a\tb", "a\x7fb"])
async def test_an_id_that_is_empty_too_long_or_unprintable_is_refused(http: Http, identifier: str) -> None:
    body = {"model": "agent", "messages": user("hi"), "metadata": {"conversation_id": identifier}}
    async with http(Recorder(), conversations=Conversations()) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_conversation_id")


@requirement("conversation.id")
async def test_an_empty_header_of_a_program_without_a_chat_is_no_id(http: Http) -> None:
    agent = Recorder()
    body = {"model": "agent", "messages": user("hi")}
    named = {"X-Conversation-Id": "", "X-OpenWebUI-Chat-Id": "a"}
    async with http(agent, conversations=Conversations()) as client:
        sent = [await client.post("/v1/chat/completions", json=body, headers=h) for h in ({**TRIP, **named}, named)]
        none = await client.post("/v1/chat/completions", json=body, headers={"X-Conversation-Id": ""})
    assert [answer.headers["x-conversation-id"] for answer in sent] == ["a", "a"]
    assert (none.status_code, none.headers.get("x-conversation-id")) == (200, None)


@requirement("conversation.sources")
async def test_the_id_is_found_in_every_place_that_is_configured(connect: Connect) -> None:
    agent = Recorder()
    sources = ["x-conversation-id", "X-OpenWebUI-Chat-Id", "x-session-id", "body:prompt_cache_key"]
    async with connect(agent, conversations=Conversations(sources=sources)) as client:
        for headers, body in (({"X-OpenWebUI-Chat-Id": "a"}, {}), ({"x-session-id": "b"}, {}), ({}, {"k": "c"})):
            extra = {"prompt_cache_key": body["k"]} if body else {}
            await ask(client, "one", headers, extra_body=extra)
            await ask(client, "two", headers, extra_body=extra)
    assert agent.seen == [["one"], ["one", "re: one", "two"]] * 3


@requirement("conversation.api")
async def test_a_conversation_can_be_read_and_deleted(connect: Connect) -> None:
    async with connect(Recorder(), conversations=Conversations()) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="agent", messages=user("one"), extra_headers=TRIP
        )
        found: Any = await client.get("/chat/conversations/trip", cast_to=object)
        deleted: Any = await client.delete("/chat/conversations/trip", cast_to=object)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.get("/chat/conversations/trip", cast_to=object)
    assert raw.headers["x-conversation-id"] == "trip"
    assert found["messages"] == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "re: one"}]
    assert deleted == {"id": "trip", "object": "chat.conversation.deleted", "deleted": True}
    assert gone.value.code == "conversation_not_found"


@requirement("conversation.transcript")
async def test_a_stateless_client_is_recognised_by_what_was_said_and_going_back_makes_a_branch(
    connect: Connect,
) -> None:
    ids: list[str] = []
    history: list[Any] = []

    async def say(messages: list[Any]) -> None:
        raw = await client.chat.completions.with_raw_response.create(model="agent", messages=messages)
        ids.append(raw.headers["x-conversation-id"])

    async with connect(Recorder(), conversations=Conversations(by_transcript=True)) as client:
        await say(user("one"))
        history = [*user("one"), {"role": "assistant", "content": "re: one"}, *user("two")]
        await say(history)
        await say([*history, {"role": "assistant", "content": "re: two"}, *user("three")])
        await say([*history[:2], *user("something else than two")])
    assert ids[0] == ids[1] == ids[2] != ids[3]


@requirement("conversation.tools")
async def test_a_call_left_open_is_answered_for_the_client_when_a_message_comes_instead(connect: Connect) -> None:
    seen: list[Any] = []

    async def agent(request: AgentRequest) -> Any:
        seen.append([m.get("tool_call_id", m["role"]) for m in request.raw_messages])
        return ToolCallReady("c1", "look", "{}") if len(seen) == 1 else "never mind"

    tools: list[Any] = [{"type": "function", "function": {"name": "look"}}]
    async with connect(agent, conversations=Conversations()) as client:
        await client.chat.completions.create(model="agent", messages=user("a"), tools=tools, extra_headers=TRIP)
        await client.chat.completions.create(model="agent", messages=user("b"), tools=tools, extra_headers=TRIP)
    assert seen[-1] == ["user", "assistant", "c1", "user"]


@requirement("conversation.tools")
async def test_a_tool_result_alone_goes_on_with_the_conversation(connect: Connect) -> None:
    async def agent(request: AgentRequest) -> Any:
        if request.resume is None:
            return ToolCallReady("c1", "look", "{}")
        (result,) = request.resume.results.values()
        return f"{result.name} said {result.text}"

    tools: list[Any] = [{"type": "function", "function": {"name": "look"}}]
    result: list[Any] = [{"role": "tool", "tool_call_id": "c1", "content": "sunny"}]
    async with connect(agent, conversations=Conversations()) as client:
        await client.chat.completions.create(model="agent", messages=user("a"), tools=tools, extra_headers=TRIP)
        answer = await client.chat.completions.create(model="agent", messages=result, tools=tools, extra_headers=TRIP)
    assert answer.choices[0].message.content == "look said sunny"


@requirement("conversation.memory")
async def test_the_store_may_be_shared_and_bounded(connect: Connect) -> None:
    agent = Recorder()
    async with connect(agent, conversations=Conversations(), store=MemoryStore(max_items=1)) as client:
        await ask(client, "one")
        await ask(client, "elsewhere", {"X-Conversation-Id": "other"})
        await ask(client, "anew")
    assert agent.seen[-1] == ["anew"]
