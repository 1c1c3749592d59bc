"""The agent's own tools: no client tool replaces one, and no limit on them is accepted that nobody enforces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from openai_compat import AgentRequest, Capabilities, ChatRest, ChatWebSocket, Server, ToolCallReady, ToolResult
from openai_compat.backend import RunContext
from openai_compat.backends.pool import pooled
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat.providers import Fallback
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AgentTool, ToolLoop, as_tool
from openai_compat_adapters.websocket import connect as websocket
from tests.api.chat_websocket.client import Client, chat
from tests.requirements import requirement
from tests.transports import reach

pytestmark = pytest.mark.anyio
Body: TypeAlias = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Weatherman:
    """Looks up the weather with its own tool."""

    def __init__(self, capabilities: Capabilities, names: Any = None) -> None:
        self.capabilities = capabilities
        self.runs = 0
        if names is not None:
            self.tool_names = names

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.runs += 1
        yield ToolCallReady("c", "weather", "{}")
        yield ToolResult("c", "sun")
        yield "Sunny."


def weather() -> str:
    """The weather."""
    return "sun"


class Source:
    """A tool source that lists its tools only on request."""

    name = "source"

    async def tools(self) -> Sequence[AgentTool]:
        return [as_tool(weather)]

    async def aclose(self) -> None:
        """Nothing to close."""


async def later(request: AgentRequest) -> list[str]:
    return ["weather"]


def looped(*tools: Any) -> ToolLoop:
    return ToolLoop(ScriptedBackend([ToolCallReady("c", "weather", "{}")], ["Sunny."]), tools)


DECLARED = Capabilities(own_tools=frozenset({"weather"}))
AGENTS: dict[str, Any] = {
    "declared": lambda: Weatherman(DECLARED),
    "asked": lambda: Weatherman(Capabilities(), lambda request: {"weather"}),
    "asked later": lambda: Weatherman(Capabilities(), later),
    "loop": lambda: looped(weather),
    "loop with a source": lambda: looped(Source()),
    "pooled loop": lambda: pooled(lambda: looped(weather)),
    "factory of loops": lambda: lambda: looped(weather),
    "fallback": lambda: Fallback({"a": ScriptedBackend(["x"]), "b": looped(weather)}),
}
FUNCTION: Body = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CUSTOM: Body = {"type": "custom", "name": "weather"}
OTHER: Body = {**FUNCTION, "name": "other"}


def nested(tool: Body) -> Body:
    """The tool in chat's nested format."""
    return {"type": tool["type"], tool["type"]: {name: tool[name] for name in tool if name != "type"}}


def chat_body(*tools: Body, **more: Any) -> Body:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": "agent", "messages": messages, "tools": [nested(tool) for tool in tools], **more}


def response_body(*tools: Body, **more: Any) -> Body:
    return {"model": "agent", "input": "hi", "tools": list(tools), **more}


MORE: Body = {"type": "additional_tools", "role": "developer", "tools": [OTHER, FUNCTION]}
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


@requirement("tools.own_names")
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_client_cannot_offer_a_tool_by_the_name_of_one_of_the_agents(agent: str, path: str) -> None:
    body = chat_body if path == CHAT else response_body
    async with reach(Server(AGENTS[agent]()), "in-process") as client:
        refused = await client.post(path, json=body(OTHER, FUNCTION))
        error = refused.json()["error"]
        right = await client.post(path, json=body(OTHER))
    assert (refused.status_code, error["code"]) == (400, "tool_name_taken"), error
    assert error["param"].startswith("tools")
    assert right.status_code == 200


@requirement("tools.own_names")
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, chat_body(OTHER, FUNCTION), "tools[1].function.name"),
        (CHAT, chat_body(CUSTOM), "tools[0].custom.name"),
        (CHAT, chat_body(FUNCTION, tool_choice="none"), "tools[0].function.name"),
        (CHAT, chat_body(FUNCTION, stream=True), "tools[0].function.name"),
        (RESPONSES, response_body(OTHER, FUNCTION), "tools[1].name"),
        (RESPONSES, response_body(CUSTOM), "tools[0].name"),
        (RESPONSES, response_body(FUNCTION, background=True), "tools[0].name"),
        (RESPONSES, response_body(FUNCTION, tool_choice="none", stream=True), "tools[0].name"),
        (RESPONSES, {"model": "agent", "input": [MORE, {"role": "user", "content": "hi"}]}, "input[0].tools[1].name"),
    ],
)
async def test_the_refusal_names_the_place_and_nothing_runs(path: str, body: Body, param: str) -> None:
    agent = Weatherman(DECLARED)
    async with reach(Server(agent), "in-process") as client:
        error = (await client.post(path, json=body)).json()["error"]
    assert (error["code"], error["param"], agent.runs) == ("tool_name_taken", param, 0)
    assert "'weather'" in error["message"]


@requirement("tools.own_names")
async def test_a_tool_in_a_namespace_has_another_name_unless_it_is_just_that() -> None:
    space: Body = {"type": "namespace", "name": "sky", "description": "x", "tools": [OTHER, FUNCTION]}
    seen: list[str] = []

    async def agent(request: AgentRequest) -> str:
        seen.extend([tool.name for tool in request.tools])
        return "fine"

    async with reach(Server(agent), "in-process") as client:
        await client.post(RESPONSES, json=response_body(space))
    taken = Weatherman(Capabilities(own_tools=frozenset({seen[1]})))
    async with reach(Server({"free": Weatherman(DECLARED), "taken": taken}), "in-process") as client:
        assert (await client.post(RESPONSES, json=response_body(space, model="free"))).status_code == 200
        error = (await client.post(RESPONSES, json=response_body(space, model="taken"))).json()["error"]
    assert (error["code"], error["param"]) == ("tool_name_taken", "tools[0].tools[1].name")


@requirement("tools.own_names")
async def test_over_both_websockets_too() -> None:
    agent = Weatherman(DECLARED)
    server = Server(agent, chat_websocket=ChatWebSocket())
    async with chat(server) as client:
        await client.say("hi", tools=[nested(FUNCTION)])
        assert await client.error() == (400, "tool_name_taken", "tools[0].function.name")
        await client.send(type="client_tools_manifest", tools=[{"name": "weather", "parameters": {"type": "object"}}])
        await client.say("hi")
        assert (await client.error())[:2] == (400, "tool_name_taken")
    async with websocket(server, RESPONSES) as raw:
        client = Client(raw)
        await client.send(type="response.create", **response_body(FUNCTION))
        failed = await client.receive()
    assert failed["error"]["code"] == "tool_name_taken"
    assert agent.runs == 0


# limits

BASH = SubprocessBackend(["true"])
MODES = ["deny", "sandbox", "allowlist", "ask", "full"]


@asynccontextmanager
async def conversation(agent: Any) -> AsyncIterator[tuple[Any, str]]:
    async with reach(Server(agent, chat_rest=ChatRest()), "in-process") as client:
        made = (await client.post("/api/chat/conversations", json={})).json()["conversation"]["id"]
        yield client, f"/api/chat/conversations/{made}/messages"


@requirement("tools.bounds")
@pytest.mark.parametrize("kind", ["", "/with-tools", "/agentic"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_mode_that_the_agent_cannot_enforce_is_refused(kind: str, mode: str) -> None:
    agent = Weatherman(Capabilities())
    async with conversation(agent) as (client, path):
        refused = await client.post(path + kind, json={"content": "hi", "securityMode": mode})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "securityMode"
    assert "cannot enforce" in refused.json()["error"]["message"]
    assert agent.runs == 0


@requirement("tools.bounds")
@pytest.mark.parametrize("agent", [Weatherman(Capabilities()), BASH, lambda prompt: prompt])
async def test_tools_of_an_agent_that_cannot_leave_them_out_are_not_said_to_be_off(agent: Any) -> None:
    async with conversation(agent) as (client, path):
        refused = await client.post(f"{path}/with-tools", json={"content": "hi", "enableTools": False})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "enableTools")


@requirement("tools.bounds")
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_the_other_apis_refuse_it_too(path: str) -> None:
    body = (chat_body if path == CHAT else response_body)(security_mode="deny")
    async with reach(Server({"agent": Weatherman(Capabilities()), "loop": looped(weather)}), "in-process") as client:
        error = (await client.post(path, json=body)).json()["error"]
        obeyed = await client.post(path, json={**body, "model": "loop"})
    assert (error["code"], error["param"], obeyed.status_code) == ("unsupported_parameter", "security_mode", 200)


@requirement("tools.bounds")
async def test_a_decision_is_not_a_way_around_an_agent_that_keeps_its_bounds() -> None:
    async with conversation(looped(weather)) as (client, path):
        for body in ({"enableTools": False}, *[{"securityMode": mode} for mode in MODES]):
            answer = await client.post(f"{path}/with-tools", json={"content": "hi", **body})
            assert answer.status_code == 200, answer.text
