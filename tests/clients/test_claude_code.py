"""The real Claude Code as a client: the version in terminal/package.json, or the newest, bundled with the Agent SDK.

`.ci/run` installs the first; by hand, run `npm install --no-package-lock --ignore-scripts --prefix tests/clients/terminal`,
then `node tests/clients/terminal/node_modules/@anthropic-ai/claude-code/install.cjs`. The second is in the environment
that `tests/frameworks/run.py claude_agent_sdk` makes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Self

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
from openai_compat.wire.anthropic_messages.conversation import EMPTY_ANSWER_TEXT
from openai_compat.wire.anthropic_messages.serialize import FILTERED
from openai_compat_adapters.testing import listening
from tests.clients.programs import need_terminal_programs
from tests.requirements import requirement
from tests.support.open_webui import as_open_webui
from tests.trust.probe import eventually, soon

BUNDLED = [Path(folder) / "claude_agent_sdk" / "_bundled" / "claude" for folder in sys.path]

pytestmark = pytest.mark.timeout(120)

WRONG = "def add(a, b):\n    return a - b\n"
TALK: dict[str, Any] = {"unknown_model": "default"}
"""Claude Code requests smaller models, too."""
Serve = Callable[..., str]
Claude = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def program() -> str:
    """Path of Claude Code."""
    bundled = os.environ.get("CLAUDE_CODE") or next(map(str, filter(Path.exists, BUNDLED)), None)
    return bundled or need_terminal_programs("claude")["claude"]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an agent over all APIs; returns the URL."""
    with ExitStack() as stack:

        def served(agent: Any, reconnect: float = 60, **settings: Any) -> str:
            apis = [AnthropicMessages(reconnect=reconnect), Ollama()]
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
def claude(serve: Serve, program: str, repository: Path, tmp_path: Path) -> Iterator[Claude]:
    """Start Claude Code with a prompt, against the agent at a URL."""
    started: list[subprocess.Popen[str]] = []

    def start(
        url: str, prompt: str, *options: str, model: str = "agent", stdout: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "secret",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
        }
        command = [program, *options, "-p", prompt, "--model", model, "--allowedTools", "Bash,Read,Edit,Write"]
        running = subprocess.Popen(
            command,
            cwd=repository,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
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
            await soon(lambda: len(beside) == 2, 60)  # three programs run at once
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
    with ollama.Client(url, headers={"Authorization": "Bearer secret"}) as line, ThreadPoolExecutor(2) as pool:
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
        (ReasoningDelta("Hm."), EMPTY_ANSWER_TEXT),
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

    url = serve(agent, reconnect=0.1, conversations=Conversations(), **TALK)
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


class Breaking:
    """A proxy that breaks the first connections whose answer has these bytes, and forwards none of them."""

    def __init__(self, url: str, mark: bytes, times: int) -> None:
        self._port = int(url.rpartition(":")[2])
        self._mark = mark
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.left = times
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._hand_on, args=(client, server, b""), daemon=True).start()
            threading.Thread(target=self._hand_on, args=(server, client, self._mark), daemon=True).start()

    def _hand_on(self, source: socket.socket, to: socket.socket, mark: bytes) -> None:
        said = b""
        try:
            while data := source.recv(65536):
                said += data
                if mark and self.left and mark in said:
                    self.left -= 1
                    to.sendall(data[: max(said.index(mark) - (len(said) - len(data)), 0)])
                    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
                    break
                to.sendall(data)
        except OSError:
            pass
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@requirement("anthropic.reconnect")
@pytest.mark.parametrize(
    ("mark", "times"),
    [(b"HTTP/1.1 200", 2), (b"signature_delta", 1), (b"Half", 1)],
    ids=["before the head, twice", "in a thought", "in a text"],
)
def test_an_agent_whose_connection_breaks_runs_once_and_so_does_its_command(
    serve: Serve, claude: Claude, repository: Path, mark: bytes, times: int
) -> None:
    runs: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        runs.append(request)
        if request.resume is not None:
            yield f"It said {request.resume.results['call_1'].text}."
            return
        yield ReasoningDelta("Hm.")
        yield "Half "
        await soon(lambda: not proxy.left, 60)
        yield "an answer."
        yield call(1, "Bash", command="echo run | tee -a done", description="Mark it")

    with Breaking(serve(agent, **TALK), mark, times) as proxy:
        told, _ = claude(proxy.url, "go").communicate(timeout=100)
    assert [request.prompt for request in runs if request.resume is None] == ["go"]
    # Some versions request the rest of the text they have shown, others report the broken connection.
    if mark != b"Half" or "Connection closed" not in told:
        assert told.strip() == "It said run."
        assert (repository / "done").read_text() == "run\n"


@requirement("anthropic.once")
def test_a_long_answer_is_not_asked_for_again(serve: Serve, claude: Claude, tmp_path: Path) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        return "word " * 30_000  # over 32,000 tokens by the server's estimate

    # To a file: on a busy machine Claude Code exits before a pipe has drained more than 128 kB.
    with (tmp_path / "told").open("w") as told:
        claude(serve(agent, **TALK), "go", stdout=told).wait(timeout=100)
    assert len((tmp_path / "told").read_text().split()) == 30_000
    assert runs == ["go"]


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
