"""Conversations of the chat REST API: created, listed, renamed, forked, exported and deleted."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import Principal
from tests.api.chat_rest.support import API, conversation, error_of, serving
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio


async def echo(prompt: str) -> str:
    return f"You said: {prompt}"


async def say(client: Any, name: str, text: str) -> dict[str, Any]:
    answer = await client.post(f"{API}/conversations/{name}/messages", json={"content": text})
    found: dict[str, Any] = answer.json()
    return found


async def listed(client: Any, query: str = "") -> tuple[list[str], int]:
    answer = (await client.get(f"{API}/conversations{query}")).json()
    return [one["id"] for one in answer["conversations"]], answer["total"]


async def test_a_conversation_is_made_with_its_labels(http: Http) -> None:
    async with http(serving(echo)) as client:
        fields = {"title": "Bug fix session", "presetId": "code-review", "taskId": "task_01"}
        made = (await client.post(f"{API}/conversations", json=fields)).json()["conversation"]
        found = (await client.get(f"{API}/conversations/{made['id']}")).json()

    assert {name: made[name] for name in fields} == fields
    assert "ticketId" not in made
    assert made["createdAt"].endswith("Z")
    assert (found["conversation"]["title"], found["messages"]) == ("Bug fix session", [])


@requirement("chat_rest.conversations")
async def test_the_list_can_be_paged_and_narrowed(http: Http) -> None:
    async with http(serving(echo)) as client:
        first = await conversation(client, taskId="task_01")
        second = await conversation(client, taskId="task_02")
        third = await conversation(client, taskId="task_01")
        await say(client, first, "Hello")  # most recently used
        everything = await listed(client)
        of_task = await listed(client, "?taskId=task_01&limit=20&offset=0")
        later = await listed(client, "?limit=1&offset=1")
        page = (await client.get(f"{API}/conversations?limit=2")).json()
        rest = (await client.get(f"{API}/conversations?limit=2&cursor={page['nextCursor']}")).json()

    assert everything == ([first, third, second], 3)
    assert of_task == ([first, third], 2)
    assert later == ([third], 3)
    assert [one["id"] for one in page["conversations"]] == [first, third]
    assert ([one["id"] for one in rest["conversations"]], rest["nextCursor"]) == ([second], None)


async def test_a_title_can_be_given_and_is_else_the_beginning(http: Http) -> None:
    long = "What should I fix first in this very long program of ours, please?"
    async with http(serving(echo)) as client:
        name = await conversation(client)
        await say(client, name, long)
        begun = (await client.get(f"{API}/conversations/{name}")).json()["conversation"]["title"]
        await client.post(f"{API}/conversations/{name}/title", json={"title": "Fixing"})
        await say(client, name, "And then?")
        named = (await client.get(f"{API}/conversations/{name}")).json()["conversation"]["title"]
    assert (begun, named) == (long[:50] + "...", "Fixing")


async def test_a_fork_goes_its_own_way(http: Http) -> None:
    async with http(serving(echo)) as client:
        name = await conversation(client, taskId="task_01")
        first = await say(client, name, "One")
        await say(client, name, "Two")
        until = {"messageId": first["assistantMessage"]["id"]}
        fork = (await client.post(f"{API}/conversations/{name}/fork", json=until)).json()["conversation"]
        await say(client, fork["id"], "Three")
        theirs = (await client.get(f"{API}/conversations/{fork['id']}")).json()["messages"]
        ours = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]
        unknown = await client.post(f"{API}/conversations/{name}/fork", json={"messageId": "msg_x"})

    assert (fork["title"], fork["taskId"]) == ("One (fork)", "task_01")
    assert [one["content"] for one in theirs] == ["One", "You said: One", "Three", "You said: Three"]
    assert [one["content"] for one in ours] == ["One", "You said: One", "Two", "You said: Two"]
    assert not {one["id"] for one in theirs} & {one["id"] for one in ours}
    assert error_of(unknown) == (404, "message_not_found", "messageId")


async def test_a_conversation_can_be_exported(http: Http) -> None:
    async with http(serving(echo)) as client:
        name = await conversation(client, title="Greetings")
        await say(client, name, "Hello")
        whole = await client.get(f"{API}/conversations/{name}/export")
        text = await client.get(f"{API}/conversations/{name}/export?format=markdown")
        other = await client.get(f"{API}/conversations/{name}/export?format=pdf")

    assert [one["content"] for one in whole.json()["messages"]] == ["Hello", "You said: Hello"]
    assert "conversation.json" in whole.headers["content-disposition"]
    assert text.headers["content-type"].startswith("text/markdown")
    assert text.text == "# Greetings\n\n## user\n\nHello\n\n## assistant\n\nYou said: Hello\n"
    assert error_of(other) == (400, "invalid_value", "format")


async def test_messages_and_conversations_are_deleted(http: Http) -> None:
    async with http(serving(echo)) as client:
        name = await conversation(client)
        first = await say(client, name, "One")
        gone = await client.delete(f"{API}/conversations/{name}/messages/{first['userMessage']['id']}")
        again = await client.delete(f"{API}/conversations/{name}/messages/{first['userMessage']['id']}")
        left = (await client.get(f"{API}/conversations/{name}")).json()["messages"]
        goes_on = await say(client, name, "Two")
        whole = await client.delete(f"{API}/conversations/{name}")
        absent = await client.delete(f"{API}/conversations/{name}")

    assert (gone.json(), whole.json()) == ({"success": True}, {"success": True})
    assert error_of(again) == (404, "message_not_found", "messageId")
    assert left == [first["assistantMessage"]]
    assert goes_on["assistantMessage"]["content"] == "You said: Two"
    assert error_of(absent) == (404, "conversation_not_found", "conversationId")


@requirement("chat_rest.owner")
@in_process
async def test_nobody_sees_what_is_anothers(http: Http) -> None:
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with http(serving(echo, keys=keys)) as client:
        client.headers["authorization"] = "Bearer hers"
        name = await conversation(client)
        said = await say(client, name, "Secret")
        message = said["userMessage"]["id"]
        client.headers["authorization"] = "Bearer his"
        assert await listed(client) == ([], 0)
        path = f"{API}/conversations/{name}"
        refused = [
            await client.get(path),
            await client.get(f"{path}/messages"),
            await client.get(f"{path}/export"),
            await client.delete(path),
            await client.delete(f"{path}/messages/{message}"),
            await client.post(f"{path}/title", json={"title": "Mine"}),
            await client.post(f"{path}/fork", json={}),
            await client.post(f"{path}/messages", json={"content": "Hello"}),
            await client.post(f"{path}/messages/with-tools", json={"content": "Hello"}),
            await client.post(f"{path}/messages/agentic", json={"content": "Hello"}),
            await client.post(
                f"{API}/completions",
                json={"messages": [{"role": "user", "content": "Hello"}], "conversationId": name},
            ),
        ]
        client.headers["authorization"] = "Bearer hers"
        found = (await client.get(path)).json()["messages"]

    assert [error_of(answer)[:2] for answer in refused] == [(404, "conversation_not_found")] * len(refused)
    assert [one["content"] for one in found] == ["Secret", "You said: Secret"]


@in_process
async def test_it_is_the_same_conversation_as_in_the_other_apis(http: Http) -> None:
    async with http(serving(echo)) as client:
        name = await conversation(client)
        await client.post("/v1/responses", json={"model": "agent", "input": "One", "conversation": name})
        await say(client, name, "Two")
        found = (await client.get(f"{API}/conversations/{name}")).json()["messages"]
        items = (await client.get(f"/v1/conversations/{name}/items?order=asc")).json()["data"]

    assert [one["content"] for one in found] == ["One", "You said: One", "Two", "You said: Two"]
    assert [item["type"] for item in items] == ["message"] * 4
