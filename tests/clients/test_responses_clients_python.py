"""LangChain and OpenAI's Agents SDK on the Responses API, in an environment of their own, over a real socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.clients.programs import HERE, need_python_packages
from tests.clients.response_agents import server
from tests.transports import uvicorn_socket

pytestmark = pytest.mark.timeout(240)  # installs the packages first


class Client(Protocol):
    def __call__(self, program: str) -> Any: ...


@pytest.fixture(scope="module")
def python() -> Path:
    return need_python_packages()


@pytest.fixture(scope="module")
def client(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Runs a client's cases once and returns their results."""
    with uvicorn_socket(server(f"sqlite:///{tmp_path_factory.mktemp('clients') / 'state.db'}")) as url:

        @cache
        def run(program: str) -> Any:
            command = [str(python), str(HERE / program), f"{url}/v1"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield run


@pytest.mark.parametrize(
    ("case", "result"),
    [
        (
            "tools",
            {
                "text": "It is sunny in Paris, after 4 messages.",
                "items": ["reasoning_item", "tool_call_item", "tool_call_output_item", "message_output_item"],
            },
        ),
        ("tools with previous_response_id", "It is sunny in Paris, after 3 messages."),
        ("previous_response_id", "heard: one / heard: one / two"),
        (
            "conversation",
            [
                "It is sunny in Paris, after 7 messages.",
                ["message", "reasoning", "function_call", "function_call_output", "message"] * 2,
            ],
        ),
        (
            "session",
            [
                "It is sunny in Paris, after 7 messages.",
                ["message", "reasoning", "function_call", "function_call_output", "message"] * 2,
                True,
                True,
            ],
        ),
        ("own tools", ["Found it.", [["mcp_call", "search", "a needle"]]]),
        ("structured", {"name": "Ada", "age": 36}),
        ("approved", ["delete", '{"file": "a"}', 'Approved: True, state: {"step": 7}']),
        ("rejected", ["delete", '{"file": "a"}', 'Approved: False, state: {"step": 7}']),
        ("approved with previous_response_id", ["delete", '{"file": "a"}', 'Approved: True, state: {"step": 7}']),
        ("callback", [[["delete", "careful"]], 1, 'Approved: True, state: {"step": 7}']),
        ("websocket", ["It is sunny in Paris, after 3 messages.", "It is sunny in Paris, after 7 messages."]),
        ("fails", ["so far", "The calendar is closed today."]),
    ],
)
def test_the_agents_sdk(client: Client, case: str, result: Any) -> None:
    assert client("agents_client.py")[case] == result


CALLS = [["weather", {"city": "Paris"}]]
TOLD = {"calls": CALLS, "text": "It is sunny in Paris, after 3 messages."}


@pytest.mark.parametrize(
    ("case", "result"),
    [
        ("tools", TOLD),
        ("tools with previous_response_id", TOLD),
        ("tools, streamed", {**TOLD, "pieces": 2}),
        ("tools, streamed with previous_response_id", {**TOLD, "pieces": 2}),
        (
            "history",
            {"text": "heard: one / heard: one / two", "forked": "heard: one / heard: one / other", "usage": 5},
        ),
        ("own tools", {"calls": [], "texts": ["Found it."] * 2, "kinds": ["mcp_call", "text"]}),
        ("structured", {"name": "Ada", "age": 36}),
        ("fails", {"said": "so far", "error": "The calendar is closed today."}),
    ],
)
def test_langchain(client: Client, case: str, result: Any) -> None:
    assert client("langchain_client.py")[case] == result
