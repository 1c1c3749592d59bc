"""Codex and opencode, where they are installed, with a served agent for their model.

They weigh hundreds of megabytes, so that nothing installs them: `npm install --global @openai/codex opencode-ai` (0.169 and
1.18 were tried).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from openai_compat import AgentRequest, Server, ToolCallReady
from openai_compat.messages import ToolMessage
from tests.transports import uvicorn_socket

from .response_agents import AGENTS

pytestmark = pytest.mark.timeout(120)

COMMANDS = {"exec_command": {"cmd": "echo $((40 + 2))"}, "bash": {"command": "echo $((40 + 2))", "description": "sum"}}
"""The tools with which they run commands, and what is to be run."""

runs: list[str] = []


async def shell(request: AgentRequest) -> AsyncIterator[Any]:
    """Has the client run a command."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        yield f"It printed: {last.text}"
        return
    (name,) = {tool.name for tool in request.tools} & COMMANDS.keys()
    yield ToolCallReady("call_1", name, json.dumps(COMMANDS[name]))


async def breaks(prompt: str) -> AsyncIterator[str]:
    runs.append(prompt)
    async for piece in AGENTS["breaks"]():  # type: ignore[operator]
        yield piece


def run(folder: Path, *command: str, **variables: str) -> list[dict[str, Any]]:
    """What a program tells, an object on each line."""
    done = subprocess.run(
        command, env={**os.environ, "HOME": str(folder), "PWD": str(folder), **variables}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def codex(url: str, model: str, folder: Path) -> tuple[list[str], list[str]]:
    """The texts and failures of a turn."""
    provider = [f'base_url = "{url}/v1"', 'name = "ours"', 'wire_api = "responses"', 'env_key = "OUR_KEY"']
    head = [f'model = "{model}"', 'model_provider = "ours"', "[model_providers.ours]"]
    (folder / "config.toml").write_text("\n".join([*head, *provider]))
    options = ["--skip-git-repo-check", "--json", "--sandbox", "danger-full-access"]
    told = run(folder, "codex", "exec", *options, "Find it", CODEX_HOME=str(folder), OUR_KEY="none")
    items = [event["item"] for event in told if event["type"] == "item.completed"]
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    return texts, [event["error"]["message"] for event in told if event["type"] == "turn.failed"]


def opencode(url: str, model: str, folder: Path) -> tuple[list[str], list[str]]:
    """The texts and failures of a turn."""
    options = {"baseURL": f"{url}/v1", "apiKey": "none"}
    named = f"openai/{model}"
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "small_model": "openai/title",  # else it asks for one of OpenAI's
        "provider": {"openai": {"options": options, "models": {model: {"name": model}, "title": {"name": "title"}}}},
    }
    (folder / "opencode.json").write_text(json.dumps(settings))
    directories = dict.fromkeys(["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"], str(folder))
    quiet = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"}
    told = run(
        folder, "opencode", "run", "--format", "json", "--model", named, "Find it", **directories, **quiet
    )  # fmt: skip
    texts = [event["part"]["text"] for event in told if event["type"] == "text"]
    return texts, [event["error"]["data"]["message"] for event in told if event["type"] == "error"]


Turn = Callable[[str], tuple[list[str], list[str]]]


@pytest.fixture(params=[codex, opencode])
def turn(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Has a client take a turn with a model."""
    program = request.param
    if shutil.which(program.__name__) is None:
        pytest.skip(f"{program.__name__} is not on the PATH")
    with uvicorn_socket(Server({**AGENTS, "shell": shell, "breaks": breaks, "title": AGENTS["person"]})) as url:
        yield lambda model: program(url, model, tmp_path)


def test_the_agents_own_tools_are_not_run(turn: Turn) -> None:
    assert turn("searcher") == (["Found it."], [])


def test_the_client_runs_what_the_agent_asks_it_to_and_brings_the_output_back(turn: Turn) -> None:
    (said,), failures = turn("shell")
    assert said.startswith("It printed: ")
    assert "42" in said
    assert failures == []


def test_a_failure_is_shown_and_the_agent_is_not_run_again(turn: Turn) -> None:
    runs.clear()
    assert turn("breaks") == (["so far"], ["The calendar is closed today."])
    assert len(runs) == 1
