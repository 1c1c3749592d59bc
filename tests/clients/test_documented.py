"""What the documentation of other agent systems tells people to run works against an agent served here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from openai_compat import Cors, Limits, Server, key_from_env
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, Endless, error_of, frames
from tests.trust.wire import RawClient

from . import documented
from .programs import need


async def operator(prompt: str) -> AsyncIterator[str]:
    yield "You said: "
    yield prompt


def run(command: str, theirs: str, url: str) -> str:
    """What the command prints when their server's address is replaced by ours."""
    need("bash", "curl")
    assert theirs in command
    done = subprocess.run(
        ["bash", "-c", command.replace(theirs, url)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(program: str, theirs: str, url: str) -> str:
    """The same for a Python program."""
    assert theirs in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace(theirs, url)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def has(found: Any, promised: Any) -> bool:
    """Whether everything that is promised is there; there may be more. "..." stands for any ending."""
    if isinstance(promised, dict):
        return all([key in found and has(found[key], value) for key, value in promised.items()])
    if isinstance(promised, list):
        return len(found) == len(promised) and all(map(has, found, promised))
    if isinstance(promised, str) and promised.endswith("..."):
        return str(found).startswith(promised[:-3])
    return bool(found == promised)


# Claude Ops

CLAUDE_OPS = "http://localhost:8080"


@pytest.fixture
def claude_ops(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("CLAUDEOPS_CHAT_API_KEY", "your-secret-key-here")
    keys = key_from_env("CLAUDEOPS_CHAT_API_KEY")
    return Server({"claude-ops": operator}, keys=keys, owned_by="claude-ops", limits=Limits(slots=1))


def test_claude_ops_streaming(claude_ops: Server) -> None:
    with uvicorn_socket(claude_ops) as url:
        events = frames(run(documented.CLAUDE_OPS_STREAMING, CLAUDE_OPS, url))
    chunk = {"id": "chatcmpl-...", "object": "chat.completion.chunk", "model": "claude-ops"}
    said = "What services are currently unhealthy?"
    promised = [
        {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        {**chunk, "choices": [{"index": 0, "delta": {"content": "You said: "}}]},
        {**chunk, "choices": [{"index": 0, "delta": {"content": said}}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        "[DONE]",
    ]
    assert has(events, promised), events


def test_claude_ops_synchronous(claude_ops: Server) -> None:
    with uvicorn_socket(claude_ops) as url:
        answer = json.loads(run(documented.CLAUDE_OPS_SYNCHRONOUS, CLAUDE_OPS, url))
    message = {"role": "assistant", "content": "You said: Restart the nginx container on ie01"}
    promised = {
        "id": "chatcmpl-...",
        "object": "chat.completion",
        "model": "claude-ops",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    assert has(answer, promised), answer


def test_claude_ops_errors(claude_ops: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their table of errors, and the key that is read for every request."""
    with uvicorn_socket(claude_ops) as url, httpx2.Client(base_url=url) as client:
        key = {"authorization": "Bearer your-secret-key-here"}
        system = {"model": "claude-ops", "messages": [{"role": "system", "content": "x"}]}
        assert error_of(client.post(CHAT, json=system))[::2] == (401, "invalid_api_key")
        assert error_of(client.post(CHAT, content=b"{", headers=key))[::2] == (400, "invalid_request")
        assert error_of(client.post(CHAT, json=system, headers=key))[::2] == (400, "invalid_request")
        monkeypatch.setenv("CLAUDEOPS_CHAT_API_KEY", "rotated")
        assert error_of(client.get("/v1/models", headers=key))[::2] == (401, "invalid_api_key")
        listing = client.get("/v1/models", headers={"authorization": "Bearer rotated"}).json()
        monkeypatch.delenv("CLAUDEOPS_CHAT_API_KEY")
        assert error_of(client.post(CHAT, json=system, headers=key))[::2] == (503, "chat_endpoint_disabled")
    models = [{"id": "claude-ops", "object": "model", "owned_by": "claude-ops"}]
    assert has(listing, {"object": "list", "data": models}), listing


def test_claude_ops_refuses_a_second_session() -> None:
    agent = Endless("begun")
    with uvicorn_socket(Server({"agent": agent}, limits=Limits(slots=1))) as url, RawClient(url) as first:
        first.chat(stream=True)
        first.read_until(b"begun")
        body = {"model": "agent", "messages": [{"role": "user", "content": "me too"}]}
        answer = httpx2.post(f"{url}{CHAT}", json=body)
        assert error_of(answer) == (429, "rate_limit_error", "rate_limit_exceeded", None)


# docker-agent

DOCKER_AGENT = "http://127.0.0.1:8083"


@pytest.fixture
def docker_agent() -> Server:
    return Server({"root": operator}, owned_by="docker-agent")


def test_docker_agent_models(docker_agent: Server) -> None:
    with uvicorn_socket(docker_agent) as url:
        listing = json.loads(run(documented.DOCKER_AGENT_MODELS, DOCKER_AGENT, url))
    models = [{"id": "root", "object": "model", "owned_by": "docker-agent"}]
    assert has(listing, {"object": "list", "data": models}), listing


def test_docker_agent_chat(docker_agent: Server) -> None:
    with uvicorn_socket(docker_agent) as url:
        answer = json.loads(run(documented.DOCKER_AGENT_CHAT, DOCKER_AGENT, url))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "You said: Hello!"


def test_docker_agent_streaming(docker_agent: Server) -> None:
    with uvicorn_socket(docker_agent) as url:
        *chunks, end = frames(run(documented.DOCKER_AGENT_STREAMING, DOCKER_AGENT, url))
    assert end == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "".join([chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]) == "You said: Stream a poem"


def test_docker_agent_python(docker_agent: Server) -> None:
    with uvicorn_socket(docker_agent) as url:
        assert run_python(documented.DOCKER_AGENT_PYTHON, DOCKER_AGENT, url) == "You said: Hello!\n"


def test_docker_agent_key_and_cors() -> None:
    """With a key, all below /v1 is protected and the OpenAPI document is not; one origin may be allowed."""
    server = Server({"root": operator}, keys="token", cors=Cors(["https://my-ui.example.com"]))
    with uvicorn_socket(server) as url, httpx2.Client(base_url=url) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.post(CHAT, json={}).status_code == 401
        assert "/v1/chat/completions" in client.get("/openapi.json").json()["paths"]
        page = {"origin": "https://my-ui.example.com", "authorization": "Bearer token"}
        answer = client.get("/v1/models", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://my-ui.example.com"


# NodeTool

NODETOOL = "http://localhost:8000"


@pytest.fixture
def nodetool() -> Server:
    return Server({"gpt-4": operator}, keys="YOUR_TOKEN")


def test_nodetool_python(nodetool: Server) -> None:
    with uvicorn_socket(nodetool) as url:
        assert run_python(documented.NODETOOL_PYTHON, NODETOOL, url) == "You said: Hello, how are you?"


def test_nodetool_models(nodetool: Server) -> None:
    with uvicorn_socket(nodetool) as url:
        listing = json.loads(run(documented.NODETOOL_MODELS, NODETOOL, url))
    assert [model["id"] for model in listing["data"]] == ["gpt-4"]


def test_nodetool_body(nodetool: Server) -> None:
    """Their documented request, with their documented headers."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer YOUR_TOKEN"}
    with uvicorn_socket(nodetool) as url:
        answer = httpx2.post(f"{url}{CHAT}", content=documented.NODETOOL_BODY, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert frames(answer.content)[-1] == "[DONE]"


def test_curl_shows_the_stream_while_it_is_made() -> None:
    """`curl -N` prints a piece before the agent makes the next one."""
    need("bash", "curl")
    go = threading.Event()

    def poet(prompt: str) -> Any:
        yield "first line\n"
        assert go.wait(20)
        yield "second line\n"

    with uvicorn_socket(Server({"root": poet})) as url:
        command = documented.DOCKER_AGENT_STREAMING.replace(DOCKER_AGENT, url)
        with subprocess.Popen(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as curl:
            assert curl.stdout is not None
            lines = iter(curl.stdout.readline, "")
            assert any("first line" in line for line in lines)
            assert not go.is_set()
            go.set()
            assert any("[DONE]" in line for line in lines)
