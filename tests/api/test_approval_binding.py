"""A question is decided only by its principal, for its agent, in its conversation, and about the call that was shown.

Each API asks on one server and decides on another one with the same store. A misdirected decision runs no
agent and uses nothing up: the correct decision still counts afterwards, once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from openai_compat import (
    AgentRequest,
    ChatRest,
    ChatWebSocket,
    Conversations,
    Paused,
    PendingCall,
    Principal,
    Server,
    ToolResult,
)
from openai_compat.api.text_approvals import QUESTION_ID
from openai_compat.backend import RunContext
from tests.api.chat_websocket.client import chat
from tests.requirements import requirement
from tests.transports import reach

pytestmark = pytest.mark.anyio

Body: TypeAlias = dict[str, Any]
KEYS = {"hers": Principal("her"), "his": Principal("him")}
ARGUMENTS = '{"file":"a"}'
ASKS: Body = {"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}
ASKS_FLAT: Body = {"type": "function", "name": "request_approval", "parameters": {"type": "object"}}
SERVER: Body = {"type": "mcp", "server_label": "notes", "server_url": "https://x.example"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Careful:
    """Asks before it deletes; reports whose state it got."""

    name: str
    ran: list[str] = field(default_factory=list[str])

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is not None and request.resume.decisions:
            state = request.resume.state
            self.ran.append(f"{self.name} with {state and state['from']}")
            yield ToolResult("call_1", "")
            yield f"{request.resume.decisions['call_1'].approved}"
        elif "Delete" in request.prompt:
            self.ran.append(f"{self.name} asks")
            yield Paused((PendingCall("call_1", "delete", ARGUMENTS, "approval"),), {"from": self.name})
        else:
            self.ran.append(f"{self.name} talks")
            yield "Hello."


class World:
    """Two servers with one store; records the runs on both."""

    def __init__(self, store: Path, stack: AsyncExitStack, *, kept: bool) -> None:
        self.ran: list[str] = []
        self._stack = stack
        self._store = store
        self._kept = kept

    async def server(self) -> tuple[Server, httpx2.AsyncClient]:
        agents = {name: Careful(name, self.ran) for name in ("notes", "careful")}
        server = Server(
            agents,
            keys=KEYS,
            store=f"sqlite:///{self._store}",
            conversations=Conversations() if self._kept else None,
            chat_rest=ChatRest(),
            chat_websocket=ChatWebSocket(workflows={"notes": Careful("workflow", self.ran)}),
        )
        return server, await self._stack.enter_async_context(reach(server, "in-process"))


Send: TypeAlias = Callable[..., Awaitable[httpx2.Response]]


@dataclass(frozen=True)
class Decided:
    """A decision to send: each misdirection changes one field."""

    model: str = "notes"
    key: str = "hers"
    elsewhere: bool = False
    tool: str = "delete"
    arguments: str = ARGUMENTS


def sender(client: httpx2.AsyncClient) -> Send:
    async def send(path: str, body: Body, key: str = "hers", **headers: str) -> httpx2.Response:
        return await client.post(path, json=body, headers={"authorization": f"Bearer {key}", **headers})

    return send


DELETE: Body = {"role": "user", "content": "Delete a"}


async def chat_text(send: Send) -> Callable[[Send, Decided], Awaitable[httpx2.Response]]:
    path = "/v1/chat/completions"
    asked = await send(path, {"model": "notes", "messages": [DELETE]})
    question = asked.json()["choices"][0]["message"]["content"]

    async def decide(send: Send, how: Decided) -> httpx2.Response:
        shown = question.replace(ARGUMENTS, how.arguments).replace("delete", how.tool)
        history = [DELETE, {"role": "assistant", "content": shown}, {"role": "user", "content": "yes"}]
        headers = {"x-conversation-id": "another"} if how.elsewhere else {}
        return await send(path, {"model": how.model, "messages": history}, how.key, **headers)

    return decide


async def chat_conversation(send: Send) -> Callable[[Send, Decided], Awaitable[httpx2.Response]]:
    path = "/v1/chat/completions"
    asked = await send(path, {"model": "notes", "messages": [DELETE]}, **{"x-conversation-id": "trip"})
    question = asked.json()["choices"][0]["message"]["content"]

    async def decide(send: Send, how: Decided) -> httpx2.Response:
        shown = question.replace(ARGUMENTS, how.arguments).replace("delete", how.tool)
        history = [DELETE, {"role": "assistant", "content": shown}, {"role": "user", "content": "yes"}]
        headers = {} if how.elsewhere else {"x-conversation-id": "trip"}
        return await send(path, {"model": how.model, "messages": history}, how.key, **headers)

    return decide


async def chat_tool(send: Send) -> Callable[[Send, Decided], Awaitable[httpx2.Response]]:
    path = "/v1/chat/completions"
    asked = await send(path, {"model": "notes", "messages": [DELETE], "tools": [ASKS]})
    message = asked.json()["choices"][0]["message"]
    (call,) = message["tool_calls"]

    async def decide(send: Send, how: Decided) -> httpx2.Response:
        told = {**json.loads(call["function"]["arguments"]), "tool": how.tool, "arguments": how.arguments}
        shown = {**call, "function": {**call["function"], "arguments": json.dumps(told)}}
        history = [
            DELETE,
            {**message, "tool_calls": [shown]},
            {"role": "tool", "tool_call_id": call["id"], "content": "allow-once"},
        ]
        headers = {"x-conversation-id": "another"} if how.elsewhere else {}
        return await send(path, {"model": how.model, "messages": history, "tools": [ASKS]}, how.key, **headers)

    return decide


def responses(tools: list[Body], answer: Callable[[Body], Body], *, stored: bool) -> Any:
    async def ask(send: Send) -> Callable[[Send, Decided], Awaitable[httpx2.Response]]:
        path = "/v1/responses"
        first = (await send(path, {"model": "notes", "input": "Hello"})).json()
        body = {"model": "notes", "input": "Delete a", "tools": tools, "previous_response_id": first["id"]}
        asked = (await send(path, body)).json()
        fork = (await send(path, {"model": "notes", "input": "Hi", "previous_response_id": first["id"]})).json()
        (item,) = asked["output"]

        async def decide(send: Send, how: Decided) -> httpx2.Response:
            shown = json.loads(json.dumps(item).replace(json.dumps(ARGUMENTS)[1:-1], json.dumps(how.arguments)[1:-1]))
            shown = json.loads(json.dumps(shown).replace("delete", how.tool))
            if tools == [ASKS_FLAT]:
                (call_id,) = QUESTION_ID.findall(item["content"][0]["text"])
                told = json.dumps({"approval_id": call_id, "tool": how.tool, "arguments": how.arguments})
                shown = {"type": "function_call", "call_id": call_id, "name": "request_approval", "arguments": told}
            before = [] if stored else [DELETE, shown]
            sent: Body = {"model": how.model, "tools": tools, "input": [*before, answer(item)]}
            if stored:
                sent["previous_response_id"] = fork["id"] if how.elsewhere else asked["id"]
            elif how.elsewhere:
                sent["previous_response_id"] = fork["id"]
            return await send(path, sent, how.key)

        return decide

    return ask


async def rest(send: Send) -> Callable[[Send, Decided], Awaitable[httpx2.Response]]:
    made = [(await send("/api/chat/conversations", {})).json()["conversation"]["id"] for _ in range(2)]
    path = f"/api/chat/conversations/{made[0]}/messages"
    asked = await send(path, {"content": "Delete a", "model": "notes", "enableTools": True})
    (pending,) = asked.json()["pendingApprovals"]

    async def decide(send: Send, how: Decided) -> httpx2.Response:
        body = {"conversationId": made[how.elsewhere], "approvalId": pending["id"], "decision": "allow-once"}
        return await send("/api/chat/tools/approve", body, how.key)

    return decide


def as_item(item: Body) -> Body:
    return {"type": "mcp_approval_response", "approval_request_id": item["id"], "approve": True}


def as_output(item: Body) -> Body:
    (call_id,) = QUESTION_ID.findall(item["content"][0]["text"])
    return {"type": "function_call_output", "call_id": call_id, "output": "allow-once"}


def as_text(item: Body) -> Body:
    return {"role": "user", "content": "yes"}


AGENT, CONVERSATION, PRINCIPAL = Decided(model="careful"), Decided(elsewhere=True), Decided(key="his")
TOOL, CHANGED = Decided(tool="wipe"), Decided(arguments='{"file":"b"}')
WAYS: dict[str, tuple[Any, tuple[Decided, ...], bool]] = {
    "chat text": (chat_text, (AGENT, CONVERSATION, PRINCIPAL, TOOL, CHANGED), True),
    "chat text, kept": (chat_conversation, (AGENT, CONVERSATION, PRINCIPAL), True),
    "chat tool": (chat_tool, (AGENT, CONVERSATION, PRINCIPAL, TOOL, CHANGED), True),
    "responses item": (responses([SERVER], as_item, stored=True), (AGENT, CONVERSATION, PRINCIPAL), False),
    "responses item, sent": (
        responses([SERVER], as_item, stored=False),
        (AGENT, CONVERSATION, PRINCIPAL, TOOL, CHANGED),
        False,
    ),
    "responses text": (responses([], as_text, stored=True), (AGENT,), False),
    "responses text, sent": (
        responses([], as_text, stored=False),
        (AGENT, CONVERSATION, PRINCIPAL, TOOL, CHANGED),
        False,
    ),
    "responses tool, sent": (
        responses([ASKS_FLAT], as_output, stored=False),
        (AGENT, CONVERSATION, PRINCIPAL, TOOL, CHANGED),
        False,
    ),
    "rest": (rest, (CONVERSATION, PRINCIPAL), False),
}


@requirement("approval.bound")
@pytest.mark.parametrize("way", WAYS)
async def test_a_decision_that_goes_astray_runs_nothing_and_spends_nothing(way: str, tmp_path: Path) -> None:
    ask, astray, kept = WAYS[way]
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "s.db", stack, kept=kept)
        decide = await ask(sender((await world.server())[1]))
        send, before = sender((await world.server())[1]), list(world.ran)
        for how in astray:
            refused = await decide(send, how)
            assert (refused.status_code in (404, 409), world.ran) == (True, before), (how, refused.text)
        right = await decide(send, Decided())
        assert (right.status_code, world.ran) == (200, [*before, "notes with notes"]), right.text
        late = await decide(send, Decided())
        assert (late.status_code == 409 or way == "chat text, kept", world.ran.count("notes with notes")) == (True, 1)


@requirement("approval.bound")
async def test_a_message_to_another_agent_neither_decides_nor_carries_the_state(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "s.db", stack, kept=True)
        _, client = await world.server()
        send, trip = sender(client), {"x-conversation-id": "trip"}
        path = "/v1/chat/completions"
        await send(path, {"model": "notes", "messages": [DELETE]}, **trip)
        other = await send(path, {"model": "careful", "messages": [{"role": "user", "content": "Hi"}]}, **trip)
        assert other.json()["choices"][0]["message"]["content"] == "Hello."
        pending = await client.get("/api/chat/approvals", headers={"authorization": "Bearer hers"})
        assert len(pending.json()["approvals"]) == 1
    assert world.ran == ["notes asks", "careful talks"]


@requirement("approval.bound")
async def test_decisions_about_two_turns_at_once_are_refused(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "s.db", stack, kept=False)
        send = sender((await world.server())[1])
        items: list[Body] = []
        for _ in range(2):
            asked = await send("/v1/responses", {"model": "notes", "input": "Delete a", "tools": [SERVER]})
            items += asked.json()["output"]
        body = {"model": "notes", "tools": [SERVER], "input": [DELETE, *items, *map(as_item, items)]}
        refused = await send("/v1/responses", body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "approval_elsewhere")
        body["input"] = [DELETE, items[0], as_item(items[0])]
        assert (await send("/v1/responses", body)).status_code == 200
    assert world.ran == ["notes asks", "notes asks", "notes with notes"]


@requirement("approval.bound")
async def test_a_frame_that_decides_is_for_the_agent_that_asked(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "s.db", stack, kept=True)
        server, _ = await world.server()
        key = {"authorization": "Bearer hers"}
        async with chat(server, **key) as client, chat(server, authorization="Bearer his") as his:
            frames = await client.ask("Delete a", model="notes")
            (asked,) = [frame for frame in frames if frame["type"] == "approval_request"]
            decision = {"type": "approval_response", "approval_id": asked["approval_id"], "decision": "allow-once"}
            await client.send(**decision, model="careful")
            assert (await client.error())[:2] == (409, "approval_elsewhere")
            await client.send(**decision, thread_id="another")
            assert (await client.error())[:2] == (404, "approval_not_found")
            await his.send(**decision)
            assert (await his.error())[:2] == (404, "approval_not_found")
            for other in ({"model": "careful"}, {"workflow_id": "notes"}):
                frames = await client.ask("yes", **other)
                assert (frames[-1]["type"], frames[-1]["error"]["code"]) == ("error", "approval_elsewhere")
            await client.send(**decision)
            assert (await client.until())[-1]["content"] == "True"
    assert world.ran == ["notes asks", "notes with notes"]


@requirement("approval.bound")
async def test_what_a_workflow_has_asked_is_not_for_the_agent_of_the_same_name(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "s.db", stack, kept=True)
        server, _ = await world.server()
        async with chat(server, authorization="Bearer hers") as client:
            await client.ask("Delete a", workflow_id="notes")
            frames = await client.ask("yes", model="notes")
            assert frames[-1]["error"]["code"] == "approval_elsewhere"
            assert (await client.ask("Hi", model="notes"))[-1]["content"] == "Hello."
            assert (await client.ask("yes", workflow_id="notes"))[-1]["content"] == "False"  # too late for an approval
    assert world.ran == ["workflow asks", "notes talks", "workflow with workflow"]
