"""A command as an agent behind a server: what clients see, and what remains when they disconnect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from openai_compat import Deadlines, Server
from openai_compat.backends.subprocess import Grace, SubprocessBackend
from openai_compat_adapters.client import async_openai, sync_openai
from openai_compat_adapters.transport import AsyncTransport
from tests.backends.support import alive, command, pids, until, user
from tests.backends.test_subprocess import STUBBORN
from tests.backends.test_subprocess_json import PARTIAL, WHOLE, printing
from tests.transports import uvicorn_socket

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "agent", "messages": [user("How is the server?")]}


@asynccontextmanager
async def http(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost/v1") as client:
        with anyio.fail_after(30):
            yield client


def deltas(body: str) -> list[dict[str, Any]]:
    events = [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n") if line.startswith("data: {")]
    return [event["choices"][0]["delta"] for event in events if event["choices"]]


@pytest.mark.parametrize("lines", [WHOLE, PARTIAL], ids=["whole", "partial"])
async def test_the_streamed_answer_is_the_plain_one_said_once_with_tools_as_status_lines(
    tmp_path: Path, lines: list[Any]
) -> None:
    server = Server(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    async with http(server) as client:
        plain = (await client.post("/chat/completions", json=ASK)).json()
        streamed = (await client.post("/chat/completions", json={**ASK, "stream": True})).text
    message = plain["choices"][0]["message"]
    assert message["content"] == "Looking …\n\nIt is up."
    assert message["reasoning_content"] == "Let me see."
    assert "tool_calls" not in message
    assert plain["usage"]["prompt_tokens"] == 3210
    said = deltas(streamed)
    assert "".join([delta.get("content") or "" for delta in said]) == message["content"]
    assert not [delta for delta in said if "tool_calls" in delta]
    assert '"description":"Running Bash …"' in streamed
    assert '"description":"Bash done"' in streamed


async def test_a_failure_before_the_first_word_has_its_status_and_one_after_it_ends_the_stream(tmp_path: Path) -> None:
    for code in ("sys.exit(1)", "print('half', flush=True); time.sleep(0.1); sys.exit(1)"):
        server = Server(SubprocessBackend(command(tmp_path, code)))
        async with http(server) as client:
            plain = await client.post("/chat/completions", json=ASK)
            assert (plain.status_code, plain.json()["error"]["code"]) == (502, "agent_command_failed")
            assert plain.headers["x-should-retry"] == "false"
            streamed = await client.post("/chat/completions", json={**ASK, "stream": True})
    assert streamed.status_code == 200
    assert "half" in streamed.text
    assert '"code":"agent_command_failed"' in streamed.text
    assert "[DONE]" not in streamed.text


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_a_client_that_leaves_leaves_no_process_behind(tmp_path: Path, streamed: bool) -> None:
    file = tmp_path / "pids"
    server = Server(SubprocessBackend(command(tmp_path, STUBBORN, str(file)), grace=Grace(kill=0.2)))
    async with http(server) as client:
        body = {**ASK, "stream": streamed}
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.post("/chat/completions", json=body))
            await until(lambda: len(pids(file)) == 2)
            group.cancel_scope.cancel()
    await until(lambda: not any([alive(pid) for pid in pids(file)]))
    await until(lambda: not server.services.live.slots.used)


async def test_the_deadline_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    backend = SubprocessBackend(command(tmp_path, STUBBORN, str(file)), grace=Grace(kill=0.2))
    async with http(Server(backend, deadlines=Deadlines(request=1.0))) as client:
        answer = await client.post("/chat/completions", json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    await until(lambda: not any([alive(pid) for pid in pids(file)]))


async def test_a_stop_sequence_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    code = """
        open(sys.argv[1], "w").write(str(os.getpid()))
        while True:
            print("one STOP two", flush=True)
    """
    async with http(Server(SubprocessBackend(command(tmp_path, code, str(file))))) as client:
        answer = await client.post("/chat/completions", json={**ASK, "stop": "STOP"})
    assert answer.json()["choices"][0]["message"]["content"] == "one "
    await until(lambda: not alive(pids(file)[0]))


async def test_a_picture_is_refused_rather_than_lost() -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]
    async with http(Server(SubprocessBackend(["true"]))) as client:
        answer = await client.post(
            "/chat/completions", json={"model": "agent", "messages": [{"role": "user", "content": content}]}
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].content[0]")


def test_a_blocking_client_is_served_too(tmp_path: Path) -> None:
    """The server runs on an event loop in another thread, like behind WSGI."""
    with sync_openai(Server(SubprocessBackend(printing(tmp_path, *WHOLE), output="claude")), max_retries=0) as client:
        answers = [client.chat.completions.create(**ASK).choices[0].message.content for _ in range(2)]
    assert answers == ["Looking …\n\nIt is up."] * 2


class TestWithTheSdk:
    """The openai client, on asyncio only."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_it_reads_the_answer_and_the_usage(self, tmp_path: Path) -> None:
        server = Server({"ops": SubprocessBackend(printing(tmp_path, *PARTIAL), output="claude")})
        async with (
            async_openai(server, max_retries=0) as client,
            client.chat.completions.stream(
                model="ops", messages=ASK["messages"], stream_options={"include_usage": True}
            ) as events,
        ):
            answer = await events.get_final_completion()
        assert answer.choices[0].message.content == "Looking …\n\nIt is up."
        assert answer.usage
        assert answer.usage.model_dump(exclude_none=True) == {
            "prompt_tokens": 3210,
            "completion_tokens": 42,
            "total_tokens": 3252,
            "prompt_tokens_details": {"cached_tokens": 3000},
            "completion_tokens_details": {"reasoning_tokens": 30},
        }

    async def test_over_a_socket_leaving_ends_the_process_group(self, tmp_path: Path) -> None:
        file = tmp_path / "pids"
        server = Server(SubprocessBackend(command(tmp_path, STUBBORN, str(file)), grace=Grace(kill=0.2)))
        with uvicorn_socket(server) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
                with anyio.fail_after(20):
                    answer = await client.chat.completions.create(**ASK, stream=True)
                    async with answer:
                        await anext(answer)
                    await until(lambda: not any([alive(pid) for pid in pids(file)]))
        assert len(pids(file)) == 2
