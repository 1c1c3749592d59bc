"""Promises to API clients in the documentation of NodeTool and of curl."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from openai_compat import Server
from tests.clients import documented
from tests.clients.programs import need
from tests.clients.running import run, run_python
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, frames

NODETOOL = "http://localhost:8000"


async def operator(prompt: str) -> AsyncIterator[str]:
    yield "You said: "
    yield prompt


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
    """NodeTool's documented request, with the documented headers."""
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
        command = documented.DOCKER_AGENT_STREAMING.replace("http://127.0.0.1:8083", url)
        with subprocess.Popen(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as curl:
            assert curl.stdout is not None
            lines = iter(curl.stdout.readline, "")
            assert any("first line" in line for line in lines)
            assert not go.is_set()
            go.set()
            assert any("[DONE]" in line for line in lines)
