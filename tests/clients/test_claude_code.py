"""The real Claude Code as a client, where it is installed: `claude` on the PATH, or the one that the Claude Agent SDK brings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import AgentError, AgentRequest, ReasoningDelta, Server, ToolCallReady
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.messages import ToolMessage
from openai_compat_adapters.testing import listening
from tests.requirements import requirement
from tests.trust.probe import eventually

BUNDLED = [Path(folder) / "claude_agent_sdk" / "_bundled" / "claude" for folder in sys.path]
CLAUDE = os.environ.get("CLAUDE_CODE") or shutil.which("claude") or next(map(str, filter(Path.exists, BUNDLED)), None)

pytestmark = [
    pytest.mark.skipif(
        CLAUDE is None, reason="Claude Code is not here: tests/frameworks/run.py claude_agent_sdk brings it"
    ),
    pytest.mark.timeout(120),
]

WRONG = "def add(a, b):\n    return a - b\n"
Start = Callable[[Any, str], "subprocess.Popen[str]"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "calc.py").write_text(WRONG)
    return folder


@pytest.fixture
def start(repository: Path, tmp_path: Path) -> Iterator[Start]:
    """Start Claude Code with a prompt, on an agent that is served here."""
    served: list[Any] = []

    def started(agent: Any, prompt: str) -> subprocess.Popen[str]:
        context = listening(Server(agent, apis=[AnthropicMessages()], keys="secret", unknown_model="default"))
        url = context.__enter__()
        served.append(context)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "secret",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
        }
        command = [str(CLAUDE), "-p", prompt, "--model", "agent", "--allowedTools", "Bash,Read,Edit"]
        return subprocess.Popen(
            command,
            cwd=repository,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    yield started
    for context in served:
        context.__exit__(None, None, None)


def call(number: int, name: str, **arguments: str) -> ToolCallReady:
    return ToolCallReady(f"call_{number}", name, json.dumps(arguments))


@requirement("anthropic.once")
def test_an_agent_mends_a_repository_with_its_hands(start: Start, repository: Path) -> None:
    path = str(repository / "calc.py")
    steps = [
        call(1, "Bash", command="cat calc.py", description="Show it"),
        call(2, "Read", file_path=path),
        call(3, "Edit", file_path=path, old_string="a - b", new_string="a + b"),
        call(4, "Bash", command="python3 -c 'import calc; print(calc.add(2, 3))'", description="Try it"),
    ]
    runs: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        runs.append(request)
        results = [message for message in request.messages if isinstance(message, ToolMessage)]
        if len(results) < len(steps):
            yield ReasoningDelta("I go on.")
            yield "One step more."
            yield steps[len(results)]
        else:
            yield f"It says {results[-1].text}"

    said, _ = start(agent, "mend it").communicate(timeout=100)
    assert said.strip() == "It says 5"
    assert "a + b" in (repository / "calc.py").read_text()
    assert [request.prompt for request in runs] == ["mend it"] * 5


@requirement("anthropic.once")
@pytest.mark.parametrize("said", [[], ["Half a sent"], [ReasoningDelta("Hm")], ["call"]], ids=str)
def test_an_agent_that_fails_late_runs_once_and_no_command_of_it_does(
    start: Start, repository: Path, said: list[Any]
) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> AsyncIterator[Any]:
        runs.append(prompt)
        for item in said:
            yield call(1, "Bash", command="touch done", description="Mark it") if item == "call" else item
        await anyio.sleep(0.1)
        raise AgentError("It broke in the middle.")

    told, _ = start(agent, "go").communicate(timeout=100)
    assert "It broke in the middle." in told
    assert runs == ["go"]
    assert not (repository / "done").exists()


@requirement("anthropic.once")
def test_ctrl_c_stops_the_agent(start: Start) -> None:
    begun: list[str] = []
    stopped: list[str] = []

    async def agent(prompt: str) -> AsyncIterator[str]:
        begun.append(prompt)
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(prompt)
        yield "never"

    running = start(agent, "wait")
    eventually(lambda: bool(begun))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    eventually(lambda: bool(stopped))
    assert begun == ["wait"]
