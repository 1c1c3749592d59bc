"""All frameworks side by side in one server, with approvals: used like Open WebUI, and by the openai SDK."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.frameworks.table import asking
from tests.support.open_webui import as_open_webui

TEAM = asking()
ASKED, TOLD = "May I run get_weather with", "The tools said: sunny in Paris."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a server with all frameworks, started by the command line."""
    command = [str(Path(sys.executable).with_name("openai-compat")), "serve", "tests.frameworks.team:agents"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    serving = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert serving.stderr is not None
        lines: list[str] = []
        for line in serving.stderr:
            lines.append(line)
            if found := re.search(r"(http://\S+)/v1", line):
                yield f"{found[1]}/v1"
                return
        raise AssertionError("".join(lines))
    finally:
        serving.terminate()
        serving.communicate(timeout=20)


def in_open_webui(url: str, model: str) -> str:
    asked = as_open_webui(url, model, "weather please")
    assert ASKED in asked
    return as_open_webui(url, model, "weather please", asked, "yes")


def by_the_sdk(url: str, model: str) -> str:
    client = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)
    approver: Any = {"type": "mcp", "server_label": model, "server_url": "https://example.org"}
    asked = client.responses.create(model=model, input="weather please", tools=[approver])
    [question] = [item for item in asked.output if item.type == "mcp_approval_request"]
    approved: Any = {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True}
    told = client.responses.create(model=model, input=[approved], previous_response_id=asked.id, tools=[approver])
    return told.output_text


def test_they_are_listed(url: str) -> None:
    assert [model["id"] for model in httpx2.get(f"{url}/models").json()["data"]] == TEAM


@pytest.mark.parametrize("ask", [in_open_webui, by_the_sdk])
def test_each_asks_first_and_then_does_it_all_at_once(url: str, ask: Any) -> None:
    with ThreadPoolExecutor(len(TEAM)) as pool:
        told = dict(zip(TEAM, pool.map(lambda model: ask(url, model), TEAM), strict=True))
    assert {model: text for model, text in told.items() if not text.endswith(TOLD)} == {}
