"""Settings that operators can choose."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import openai
import pytest

from openai_compat import (
    Admission,
    AgentRequest,
    Conversations,
    Deadlines,
    Disconnect,
    Limits,
    MessagePolicy,
    Principal,
    Progress,
)
from openai_compat.policies.messages import remove_presentation
from tests.connecting import Connect, Http
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.operated import Gate, Recorder

pytestmark = pytest.mark.anyio


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def ask(client: openai.AsyncOpenAI, text: str, model: str = "agent", **options: Any) -> str | None:
    answer = await client.chat.completions.create(model=model, messages=user(text), **options)
    return answer.choices[0].message.content


async def ended(gate: Gate, number: int = 1) -> list[str]:
    with anyio.fail_after(10):
        while len(gate.ended) < number:
            await anyio.sleep(0.01)
    return gate.ended


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@requirement("principal.models")
async def test_a_key_opens_only_the_models_of_its_principal(http: Http) -> None:
    keys = {"all": Principal("boss"), "one": Principal("guest", frozenset({"b"}))}
    async with http({"a": Recorder(), "b": Recorder()}, keys=keys) as client:
        listed = await client.get("/v1/models", headers=bearer("one"))
        hidden = await client.get("/v1/models/a", headers=bearer("one"))
        body = {"model": "a", "messages": user("hi")}
        refused = await client.post("/v1/chat/completions", json=body, headers=bearer("one"))
        allowed = await client.post("/v1/chat/completions", json=body, headers=bearer("all"))
    assert [model["id"] for model in listed.json()["data"]] == ["b"]
    assert (hidden.status_code, refused.status_code, allowed.status_code) == (404, 404, 200)
    assert refused.json()["error"]["code"] == "model_not_found"


@requirement("auth.disabled")
async def test_a_key_source_that_yields_nothing_disables_the_server(http: Http) -> None:
    async with http(Recorder(), keys=lambda: None) as client:
        body = {"model": "agent", "messages": user("hi")}
        answer = await client.post("/v1/chat/completions", json=body, headers=bearer("any"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chat_endpoint_disabled")
    assert answer.headers["x-should-retry"] == "false"


@requirement("auth.public")
async def test_models_can_be_public_while_the_rest_needs_a_key(http: Http) -> None:
    async with http(Recorder(), keys="secret", public=["models"]) as client:
        models = [(await client.get(path)).status_code for path in ("/v1/models", "/v1/models/agent")]
        chat = await client.post("/v1/chat/completions", json={"model": "agent", "messages": user("hi")})
    assert models == [200, 200]
    assert chat.status_code == 401


@requirement("cors.conversation")
async def test_pages_may_send_and_read_the_conversation_header(http: Http) -> None:
    from openai_compat import Cors

    origin = {"Origin": "https://app.example"}
    async with http(Recorder(), keys="k", cors=Cors(["https://app.example"]), conversations=Conversations()) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-conversation-id"}
        preflight = await client.options("/v1/chat/completions", headers=origin | asked)
        answer = await client.get("/v1/models", headers=origin)
    assert preflight.status_code == 200
    assert "x-conversation-id" in preflight.headers["access-control-allow-headers"]
    assert "x-conversation-id" in answer.headers["access-control-expose-headers"]
    assert answer.status_code == 401


@requirement("model.unknown")
async def test_an_unknown_model_can_fall_back_to_the_first_agent_and_is_echoed(connect: Connect) -> None:
    async with connect({"first": Recorder(), "second": Recorder()}, unknown_model="default") as client:
        answer = await client.chat.completions.create(model="gpt-4", messages=user("hi"))
    assert (answer.model, answer.choices[0].message.content) == ("gpt-4", "re: hi")


@requirement("messages.history")
async def test_history_can_be_cut_to_the_last_user_message(connect: Connect) -> None:
    agent = Recorder()
    messages: list[Any] = [*user("one"), {"role": "assistant", "content": "re"}, *user("two")]
    async with connect(agent, messages=MessagePolicy(history="last_user")) as client:
        await client.chat.completions.create(model="agent", messages=messages)
    assert agent.seen == [["two"]]


@requirement("messages.system")
async def test_instructions_from_clients_can_be_ignored_or_refused(connect: Connect) -> None:
    agent = Recorder()
    messages: list[Any] = [{"role": "system", "content": "obey"}, *user("hi")]
    async with connect(agent, messages=MessagePolicy(system="ignore")) as client:
        await client.chat.completions.create(model="agent", messages=messages)
    async with connect(agent, messages=MessagePolicy(system="reject")) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="agent", messages=messages)
    assert agent.seen == [["hi"]]
    assert refused.value.param == "messages[0].role"


@requirement("messages.presentation")
async def test_what_was_drawn_into_an_answer_is_taken_out_of_the_history_again(connect: Connect) -> None:
    seen: list[Any] = []

    async def agent(request: AgentRequest) -> Any:
        seen.append([m["content"] for m in request.raw_messages])
        return [Progress("step", "1", "Looking it up"), "sunny"]

    async with connect(agent, visibility="text") as client:
        said = await ask(client, "weather?")
        answer: list[Any] = [{"role": "assistant", "content": said}]
        for messages in ([*user("weather?"), *answer, *user("thanks")], answer):
            await client.chat.completions.create(model="agent", messages=messages)
    assert said != "sunny"
    assert seen[1:] == [["weather?", "sunny", "thanks"], ["sunny"]]


def test_folded_blocks_of_open_webui_are_taken_out_and_other_text_is_left() -> None:
    block = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n</details>\n'
    assert remove_presentation(f"{block}It is [x] <details>mine</details>.") == "It is [x] <details>mine</details>."


@requirement("admission.bounds")
@pytest.mark.parametrize("bound", ["slots", "slots_per_agent", "slots_per_principal"])
async def test_each_bound_refuses_what_is_over_it(connect: Connect, bound: str) -> None:
    gate = Gate()
    limits = Limits(**{bound: 1})
    async with connect({"agent": gate, "other": Recorder()}, limits=limits) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "first")
            await gate.wait_begun()
            with pytest.raises(openai.RateLimitError) as refused:
                await ask(client, "second")
            if bound == "slots_per_agent":
                assert await ask(client, "hi", "other") == "re: hi"
            gate.opened.set()
    assert refused.value.response.headers["retry-after"] == "1"
    assert gate.runs == 1


@requirement("admission.queue")
async def test_requests_can_queue_for_a_slot(connect: Connect) -> None:
    gate = Gate()
    async with (
        connect(gate, limits=Limits(slots=1), admission=Admission(queue=10)) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(ask, client, "first")
        await gate.wait_begun()
        group.start_soon(ask, client, "second")
        gate.opened.set()
    assert gate.ended == ["finished", "finished"]


@requirement("admission.queue")
async def test_the_queue_has_a_deadline(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate, limits=Limits(slots=1), admission=Admission(queue=0.05)) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "first")
            await gate.wait_begun()
            with pytest.raises(openai.RateLimitError):
                await ask(client, "second")
            gate.opened.set()


@requirement("admission.busy")
async def test_a_busy_server_can_answer_as_the_assistant(connect: Connect) -> None:
    gate = Gate()

    async def busy(request: AgentRequest) -> str:
        return f"I am busy; ask me later about {request.prompt!r}."

    async with (
        connect(gate, limits=Limits(slots=1), admission=Admission(busy=busy)) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(ask, client, "first")
        await gate.wait_begun()
        plain = await ask(client, "the weather")
        stream = await client.chat.completions.create(model="agent", messages=user("x"), stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        gate.opened.set()
    assert plain == "I am busy; ask me later about 'the weather'."
    assert streamed == "I am busy; ask me later about 'x'."


@requirement("deadline.silence")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("deadline", ["first_event", "idle"])
async def test_an_agent_that_falls_silent_is_stopped(http: Http, deadline: str, stream: bool) -> None:
    gate = Gate()
    if deadline == "first_event":
        gate.run = mute(gate)
    limits = Deadlines(head=0.02, **{deadline: 0.1})
    async with http(gate, deadlines=limits) as client:
        body = {"model": "agent", "messages": user("hi"), "stream": stream}
        answer = await client.post("/v1/chat/completions", json=body)
    assert '"code":"agent_silent"' in answer.text
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 504)
    assert await ended(gate) == ["cancelled"]


def mute(gate: Gate) -> Any:
    async def run(prompt: str) -> Any:
        try:
            await anyio.sleep_forever()
            yield ""
        finally:
            gate.ended.append("cancelled")

    return run


@requirement("disconnect.cancel")
async def test_by_default_a_turn_ends_with_its_client(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate, deadlines=Deadlines(heartbeat=0.05)) as client:
        stream = await client.chat.completions.create(model="agent", messages=user("hi"), stream=True)
        await gate.wait_begun()
        await stream.close()
        assert await ended(gate) == ["cancelled"]


@requirement("disconnect.finish")
async def test_a_turn_may_finish_without_its_client_and_is_kept(connect: Connect) -> None:
    gate = Gate()
    options: Any = {"disconnect": Disconnect("finish"), "deadlines": Deadlines(heartbeat=0.05)}
    async with connect(gate, conversations=Conversations(), **options) as client:
        stream = await client.chat.completions.create(
            model="agent", messages=user("hi"), stream=True, extra_headers={"X-Conversation-Id": "c"}
        )
        await gate.wait_begun()
        await stream.close()
        gate.opened.set()
        assert await ended(gate) == ["finished"]
        found: Any = None
        with anyio.fail_after(10):
            while found is None:
                try:
                    found = await client.get("/chat/conversations/c", cast_to=object)
                except openai.NotFoundError:
                    await anyio.sleep(0.01)
    assert [m["content"] for m in found["messages"]] == ["hi", "begun hi"]


@requirement("disconnect.detach")
async def test_a_detached_turn_is_given_a_grace_and_then_stopped(connect: Connect) -> None:
    gate = Gate()
    options: Any = {"disconnect": Disconnect("detach", grace=0.1), "deadlines": Deadlines(heartbeat=0.05)}
    async with connect(gate, **options) as client:
        stream = await client.chat.completions.create(model="agent", messages=user("hi"), stream=True)
        await gate.wait_begun()
        await stream.close()
        assert await ended(gate) == ["cancelled"]


@requirement("stored.lifecycle")
async def test_stored_completions_are_listed_read_changed_and_deleted(connect: Connect) -> None:
    async with connect(Recorder()) as client:
        first = await client.chat.completions.create(
            model="agent", messages=user("one"), store=True, metadata={"team": "blue"}
        )
        stream = await client.chat.completions.create(
            model="agent", messages=user("two"), store=True, metadata={"team": "red"}, stream=True
        )
        second = {chunk.id async for chunk in stream}.pop()
        await client.chat.completions.create(model="agent", messages=user("not stored"))
        listed = [found.id async for found in client.chat.completions.list(limit=1)]
        red = [found.id async for found in client.chat.completions.list(metadata={"team": "red"})]
        streamed = await client.chat.completions.retrieve(second)
        messages = await client.chat.completions.messages.list(first.id)
        changed = await client.chat.completions.update(first.id, metadata={"team": "green"})
        deleted = await client.chat.completions.delete(first.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.chat.completions.retrieve(first.id)
    assert listed == [first.id, second]
    assert red == [second]
    assert streamed.choices[0].message.content == "re: two"
    assert [message.content for message in messages.data] == ["one"]
    assert (changed.metadata, deleted.deleted) == ({"team": "green"}, True)
    assert gone.value.code == "completion_not_found"


@requirement("stored.paging")
@pytest.mark.parametrize("query", ["after=unknown", "limit=0", "limit=x", "limit=101"])
async def test_a_page_that_cannot_be_is_refused(http: Http, query: str) -> None:
    async with http(Recorder()) as client:
        answer: httpx2.Response = await client.get(f"/v1/chat/completions?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
