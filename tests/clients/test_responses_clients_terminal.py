"""Codex and opencode with a served agent as their model: Codex over HTTP and over its WebSocket.

`.ci/run` installs them; by hand, run `npm install --no-package-lock --ignore-scripts --prefix tests/clients/terminal`,
then `node tests/clients/terminal/node_modules/opencode-ai/postinstall.mjs`: 800 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from openai_compat import AgentRequest, Server, ToolCallReady
from openai_compat.agent_request import CustomTool
from openai_compat.messages import AssistantMessage, ToolMessage
from tests.clients.programs import need_terminal_programs
from tests.clients.response_agents import AGENTS
from tests.requirements import requirement
from tests.transports import uvicorn_socket

pytestmark = pytest.mark.timeout(300)

KNOWN_MODEL = "gpt-6.2-sol"
"""A model that Codex knows: Codex then offers its tools in an input item, and warms its WebSocket up with an empty request."""

SUM = "echo $((40 + 2))"
COMMANDS = {
    "exec_command": json.dumps({"cmd": SUM}),
    "functions__exec": f"text((await tools.exec_command({{cmd: {json.dumps(SUM)}}})).output)",
    "bash": json.dumps({"command": SUM, "description": "sum"}),
}
"""The clients' tools that run commands, with the arguments to call them with."""

NOWHERE = "http://127.0.0.1:9"
"""A proxy address with no proxy behind it, so that the clients reach nothing but this machine."""

asked: list[AgentRequest] = []


async def shell(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's command tool each time the user says something."""
    asked.append(request)
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        yield f"It printed: {last.text}"
        return
    (name,) = {tool.name for tool in request.tools} & COMMANDS.keys()
    yield ToolCallReady(f"call_{len(request.messages)}", name, COMMANDS[name])


async def listener(request: AgentRequest) -> AsyncIterator[Any]:
    """Repeats the prompt, and counts the earlier answers."""
    asked.append(request)
    before = [message for message in request.messages if isinstance(message, AssistantMessage)]
    yield f"You said {request.prompt.strip().strip(chr(34))}, after {len(before)} answers."


async def breaks(request: AgentRequest) -> AsyncIterator[str]:
    asked.append(request)
    async for piece in AGENTS["breaks"]():
        yield piece


def run(folder: Path, *command: str, **variables: str) -> list[dict[str, Any]]:
    """The output of a program, one JSON object per line. The program has its own home folder, and no network."""
    proxies = dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"], NOWHERE)
    home = {"PATH": os.environ["PATH"], "HOME": str(folder), "PWD": str(folder), "NO_PROXY": "127.0.0.1,localhost"}
    done = subprocess.run(
        command, env={**home, **proxies, **variables}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


class Turn(Protocol):
    """Runs one client turn with a model, with `resumed` in the last session; returns its texts and its failures."""

    def __call__(self, model: str, text: str = ..., *, resumed: bool = ...) -> tuple[list[str], list[str]]: ...


class Codex:
    """Codex, over HTTP or its WebSocket."""

    def __init__(self, url: str, folder: Path, program: str, *, websocket: bool) -> None:
        self._url, self._folder, self._program = url, folder, program
        self._websocket = json.dumps(websocket)

    def __call__(self, model: str, text: str = "Find it", *, resumed: bool = False) -> tuple[list[str], list[str]]:
        settings = {
            "model": model,
            "model_provider": "ours",
            "sandbox_mode": "danger-full-access",
            "check_for_update_on_startup": False,
            "analytics.enabled": False,
            "model_providers.ours.name": "ours",
            "model_providers.ours.base_url": f"{self._url}/v1",
            "model_providers.ours.wire_api": "responses",
            "model_providers.ours.env_key": "OUR_KEY",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        lines.append(f"model_providers.ours.supports_websockets = {self._websocket}")
        (self._folder / "config.toml").write_text("\n".join(lines))
        command = ["exec", *(["resume", "--last"] if resumed else []), "--skip-git-repo-check", "--json", text]
        told = run(self._folder, self._program, *command, CODEX_HOME=str(self._folder), OUR_KEY="none")
        items = [event["item"] for event in told if event["type"] == "item.completed"]
        texts = [item["text"] for item in items if item["type"] == "agent_message"]
        return texts, [event["error"]["message"] for event in told if event["type"] == "turn.failed"]


class Opencode:
    """opencode, over the Responses API. Beside the first message it requests a title from the same model."""

    def __init__(self, url: str, folder: Path, program: str) -> None:
        self._url, self._folder, self._program = url, folder, program

    def __call__(self, model: str, text: str = "Find it", *, resumed: bool = False) -> tuple[list[str], list[str]]:
        named, options = f"openai/{model}", {"baseURL": f"{self._url}/v1", "apiKey": "none"}
        settings = {
            "autoupdate": False,
            "share": "disabled",
            "snapshot": False,
            "small_model": named,  # opencode would request one of OpenAI's models otherwise
            "provider": {"openai": {"options": options, "models": {model: {"name": model}}}},
        }
        (self._folder / "opencode.json").write_text(json.dumps(settings))
        directories = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"]
        quiet = [
            "OPENCODE_DISABLE_MODELS_FETCH",
            "OPENCODE_DISABLE_LSP_DOWNLOAD",
            "OPENCODE_DISABLE_AUTOUPDATE",
            "OPENCODE_PURE",
        ]
        variables = {**dict.fromkeys(directories, str(self._folder)), **dict.fromkeys(quiet, "1")}
        command = ["run", *(["--continue"] if resumed else []), "--format", "json", "--model", named, text]
        told = run(self._folder, self._program, *command, **variables)
        texts = [event["part"]["text"] for event in told if event["type"] == "text"]
        return texts, [event["error"]["data"]["message"] for event in told if event["type"] == "error"]


@pytest.fixture(params=["codex", "codex-websocket", "opencode"])
def turn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Turn]:
    programs = need_terminal_programs("codex", "opencode")
    asked.clear()
    agents = {**AGENTS, "shell": shell, "listener": listener, "breaks": breaks, KNOWN_MODEL: shell}
    with uvicorn_socket(Server(agents)) as url:
        if request.param == "opencode":
            yield Opencode(url, tmp_path, programs["opencode"])
        else:
            yield Codex(url, tmp_path, programs["codex"], websocket=request.param == "codex-websocket")


known = pytest.mark.parametrize("turn", ["codex", "codex-websocket"], indirect=True)


@requirement("clients.terminal")
def test_a_question_is_answered_once_and_a_resumed_session_goes_on_with_it(turn: Turn) -> None:
    assert turn("listener", "one") == (["You said one, after 0 answers."], [])
    assert turn("listener", "two", resumed=True) == (["You said two, after 1 answers."], [])
    assert len(asked) == 2  # neither is a request for a title


@requirement("clients.terminal")
def test_the_agents_own_tools_are_not_run(turn: Turn) -> None:
    assert turn("searcher") == (["Found it."], [])


@requirement("clients.terminal")
def test_the_client_runs_what_the_agent_asks_it_to_and_brings_the_output_back(turn: Turn) -> None:
    (said,), failures = turn("shell")
    assert said.startswith("It printed: ")
    assert "42" in said
    assert failures == []
    (again,), _ = turn("shell", "Once more", resumed=True)
    assert "42" in again
    assert len(asked) == 4


@requirement("clients.terminal")
@known
def test_the_client_runs_a_tool_that_it_offers_in_an_item(turn: Turn) -> None:
    (said,), failures = turn(KNOWN_MODEL)
    assert said.startswith("It printed: ")
    assert "42" in said
    assert failures == []
    assert any(isinstance(tool, CustomTool) and tool.name == "functions__exec" for tool in asked[0].tools)


@requirement("clients.terminal")
def test_a_failure_is_shown_and_the_agent_is_not_run_again(turn: Turn) -> None:
    assert turn("breaks") == (["so far"], ["The calendar is closed today."])
    assert len(asked) == 1
