"""The JavaScript clients of Ollama, Anthropic and Vercel (npm) against the server, over a real socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_compat import AgentError, AgentRequest, Server, ToolCallReady, UsageReported
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat_adapters.testing import listening
from tests.clients.programs import need_node_packages
from tests.requirements import requirement
from tests.trust.probe import Endless

CALLS = [("call_1", "Paris"), ("call_2", "Rome")]


async def talker(request: AgentRequest) -> AsyncIterator[Any]:
    yield "Hello, "
    yield "you."
    yield UsageReported(3, 2)


async def caller(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is not None:
        yield " and ".join([result.text for result in request.resume.results.values()])
        return
    for identifier, city in CALLS:
        yield ToolCallReady(identifier, "weather", json.dumps({"city": city}))


async def broken(request: AgentRequest) -> AsyncIterator[str]:
    yield "so far"
    raise AgentError("It is closed.", code="closed")


@pytest.fixture(scope="module")
def endless() -> Endless:
    return Endless("on and ")


@pytest.fixture(scope="module")
def came_to(endless: Endless) -> Iterator[dict[str, Any]]:
    """Results of all cases, by name."""
    need_node_packages()
    agents = {"talker": talker, "caller": caller, "broken": broken, "endless": endless}
    with listening(Server(agents, apis=[Ollama(), AnthropicMessages()])) as url:
        command = ["node", str(Path(__file__).with_name("vendors_client.mjs")), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)


TEXT = {"type": "text", "text": "Hello, you."}
SUNNY = "sunny in Paris and sunny in Rome"


@requirement("ollama.sdk")
@requirement("anthropic.sdk")
@pytest.mark.parametrize(
    ("case", "result"),
    [
        (
            "ollama: models",
            [
                [f"{name}:latest" for name in ("talker", "caller", "broken", "endless")],
                ["completion", "tools", "vision", "thinking"],
                "0.13.0",
            ],
        ),
        ("ollama: chat", [{"role": "assistant", "content": "Hello, you."}, "Hello, you.", "stop", 2]),
        (
            "ollama: tools",
            [
                [
                    {"id": identifier, "function": {"index": index, "name": "weather", "arguments": {"city": city}}}
                    for index, (identifier, city) in enumerate(CALLS)
                ],
                SUNNY,
            ],
        ),
        (
            "ollama: errors",
            [["ResponseError", 404, "The model 'other' does not exist"], ["Error", None, "It is closed."]],
        ),
        ("anthropic: message", [[TEXT], [TEXT], "end_turn", 2]),
        ("anthropic: tools", ["tool_use", SUNNY]),
        ("anthropic: errors", [["NotFoundError", 404], ["APIError"], True]),
        ("vercel: tools", [SUNNY, SUNNY, 2, "stop"]),
        ("vercel: error", ["so far", [True]]),
    ],
)
def test_a_client_has_of_an_agent_what_it_has_of_a_model(came_to: dict[str, Any], case: str, result: Any) -> None:
    assert came_to[case] == result


@requirement("ollama.sdk")
def test_an_aborted_stream_stops_the_agent(came_to: dict[str, Any], endless: Endless) -> None:
    assert came_to["ollama: abort"] != "no error"
    assert endless.stopped.wait(10)
