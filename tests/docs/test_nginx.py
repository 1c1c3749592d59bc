"""The nginx configuration of the documentation, run where nginx is installed."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import pytest

from openai_compat import Deadlines, Server
from tests.clients.programs import need
from tests.transports import uvicorn_socket

from .served import PATIENCE, ROOT, Program, environment, free_port

NGINX = shutil.which("nginx")
PAGE = (ROOT / "docs" / "how-to" / "nginx.md").read_text()
WHOLE = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""


@pytest.fixture(autouse=True)
def _nginx() -> None:
    need("nginx")


stopped = threading.Event()


async def agent(prompt: str):
    yield "Hello, "
    if prompt == "wait":
        try:
            await anyio.sleep(2 * PATIENCE)
        finally:
            stopped.set()
    yield str(len(prompt))


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[httpx2.Client]:
    """A client of nginx, which has the page's configuration, and a server behind it."""
    found = re.search(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    assert found
    port = free_port()
    with uvicorn_socket(Server(agent, deadlines=Deadlines(head=0.1, heartbeat=0.1))) as upstream:
        locations = found[1].replace("http://127.0.0.1:8083", upstream)
        (tmp_path / "nginx.conf").write_text(WHOLE.format(port=port, locations=locations))
        command = [str(NGINX), "-p", str(tmp_path), "-e", "error.log", "-c", "nginx.conf"]
        program = Program(command, port, tmp_path, environment())
        try:
            program.wait_until(program.listens)
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                yield client
        finally:
            program.stop()


def body(text: str, **more: object) -> bytes:
    return json.dumps({"model": "agent", "messages": [{"role": "user", "content": text}], **more}).encode()


def test_a_stream_comes_through_nginx_as_it_is(proxied: httpx2.Client) -> None:
    answer = proxied.post("/v1/chat/completions", content=body("Ada", stream=True))

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_body_of_pictures_comes_through_nginx(proxied: httpx2.Client) -> None:
    answer = proxied.post("/v1/chat/completions", content=body("x" * 5_000_000))

    assert answer.json()["choices"][0]["message"]["content"] == "Hello, 5000000"


def test_a_foreign_host_is_refused_behind_nginx_too(proxied: httpx2.Client) -> None:
    answer = proxied.get("/v1/models", headers={"Host": "agents.example"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


def test_a_stream_is_live_behind_nginx_and_its_agent_stops_when_the_client_leaves(proxied: httpx2.Client) -> None:
    stopped.clear()
    with proxied.stream("POST", "/v1/chat/completions", content=body("wait", stream=True)) as answer:
        assert any("Hello, " in line for line in answer.iter_lines())  # while the agent waits

    assert stopped.wait(PATIENCE)
