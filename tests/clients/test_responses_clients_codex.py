"""Codex, where it is installed, with a served agent for its model.

It weighs 400 MB, so that nothing installs it: `npm install --global @openai/codex` (0.169 was tried).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openai_compat import AgentRequest, Server, ToolCallReady
from openai_compat.messages import ToolMessage
from tests.transports import uvicorn_socket

from .response_agents import AGENTS

pytestmark = [
    pytest.mark.skipif(shutil.which("codex") is None, reason="codex is not on the PATH"),
    pytest.mark.timeout(120),
]

runs: list[str] = []


async def shell(request: AgentRequest) -> AsyncIterator[Any]:
    """Has Codex run a command."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        yield f"It printed: {last.text}"
    else:
        yield ToolCallReady("call_1", "exec_command", json.dumps({"cmd": "echo $((40 + 2))"}))


async def breaks(prompt: str) -> AsyncIterator[str]:
    runs.append(prompt)
    async for piece in AGENTS["breaks"]():  # type: ignore[operator]
        yield piece


def codex(model: str, folder: Path) -> list[dict[str, Any]]:
    """What Codex tells about its turn with that model."""
    home = folder / "home"
    home.mkdir()
    with uvicorn_socket(Server({**AGENTS, "shell": shell, "breaks": breaks})) as url:
        provider = [f'base_url = "{url}/v1"', 'name = "ours"', 'wire_api = "responses"', 'env_key = "OUR_KEY"']
        head = [f'model = "{model}"', 'model_provider = "ours"', "[model_providers.ours]"]
        (home / "config.toml").write_text("\n".join([*head, *provider]))
        done = subprocess.run(
            ["codex", "exec", "--skip-git-repo-check", "--json", "--sandbox", "danger-full-access", "Find it"],
            env={**os.environ, "CODEX_HOME": str(home), "HOME": str(home), "OUR_KEY": "none"},
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def messages(told: list[dict[str, Any]]) -> list[str]:
    items = [event["item"] for event in told if event["type"] == "item.completed"]
    return [item["text"] for item in items if item["type"] == "agent_message"]


def test_codex_does_not_run_the_agents_own_tools(tmp_path: Path) -> None:
    told = codex("searcher", tmp_path)
    assert messages(told) == ["Found it."]
    assert told[-1]["type"] == "turn.completed"


def test_codex_runs_what_the_agent_asks_it_to_and_brings_the_output_back(tmp_path: Path) -> None:
    (said,) = messages(codex("shell", tmp_path))
    assert said.startswith("It printed: ")
    assert "42" in said


def test_codex_shows_a_failure_and_does_not_run_the_agent_again(tmp_path: Path) -> None:
    runs.clear()
    told = codex("breaks", tmp_path)
    assert told[-1] == {"type": "turn.failed", "error": {"message": "The calendar is closed today."}}
    assert len(runs) == 1
