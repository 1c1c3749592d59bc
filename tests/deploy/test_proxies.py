"""The shipped reverse proxy configurations, with the real proxies and real clients."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx2
import openai
import pytest

from openai_compat import Deadlines, Server
from tests.clients.programs import need
from tests.docs.served import EXAMPLES, PATIENCE, Program, environment, free_port
from tests.requirements import requirement
from tests.transports import uvicorn_socket

DEPLOY = EXAMPLES / "deploy"
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    {rest}
}}
"""

Proxy: TypeAlias = Callable[[str, str, Path], AbstractContextManager[httpx2.URL]]
"""Runs a proxy in front of two hosts, in a folder; yields its address."""


def configuration(name: str, first: str, second: str, **instead: str) -> str:
    """A shipped file, with these hosts and with some words replaced."""
    text = (DEPLOY / name).read_text("utf-8")
    for written, used in {"10.0.0.1:8083": first, "10.0.0.2:8083": second, **instead}.items():
        assert written in text, written
        text = text.replace(written, used)
    return text


@contextmanager
def nginx(first: str, second: str, folder: Path) -> Iterator[httpx2.URL]:
    """Run nginx with TLS and a self-signed certificate."""
    need("nginx", "openssl")
    port, options = free_port(), ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *options]
    files = ["-keyout", f"{folder}/agents.key", "-out", f"{folder}/agents.pem"]
    subprocess.run([*request, *files], check=True, capture_output=True)
    instead = {"listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;", "/etc/nginx/tls": str(folder)}
    rest = configuration("nginx.conf", first, second, **instead)
    (folder / "nginx.conf").write_text(NGINX.format(rest=rest), "utf-8")
    command = [str(shutil.which("nginx")), "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"]
    with running(command, port, folder):
        yield httpx2.URL(f"https://127.0.0.1:{port}")


@contextmanager
def caddy(first: str, second: str, folder: Path) -> Iterator[httpx2.URL]:
    """Run Caddy without TLS: it would request a certificate from an authority."""
    need("caddy")
    port = free_port()
    instead = {"agents.example.com": f"http://127.0.0.1:{port}"}
    version = subprocess.run(["caddy", "version"], check=True, capture_output=True, text=True).stdout
    if version.removeprefix("v").startswith(("2.4.", "2.5.", "2.6.2")):
        instead["request_buffers 32MiB"] = "buffer_requests"  # the option's name before 2.6.3 and in Debian 12
    rest = configuration("Caddyfile", first, second, **instead)
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n\n{rest}", "utf-8")
    with running([str(shutil.which("caddy")), "run"], port, folder):
        yield httpx2.URL(f"http://127.0.0.1:{port}")


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    program = Program(command, port, folder, environment(HOME=str(folder)))
    try:
        program.wait_until(program.listens)
        yield
    finally:
        program.stop()


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    if request.param == "caddy":
        return caddy
    return request.getfixturevalue("trusted_nginx")


@pytest.fixture
def trusted_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """Make clients trust nginx's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "agents.pem"))
    return nginx


stopped = threading.Event()
go_on = threading.Event()


async def agent(prompt: str):
    yield "Hello, "
    if prompt == "wait":
        try:
            while not go_on.is_set():
                await anyio.sleep(0.02)
        except BaseException:
            stopped.set()
            raise
    yield str(len(prompt))


@pytest.fixture
def client(proxy: Proxy, tmp_path: Path) -> Iterator[openai.OpenAI]:
    """A client of the proxy, with one server behind it."""
    stopped.clear()
    go_on.clear()
    server = Server(agent, deadlines=Deadlines(head=0.1, heartbeat=0.1))
    with uvicorn_socket(server) as url, proxy(*[url.removeprefix("http://")] * 2, tmp_path) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=PATIENCE) as client:
            yield client


def ask(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model="agent", messages=[{"role": "user", "content": text}], **more)


def pieces(stream: Any) -> Iterator[str]:
    return (chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content)


def test_a_stream_comes_through_the_proxy_as_the_agent_says_it(client: openai.OpenAI) -> None:
    said = pieces(ask(client, "wait", stream=True))

    assert next(said) == "Hello, "  # while the agent waits
    go_on.set()
    assert list(said) == ["4"]


def test_an_agent_stops_when_the_proxys_client_leaves(client: openai.OpenAI) -> None:
    with ask(client, "wait", stream=True) as stream:
        assert next(pieces(stream)) == "Hello, "

    assert stopped.wait(PATIENCE)


def test_a_body_of_pictures_comes_through_the_proxy(client: openai.OpenAI) -> None:
    assert ask(client, "x" * 5_000_000).choices[0].message.content == "Hello, 5000000"


def test_a_foreign_host_is_refused_behind_nginx_too(trusted_nginx: Proxy, tmp_path: Path) -> None:
    with uvicorn_socket(Server(agent)) as url, trusted_nginx(*[url.removeprefix("http://")] * 2, tmp_path) as address:
        answer = httpx2.get(address.join("/v1/models"), headers={"Host": "agents.example"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


LOGIN = """
server {{
    listen 127.0.0.1:{port};
    auth_basic "agents";
    auth_basic_user_file {folder}/users;

    location / {{
        proxy_pass http://127.0.0.1:{behind};
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-User $remote_user;
    }}
}}"""


@requirement("cli.user-header")
def test_two_who_have_logged_in_at_the_proxy_see_nothing_of_each_other(tmp_path: Path) -> None:
    need("nginx")
    (tmp_path / "users").write_text("ann:{PLAIN}a\nbob:{PLAIN}b\n")
    (tmp_path / "hello.py").write_text("async def agent(request):\n    return request.principal.id\n")
    port, behind = free_port(), free_port()
    rest = LOGIN.format(port=port, behind=behind, folder=tmp_path)
    (tmp_path / "nginx.conf").write_text(NGINX.format(rest=rest), "utf-8")
    served = [sys.executable, "-m", "openai_compat", "serve", "hello:agent", "--listen", f"0.0.0.0:{behind}"]
    served += ["--user-header", "X-Forwarded-User", "--trusted-proxy", "127.0.0.1", "--host-name", "agents.example"]
    command = [str(shutil.which("nginx")), "-p", str(tmp_path), "-e", "error.log", "-c", "nginx.conf"]
    with running(served, behind, tmp_path), running(command, port, tmp_path), ExitStack() as stack:

        def client(user: str, password: str, **forged: str) -> openai.OpenAI:
            login = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers = {"Authorization": f"Basic {login}", **forged}
            made = openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, default_headers=headers
            )
            return stack.enter_context(made)

        ann, bob = client("ann", "a"), client("bob", "b", **{"X-Forwarded-User": "ann"})
        kept = ann.responses.create(model="agent", input="hi")
        assert kept.output_text == "proxy:ann"
        assert bob.responses.create(model="agent", input="hi").output_text == "proxy:bob"
        assert ann.responses.retrieve(kept.id).output_text == "proxy:ann"
        with pytest.raises(openai.NotFoundError):
            bob.responses.retrieve(kept.id)
        with pytest.raises(openai.AuthenticationError):
            client("ann", "wrong").models.list()
        # directly, from another address, with the header that the proxy would send
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2")) as direct:
            found = direct.get(f"http://127.0.0.1:{behind}/v1/models", headers={"X-Forwarded-User": "ann"})
        assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")  # by the SDK
def test_several_hosts_behind_a_proxy_are_as_one_also_when_one_of_them_is_gone(proxy: Proxy, tmp_path: Path) -> None:
    told: dict[str, list[str]] = {"first": [], "second": []}

    def host(name: str) -> Server:
        async def remembers(messages: list[dict[str, str]]) -> str:
            said = [message["content"] for message in messages if message["role"] == "user"]
            told[name].append(said[-1])
            return " ".join(said)

        return Server(remembers, store=f"sqlite:///{tmp_path}/state.db", keys="sk-alpha")

    with ExitStack() as second, uvicorn_socket(host("first")) as first_url:
        second_url = second.enter_context(uvicorn_socket(host("second")))
        with proxy(first_url.removeprefix("http://"), second_url.removeprefix("http://"), tmp_path) as address:
            # Caddy answers 502 once for a host that it cannot connect to: see the Caddyfile.
            retries = 2 if proxy is caddy else 0
            client = openai.OpenAI(base_url=f"{address}/v1", api_key="sk-alpha", max_retries=retries)
            previous, said = None, []

            def turn() -> None:
                nonlocal previous
                said.append(str(len(said)))
                answer = client.responses.create(model="agent", input=said[-1], previous_response_id=previous)
                assert answer.output_text == " ".join(said)
                previous = answer.id

            turn()
            while not all(told.values()) and len(said) < 60:  # the proxy decides which host gets a turn
                turn()
            assert all(told.values())
            with client.responses.connect() as connection:  # the proxy forwards WebSockets
                connection.response.create(model="agent", input="over a socket", previous_response_id=previous)
                completed = next(event for event in connection if event.type == "response.completed")
            assert completed.response.output_text == " ".join([*said, "over a socket"])
            second.close()
            for _ in range(4):
                turn()
            client.close()
    assert len(told["first"]) >= 4
