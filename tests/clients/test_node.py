"""OpenAI's own JavaScript client (npm `openai`) against the server, over a real socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from tests.clients.programs import need_node_packages
from tests.transports import uvicorn_socket
from tests.trust.probe import Endless

HERE = Path(__file__).parent
KEY = "sk-right"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    need_node_packages()


class Node:
    """A running case of node_client.mjs, against a server."""

    def __init__(self, case: str, url: str) -> None:
        command = ["node", str(HERE / "node_client.mjs"), case, f"{url}/v1"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def go_on(self) -> None:
        """Release a case that waits for a line on stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """The case's result."""
        try:
            said, complaint = self._process.communicate(timeout=30)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, complaint
        return json.loads(said)


async def greeter(request: AgentRequest) -> AsyncIterator[Any]:
    yield "Hello, "
    yield request.prompt
    yield UsageReported(3, 2)


async def caller(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool in pieces, then reports its result."""
    if request.resume is not None:
        (result,) = request.resume.results.values()
        yield f"It is {result.text}."
    else:
        yield ToolCallStarted("call_1", "weather")
        yield ToolCallDelta("call_1", '{"city":')
        yield ToolCallDelta("call_1", ' "Paris"}')


async def worker(request: AgentRequest) -> AsyncIterator[Any]:
    """Has a tool of its own, which no client must run."""
    yield ToolCallReady("call_1", "search", "{}")
    yield ToolResult("call_1", "found")
    yield "Found it."


async def broken(prompt: str) -> str:
    broken_runs.append(prompt)
    raise RuntimeError("secret")


async def breaks(prompt: str) -> AsyncIterator[str]:
    yield "so far"
    raise RuntimeError("secret")


async def closed(prompt: str) -> str:
    raise AgentError("The calendar is closed today.", status=409, code="calendar_closed")


broken_runs: list[str] = []
endless = Endless("begun")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    agents = [greeter, caller, worker, broken, breaks, closed]
    named = {agent.__name__: agent for agent in agents}
    with uvicorn_socket(Server({**named, "endless": endless}, keys=KEY)) as url:
        yield url


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_create(url: str) -> None:
    message = {"role": "assistant", "content": "Hello, Bob", "refusal": None, "annotations": []}
    assert Node("create", url).result() == {
        "object": "chat.completion",
        "model": "greeter",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "hasRequestId": True,
    }


def test_stream(url: str) -> None:
    assert Node("stream", url).result() == {
        "deltas": [
            {"role": "assistant", "content": "", "refusal": None, "finish_reason": None},
            {"content": "Hello, ", "finish_reason": None},
            {"content": "Bob", "finish_reason": None},
            {"finish_reason": "stop"},
        ],
        "choices": [],
        "usage": USAGE,
    }


def test_the_stream_helper(url: str) -> None:
    found = Node("helper", url).result()
    assert found == {
        "deltas": ["Hello, ", "Bob"],
        "role": "assistant",
        "content": "Hello, Bob",
        "usage": found["usage"],
    }
    assert found["usage"].items() >= USAGE.items()


def test_the_stream_helper_is_not_disturbed_by_the_agents_own_tools(url: str) -> None:
    found = Node("helperWithAgentsOwnTools", url).result()
    assert found == {"events": ["Running search …", "search done"], "content": "Found it.", "toolCalls": None}


@pytest.mark.parametrize("case", ["runTools", "runToolsStreamed"])
def test_run_tools_runs_the_clients_tool_and_brings_its_result_back(url: str, case: str) -> None:
    assert Node(case, url).result() == {
        "calls": ["Paris"],
        "content": "It is sunny in Paris.",
        "roles": ["user", "assistant", "tool", "assistant"],
    }


def test_tool_arguments_come_in_pieces(url: str) -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    found = Node("toolCallEvents", url).result()
    assert "".join(found["deltas"]) == '{"city": "Paris"}'
    assert len([piece for piece in found["deltas"] if piece]) == 2
    (call,) = found["tool_calls"]
    assert (call["id"], call["type"]) == ("call_1", "function")
    assert call["function"].items() >= function.items()


def test_errors_become_the_sdks_own_and_a_failed_run_is_not_repeated(url: str) -> None:
    broken_runs.clear()
    found = Node("errors", url).result()
    said = {
        name: (error["kind"], error["status"], error["type"], error["code"], error["param"])
        for name, error in found.items()
    }
    ire = "invalid_request_error"
    assert said == {
        "key": ("AuthenticationError", 401, ire, "invalid_api_key", None),
        "model": ("NotFoundError", 404, ire, "model_not_found", "model"),
        "param": ("BadRequestError", 400, ire, "invalid_value", "temperature"),
        "path": ("NotFoundError", 404, ire, "unknown_url", None),
        "failed": ("InternalServerError", 500, "server_error", "agent_error", None),
        "failedStream": ("InternalServerError", 500, "server_error", "agent_error", None),
        "declared": ("ConflictError", 409, ire, "calendar_closed", None),
    }
    assert found["declared"]["message"] == "409 The calendar is closed today."
    assert [name for name, error in found.items() if not error["hasRequestId"]] == []
    assert broken_runs == ["Bob", "Bob"]  # one plain, one streamed


def test_a_failure_within_a_stream_is_raised_after_the_text_so_far(url: str) -> None:
    found = Node("failsMidway", url).result()
    assert (found["text"], found["isAPIError"]) == ("so far", True)
    assert (found["type"], found["code"]) == ("agent_error", "agent_error")
    assert "The agent failed." in found["message"]


def test_a_failure_within_a_stream_reaches_the_helper(url: str) -> None:
    found = Node("failsMidwayInTheHelper", url).result()
    assert found["text"] == "so far"
    assert "The agent failed." in found["message"]


def test_models(url: str) -> None:
    assert Node("models", url).result() == {
        "found": ["greeter", "caller", "worker", "broken", "breaks", "closed", "endless"],
        "retrieved": {"id": "greeter", "object": "model", "owned_by": "openai-compat"},
    }


def test_the_older_completions_api(url: str) -> None:
    assert Node("completion", url).result() == {"text": "Hello, Bob", "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("case", "result"),
    [
        ("abortStream", {"text": "begun"}),
        ("breakOutOfStream", "out"),
        ("abortHelper", "APIUserAbortError"),
        ("abortPlain", "APIUserAbortError"),
    ],
)
def test_an_abort_stops_the_agent(url: str, case: str, result: Any) -> None:
    """The client's process lives on, so only the abort can close the connection."""
    endless.waits.clear()
    endless.stopped.clear()
    node = Node(case, url)
    assert endless.waits.wait(20)
    if case == "abortPlain":
        node.go_on()
    assert endless.stopped.wait(5)
    assert node.result() == result
