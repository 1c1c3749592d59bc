"""The real Claude Code as a client, where it is installed: `claude` on the PATH, or the one that the Claude Agent SDK brings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import ollama
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Conversations,
    Deadlines,
    Finished,
    Principal,
    ReasoningDelta,
    RefusalDelta,
    Server,
    ToolCallReady,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.messages import ToolMessage, UserMessage
from openai_compat.wire.anthropic_messages.conversation import NOTHING_SAID
from openai_compat.wire.anthropic_messages.serialize import FILTERED
from openai_compat_adapters.testing import listening
from tests.requirements import requirement
from tests.support.open_webui import as_open_webui
from tests.trust.probe import eventually, soon

BUNDLED = [Path(folder) / "claude_agent_sdk" / "_bundled" / "claude" for folder in sys.path]
CLAUDE = os.environ.get("CLAUDE_CODE") or shutil.which("claude") or next(map(str, filter(Path.exists, BUNDLED)), None)

pytestmark = [
    pytest.mark.skipif(
        CLAUDE is None, reason="Claude Code is not here: tests/frameworks/run.py claude_agent_sdk brings it"
    ),
    pytest.mark.timeout(120),
]

WRONG = "def add(a, b):\n    return a - b\n"
TALK: dict[str, Any] = {"unknown_model": "default"}
"""Claude Code asks for smaller models, too."""
Serve = Callable[..., str]
Claude = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an agent over all APIs; the URL."""
    with ExitStack() as stack:

        def served(agent: Any, **settings: Any) -> str:
            apis = [AnthropicMessages(), Ollama()]
            server = Server(agent, apis=apis, keys={"secret": Principal("ann")}, **settings)
            return stack.enter_context(listening(server))

        yield served


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "calc.py").write_text(WRONG)
    return folder


@pytest.fixture
def claude(serve: Serve, repository: Path, tmp_path: Path) -> Iterator[Claude]:
    """Start Claude Code with a prompt, on the agent at a URL."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, prompt: str, *options: str, model: str = "agent") -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "secret",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
        }
        command = [str(CLAUDE), *options, "-p", prompt, "--model", model, "--allowedTools", "Bash,Read,Edit,Write"]
        running = subprocess.Popen(
            command,
            cwd=repository,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def call(number: int, name: str, **arguments: str) -> ToolCallReady:
    return ToolCallReady(f"call_{number}", name, json.dumps(arguments))


@requirement("anthropic.once")
@requirement("ollama.sdk")
def test_an_agent_mends_a_repository_with_its_hands_while_it_answers_other_programs(
    serve: Serve, claude: Claude, repository: Path
) -> None:
    path, notes = str(repository / "calc.py"), str(repository / "NOTES.md")
    steps = [
        [
            call(1, "Bash", command="cat calc.py", description="Show it"),
            call(2, "Write", file_path=notes, content="It subtracts."),
        ],
        [call(3, "Read", file_path=path)],
        [call(4, "Edit", file_path=path, old_string="a - b", new_string="a + b")],
        [call(5, "Bash", command="python3 -c 'import calc; print(calc.add(2, 3))'", description="Try it")],
    ]
    runs: list[AgentRequest] = []
    beside: list[str] = []
    go_on = threading.Event()

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if not request.tools:
            beside.append(request.prompt)
            yield f"I am at step {len(runs)}"
            await soon(lambda: len(beside) == 2, 60)  # three programs at the same moment
            yield ", wait."
            return
        runs.append(request)
        results = [message for message in request.messages if isinstance(message, ToolMessage)]
        if len(runs) == 3:
            await soon(go_on.is_set, 60)
        if len(runs) <= len(steps):
            yield ReasoningDelta("I go on.")
            yield "One step more."
            for one in steps[len(runs) - 1]:
                yield one
        else:
            yield f"It says {results[-1].text}"

    url = serve(agent, **TALK)
    running = claude(url, "mend it")
    eventually(lambda: len(runs) == 3, 60)
    line = ollama.Client(url, headers={"Authorization": "Bearer secret"})
    with ThreadPoolExecutor(2) as pool:
        shown = pool.submit(as_open_webui, f"{url}/v1", "agent", "how far are you?", key="secret")
        told = pool.submit(line.chat, "agent", [{"role": "user", "content": "and here?"}])
        assert (shown.result(), told.result().message.content) == ("I am at step 3, wait.",) * 2
    go_on.set()
    said, _ = running.communicate(timeout=100)
    assert said.strip() == "It says 5"
    assert ("a + b" in (repository / "calc.py").read_text(), Path(notes).read_text()) == (True, "It subtracts.")
    assert [request.prompt for request in runs] == ["mend it"] * 5


@requirement("anthropic.once")
@pytest.mark.parametrize(
    ("said", "head"),
    [([], 30), ([], 0.005), (["Half a sent"], 30), ([ReasoningDelta("Hm")], 30), (["call"], 30)],
    ids=["before its head", "in silence", "in a text", "in a thought", "behind a call"],
)
def test_an_agent_that_fails_late_runs_once_and_no_command_of_it_does(
    serve: Serve, claude: Claude, repository: Path, said: list[Any], head: float
) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> AsyncIterator[Any]:
        runs.append(prompt)
        for item in said:
            yield call(1, "Bash", command="touch done", description="Mark it") if item == "call" else item
        await anyio.sleep(0.1)
        raise AgentError("It broke in the middle.")

    told, _ = claude(serve(agent, deadlines=Deadlines(head=head), **TALK), "go").communicate(timeout=100)
    assert "It broke in the middle." in told
    assert runs == ["go"]
    assert not (repository / "done").exists()


@requirement("anthropic.once")
def test_an_agent_that_finds_fault_with_a_request_runs_once(serve: Serve, claude: Claude) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        raise AgentError("There is no such ticket.", status=400)

    told, _ = claude(serve(agent, **TALK), "go").communicate(timeout=100)
    assert "There is no such ticket." in told
    assert runs == ["go"]


@requirement("anthropic.once")
@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (ReasoningDelta("Hm."), NOTHING_SAID),
        (RefusalDelta("I will not."), "I will not."),
        (Finished("content_filter"), FILTERED),
    ],
)
def test_an_agent_that_only_thinks_or_refuses_runs_once(serve: Serve, claude: Claude, item: Any, shown: str) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> AsyncIterator[Any]:
        runs.append(prompt)
        yield item

    told, _ = claude(serve(agent, **TALK), "go").communicate(timeout=100)
    assert (told.strip(), runs) == (shown, ["go"])


@requirement("anthropic.once")
def test_ctrl_c_stops_the_agent_and_nothing_of_its_turn_is_kept(serve: Serve, claude: Claude) -> None:
    runs: list[AgentRequest] = []
    stopped: list[str] = []

    async def agent(request: AgentRequest) -> AsyncIterator[str]:
        runs.append(request)
        if len(runs) == 1:
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append(request.prompt)
        yield "here"

    url = serve(agent, conversations=Conversations(), **TALK)
    running = claude(url, "wait")
    eventually(lambda: bool(runs), 60)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    eventually(lambda: bool(stopped), 60)
    assert [request.prompt for request in runs] == ["wait"]
    # in the same conversation
    headers = {"x-api-key": "secret", "x-claude-code-session-id": str(runs[0].conversation_id)}
    body = {"model": "agent", "max_tokens": 10, "messages": [{"role": "user", "content": "again"}]}
    assert httpx2.post(f"{url}/v1/messages", json=body, headers=headers, timeout=60).status_code == 200
    assert [message.text for message in runs[1].messages] == ["again"]


@requirement("anthropic.requests")
def test_a_session_that_is_continued_is_one_conversation(serve: Serve, claude: Claude) -> None:
    runs: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> str:
        runs.append(request)
        return f"answer {len(runs)}"

    url = serve(agent, conversations=Conversations(), **TALK)
    assert claude(url, "one").communicate(timeout=100)[0].strip() == "answer 1"
    assert claude(url, "two", "--continue").communicate(timeout=100)[0].strip() == "answer 2"
    first, second = runs
    assert first.conversation_id == second.conversation_id is not None
    asked = [message.text for message in second.messages if isinstance(message, UserMessage)]
    assert asked == ["one", "two"]


@requirement("anthropic.requests")
def test_a_model_that_is_not_here_is_named(serve: Serve, claude: Claude) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        return "Hi."

    told, _ = claude(serve(agent), "go", model="nobody").communicate(timeout=100)
    assert "nobody" in told
    assert runs == []
