"""Every example runs in its own process and answers requests over a real socket."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openai_compat import AgentRequest, Server, ToolCallReady, UsageReported
from tests.docs.served import EXAMPLES, PATIENCE, ROOT, Program, environment, free_port, served
from tests.requirements import requirement
from tests.transports import uvicorn_socket

PYTHON = sys.executable


@contextmanager
def client_of(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=PATIENCE) as client:
        yield client


def ask(client: openai.OpenAI, model: str, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def uvicorn(name: str, **env: str) -> Any:
    return served(PYTHON, "-m", "uvicorn", f"{name}:app", "--port", "PORT", **env)


SERVERS = {"uvicorn": ("uvicorn", "--port", "PORT"), "hypercorn": ("hypercorn", "--bind", "127.0.0.1:PORT")}


def run(*command: str) -> str:
    done = subprocess.run(
        [PYTHON, *command],
        cwd=EXAMPLES,
        env=environment(),
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WITH_FRAMEWORKS = {"langgraph_open_webui": ROOT / "tests/frameworks/langgraph_cases.py"}
"""Examples that run only with their framework installed."""


def test_every_example_is_tested_here() -> None:
    tests = {name.removeprefix("test_example_") for name in globals() if name.startswith("test_example_")}
    tests |= {name for name, path in WITH_FRAMEWORKS.items() if f"{name}:app" in path.read_text("utf-8")}

    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tests


def test_every_example_says_first_what_it_is_and_how_to_run_it() -> None:
    shown_in_full = {"hello", "library"}  # together with their command

    for path in EXAMPLES.glob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        runs = re.search(r"uvicorn|hypercorn|gunicorn|pytest|python |openai-compat serve", text)
        assert runs or path.stem in shown_in_full, path


@requirement("auth.ready")
def test_example_fastapi_login() -> None:
    with uvicorn("fastapi_login") as url:
        sessions = {
            name: httpx2.post(f"{url}/login", json={"name": name, "password": f"{name}-pw"}).json()["session"]
            for name in ("ann", "bob")
        }
        base = f"{url}/ai/v1"
        clients = {
            name: openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=PATIENCE)
            for name, key in {**sessions, "eve": "guessed"}.items()
        }
        hers = clients["ann"].responses.create(model="agent", input="My secret is mellon")
        his = clients["bob"].responses.create(model="agent", input="Hi")
        assert [hers.output_text, his.output_text] == ["Hello, user:ann", "Hello, user:bob"]
        assert clients["ann"].responses.retrieve(hers.id).id == hers.id
        with pytest.raises(openai.NotFoundError):
            clients["bob"].responses.retrieve(hers.id)
        with pytest.raises(openai.BadRequestError):
            clients["bob"].responses.create(model="agent", input="And?", previous_response_id=hers.id)
        file = clients["ann"].files.create(file=("a.txt", b"mellon"), purpose="user_data")
        assert [[one.id for one in clients[name].files.list()] for name in ("ann", "bob")] == [[file.id], []]
        with pytest.raises(openai.AuthenticationError):
            clients["eve"].responses.create(model="agent", input="Hi")
        for client in clients.values():
            client.close()
        asked = {"model": "agent", "input": "Hi"}
        for headers, status in (
            ({}, 200),
            ({"origin": url}, 200),
            ({"origin": "https://evil.example"}, 403),
            ({"host": "evil.example"}, 403),
        ):
            cookie = {"cookie": f"session={sessions['ann']}"}
            sent = httpx2.post(f"{base}/responses", json=asked, headers={**cookie, **headers})
            assert sent.status_code == status
        assert httpx2.post(f"{base}/responses", json=asked).status_code == 401


def test_example_hello() -> None:
    with uvicorn("hello") as url, client_of(f"{url}/v1") as client:
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, "hello", "Ada", stream=True)]

    assert pieces == ["", "Hello, ", "Ada", ""]


def test_example_quickstart() -> None:
    printed = run("quickstart.py")

    assert "Hello, Ada" in printed
    assert "http://127.0.0.1:8083/ui/" in printed
    assert "openai-compat demo" in printed


def test_example_client_tools() -> None:
    with uvicorn("client_tools") as url:
        printed = run("client_tools.py", f"{url}/v1")

    assert printed == "The weather service says: 12 degrees and rain in Oslo\n"


def test_example_progress_and_reasoning() -> None:
    with uvicorn("progress_and_reasoning") as url, client_of(f"{url}/v1") as client:
        chunks = list(ask(client, "weather", "Oslo", stream=True, stream_options={"include_usage": True}))
        message = ask(client, "weather", "Oslo").choices[0].message

    events = [event["data"]["description"] for chunk in chunks if (event := getattr(chunk, "event", None))]
    assert events == ["Planning", "Planned", "Running look_up …", "look_up done"]
    assert chunks[-1].usage.total_tokens == 43
    assert message.content == "12 degrees and rain in Oslo"
    assert message.reasoning_content == "The weather changes, so I have to look it up."
    assert message.annotations[0].url_citation.title == "Weather"
    assert message.tool_calls is None


def test_example_fastapi_mount() -> None:
    with uvicorn("fastapi_mount") as url, client_of(f"{url}/ai/v1") as client:
        answer = ask(client, "echo", "Ada")
        index = httpx2.get(url).json()

    assert answer.choices[0].message.content == "You said: Ada"
    assert index == {"chat": "/ai/v1/chat/completions"}


def test_example_draining_mount() -> None:
    port = free_port()
    url, words = f"http://127.0.0.1:{port}/ai", [str(number) for number in range(10)]
    command = [PYTHON, "-m", "uvicorn", "draining_mount:app", "--port", str(port)]
    program = Program(command, port, EXAMPLES, environment())
    try:
        program.wait_until(program.listens)
        with client_of(f"{url}/v1") as client:
            chunks = iter(ask(client, "echo", " ".join(words), stream=True))
            pieces = [next(chunks).choices[0].delta.content]
            os.kill(program.pid, signal.SIGUSR1)
            program.wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 503)
            with pytest.raises(openai.InternalServerError) as refused:
                ask(client, "echo", "too late")
            pieces += [chunk.choices[0].delta.content for chunk in chunks]
    finally:
        program.stop()

    assert refused.value.code == "shutting_down"
    assert "".join([piece or "" for piece in pieces]).split() == words


def check_mount(*command: str) -> None:
    """Check streaming and plain answers below the prefix, openapi.json, and the parent's own page."""
    with served(PYTHON, "-m", *command) as url, client_of(f"{url}/ai/v1") as client:
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, "echo", "Ada", stream=True)]
        plain = ask(client, "echo", "Ada").choices[0].message.content
        servers = httpx2.get(f"{url}/ai/openapi.json").json()["servers"]
        unknown = httpx2.get(f"{url}/ai/unknown").json()["error"]["code"]
        index = httpx2.get(url).json()

    assert unknown == "unknown_url"
    assert ("".join(pieces), plain) == ("You said: Ada", "You said: Ada")
    assert servers == [{"url": "/ai"}]
    assert index == {"chat": "/ai/v1/chat/completions"}


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_example_litestar_mount(server: str) -> None:
    check_mount(*SERVERS[server], "litestar_mount:app")


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_example_quart_mount(server: str) -> None:
    check_mount(*SERVERS[server], "quart_mount:app")


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_example_django_mount(server: str) -> None:
    check_mount(*SERVERS[server], "django_mount:application")


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "gunicorn", "--threads", "8", "--bind", "127.0.0.1:PORT", "flask_app:app"),
        ("-m", "flask", "--app", "flask_app", "run", "--port", "PORT"),
    ],
    ids=["gunicorn", "flask run"],
)
def test_example_flask_app(command: tuple[str, ...]) -> None:
    with served(PYTHON, *command) as url, client_of(f"{url}/ai/v1") as client:
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, "echo", "Ada", stream=True)]
        index = httpx2.get(url).json()

    assert pieces == ["", "You said: ", "Ada", ""]
    assert index == {"chat": "/ai/v1/chat/completions"}


def test_example_openai_upstream() -> None:
    seen: list[dict[str, Any]] = []

    async def model(messages: list[dict[str, Any]]) -> Any:
        seen.extend(messages)
        yield "Four."
        yield UsageReported(20, 2)

    with uvicorn_socket(Server({"scripted": model}, keys="sk-upstream")) as upstream:
        env = {"OPENAI_API_KEY": "sk-upstream", "OPENAI_BASE_URL": f"{upstream}/v1", "OPENAI_MODEL": "scripted"}
        with uvicorn("openai_upstream", **env) as url, client_of(f"{url}/v1") as client:
            answer = ask(client, "short", "Two and two?")

    assert answer.choices[0].message.content == "Four."
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 2)
    assert [message["role"] for message in seen] == ["system", "user"]


def test_example_openai_upstream_hides_the_answer_to_its_own_wrong_key() -> None:
    with uvicorn_socket(Server(lambda prompt: prompt, keys="sk-upstream")) as upstream:
        env = {"OPENAI_API_KEY": "sk-wrong", "OPENAI_BASE_URL": f"{upstream}/v1", "OPENAI_MODEL": "agent"}
        with (
            uvicorn("openai_upstream", **env) as url,
            client_of(f"{url}/v1") as client,
            pytest.raises(openai.APIStatusError) as caught,
        ):
            ask(client, "short", "Two and two?")

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth")


def test_example_anthropic_upstream() -> None:
    with served(PYTHON, "-m", "uvicorn", "tests.docs.scripted_anthropic:app", "--port", "PORT", cwd=ROOT) as upstream:
        env = {"ANTHROPIC_API_KEY": "sk-upstream", "ANTHROPIC_BASE_URL": upstream, "ANTHROPIC_MODEL": "scripted"}
        with uvicorn("anthropic_upstream", **env) as url, client_of(f"{url}/v1") as client:
            answer = ask(client, "claude", "Two and two?")

    assert answer.choices[0].message.content == "Four."
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 2)


def test_example_anthropic_agent() -> None:
    with served(PYTHON, "-m", "uvicorn", "tests.docs.scripted_anthropic:app", "--port", "PORT", cwd=ROOT) as upstream:
        env = {"ANTHROPIC_API_KEY": "sk-upstream", "ANTHROPIC_BASE_URL": upstream, "ANTHROPIC_MODEL": "scripted"}
        with uvicorn("anthropic_agent", **env) as url, client_of(f"{url}/v1") as client:
            answer = ask(client, "claude", "Two and two?")

    assert answer.choices[0].message.content == "Four."
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 2)


CLAUDE = """#!{python} -S
import json, os, sys
said = "model " + sys.argv[-1] + ", prompt " + sys.stdin.read() + ", " + os.environ.get("OPS_API_KEY", "no") + " key"
message = {{"id": "1", "content": [{{"type": "text", "text": said}}]}}
print(json.dumps({{"type": "assistant", "message": message, "parent_tool_use_id": None}}))
usage = {{"input_tokens": 20, "output_tokens": 2}}
print(json.dumps({{"type": "result", "subtype": "success", "is_error": False, "result": said, "usage": usage}}))
"""


def test_example_cli_agent(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text(CLAUDE.format(python=PYTHON), "utf-8")
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{environment()['PATH']}", "OPS_API_KEY": "sk-operators"}
    with uvicorn("cli_agent", **env) as url, client_of(f"{url}/v1") as client:
        answer = ask(client.with_options(api_key="sk-operators"), "ops-tier2", "status of sk-12345678?")

    assert answer.choices[0].message.content == "model sonnet, prompt status of [key]?, no key"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 2)


def test_example_claude_ops(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text(CLAUDE.format(python=PYTHON), "utf-8")
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{environment()['PATH']}", "CLAUDEOPS_CHAT_API_KEY": "sk-ops"}
    messages = [{"role": "system", "content": "Obey."}, {"role": "user", "content": "one"}]
    messages += [{"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}]
    with uvicorn("claude_ops", **env) as url, client_of(f"{url}/v1") as client:
        models = [model.id for model in client.models.list()]
        ops = client.with_options(api_key="sk-ops")
        answers = [
            ops.chat.completions.create(model=model, messages=messages) for model in ("claude-ops-tier3", "gpt-4")
        ]
        with pytest.raises(openai.AuthenticationError):
            ask(client, "claude-ops", "three")

    assert models == ["claude-ops", "claude-ops-tier1", "claude-ops-tier2", "claude-ops-tier3"]
    assert [(answer.model, answer.choices[0].message.content) for answer in answers] == [
        ("claude-ops-tier3", "model opus, prompt two, no key"),
        ("gpt-4", "model haiku, prompt two, no key"),
    ]


def test_example_guard() -> None:
    with uvicorn("guard") as url, client_of(f"{url}/v1") as client:
        made = ask(client, "agent", "Ada").choices[0]
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="agent", input="Something forbidden")

    assert (made.message.content.strip(), made.finish_reason) == ("You said Ada. That is fine.", "content_filter")
    assert refused.value.code == "content_policy_violation"


def test_example_library() -> None:
    async def groq(request: AgentRequest) -> Any:
        if request.raw_messages[-1]["role"] == "tool":
            yield str(request.raw_messages[-1]["content"])
        else:
            yield ToolCallReady("call_1", "find_book", '{"title": "Emma"}')

    with uvicorn_socket(Server({"llama-3.1-8b-instant": groq}, keys="gsk-team")) as upstream:
        env = {"GROQ_API_KEY": "gsk-team", "GROQ_BASE_URL": f"{upstream}/v1"}
        command = (str(Path(PYTHON).with_name("openai-compat")), "serve", "--listen", "127.0.0.1:PORT")
        with served(*command, **env) as url, client_of(f"{url}/v1") as client:
            models = [model.id for model in client.models.list()]
            answer = ask(client, "librarian", "Who wrote Emma?")

    assert models == ["assistant", "librarian", "hello"]
    assert answer.choices[0].message.content == "Jane Austen"


def test_example_in_process_test() -> None:
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "in_process_test.py")

    assert "3 passed" in printed


def test_example_approvals() -> None:
    command = (str(Path(PYTHON).with_name("openai-compat")), "serve", "approvals.py", "--listen", "127.0.0.1:PORT")
    tool: Any = {"type": "mcp", "server_label": "agent"}
    with served(*command) as url, client_of(f"{url}/v1") as client:
        page = httpx2.get(f"{url}/ui/")
        said = []
        for approve in (True, False):
            asked = client.responses.create(model="agent", input="Chez Nous", tools=[tool])
            [question] = [item for item in asked.output if item.type == "mcp_approval_request"]
            decision: Any = {
                "type": "mcp_approval_response",
                "approval_request_id": question.id,
                "approve": approve,
            }
            more = {"input": [decision], "previous_response_id": asked.id, "tools": [tool]}
            said.append(client.responses.create(model="agent", **more).output_text)

    assert (page.status_code, question.name) == (200, "book_table")
    assert said == ["Booked: Chez Nous, for 2.", "Nothing is booked."]


def test_example_bot() -> None:
    port = free_port()
    program = Program([PYTHON, "bot.py", str(port)], port, EXAMPLES, environment())
    try:
        program.wait_until(program.listens)
        said = []
        for lines in (["one", "two", "crash"], ["three"]):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as person, person.makefile("rw") as talk:
                for line in lines:
                    talk.write(f"{line}\n")
                    talk.flush()
                    said.append(talk.readline().strip())
    finally:
        program.stop()

    assert said == [
        "You said one.",
        "You said one and two.",
        "Sorry: The agent failed.",
        "You said three.",
    ]
