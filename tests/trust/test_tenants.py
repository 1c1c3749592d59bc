"""No key can see, use or change what another caller's key has created: every object, by every API that names it.

Three tables are compared with the code: objects in the store, paths with an id in them, and every other place that can name
an object. An addition to one of them needs an entry here that says what a stranger gets.
"""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import httpx2
import pytest

from openai_compat import AgentRequest, ChatRest, ChatWebSocket, Conversations, Disconnect, Principal, Server
from openai_compat.api.chat_rest.routes import ROUTES as CHAT_API
from openai_compat.api.routes import V1
from openai_compat.stores.port import Store
from openai_compat.wire.chat_websocket import parse as chat_frames
from tests.api.chat_rest.support import BUYS, Shop, shopper
from tests.api.chat_websocket.client import chat
from tests.requirements import requirement
from tests.trust.probe import CHAT, in_process

pytestmark = pytest.mark.anyio

KEYS = {"key-ann": Principal("ann"), "key-bob": Principal("bob")}
ANN, BOB = {"authorization": "Bearer key-ann"}, {"authorization": "Bearer key-bob"}
SECRET = "Ann's word is mellon"
REST = "/api/chat"

OBJECTS: Mapping[str, frozenset[str]] = {
    "conversation": frozenset(
        [
            "begin",
            "release",
            "want",
            "create",
            "read",
            "update",
            "delete",
            "find",
            "conversations",
            "page",
            "item",
            "delete_item",
        ]
    ),
    "response": frozenset(
        [
            "begin_response",
            "append",
            "end_response",
            "take_response",
            "cancel",
            "response",
            "chain",
            "events",
            "delete_response",
        ]
    ),
    "completion": frozenset(["put_completion", "get_completion", "delete_completion", "list_completions"]),
    "file": frozenset(["put_file", "get_file", "file_content", "list_files", "delete_file"]),
    "approval": frozenset(["ask", "approval", "approvals", "decide"]),
    "thread": frozenset(["take_thread", "append_frames", "leave_thread", "thread", "threads", "frames", "put_signal"]),
    "grant": frozenset(["put_grant", "grants", "delete_grant"]),
    "idempotency key": frozenset(["claim", "settle"]),
    "agent's state": frozenset(["pause", "use_pause", "return_pause", "end_pause"]),  # tests/api/test_agent_state.py
}
"""Objects that the store keeps for callers, with the store methods that access them."""

NOBODYS = frozenset(["shared", "commit", "renew", "take_slot", "free_slot", "allow", "sweep", "check", "aclose"]).union(
    [
        "gone_states",
        "forget_state",
        "lost_responses",
        "take_notices",
        "defer_notice",
        "end_notice",
        "targets",
        "put_setting",
        "ahead",
        "spent",
        "settings",
        "take_signals",
    ]
)
"""Methods that access no object by an id that a client could send."""


@dataclass(frozen=True)
class Kept:
    """The ids of everything that Ann owns."""

    conversation: str
    item: str
    message: str
    chat_conversation: str
    response: str
    background: str
    completion: str
    approval: str
    asked_in: str
    question: str
    file: str
    event: str
    grant: str

    def __getitem__(self, placeholder: str) -> str:
        """The id for a path's placeholder."""
        return str(getattr(self, placeholder.removesuffix("_id")))


async def echo(request: AgentRequest) -> str:
    """Returns everything in its request, so that any leak is visible."""
    files = [part for message in request.messages for part in getattr(message, "parts", ()) if hasattr(part, "file_id")]
    return json.dumps([request.raw_messages, [str(file) for file in files]])


def server() -> Server:
    always = shopper(Shop(), *BUYS, ["Bought."])
    agents = {"agent": echo, "shop": shopper(Shop(), *BUYS, *BUYS), "always": always}
    return Server(
        agents,
        keys=KEYS,
        conversations=Conversations(),
        chat_rest=ChatRest(),
        chat_websocket=ChatWebSocket(),
        disconnect=Disconnect("detach"),
    )


async def made(client: httpx2.AsyncClient, path: str, status: int = 200, /, **body: Any) -> Any:
    headers = {**ANN, **body.pop("headers", {})}
    answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


async def keep(client: httpx2.AsyncClient) -> Kept:
    """Create one object of each kind."""
    user = [{"role": "user", "content": SECRET}]
    conversation = (await made(client, "/v1/conversations", items=user)).json()["id"]
    item = (await client.get(f"/v1/conversations/{conversation}/items", headers=ANN)).json()["data"][0]["id"]
    named = {"headers": {"X-Conversation-Id": "trip"}}
    await made(client, CHAT, model="agent", messages=user, **named)
    response = (await made(client, "/v1/responses", model="agent", input=SECRET)).json()["id"]
    background = (await made(client, "/v1/responses", model="agent", input=SECRET, background=True)).json()["id"]

    await client.get(f"/v1/responses/{background}?stream=true", headers=ANN)  # the stream ends with the response
    completion = (await made(client, CHAT, model="agent", messages=user, store=True)).json()["id"]
    asked_in = (await made(client, f"{REST}/conversations", 201, title=SECRET)).json()["conversation"]["id"]
    buying = {"content": SECRET, "model": "shop"}
    (approval,) = (await made(client, f"{REST}/conversations/{asked_in}/messages/with-tools", **buying)).json()[
        "pendingApprovals"
    ]
    message = (await client.get(f"{REST}/conversations/{asked_in}/messages", headers=ANN)).json()["messages"][0]["id"]
    shop = {"type": "mcp", "server_label": "shop", "server_url": "https://shop.example"}
    waiting = (await made(client, "/v1/responses", model="shop", input=SECRET, tools=[shop])).json()["output"]
    question = next(item["id"] for item in waiting if item["type"] == "mcp_approval_request")
    upload = {"file": ("a.txt", SECRET.encode(), "text/plain")}
    file = (await client.post("/v1/files", files=upload, data={"purpose": "user_data"}, headers=ANN)).json()["id"]
    stream = await made(client, CHAT, model="agent", messages=user, stream=True)
    event = next(iter(re.findall(r"^id: (\S+)$", stream.text, re.MULTILINE)))
    allowed_in = (await made(client, f"{REST}/conversations", 201)).json()["conversation"]["id"]
    said = await made(client, f"{REST}/conversations/{allowed_in}/messages/with-tools", content="x", model="always")
    always = {"conversationId": allowed_in, "approvalId": said.json()["pendingApprovals"][0]["id"]}
    await made(client, f"{REST}/tools/approve", **always, decision="allow-always")
    grant = (await client.get(f"{REST}/grants", headers=ANN)).json()["grants"][0]["id"]
    return Kept(
        conversation, item, message, "trip", response, background, completion,
        approval["id"], asked_in, question, file, event, grant,
    )  # fmt: skip


async def seen_by_ann(client: httpx2.AsyncClient, kept: Kept) -> dict[str, Any]:
    """Everything that Ann can read; it must be unchanged after a stranger's attempts."""
    paths = [
        f"/v1/conversations/{kept.conversation}",
        f"/v1/conversations/{kept.conversation}/items",
        f"/v1/chat/conversations/{kept.chat_conversation}",
        f"/v1/responses/{kept.response}",
        f"/v1/responses/{kept.response}/input_items",
        f"/v1/responses/{kept.background}?stream=true",
        f"/v1/chat/completions/{kept.completion}",
        f"/v1/chat/completions/{kept.completion}/messages",
        f"/v1/files/{kept.file}",
        f"/v1/files/{kept.file}/content",
        f"{REST}/conversations/{kept.asked_in}",
        f"{REST}/approvals",
        f"{REST}/grants",
    ]
    found = {path: await client.get(path, headers=ANN) for path in paths}
    assert {answer.status_code for answer in found.values()} == {200}
    return {path: answer.text for path, answer in found.items()}


# named in the path

BODIES: Mapping[str, Any] = {
    "POST /v1/chat/completions/{completion_id}": {"metadata": {"a": "b"}},
    "POST /v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
    "POST /v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "x"}]},
    "POST /api/chat/conversations/{conversation_id}/messages": {"content": "x"},
    "POST /api/chat/conversations/{conversation_id}/messages/with-tools": {"content": "x"},
    "POST /api/chat/conversations/{conversation_id}/messages/agentic": {"content": "x"},
    "POST /api/chat/conversations/{conversation_id}/title": {"title": "x"},
    "POST /api/chat/conversations/{conversation_id}/fork": {},
}
SERVED = ("{model}", "{provider}")
"""Objects of the server itself, which belong to no caller."""


def paths_with_ids() -> list[str]:
    """Every operation whose path names an object, as `METHOD /path/{placeholder}`."""
    routes = [*[("/v1", route) for route in V1], *[(REST, route) for route in CHAT_API]]
    found = [
        f"{method} {prefix}{re.sub(r':path', '', route.path)}"
        for prefix, route in routes
        for method in route.operations
    ]
    return sorted({one for one in found if "{" in one and not any(name in one for name in SERVED)})


@requirement("tenants.all")
@pytest.mark.parametrize("operation", paths_with_ids())
async def test_a_path_with_anothers_id_is_unknown_and_changes_nothing(operation: str) -> None:
    method, _, template = operation.partition(" ")
    async with in_process(server()) as client:
        kept = await keep(client)
        before = await seen_by_ann(client, kept)
        for conversation in (kept.conversation, kept.chat_conversation, kept.asked_in):
            path = template.replace("{conversation_id}", conversation)
            path = re.sub(r"\{(\w+)\}", lambda found: kept[found[1]], path)
            for query in ("", "?stream=true"):
                body = {"json": BODIES.get(operation, {})} if method == "POST" else {}
                answer = await client.request(method, path + query, headers=BOB, **body)
                assert answer.status_code in (404, 409), (operation, answer.text)
                assert SECRET not in answer.text
        assert await seen_by_ann(client, kept) == before


def test_every_method_of_the_store_is_about_an_object_of_the_table_or_about_none() -> None:
    methods = {name for kind in inspect.getmro(Store) for name in vars(kind) if not name.startswith("_")}
    assert methods == NOBODYS.union(*OBJECTS.values())


# named in a body or a header

ASK = [{"role": "user", "content": "hi"}]
DECIDED = {"decision": "allow-once"}


def named_elsewhere(kept: Kept) -> dict[str, tuple[str, Any, dict[str, str]]]:
    """Requests that name one of Ann's objects in a body or a header."""
    say = {"model": "agent", "messages": ASK}
    answer = {
        "model": "shop",
        "input": [{"type": "mcp_approval_response", "approve": True, "approval_request_id": "?"}],
    }

    def decision(identifier: str) -> dict[str, Any]:
        return {"model": "shop", "input": [{**answer["input"][0], "approval_request_id": identifier}]}

    parts = [{"type": "file", "file": {"file_id": kept.file}}]
    inputs = [{"role": "user", "content": [{"type": "input_file", "file_id": kept.file}]}]
    pictures = [{"role": "user", "content": [{"type": "input_image", "file_id": kept.file}]}]
    lost = {"last-event-id": kept.event}
    responses = {"model": "agent", "input": "hi"}
    return {
        "previous_response_id": ("/v1/responses", {**responses, "previous_response_id": kept.response}, {}),
        "previous, in the background": (
            "/v1/responses", {**responses, "previous_response_id": kept.background, "background": True}, {},
        ),
        "previous, compacted": ("/v1/responses/compact", {**responses, "previous_response_id": kept.response}, {}),
        "previous, counted": ("/v1/responses/input_tokens", {**responses, "previous_response_id": kept.response}, {}),
        "conversation": ("/v1/responses", {**responses, "conversation": kept.conversation}, {}),
        "conversation, as an object": ("/v1/responses", {**responses, "conversation": {"id": kept.conversation}}, {}),
        "conversation, counted": ("/v1/responses/input_tokens", {**responses, "conversation": kept.conversation}, {}),
        "question": ("/v1/responses", decision(kept.question), {}),
        "question of another API": ("/v1/responses", decision(kept.approval), {}),
        "item": ("/v1/responses", {**responses, "input": [{"type": "item_reference", "id": kept.item}]}, {}),
        "file": (CHAT, {"model": "agent", "messages": [{"role": "user", "content": parts}]}, {}),
        "file, in Responses": ("/v1/responses", {"model": "agent", "input": inputs}, {}),
        "picture": ("/v1/responses", {"model": "agent", "input": pictures}, {}),
        "approval": (f"{REST}/tools/approve", {"conversationId": kept.asked_in, "approvalId": kept.approval, **DECIDED}, {}),
        "question, over REST": (
            f"{REST}/tools/approve", {"conversationId": kept.asked_in, "approvalId": kept.question, **DECIDED}, {},
        ),
        "conversationId": (f"{REST}/completions", {"messages": ASK, "conversationId": kept.asked_in}, {}),
        "conversationId, smart": (f"{REST}/smart", {"messages": ASK, "conversationId": kept.conversation}, {}),
        "Last-Event-ID": (CHAT, {**say, "stream": True}, lost),
        "Last-Event-ID, over REST": (f"{REST}/completions", {"messages": ASK, "stream": True}, lost),
        "Last-Event-ID, of a decision": (
            f"{REST}/tools/approve", {"conversationId": kept.asked_in, "approvalId": kept.approval, **DECIDED}, lost,
        ),
    }  # fmt: skip


DOORS = sorted(named_elsewhere(Kept(*["x"] * 13)))


@requirement("tenants.all")
@pytest.mark.parametrize("door", DOORS)
async def test_a_body_or_header_with_anothers_id_is_refused_and_changes_nothing(door: str) -> None:
    async with in_process(server()) as client:
        kept = await keep(client)
        before = await seen_by_ann(client, kept)
        path, body, headers = named_elsewhere(kept)[door]
        answer = await client.post(path, json=body, headers={**BOB, **headers})
        error = answer.json()["error"]
        unknown = answer.status_code in (404, 409) or (answer.status_code, error["code"]) in NAMED_IN_A_MESSAGE
        assert unknown, (door, answer.text)
        assert SECRET not in answer.text
        assert await seen_by_ann(client, kept) == before


NAMED_IN_A_MESSAGE = {(400, "file_not_found"), (400, "previous_response_not_found")}
"""A missing object named in a body is an error of the body: 400 with its place, as OpenAI answers."""


@requirement("tenants.all")
async def test_anothers_file_in_an_item_that_is_kept_is_never_read() -> None:
    async with in_process(server()) as client:
        kept = await keep(client)
        items = [{"role": "user", "content": [{"type": "input_file", "file_id": kept.file}]}]
        own = (await client.post("/v1/conversations", json={"items": items}, headers=BOB)).json()["id"]
        asked = {"model": "agent", "input": "What is in it?", "conversation": own}
        answer = await client.post("/v1/responses", json=asked, headers=BOB)
        assert SECRET not in answer.text
        assert base64.b64encode(SECRET.encode()).decode() not in answer.text


@requirement("tenants.all")
async def test_lists_tell_only_ones_own() -> None:
    async with in_process(server()) as client:
        await keep(client)
        for path in ("/v1/files", CHAT, f"{REST}/conversations", f"{REST}/approvals", f"{REST}/grants"):
            hers = await client.get(path, headers=ANN)
            his = await client.get(path, headers=BOB)
            assert (his.status_code, hers.status_code) == (200, 200)
            assert listed(his) == []
            assert listed(hers) != []


@requirement("tenants.all")
async def test_names_that_clients_choose_are_each_callers_own() -> None:
    """A conversation id in a header, and an Idempotency-Key: the same text names another object for another caller."""
    say = {"model": "agent", "messages": ASK}
    async with in_process(server()) as client:
        kept = await keep(client)
        keyed = {"idempotency-key": "k"}
        hers = await client.post(
            CHAT, json={"model": "agent", "messages": [{"role": "user", "content": SECRET}]}, headers={**ANN, **keyed}
        )
        before = await seen_by_ann(client, kept)
        his = await client.post(CHAT, json=say, headers={**BOB, **keyed})
        named = await client.post(CHAT, json=say, headers={**BOB, "X-Conversation-Id": kept.chat_conversation})
        again = await client.post(
            CHAT, json={"model": "agent", "messages": [{"role": "user", "content": SECRET}]}, headers={**ANN, **keyed}
        )
        assert (his.status_code, named.status_code) == (200, 200)
        assert "idempotent-replayed" not in his.headers
        assert SECRET not in his.text + named.text
        assert (again.headers.get("idempotent-replayed"), again.json()["id"]) == ("true", hers.json()["id"])
        assert await seen_by_ann(client, kept) == before


def listed(answer: httpx2.Response) -> Any:
    """The entries of a list, whatever the API calls that field."""
    fields: dict[str, Any] = answer.json()
    return next(fields[name] for name in ("data", "conversations", "approvals", "grants") if name in fields)


# over the chat WebSocket

FRAMES: Mapping[str, str] = {
    "ThreadFrame": "the base of others",
    "MessageFrame": "named by the client: a thread of one's own",
    "StopFrame": "thread",
    "PingFrame": "names nothing",
    "ManifestFrame": "names nothing",
    "ToolResultFrame": "call",
    "ApprovalFrame": "approval",
    "ResumeFrame": "thread",
    "ListTurnsFrame": "names nothing",
    "SetModeFrame": "names nothing",
}


def test_every_frame_of_the_chat_websocket_is_in_the_table() -> None:
    classes = {name: kind for name, kind in vars(chat_frames).items() if isinstance(kind, type)}
    frames = {name for name, kind in classes.items() if name.endswith("Frame") and get_type_hints(kind)}
    assert frames | {"PingFrame", "ListTurnsFrame"} == set(FRAMES)


@requirement("tenants.all")
async def test_threads_and_questions_of_another_are_unknown_over_the_chat_websocket() -> None:
    served = server()
    async with in_process(served) as client:
        kept = await keep(client)
        async with chat(served, authorization="Bearer key-ann") as ann:
            told = (await ann.ask(SECRET, thread_id="hers"))[-1]
            asked = (await ann.ask(SECRET, thread_id="asked", model="shop"))[-1]
        (pending,) = (await client.get(f"{REST}/approvals?conversationId=asked", headers=ANN)).json()["approvals"]
        before = await seen_by_ann(client, kept)
        async with chat(served, authorization="Bearer key-bob") as bob:
            await bob.send(type="resume_chat", thread_id="hers", last_seq=1)
            resumed = (await bob.until("chat_resumed"))[-1]
            await bob.send(
                type="approval_response", approval_id=pending["id"], decision="allow-once", thread_id="asked"
            )
            decided = await bob.error()
            await bob.send(type="approval_response", approval_id=kept.question, decision="allow-once")
            elsewhere = await bob.error()
            await bob.send(type="tool_result", tool_call_id="c1", thread_id="asked", result="x")
            answered = await bob.error()
            await bob.send(type="stop", thread_id="hers")
            stopped = await bob.until("generation_stopped")
            own = await bob.ask("hi", thread_id="hers")
        async with chat(served, authorization="Bearer key-ann") as ann:
            await ann.send(type="resume_chat", thread_id="hers", last_seq=1)
            still = (await ann.until("chat_resumed"))[-1]

        assert (resumed["status"], resumed["replay_count"]) == ("unknown", 0)
        assert decided[:2] == elsewhere[:2] == (404, "approval_not_found")
        assert answered[:2] == (404, "tool_call_not_found")
        assert SECRET not in json.dumps([resumed, stopped, own])
        assert (still["status"], still["last_seq"]) == ("finished", told["chat_seq"])
        assert asked["type"] in ("message", "approval_request")
        assert await seen_by_ann(client, kept) == before
