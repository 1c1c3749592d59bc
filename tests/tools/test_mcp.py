"""Tools of MCP servers: a real server, started here or behind a URL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import ToolCallReady
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AgentTool, CallResult, MCPServer, Toolbox, ToolContext, ToolLoop
from openai_compat.tools.call_tool import call_tool
from tests.backends.support import alive, pids, until
from tests.docs.served import Program, environment, free_port
from tests.tools.support import call, new_context, request_for, results, run, text

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

COMMAND = [sys.executable, str(Path(__file__).parent / "mcp_server.py")]
BOUND = 60


async def outcome(tool: AgentTool, arguments: str = "{}") -> CallResult:
    with anyio.fail_after(BOUND):
        return await call_tool(tool, tool.check(arguments), ToolContext("c", request_for(), new_context()))


async def tools_of(source: MCPServer) -> dict[str, AgentTool]:
    with anyio.fail_after(BOUND):
        return {tool.name: tool for tool in await source.tools()}


class Connected:
    """A source that is closed when the `with` block ends."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.source = MCPServer("small", *(args or [COMMAND]), **settings)

    async def __aenter__(self) -> MCPServer:
        return self.source

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True), anyio.fail_after(BOUND):
            await self.source.aclose()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server over streamable HTTP, on a separate socket."""
    port = free_port()
    program = Program([*COMMAND, str(port)], port, tmp_path_factory.mktemp("mcp"), environment())
    try:
        program.wait_until(program.listens)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        program.stop()


async def test_a_servers_tools_are_offered_with_their_schemas_and_called() -> None:
    async with Connected() as source:
        tools = await tools_of(source)
        assert {"add", "fail", "where", "who_am_i"} < set(tools)
        assert tools["add"].description == "Adds two numbers."
        assert tools["add"].parameters["required"] == ["a", "b"]
        assert await outcome(tools["add"], '{"a": 1, "b": 2}') == CallResult("3")
        assert (await outcome(tools["picture"])).text == "[image: image/png]"


async def test_a_servers_schema_for_a_result_is_not_looked_at() -> None:
    async with Connected() as source:
        assert (await outcome((await tools_of(source))["dig"])).text == "1"


async def test_a_loop_uses_a_servers_tools_and_ends_the_server_when_it_is_closed(tmp_path: Path) -> None:
    model = ScriptedBackend([call("a", "small_add", a=1, b=2), call("b", "small_where")], ["Three."])
    loop = ToolLoop(model, [MCPServer("small", COMMAND, prefix="small_", cwd=str(tmp_path))], security="full")
    try:
        said = await run(loop)
        outputs = {result.call_id: result.output for result in results(said)}
        pid, directory, *_ = outputs["b"].split()
    finally:
        with anyio.fail_after(BOUND):
            await loop.aclose()

    assert (outputs["a"], text(said), directory) == ("3", "Three.", str(tmp_path))
    await until(lambda: not alive(int(pid)))


async def test_a_failure_and_wrong_arguments_are_texts_for_the_model(url: str) -> None:
    async with Connected(url) as source:
        tools = await tools_of(source)
        failed = await outcome(tools["fail"], '{"text": "no paper"}')
        wrong = await outcome(tools["add"], '{"a": "x"}')

    assert (failed.is_error, wrong.is_error) == (True, True)
    assert "no paper" in failed.text
    assert "validation error" in wrong.text


async def test_arguments_that_are_no_object_are_not_sent(url: str) -> None:
    model = ScriptedBackend([ToolCallReady("a", "add", "[1]"), ToolCallReady("b", "add", "{")], ["Hm."])
    async with Connected(url) as source:
        said = await run(ToolLoop(model, [source], security="full"))

    assert [result.output for result in results(said)] == ["The arguments are not a JSON object."] * 2


async def test_a_server_does_not_see_our_environment_but_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    async with Connected(env={"GIVEN": "yes"}) as source:
        said = (await outcome((await tools_of(source))["where"])).text.split()

    assert said[2:] == ["None", "yes"]


async def test_calls_share_one_connection_also_those_that_open_it() -> None:
    seen: set[str] = set()
    async with Connected() as source:

        async def ask() -> None:
            seen.add((await outcome((await tools_of(source))["where"])).text.split()[0])

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)

    assert len(seen) == 1


async def test_a_server_that_dies_fails_that_call_and_is_started_again_for_the_next_turn() -> None:
    async with Connected() as source:
        first = (await outcome((await tools_of(source))["where"])).text.split()[0]
        dead = await outcome((await tools_of(source))["die"])
        again = (await outcome((await tools_of(source))["where"])).text.split()[0]

    assert dead == CallResult("The server of this tool does not answer.", is_error=True)
    assert first != again


async def test_a_call_that_takes_too_long_is_given_up_and_the_connection_is_of_use_after_it() -> None:
    async with Connected(timeout=0.5) as source:
        tools = await tools_of(source)
        late = await outcome(tools["sleep"], '{"seconds": 1.0}')
        with anyio.fail_after(BOUND):
            while (await outcome(tools["add"], '{"a": 1, "b": 2}')).is_error:  # the server is still asleep
                pass

    assert late.text == "The tool did not end within 0.5 seconds, and was stopped."


async def test_hints_count_only_where_they_are_trusted(url: str) -> None:
    async with Connected(url, danger="risky") as source:
        assert {tool.danger for tool in (await tools_of(source)).values()} == {"risky"}
    async with Connected(url, trust_hints=True) as source:
        tools = await tools_of(source)
    assert (tools["add"].danger, tools["where"].danger, tools["fail"].danger) == ("safe", "risky", "dangerous")


async def test_a_server_may_be_taken_in_part_and_with_an_allow_list(url: str) -> None:
    async with Connected(url, only=["add"], allow={"add": [{"a": 1, "b": 2}]}) as source:
        model = ScriptedBackend([call("a", "add", a=1, b=2), call("b", "add", a=2, b=2)], ["Hm."])
        said = await run(ToolLoop(model, [source], security="allowlist"))

    assert [offered.name for offered in model.requests[0].tools] == ["add"]
    assert {result.call_id: result.denied for result in results(said)} == {"a": False, "b": True}


@pytest.mark.parametrize("target", [["no-such-program-here"], [sys.executable, "-c", "pass"], "http://127.0.0.1:9/mcp"])
async def test_a_server_that_cannot_be_reached_is_missed_and_not_tried_again_at_once(
    target: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Connected(target) as source:
        for _ in range(2):
            with anyio.fail_after(BOUND):
                listing = await Toolbox([source]).listing()
            assert list(listing.unreachable) == ["small"]


async def test_a_server_that_is_silent_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("openai_compat.tools.mcp.CONNECT_TIMEOUT", 2.0)
    code = f"import os, time; open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(600)"

    async with Connected([sys.executable, "-S", "-c", code]) as source:
        with anyio.fail_after(BOUND), pytest.raises(ConnectionError):
            await source.tools()
        (pid,) = pids(tmp_path / "pids")
        await until(lambda: not alive(pid))


async def test_a_server_behind_a_url_is_used_with_headers(url: str) -> None:
    async with Connected(url, headers={"x-name": "ann"}) as source:
        tools = await tools_of(source)
        assert await outcome(tools["add"], '{"a": 1, "b": 2}') == CallResult("3")
        assert await outcome(tools["who_am_i"]) == CallResult("ann")


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="is a URL, or a command"):
        MCPServer("x", "npx server")
    with pytest.raises(ValueError, match="at least one word"):
        MCPServer("x", [])
    with pytest.raises(TypeError, match="behind a URL"):
        MCPServer("x", COMMAND, headers={"a": "b"})
    with pytest.raises(TypeError, match="started by a command"):
        MCPServer("x", "https://x.example/mcp", env={"a": "b"})


def test_the_package_is_not_needed_until_a_server_is_made() -> None:
    code = "import sys, openai_compat.tools; print([name for name in ('mcp', 'httpx2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=BOUND, check=True, text=True)
    assert done.stdout == "[]\n"
