"""Streams of the chat REST API: failures, deadlines, silence, and clients that leave and return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import AgentError, Deadlines, Disconnect
from tests.api.chat_rest.support import (
    API,
    BOUGHT,
    BUYS,
    Shop,
    conversation,
    error_of,
    frames,
    read_frames,
    serving,
    shopper,
)
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio


async def said(client: httpx2.AsyncClient, name: str) -> list[str]:
    found = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]
    return [message["content"] for message in found]


async def breaks(prompt: str) -> AsyncIterator[str]:
    yield "half an ans"
    raise AgentError("The oven is broken.", status=409, code="oven_broken")


async def test_an_agentic_turn_that_fails_ends_with_an_error_event_and_leaves_nothing(http: Http) -> None:
    async with http(serving(breaks)) as client:
        name = await conversation(client)
        told = frames(await client.post(f"{API}/conversations/{name}/messages/agentic", json={"content": "Bake"}))
        left = await said(client, name)
        again = await client.post(f"{API}/conversations/{name}/messages/agentic", json={"content": "Bake"})

    assert [frame["type"] for frame in told] == ["user_message", "session:start", "text:delta", "error"]
    assert told[-1]["data"]["message"] == "The oven is broken."
    assert (told[-1]["data"]["code"], left, again.status_code) == ("oven_broken", [], 200)


async def test_what_fails_at_once_has_a_status(http: Http) -> None:
    async def refuses(prompt: str) -> str:
        raise AgentError("No.", status=409, code="no")

    async with http(serving(refuses)) as client:
        name = await conversation(client)
        for path in ("messages/agentic", "messages"):
            answer = await client.post(f"{API}/conversations/{name}/{path}", json={"content": "Do", "stream": True})
            assert error_of(answer)[:2] == (409, "no")


@requirement("chat_rest.deadline")
@in_process
async def test_the_deadline_stops_the_agent(http: Http) -> None:
    stopped = anyio.Event()

    async def endless(prompt: str) -> AsyncIterator[str]:
        try:
            yield "Working"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async with http(serving(endless, deadlines=Deadlines(request=0.3))) as client:
        name = await conversation(client)
        answer = await client.post(f"{API}/conversations/{name}/messages/agentic", json={"content": "Work"})
        with anyio.fail_after(5):
            await stopped.wait()
        left = await said(client, name)

    last = frames(answer)[-1]
    assert (last["type"], last["data"]["code"], left) == ("error", "timeout", [])


@in_process
async def test_a_silent_agent_is_covered_by_comments(http: Http) -> None:
    go_on = anyio.Event()

    async def slow(prompt: str) -> AsyncIterator[str]:
        await go_on.wait()
        yield "Done."

    async with http(serving(slow, deadlines=Deadlines(head=0.05, heartbeat=0.05))) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/agentic"
        with anyio.fail_after(20):
            async with client.stream("POST", path, json={"content": "Work"}) as answer:
                text = ""
                async for piece in answer.aiter_text():
                    text += piece
                    if text.count(": keep-alive") >= 2:
                        go_on.set()
    assert text.index("session:start") < text.index(": keep-alive") < text.index("Done.")


@requirement("chat_rest.resume")
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@in_process
async def test_a_stream_is_taken_up_where_it_was_lost_and_the_turn_is_kept(
    http: Http, store: str, tmp_path: Path
) -> None:
    shop, go_on = Shop(), anyio.Event()
    agent = shopper(shop, *BUYS, [go_on, *BOUGHT[0]], security="full")
    options: dict[str, Any] = {} if store == "memory" else {"store": f"sqlite:///{tmp_path}/state.db"}
    server = serving(agent, disconnect=Disconnect("detach"), **options)
    async with server.lifespan(), http(server) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/agentic"
        seen = ""
        with anyio.fail_after(20):
            async with client.stream("POST", path, json={"content": "Buy bread"}) as answer:
                async for piece in answer.aiter_text():
                    seen += piece
                    if "tool:result" in seen and seen.endswith("\n\n"):
                        break
            last = [line[4:] for line in seen.split("\n") if line.startswith("id: ")][-1]
            go_on.set()
            rest = await client.post(path, json={}, headers={"last-event-id": last})
            whole = await client.post(path, json={}, headers={"last-event-id": last.rpartition(":")[0] + ":0"})
        left = await said(client, name)

    then = frames(rest)
    assert [frame["type"] for frame in then][-3:] == ["summary", "complete", "message_saved"]
    assert "user_message" not in [frame["type"] for frame in then]
    assert [*read_frames(seen), *then] == [next(read_frames(seen)), *frames(whole)]
    assert left[-1] == "Let me buy it.\n\nYou have bread now."
    assert shop.did == ["buy 1 bread"]


@in_process
async def test_a_lost_stream_whose_turn_failed_ends_with_the_same_error(http: Http) -> None:
    async with http(serving(breaks, disconnect=Disconnect("finish"))) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/agentic"
        answer = await client.post(path, json={"content": "Bake"})
        first = answer.text.split("\n")[0].removeprefix("id: ")
        rest = frames(await client.post(path, json={}, headers={"last-event-id": first}))
        foreign = await client.post(path, json={}, headers={"last-event-id": "chatcmpl-x:0"})
    assert [frame["type"] for frame in rest][-1] == "error"
    assert rest[-1]["data"] == frames(answer)[-1]["data"]
    assert error_of(foreign)[:2] == (404, "completion_not_found")


@in_process
async def test_a_client_that_leaves_stops_the_turn_and_nothing_is_kept(http: Http) -> None:
    stopped = anyio.Event()

    async def endless(prompt: str) -> AsyncIterator[str]:
        try:
            yield "Working"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async with http(serving(endless)) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages"
        with anyio.fail_after(20):
            async with client.stream("POST", path, json={"content": "Work", "stream": True}) as answer:
                async for _ in answer.aiter_text():
                    break
            await stopped.wait()
        assert await said(client, name) == []


@in_process
async def test_a_decided_turn_goes_on_without_its_client(http: Http) -> None:
    shop, go_on, running = Shop(), anyio.Event(), anyio.Event()

    class Gate:
        async def wait(self) -> None:
            running.set()
            await go_on.wait()

    async with http(serving(shopper(shop, *BUYS, [Gate(), "Done."]))) as client:
        name = await conversation(client)
        first = await client.post(f"{API}/conversations/{name}/messages/with-tools", json={"content": "Buy"})
        asked = first.json()["pendingApprovals"][0]["id"]
        body = {"conversationId": name, "approvalId": asked, "decision": "allow-once"}
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: client.post(f"{API}/tools/approve", json=body))
                await running.wait()
                group.cancel_scope.cancel()
            go_on.set()
            while not (await said(client, name))[-1].endswith("Done."):
                await anyio.lowlevel.checkpoint()
    assert shop.did == ["buy 1 bread"]


@in_process
async def test_the_same_idempotency_key_is_one_turn(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT, security="full"))) as client:
        name = await conversation(client)
        path, body = f"{API}/conversations/{name}/messages/with-tools", {"content": "Buy"}
        headers: dict[str, Any] = {"idempotency-key": "k1"}
        first = await client.post(path, json=body, headers=headers)
        again = await client.post(path, json=body, headers=headers)
        assert first.json() == again.json()
        assert len(await said(client, name)) == 2
    assert shop.did == ["buy 1 bread"]
