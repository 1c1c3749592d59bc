"""`openai-compat demo`, and `python -m openai_compat`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage

from openai_compat import Server, __version__
from openai_compat_adapters._cli import serve_command
from openai_compat_adapters._cli.load_agents import as_server, load
from openai_compat_adapters._cli.serve_options import ServeOptions
from openai_compat_adapters.client import sync_openai
from tests.adapters.in_process import invoke
from tests.requirements import requirement


@requirement("cli.module")
def test_the_package_is_the_program_too() -> None:
    command = [sys.executable, "-m", "openai_compat", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    told = f"openai-compat {__version__}, Python {sys.version.split()[0]}\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, told, "")


@pytest.fixture
def client() -> openai.OpenAI:
    loaded = load(["openai_compat_adapters._cli.demo_agents:agents"])
    return sync_openai(as_server(loaded))


def ask(client: openai.OpenAI, model: str, said: list[Any], **more: Any) -> ChatCompletionMessage:
    return client.chat.completions.create(model=model, messages=said, **more).choices[0].message


@requirement("cli.demo")
@pytest.mark.parametrize(
    ("approve", "outcome"),
    [
        (True, "I bought it for 5 euros. It says: **take the train**, and book early."),
        (False, "Then I did not buy it. The free sources say: **take the train**."),
    ],
)
def test_the_researcher_thinks_uses_its_tools_and_buys_only_what_is_approved(
    client: openai.OpenAI, approve: bool, outcome: str
) -> None:
    tool: Any = {"type": "mcp", "server_label": "researcher"}
    asked = client.responses.create(model="researcher", input="How to Bergen?", tools=[tool])
    assert "| train | 6 h 38 |" in asked.output_text
    assert {"reasoning", "mcp_call", "message", "mcp_approval_request"} == {item.type for item in asked.output}
    assert [item.name for item in asked.output if item.type == "mcp_call"] == ["forecast", "timetable"]
    (question,) = [item for item in asked.output if item.type == "mcp_approval_request"]
    assert question.name == "buy_report"
    decision: Any = {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": approve}
    done = client.responses.create(model="researcher", input=[decision], previous_response_id=asked.id, tools=[tool])
    assert done.output_text == outcome


@requirement("cli.demo")
def test_the_weather_is_asked_of_the_clients_tool_or_it_is_said_how_to_offer_one(client: openai.OpenAI) -> None:
    said: list[Any] = [{"role": "user", "content": "Oslo"}]
    assert '"name": "get_weather"' in (ask(client, "weather", said).content or "")
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    called = ask(client, "weather", said, tools=tools)
    assert called.tool_calls
    said += [called.to_dict(), {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}]
    assert ask(client, "weather", said, tools=tools).content == "Your tool says: rain"


@requirement("cli.demo")
def test_the_demo_is_served_with_the_page_whatever_is_set_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Server, ServeOptions]] = []
    monkeypatch.setattr(serve_command, "run", lambda server, options, *_: ran.append((server, options)))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    result = invoke("demo", "--port", "0", env={"OPENAI_COMPAT_API_KEY": "k", "OPENAI_COMPAT_NO_PAGE": "1"})
    assert result.exit_code == 0, result.output
    ((server, options),) = ran
    assert list(server.services.models.agents) == ["researcher", "echo", "weather"]
    assert (options.listen, options.api_key, server.has_page) == (("127.0.0.1", 0), None, True)
