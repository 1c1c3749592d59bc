"""The Conversations API, whose conversations are those of chat and of responses."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx2
import openai
import pytest
from openai.types.conversations import (
    Conversation,
    ConversationCreateParams,
    ConversationDeletedResource,
    conversation_item,
)
from openai.types.conversations.conversation_item_list import ConversationItemList
from pydantic import TypeAdapter

from openai_compat import ChatRest, Conversations, Paused, PendingCall, Principal
from openai_compat.wire import conversations as wire
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio

URL = "/v1/conversations"
CHAT = "/v1/chat/completions"
HI: dict[str, Any] = {"role": "user", "content": "Hi"}


def error_of(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return answer.status_code, error["code"], error["param"]


async def made(client: httpx2.AsyncClient, *items: dict[str, Any], **body: Any) -> str:
    answer = await client.post(URL, json={"items": items, **body})
    assert answer.status_code == 200, answer.content
    identifier: str = answer.json()["id"]
    return identifier


async def texts(client: httpx2.AsyncClient, identifier: str) -> list[str]:
    """The texts of a conversation, oldest first."""
    answer = await client.get(f"{URL}/{quote(identifier, safe='')}/items", params={"order": "asc", "limit": 100})
    assert answer.status_code == 200, answer.content
    return [part["text"] for item in answer.json()["data"] for part in item["content"]]


# conversations


@requirement("conversations.keep")
async def test_the_sdk_makes_shows_labels_and_deletes_a_conversation(connect: Connect) -> None:
    before = int(time.time())
    async with connect(Says("Hi")) as client:
        new = await client.conversations.create(metadata={"topic": "demo"}, items=[{"role": "user", "content": "Hi"}])
        found = await client.conversations.retrieve(new.id)
        labelled = await client.conversations.update(new.id, metadata={"other": "label"})
        again = await client.conversations.retrieve(new.id)
        deleted = await client.conversations.delete(new.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.conversations.retrieve(new.id)
    assert new.id.startswith("conv_")
    assert before <= new.created_at <= time.time()
    assert new.to_dict() == {
        "id": new.id,
        "object": "conversation",
        "created_at": new.created_at,
        "metadata": {"topic": "demo"},
    }
    assert found == new
    assert labelled.metadata == again.metadata == {"other": "label"}
    assert deleted.to_dict() == {"id": new.id, "object": "conversation.deleted", "deleted": True}
    assert (gone.value.code, gone.value.param) == ("conversation_not_found", "conversation_id")


@requirement("conversations.keep")
@in_process
@pytest.mark.parametrize("body", [b"", b"{}", b'{"items": null, "metadata": null}', b'{"items": [], "unknown": 1}'])
async def test_an_empty_conversation_is_kept_too(body: bytes, http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = (await client.post(URL, content=body)).json()
        found = await client.get(f"{URL}/{new['id']}")
        items = await client.get(f"{URL}/{new['id']}/items")
    assert found.json() == new
    assert new["metadata"] == {}
    assert items.json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@requirement("conversations.keep")
@in_process
async def test_the_types_are_those_of_the_sdk(http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, HI, metadata={"a": "b"})
        Conversation.model_validate((await client.get(f"{URL}/{new}")).json(), strict=True)
        listed = (await client.get(f"{URL}/{new}/items")).json()
        deleted = (await client.delete(f"{URL}/{new}")).json()
    ConversationDeletedResource.model_validate(deleted, strict=True)
    assert set(listed) == set(ConversationItemList.model_fields) == set(get_type_hints(wire.ItemPage))
    assert set(get_type_hints(wire.ConversationObject)) == set(Conversation.model_fields)
    assert set(get_type_hints(wire.DeletedConversation)) == set(ConversationDeletedResource.model_fields)
    assert set(wire.ConversationCreate.model_fields) == set(get_type_hints(ConversationCreateParams))


# items


@requirement("conversations.items")
async def test_the_sdk_adds_lists_shows_and_takes_out_items(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        new = await client.conversations.create()
        added = await client.conversations.items.create(
            new.id, items=[{"role": "user", "content": f"{n}"} for n in range(5)]
        )
        ids = [item.id for item in added.data]
        newest_first = [item.id async for item in client.conversations.items.list(new.id, limit=2)]
        oldest_first = [item.id async for item in client.conversations.items.list(new.id, limit=2, order="asc")]
        page = await client.conversations.items.list(new.id, after=ids[1] or "", order="asc", limit=1)
        found = await client.conversations.items.retrieve(ids[2] or "", conversation_id=new.id)
        left_in = await client.conversations.items.delete(ids[2] or "", conversation_id=new.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.conversations.items.retrieve(ids[2] or "", conversation_id=new.id)
        left = [item.id async for item in client.conversations.items.list(new.id, order="asc")]
    assert (added.object, added.has_more, added.first_id, added.last_id) == ("list", False, ids[0], ids[-1])
    assert newest_first == ids[::-1]
    assert oldest_first == ids
    assert ([item.id for item in page.data], page.has_more) == ([ids[2]], True)
    assert found.to_dict() == {
        "id": ids[2],
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "2"}],
    }
    assert left_in == new
    assert (gone.value.code, gone.value.param) == ("item_not_found", "item_id")
    assert left == [*ids[:2], *ids[3:]]


KINDS: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {"role": "developer", "content": "Be brief"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "https://e.example/a.png"}]},
    {"role": "user", "content": [{"type": "input_file", "file_id": "file-1", "filename": "a.pdf"}]},
    {"role": "assistant", "content": "Hello"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "1"},
    {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "d", "output": "2"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Well"}]},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "f", "arguments": "{}", "output": "1"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "f", "arguments": "{}"},
]


@requirement("conversations.items")
@in_process
@pytest.mark.parametrize("item", KINDS, ids=lambda item: str(item.get("type", item.get("role"))))
async def test_items_are_shown_whole_as_the_sdk_has_them(item: dict[str, Any], http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, item)
        [shown] = (await client.get(f"{URL}/{new}/items")).json()["data"]
        one = (await client.get(f"{URL}/{new}/items/{shown['id']}")).json()
    TypeAdapter(conversation_item.ConversationItem).validate_python(shown)
    assert one == shown
    if "type" in item:
        assert shown["type"] == item["type"]
        assert shown.items() >= {name: value for name, value in item.items() if name != "content"}.items()


@requirement("conversations.items")
@in_process
async def test_items_of_unknown_types_come_back_as_they_were(http: Http) -> None:
    odd = {"type": "hologram", "id": "holo/1 items", "beams": [1, {"x": None}], "content": "text"}
    async with http(Says("Hi")) as client:
        new = await made(client, {**odd, "id": "holo_1"}, odd)
        shown = (await client.get(f"{URL}/{new}/items", params={"order": "asc"})).json()["data"]
        assert (await client.get(f"{URL}/{new}/items/holo_1")).json() == shown[0] == {**odd, "id": "holo_1"}
    assert shown[1] == {**odd, "id": shown[1]["id"]}
    assert shown[1]["id"].startswith("item_")  # an unusable id is replaced


@requirement("conversations.items")
@in_process
async def test_an_items_own_id_is_kept_and_may_have_slashes(http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, {**HI, "type": "message", "id": "a/b%2F?c"})
        path = f"{URL}/{new}/items/{quote('a/b%2F?c', safe='')}"
        assert (await client.get(path)).json()["id"] == "a/b%2F?c"
        assert (await client.delete(path)).status_code == 200
        assert error_of(await client.delete(path)) == (404, "item_not_found", "item_id")


@requirement("conversations.items")
@in_process
async def test_the_same_works_with_sqlite(http: Http, tmp_path: Path) -> None:
    async with http(Says("Hi"), store=f"sqlite:///{tmp_path}/state.db") as client:
        new = await made(client, HI, metadata={"a": "b"})
        added = await client.post(f"{URL}/{new}/items", json={"items": [HI, HI]})
        ids = [item["id"] for item in added.json()["data"]]
        page = await client.get(f"{URL}/{new}/items", params={"limit": 2})
        more = await client.get(f"{URL}/{new}/items", params={"after": ids[0]})
        odd = await client.get(f"{URL}/{new}/items", params={"after": "\x00\ud800".encode("utf-8", "replace").decode()})
        twice = await client.post(f"{URL}/{new}/items", json={"items": [{**HI, "id": ids[0]}]})
        assert (await client.post(f"{URL}/{new}", json={"metadata": {"c": "d"}})).json()["metadata"] == {"c": "d"}
        assert (await client.delete(f"{URL}/{new}/items/{ids[0]}")).json()["id"] == new
        assert len(await texts(client, new)) == 2
        assert error_of(await client.get(f"{URL}/%00")) == (404, "conversation_not_found", "conversation_id")
    assert [item["id"] for item in page.json()["data"]] == ids[::-1]
    assert page.json()["has_more"] is True
    assert len(more.json()["data"]) == 1
    assert error_of(odd) == (400, "invalid_value", "after")
    assert error_of(twice) == (400, "invalid_value", "items[0].id")


# the same conversations


@requirement("conversations.same")
async def test_what_is_said_in_chat_is_in_the_conversation_and_what_is_added_reaches_the_agent(http: Http) -> None:
    agent = Says("Hello")
    async with http(agent, conversations=Conversations()) as client:
        new = await made(client, {"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"})
        body = {"model": "agent", "messages": [{"role": "user", "content": "Three"}]}
        answer = await client.post(CHAT, json=body, headers={"X-Conversation-Id": new})
        await client.post(f"{URL}/{new}/items", json={"items": [{"role": "user", "content": "Five"}]})
        last = {"model": "agent", "messages": [{"role": "user", "content": "Six"}]}
        await client.post(CHAT, json=last, headers={"X-Conversation-Id": new})
        said = await texts(client, new)
        kept = (await client.get(f"/v1/chat/conversations/{new}")).json()
    assert answer.headers["x-conversation-id"] == new
    assert [message["content"] for message in agent.requests[0].raw_messages] == ["One", "Two", "Three"]
    assert [message["content"] for message in agent.requests[1].raw_messages] == [
        *["One", "Two", "Three", "Hello", "Five", "Six"]
    ]
    assert said == ["One", "Two", "Three", "Hello", "Five", "Six", "Hello"]
    assert [message["content"] for message in kept["messages"]] == said


@requirement("conversations.same")
async def test_a_response_goes_on_in_it_and_what_was_said_is_there_in_chat_too(connect: Connect) -> None:
    agent = Says("Hello")
    async with connect(agent, conversations=Conversations()) as client:
        new = await client.conversations.create(items=[{"role": "user", "content": "One"}])
        await client.responses.create(model="agent", input="Two", conversation=new.id)
        await client.chat.completions.create(
            model="agent",
            messages=[{"role": "user", "content": "Three"}],
            extra_headers={"X-Conversation-Id": new.id},
        )
        said: list[Any] = [item async for item in client.conversations.items.list(new.id, order="asc")]
    assert [item.content[0].text for item in said] == ["One", "Two", "Hello", "Three", "Hello"]
    assert [message["content"] for message in agent.requests[1].raw_messages] == ["One", "Two", "Hello", "Three"]


@requirement("conversations.same")
@pytest.mark.parametrize(
    "identifier", ["team/42", "Gespräch über Ö?", "a%2Fb", "a b#c&d=e", "../models", "x" * 256, "items", "a/items/b/c"]
)
async def test_a_conversation_that_a_chat_client_named_is_found_by_that_name(identifier: str, http: Http) -> None:
    async with http(Says("Hello"), conversations=Conversations()) as client:
        body = {"model": "agent", "messages": [HI], "metadata": {"conversation_id": identifier}}
        assert (await client.post(CHAT, json=body)).status_code == 200
        if identifier == "a/items/b/c":  # below /items are items: only chat can use such an id
            return
        path = f"{URL}/{quote(identifier, safe='')}"
        found = await client.get(path)
        assert (found.json()["id"], found.json()["metadata"]) == (identifier, {})
        assert await texts(client, identifier) == ["Hi", "Hello"]
        items = (await client.get(f"{path}/items")).json()["data"]
        assert (await client.get(f"{path}/items/{items[0]['id']}")).json() == items[0]
        assert (await client.delete(path)).json()["deleted"] is True
        assert error_of(await client.get(path)) == (404, "conversation_not_found", "conversation_id")


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "1"}
NOT_RUN = "Not run: the user sent a new message instead."


@requirement("conversations.same")
@in_process
@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([HI, RESULT], [("user", "Hi")]),
        ([HI, CALL, RESULT], [("user", "Hi"), ("assistant", None), ("tool", "1")]),
        ([HI, CALL], [("user", "Hi"), ("assistant", None), ("tool", NOT_RUN)]),
        ([HI, CALL, HI], [("user", "Hi"), ("assistant", None), ("tool", NOT_RUN), ("user", "Hi")]),
        (
            [HI, CALL, {**CALL, "call_id": "d"}, RESULT],
            [("user", "Hi"), ("assistant", None), ("tool", "1"), ("tool", NOT_RUN)],
        ),
        ([HI, CALL, HI, RESULT], [("user", "Hi"), ("assistant", None), ("tool", "1"), ("user", "Hi")]),
        ([{"type": "hologram"}], []),
    ],
)
async def test_chat_goes_on_whatever_items_were_added_and_taken_out(
    items: list[dict[str, Any]], said: list[tuple[str, str | None]], http: Http
) -> None:
    agent = Says("Hello")
    async with http(agent, conversations=Conversations()) as client:
        new = await made(client, *items)
        body = {"model": "agent", "messages": [{"role": "user", "content": "Go on"}]}
        for _ in range(2):
            answer = await client.post(CHAT, json=body, headers={"X-Conversation-Id": new})
            assert answer.status_code == 200, answer.content
    first, second = [[(m["role"], m["content"]) for m in request.raw_messages] for request in agent.requests]
    assert first == [*said, ("user", "Go on")]
    assert second == [*first, ("assistant", "Hello"), ("user", "Go on")]


# owners, and concurrent turns


@requirement("conversations.owner")
async def test_foreign_and_unknown_conversations_are_not_found(http: Http) -> None:
    keys = {"a": Principal("ann"), "b": Principal("bob")}
    async with http(Says("Hi"), keys=keys) as client:
        client.headers["Authorization"] = "Bearer a"
        foreign = await made(client, HI)
        [item] = (await client.get(f"{URL}/{foreign}/items")).json()["data"]
        client.headers["Authorization"] = "Bearer b"
        for identifier in (foreign, "conv_none", "x" * 5000, "%00"):
            for method, path, body in (
                ("GET", "", None),
                ("POST", "", {"metadata": {}}),
                ("DELETE", "", None),
                ("GET", "/items", None),
                ("POST", "/items", {"items": [HI]}),
                ("GET", f"/items/{item['id']}", None),
                ("DELETE", f"/items/{item['id']}", None),
            ):
                answer = await client.request(method, f"{URL}/{identifier}{path}", json=body)
                assert error_of(answer) == (404, "conversation_not_found", "conversation_id"), (method, path)
        client.headers["Authorization"] = "Bearer a"
        assert await texts(client, foreign) == ["Hi"]


@pytest.mark.parametrize("path", ["", "/items/{0}"])
async def test_what_was_asked_in_what_is_deleted_cannot_be_decided_any_more(path: str, http: Http) -> None:
    async def careful(prompt: str) -> AsyncIterator[Any]:
        yield Paused((PendingCall("1", "delete", "{}", "approval"),)) if prompt == "Delete a" else "Deleted."

    async with http(careful, chat_rest=ChatRest()) as client:
        identifier = await made(client)
        body = {"model": "agent", "input": "Delete a", "conversation": identifier}
        (item,) = (await client.post("/v1/responses", json=body)).json()["output"]
        (asked,) = (await client.get("/api/chat/approvals")).json()["approvals"]
        assert (await client.delete(f"{URL}/{identifier}{path.format(item['id'])}")).status_code == 200
        assert (await client.get("/api/chat/approvals")).json()["approvals"] == []
        decision = {"conversationId": identifier, "approvalId": asked["id"], "decision": "allow-once"}
        late = await client.post("/api/chat/tools/approve", json=decision)
        assert error_of(late)[:2] == (409, "approval_decided")


@requirement("conversations.busy")
async def test_nothing_is_added_while_a_turn_runs(http: Http) -> None:
    running, go = threading.Event(), threading.Event()

    def agent(prompt: str) -> str:
        running.set()
        assert go.wait(10)
        return "Hello"

    async with http(agent, conversations=Conversations()) as client:
        new = await made(client)
        turn = functools.partial(
            client.post,
            CHAT,
            json={"model": "agent", "messages": [HI]},
            headers={"X-Conversation-Id": new},
        )
        async with anyio.create_task_group() as group:
            group.start_soon(turn)
            assert await anyio.to_thread.run_sync(running.wait, 10)
            busy = await client.post(f"{URL}/{new}/items", json={"items": [HI]})
            labelled = await client.post(f"{URL}/{new}", json={"metadata": {"a": "b"}})
            read = await client.get(f"{URL}/{new}/items")
            go.set()
        after = await client.post(f"{URL}/{new}/items", json={"items": [{"role": "user", "content": "More"}]})
        said = await texts(client, new)
    assert error_of(busy) == (409, "conversation_busy", None)
    assert busy.headers["x-should-retry"] == "false"
    assert labelled.json()["metadata"] == {"a": "b"}
    assert read.json()["data"] == []
    assert after.status_code == 200
    assert said == ["Hi", "Hello", "More"]


# bad input


def text(**fields: Any) -> dict[str, Any]:
    return {"items": [{"role": "user", "content": "Hi"} | fields]}


BAD_ITEMS: list[tuple[Any, str, str]] = [
    ({"items": "Hi"}, "invalid_type", "items"),
    ({"items": {}}, "invalid_type", "items"),
    ({"items": ["Hi"]}, "invalid_type", "items[0]"),
    ({"items": [{}]}, "missing_required_parameter", "items[0].role"),
    ({"items": [HI] * 21}, "invalid_value", "items"),
    (text(role="robot"), "invalid_value", "items[0].role"),
    (text(content=5), "invalid_type", "items[0].content"),
    (text(content=[{"type": "video"}]), "invalid_value", "items[0].content[0].type"),
    (text(content=[{"type": "input_text"}]), "missing_required_parameter", "items[0].content[0].text"),
    (text(type=5), "invalid_type", "items[0].type"),
    (text(status="done"), "invalid_value", "items[0].status"),
    (
        {"items": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
        "missing_required_parameter",
        "items[0].call_id",
    ),
    ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "invalid_value", "items[0].type"),
]
BAD_METADATA: list[tuple[Any, str, str]] = [
    ({"metadata": "a"}, "invalid_type", "metadata"),
    ({"metadata": {"a": 5}}, "invalid_type", "metadata.a"),
    ({"metadata": {"a": "b" * 513}}, "invalid_value", "metadata.a"),
    ({"metadata": {f"{n}": "" for n in range(17)}}, "invalid_value", "metadata"),
]


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize(("body", "code", "param"), [*BAD_ITEMS, *BAD_METADATA])
async def test_a_bad_new_conversation_is_a_400_that_names_the_parameter(
    body: Any, code: str, param: str, http: Http
) -> None:
    async with http(Says("Hi")) as client:
        assert error_of(await client.post(URL, json=body)) == (400, code, param)


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [*BAD_ITEMS, ({}, "missing_required_parameter", "items"), ({"items": None}, "invalid_type", "items")],
)
async def test_bad_items_are_a_400_and_nothing_is_added(body: Any, code: str, param: str, http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, HI)
        assert error_of(await client.post(f"{URL}/{new}/items", json=body)) == (400, code, param)
        assert await texts(client, new) == ["Hi"]


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize(("body", "code", "param"), [*BAD_METADATA, ({}, "missing_required_parameter", "metadata")])
async def test_bad_metadata_are_a_400_and_nothing_is_changed(body: Any, code: str, param: str, http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, metadata={"a": "b"})
        assert error_of(await client.post(f"{URL}/{new}", json=body)) == (400, code, param)
        assert (await client.get(f"{URL}/{new}")).json()["metadata"] == {"a": "b"}


@requirement("conversations.input")
@in_process
async def test_an_id_that_is_there_already_is_refused_and_nothing_is_overwritten(http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, {**HI, "id": "msg_1"})
        answer = await client.post(f"{URL}/{new}/items", json={"items": [HI, {**HI, "content": "No", "id": "msg_1"}]})
        assert error_of(answer) == (400, "invalid_value", "items[1].id")
        assert await texts(client, new) == ["Hi"]
        assert (await client.post(f"{URL}/{new}/items", json=text(content="More"))).status_code == 200


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.5", "limit"),
        ("order=down", "order"),
        ("after=msg_none", "after"),
        ("after=%00%ff", "after"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(query: str, param: str, http: Http) -> None:
    async with http(Says("Hi")) as client:
        new = await made(client, HI)
        assert error_of(await client.get(f"{URL}/{new}/items?{query}")) == (400, "invalid_value", param)


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "", "POST"),
        ("PUT", "/conv_1", "GET, POST, DELETE, HEAD"),
        ("DELETE", "/conv_1/items", "GET, POST, HEAD"),
        ("POST", "/conv_1/items/msg_1", "GET, DELETE, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str, http: Http) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.request(method, URL + path)
    assert error_of(answer) == (405, "method_not_supported", None)
    assert answer.headers["allow"] == allowed


@requirement("conversations.input")
@in_process
@pytest.mark.parametrize("path", ["", "/conv_1", "/conv_1/items"])
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"[]", {}, 400),
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (b"{}", {"Content-Type": "text/plain", "Origin": "https://evil.example"}, 415),
        (b"{}", {"Content-Encoding": "br"}, 415),
    ],
)
async def test_other_bodies_are_refused(
    path: str, content: bytes, headers: dict[str, str], status: int, http: Http
) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(URL + path, content=content, headers=headers)
    assert answer.status_code == status
    error_of(answer)
