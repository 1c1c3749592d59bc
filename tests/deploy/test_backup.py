"""A backup of the store made while the server runs, and a second server that continues from it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import openai
import pytest

from openai_compat import AgentRequest, Conversations, Deadlines, Paused, PendingCall, Server, ToolResult
from openai_compat.messages import UserTurn
from openai_compat_adapters.client import async_openai
from tests.requirements import requirement
from tests.stores.postgres_cluster import Cluster, programs

pytestmark = pytest.mark.anyio

Engine: TypeAlias = tuple[str, Callable[[], Awaitable[str]]]
"""The URL of a store, and a function that copies it, restores the copy elsewhere, and returns its URL."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(f"{request.param}_copied")


@pytest.fixture
def sqlite_copied(tmp_path: Path) -> Engine:
    async def copied() -> str:
        """Copy with the command from the page 'Back up and restore'."""
        command = "import sqlite3; sqlite3.connect('state.db').execute('vacuum into \\'copy.db\\'')"
        await anyio.run_process([sys.executable, "-c", command], cwd=tmp_path)
        return f"sqlite:///{tmp_path}/copy.db"

    return f"sqlite:///{tmp_path}/state.db", copied


@pytest.fixture
def postgres_copied(postgres: Cluster, postgres_url: str, tmp_path: Path) -> Engine:
    async def copied() -> str:
        where, url = programs(), postgres.url(postgres.create_database())
        dump = str(tmp_path / "agents.dump")
        await anyio.run_process([f"{where}/pg_dump", "--format=custom", f"--file={dump}", postgres_url])
        await anyio.run_process([f"{where}/pg_restore", "--exit-on-error", f"--dbname={url}", dump])
        return url

    return postgres_url, copied


async def clerk(request: AgentRequest) -> AsyncIterator[Any]:
    """Asks before it pays; `wait` never ends."""
    if request.resume is not None and request.resume.decisions["call_p"].approved:
        yield ToolResult("call_p", "paid")
        yield f"paid {request.resume.state['to']}"
    elif request.prompt.startswith("pay "):
        call = PendingCall("call_p", "pay", '{"euros": 5}', "approval")
        yield Paused((call,), state={"to": request.prompt.removeprefix("pay ")})
    else:
        yield " ".join([turn.text for turn in request.turns if isinstance(turn, UserTurn)])
        if request.prompt == "wait":
            await anyio.sleep_forever()


@asynccontextmanager
async def served(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    server = Server(clerk, store=url, conversations=Conversations(), deadlines=Deadlines(lease=1.0, grace=0.1))
    async with server.lifespan(), async_openai(server, max_retries=0) as client:
        yield client


async def say(client: openai.AsyncOpenAI, conversation: str, text: str) -> str:
    answer = await client.chat.completions.create(
        model="agent",
        messages=[{"role": "user", "content": text}],
        extra_headers={"X-Conversation-Id": conversation},
    )
    return str(answer.choices[0].message.content)


@requirement("store.copied")
async def test_a_copy_that_was_made_while_turns_ran_goes_on_where_they_were(engine: Engine) -> None:
    url, copied = engine
    async with served(url) as client:
        await say(client, "talk", "tea")
        question = await say(client, "bill", "pay Bob")
        running = await client.responses.create(model="agent", input="wait", background=True)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(say, client, f"other-{number}", "hello")
            copy = await copied()
        assert (await client.responses.retrieve(running.id)).status == "in_progress"
        await say(client, "talk", "not in the copy")

    async with served(copy) as client:
        assert await say(client, "talk", "milk") == "tea milk"
        assert question.startswith("May I run pay")
        assert await say(client, "bill", "yes") == "paid Bob"
        assert await say(client, "bill", "yes") != "paid Bob"  # the decision counts once
        with anyio.fail_after(20):
            while (lost := await client.responses.retrieve(running.id)).status in ("queued", "in_progress"):
                await anyio.sleep(0.05)
        assert (lost.status, lost.error.original_code) == ("failed", "worker_lost")
