"""Messages to several servers in one conversation of one store: the newest one stops earlier ones, wherever they run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from openai_compat import Conversations, Server
from tests.requirements import requirement
from tests.support.exchanges import CHAT, answer, ask, request

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


class Talk:
    """Sends messages to one of several servers, whose agent waits forever if told to."""

    def __init__(self, url: str, number: int) -> None:
        self.servers = [
            Server(self._agent, store=url, conversations=Conversations(busy="supersede")) for _ in range(number)
        ]
        self.begun: dict[str, anyio.Event] = {}
        self.told: dict[str, tuple[int, str]] = {}

    async def _agent(self, prompt: str) -> str:
        self.begun.setdefault(prompt, anyio.Event()).set()
        if prompt.startswith("wait"):
            await anyio.sleep_forever()
        return prompt

    async def say(self, server: int, prompt: str) -> None:
        said = ask(messages=[{"role": "user", "content": prompt}])
        sent = await answer(self.servers[server], request(CHAT, said, (b"x-conversation-id", b"c")))
        self.told[prompt] = sent.status, "" if sent.status == 200 else sent.error["code"]

    async def running(self, prompt: str) -> None:
        await self.begun.setdefault(prompt, anyio.Event()).wait()

    async def history(self) -> list[str]:
        sent = await answer(self.servers[0], request("/v1/conversations/c/items", method="GET", query="order=asc"))
        return [item["content"][0]["text"] for item in sent.json["data"]]


@asynccontextmanager
async def talk(url: str, number: int) -> AsyncIterator[Talk]:
    talk = Talk(url, number)
    try:
        with anyio.fail_after(60):
            yield talk
    finally:
        for server in talk.servers:
            await server.services.state.store.aclose()


@requirement("several.supersede")
async def test_a_newer_message_at_another_server_stops_the_turn_and_only_its_own_is_kept(url: str) -> None:
    async with talk(url, 2) as at, anyio.create_task_group() as group:
        group.start_soon(at.say, 0, "wait for ever")
        await at.running("wait for ever")
        await at.say(1, "newer")
        while len(at.told) < 2:
            await anyio.sleep(0.01)
        assert at.told == {"wait for ever": (409, "superseded"), "newer": (200, "")}
        assert await at.history() == ["newer", "newer"]


@requirement("several.supersede")
async def test_of_messages_that_wait_at_several_servers_the_newest_is_answered(url: str) -> None:
    async with talk(url, 3) as at, anyio.create_task_group() as group:
        for number, prompt in enumerate(["wait 0", "wait 1", "wait 2"]):
            group.start_soon(at.say, number, prompt)
            await at.running(prompt)
        await at.say(0, "newest")
        while len(at.told) < 4:
            await anyio.sleep(0.01)
        assert at.told.pop("newest") == (200, "")
        assert set(at.told.values()) == {(409, "superseded")}
        assert await at.history() == ["newest", "newest"]
