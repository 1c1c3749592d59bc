"""Approving a call with edited arguments is refused if the agent cannot use them: it would run the original ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx2
import pytest

from openai_compat import AgentRequest, Capabilities, ChatRest, ChatWebSocket, Paused, PendingCall, Server, ToolResult
from openai_compat.api.text_approvals import QUESTION_ID
from openai_compat.backend import RunContext
from openai_compat.providers.fallback import Fallback
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import ToolLoop
from tests.api.chat_websocket.client import chat
from tests.requirements import requirement
from tests.transports import reach

pytestmark = pytest.mark.anyio

Body: TypeAlias = dict[str, Any]
Edits: TypeAlias = Literal["none", "yes_no", "edit"]
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'


@dataclass
class Traveller:
    """Asks before it books. Books the edited arguments if it supports edits, and otherwise what it has asked about."""

    approvals: Edits
    booked: list[str] = field(default_factory=list[str])

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(approvals=self.approvals)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is None or not request.resume.decisions:
            yield Paused((PendingCall("call_1", "book", PARIS, "approval"),), {"asked": True})
            return
        decision = request.resume.decisions["call_1"]
        if decision.approved:
            self.booked.append(decision.arguments or PARIS if self.approvals == "edit" else PARIS)
            yield ToolResult("call_1", "booked")
        yield "Done."


def decided(decision: str, arguments: str | None) -> Body:
    return {"decision": decision} | ({} if arguments is None else {"arguments": arguments})


Decide: TypeAlias = Callable[..., Awaitable[httpx2.Response]]
TOOL: Body = {"name": "request_approval", "parameters": {"type": "object"}}


async def in_chat(client: httpx2.AsyncClient) -> Decide:
    tools = [{"type": "function", "function": TOOL}]
    said: list[Body] = [{"role": "user", "content": "Go"}]
    asked = await client.post("/v1/chat/completions", json={"model": "agent", "messages": said, "tools": tools})
    message = asked.json()["choices"][0]["message"]
    (call,) = message["tool_calls"]

    async def decide(decision: str, arguments: str | None = None) -> httpx2.Response:
        result = {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(decided(decision, arguments))}
        body = {"model": "agent", "messages": [*said, message, result], "tools": tools}
        return await client.post("/v1/chat/completions", json=body)

    return decide


async def in_responses(client: httpx2.AsyncClient) -> Decide:
    tools = [{"type": "function", **TOOL}]
    asked = await client.post("/v1/responses", json={"model": "agent", "input": "Go", "tools": tools})
    (identifier,) = QUESTION_ID.findall(asked.text)
    fields = json.dumps({"approval_id": identifier, "tool": "book", "arguments": PARIS})
    shown = {"type": "function_call", "call_id": identifier, "name": "request_approval", "arguments": fields}

    async def decide(decision: str, arguments: str | None = None) -> httpx2.Response:
        output = json.dumps(decided(decision, arguments))
        result = {"type": "function_call_output", "call_id": identifier, "output": output}
        body = {"model": "agent", "input": [{"role": "user", "content": "Go"}, shown, result], "tools": tools}
        return await client.post("/v1/responses", json=body)

    return decide


async def in_responses_by_item(client: httpx2.AsyncClient) -> Decide:
    tools = [{"type": "mcp", "server_label": "agent"}]
    asked = (await client.post("/v1/responses", json={"model": "agent", "input": "Go", "tools": tools})).json()

    async def decide(decision: str, arguments: str | None = None) -> httpx2.Response:
        said = {"type": "mcp_approval_response", "approval_request_id": asked["output"][-1]["id"]}
        said |= {"approve": decision != "deny", "arguments": arguments}
        body = {"model": "agent", "input": [said], "previous_response_id": asked["id"], "tools": tools}
        return await client.post("/v1/responses", json=body)

    return decide


async def in_chat_rest(client: httpx2.AsyncClient, **more: Any) -> Decide:
    made = (await client.post("/api/chat/conversations", json={})).json()["conversation"]["id"]
    asked = await client.post(f"/api/chat/conversations/{made}/messages", json={"content": "Go", "enableTools": True})
    (pending,) = asked.json()["pendingApprovals"]

    async def decide(decision: str, arguments: str | None = None) -> httpx2.Response:
        body = {"conversationId": made, "approvalId": pending["id"], **decided(decision, arguments), **more}
        return await client.post("/api/chat/tools/approve", json=body)

    return decide


async def in_the_background(client: httpx2.AsyncClient) -> Decide:
    return await in_chat_rest(client, background=True)


WAYS = {
    "chat": (in_chat, "messages"),
    "responses": (in_responses, "messages"),
    "responses, by item": (in_responses_by_item, "input"),
    "chat rest": (in_chat_rest, "arguments"),
    "chat rest, in the background": (in_the_background, "arguments"),
}


@requirement("approval.edited")
@pytest.mark.parametrize("approvals", ["none", "yes_no"])
@pytest.mark.parametrize("way", WAYS)
async def test_changed_arguments_are_refused_before_the_agent_runs_and_can_be_decided_again(
    way: str, approvals: Edits
) -> None:
    agent, (ask, param) = Traveller(approvals), WAYS[way]
    async with reach(Server(agent, chat_rest=ChatRest()), "in-process") as client:
        decide = await ask(client)
        refused = await decide("allow-once", ROME)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "arguments_not_editable", param)
        assert agent.booked == []
        again = await decide("allow-once")
        assert again.is_success
        late = await decide("allow-once")
    assert late.json()["error"]["code"] == "approval_decided"
    assert agent.booked == [PARIS]


@requirement("approval.edited")
@pytest.mark.parametrize("way", ["chat", "responses", "responses, by item", "chat rest"])
async def test_arguments_that_are_as_they_were_are_no_change(way: str) -> None:
    agent = Traveller("yes_no")
    async with reach(Server(agent, chat_rest=ChatRest()), "in-process") as client:
        decide = await WAYS[way][0](client)
        assert (await decide("allow-once", '{"city":"Paris"}')).status_code == 200
    assert agent.booked == [PARIS]


@requirement("approval.edited")
@pytest.mark.parametrize("way", ["chat", "responses", "responses, by item", "chat rest"])
async def test_a_no_may_come_with_any_arguments(way: str) -> None:
    agent = Traveller("yes_no")
    async with reach(Server(agent, chat_rest=ChatRest()), "in-process") as client:
        decide = await WAYS[way][0](client)
        assert (await decide("deny", ROME)).status_code == 200
    assert agent.booked == []


@requirement("approval.edited")
@pytest.mark.parametrize("way", ["chat", "responses", "responses, by item", "chat rest"])
async def test_an_agent_that_can_change_a_call_gets_the_changed_arguments(way: str) -> None:
    agent = Traveller("edit")
    async with reach(Server(agent, chat_rest=ChatRest()), "in-process") as client:
        decide = await WAYS[way][0](client)
        assert (await decide("allow-once", ROME)).status_code == 200
    assert agent.booked == [ROME]


@requirement("approval.edited")
@pytest.mark.parametrize("arguments", ["Rome", '["Rome"]', '{"city": '])
@pytest.mark.parametrize("way", ["chat", "responses", "responses, by item"])
async def test_arguments_that_are_no_object_are_refused_and_the_call_can_be_decided_again(
    way: str, arguments: str
) -> None:
    agent, (ask, param) = Traveller("edit"), WAYS[way]
    async with reach(Server(agent), "in-process") as client:
        decide = await ask(client)
        refused = await decide("allow-once", arguments)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
        assert agent.booked == []
        assert (await decide("allow-once", ROME)).status_code == 200
    assert agent.booked == [ROME]


@requirement("approval.edited")
async def test_over_the_websocket_too() -> None:
    agent = Traveller("yes_no")
    async with chat(Server(agent, chat_websocket=ChatWebSocket())) as client:
        frames = await client.ask("Go")
        (asked,) = [frame for frame in frames if frame["type"] == "approval_request"]
        decision = {"type": "approval_response", "approval_id": asked["approval_id"], "decision": "allow-once"}
        await client.send(**decision, arguments=json.loads(ROME))
        assert await client.error() == (400, "arguments_not_editable", "arguments")
        assert agent.booked == []
        await client.send(**decision, arguments=json.loads(PARIS))
        await client.until()
    assert agent.booked == [PARIS]


@requirement("approval.edited")
@pytest.mark.parametrize(
    ("behind", "approvals"),
    [(("edit", "edit"), "edit"), (("edit", "yes_no"), "yes_no"), (("none", "edit"), "edit"), (("none",), "none")],
)
def test_whoever_takes_over_can_do_what_is_said_of_all(behind: tuple[Edits, ...], approvals: Edits) -> None:
    assert Fallback({f"{i}": Traveller(each) for i, each in enumerate(behind)}).capabilities.approvals == approvals


@requirement("approval.edited")
def test_a_tool_loop_runs_what_it_is_told_whatever_its_model_can() -> None:
    model = ScriptedBackend(["x"], capabilities=Capabilities(approvals="none"))
    assert ToolLoop(model).capabilities.approvals == "edit"
