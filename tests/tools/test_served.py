"""A served tool loop: a question on one server is decided once, on another server with the same store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from openai_compat import MemoryStore, Server, ToolCallReady
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AskLater, ToolLoop, tool
from openai_compat_adapters.client import async_openai
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

MCP: Any = [{"type": "mcp", "server_label": "shop", "server_url": "https://x.example", "require_approval": "always"}]


@pytest.fixture
def anyio_backend() -> str:
    """The tests use the openai SDK: asyncio only."""
    return "asyncio"


def server_for(store: Path, did: list[str], *scripts: list[Any]) -> Server:
    def buy(what: str) -> str:
        did.append(what)
        return f"bought {what}"

    loop = ToolLoop(ScriptedBackend(*scripts), [buy], approver=AskLater())
    return Server({"shop": loop}, store=f"sqlite:///{store}")


def decision(request_id: str, *, approve: bool) -> Any:
    return [{"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve}]


async def asked(store: Path, did: list[str]) -> tuple[str, str]:
    """Ask a question on a server that then disappears; return the ids of the response and of the question."""
    asking = server_for(store, did, ["Let me see.", ToolCallReady("a", "buy", '{"what": "tea"}')])
    async with async_openai(asking, max_retries=0) as client:
        response = await client.responses.create(model="shop", input="Buy tea", tools=MCP)
    message, request = response.output
    assert (message.type, request.type, did) == ("message", "mcp_approval_request", [])
    return response.id, request.id


async def test_a_yes_on_another_server_resumes_the_turn_exactly_once(tmp_path: Path) -> None:
    did: list[str] = []
    response_id, request_id = await asked(tmp_path / "state.db", did)
    outcomes: list[Any] = []

    async def answer() -> None:
        server = server_for(tmp_path / "state.db", did, ["Done."])
        async with async_openai(server, max_retries=0) as client:
            try:
                response = await client.responses.create(
                    model="shop", previous_response_id=response_id, input=decision(request_id, approve=True), tools=MCP
                )
                outcomes.append(response.output_text)
            except openai.ConflictError as error:
                outcomes.append(error.code)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(answer)

    assert sorted(outcomes) == ["Done.", "approval_decided", "approval_decided"]
    assert did == ["tea"]


async def test_a_no_on_another_server_is_heard_by_the_model(tmp_path: Path) -> None:
    did: list[str] = []
    response_id, request_id = await asked(tmp_path / "state.db", did)

    async with async_openai(server_for(tmp_path / "state.db", did, ["Pity."]), max_retries=0) as client:
        response = await client.responses.create(
            model="shop", previous_response_id=response_id, input=decision(request_id, approve=False), tools=MCP
        )

    called, said = response.output
    assert called.type == "mcp_call"
    assert "Denied by the user." in str(called.error)
    assert (said.type, response.output_text, did) == ("message", "Pity.", [])


PICK: Any = {"type": "function", "function": {"name": "pick_file", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The state that two servers share: a store in memory, or the URL of one."""
    if request.param == "memory":
        return MemoryStore()
    return f"sqlite:///{tmp_path / 's.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@requirement("state.pause")
async def test_what_our_tools_did_is_there_when_another_server_gets_the_clients_result(any_store: Any) -> None:
    @tool(danger="safe")
    def look(where: str) -> str:
        return f"nothing in {where}"

    async def say(*script: Any, messages: list[Any]) -> tuple[ScriptedBackend, Any]:
        model = ScriptedBackend(*script)
        server = Server({"clerk": ToolLoop(model, [look])}, store=any_store)
        async with async_openai(server, max_retries=0) as client:
            answer = await client.chat.completions.create(model="clerk", messages=messages, tools=[PICK])
        return model, answer.choices[0].message

    said: list[Any] = [{"role": "user", "content": "Go"}]
    calls = [[ToolCallReady("a", "look", '{"where": "Oslo"}')], [ToolCallReady("c", "pick_file", "{}")]]
    _, asked = await say(*calls, messages=said)
    [call] = asked.tool_calls
    said += [asked, {"role": "tool", "tool_call_id": call.id, "content": "x"}]
    model, answer = await say(["Done."], messages=said)

    assert answer.content == "Done."
    seen = model.requests[0].raw_messages
    assert [message["role"] for message in seen] == ["user", "assistant", "tool", "assistant", "tool"]
    assert [message["content"] for message in seen if message["role"] == "tool"] == ["nothing in Oslo", "x"]
    assert seen[-1]["tool_call_id"] == "c"  # the model's own id
