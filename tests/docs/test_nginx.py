"""The nginx configuration of the documentation, run where nginx is installed."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import httpx2
import openai
import pytest

from openai_compat import Deadlines, Server
from tests.clients.programs import need
from tests.docs.served import PATIENCE, ROOT, Program, environment, free_port
from tests.transports import uvicorn_socket

NGINX = shutil.which("nginx")
HOW_TO = ROOT / "docs" / "how-to"
WHOLE = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    {rest}
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
    with uvicorn_socket(Server(agent, deadlines=Deadlines(head=0.1, heartbeat=0.1))) as upstream:
        locations = block("nginx.md").replace("http://127.0.0.1:8083", upstream)
        with nginx(f"server {{ listen 80; {locations} }}", tmp_path) as client:
            yield client


def block(page: str) -> str:
    found = re.search(r"```nginx\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL)
    assert found
    return found[1]


@contextmanager
def nginx(rest: str, folder: Path) -> Iterator[httpx2.Client]:
    """A client of nginx, which has `rest` in its configuration, and listens on a free port instead of 80."""
    port = free_port()
    (folder / "nginx.conf").write_text(WHOLE.format(rest=rest.replace("listen 80;", f"listen 127.0.0.1:{port};")))
    command = [str(NGINX), "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"]
    program = Program(command, port, folder, environment())
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


@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")  # by the SDK
def test_several_hosts_behind_nginx_are_as_one_also_when_one_of_them_is_gone(tmp_path: Path) -> None:
    told: dict[str, list[str]] = {"first": [], "second": []}

    def host(name: str) -> Server:
        async def remembers(messages: list[dict[str, str]]) -> str:
            said = [message["content"] for message in messages if message["role"] == "user"]
            told[name].append(said[-1])
            return " ".join(said)

        return Server(remembers, store=f"sqlite:///{tmp_path}/state.db", keys="sk-alpha")

    with ExitStack() as second, uvicorn_socket(host("first")) as first_url:
        second_url = second.enter_context(uvicorn_socket(host("second")))
        rest = block("several-workers.md")
        for written, url in (("10.0.0.1:8083", first_url), ("10.0.0.2:8083", second_url)):
            rest = rest.replace(written, url.removeprefix("http://"))
        with nginx(rest, tmp_path) as http:
            client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="sk-alpha", max_retries=0)
            previous, said = None, []

            def turn() -> None:
                nonlocal previous
                said.append(str(len(said)))
                answer = client.responses.create(model="agent", input=said[-1], previous_response_id=previous)
                assert answer.output_text == " ".join(said)
                previous = answer.id

            for _ in range(6):
                turn()
            assert all(told.values())
            with client.responses.connect() as connection:  # nginx passes WebSockets on
                connection.response.create(model="agent", input="over a socket", previous_response_id=previous)
                completed = next(event for event in connection if event.type == "response.completed")
            assert completed.response.output_text == " ".join([*said, "over a socket"])
            second.close()
            for _ in range(4):
                turn()
            client.close()
    assert len(told["first"]) >= 4
