"""kill -9 and rolling restarts: acknowledged turns are stored, and other turns are stored whole or not at all."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import openai
import pytest
from openai import AsyncOpenAI

from tests.requirements import requirement
from tests.state.asking import chat, remembered, soon, stored, taken, text
from tests.state.hosts import PATIENCE, SOON, Hosts, Leash, eventually
from tests.stores.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each of the stores that outlive processes."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    found: str = request.getfixturevalue("store_url")
    return found


@contextmanager
def hosts(url: str, number: int, **settings: str) -> Iterator[Hosts]:
    made = Hosts(url, number, **settings)
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.parametrize("at", ["200", "[DONE]"])
@requirement("several.killed")
async def test_a_turn_is_there_after_the_process_was_killed_as_soon_as_it_was_acknowledged(
    url: str, conversation: str, at: str
) -> None:
    with hosts(url, 1) as servers:
        for number in range(2):
            (host,) = servers.all()
            async with host.client() as client:
                if at == "200":
                    assert text(await chat(client, conversation, str(number), model="echoing"))
                else:
                    await until_done(client, conversation, str(number))
                host.kill()
        (host,) = servers.all()
        async with host.client() as client:
            assert await stored(client, conversation) == ["0", "0", "1", "1"]


async def until_done(client: AsyncOpenAI, conversation: str, content: str) -> None:
    """A streamed turn, read up to its last line and no further."""
    async with client.with_streaming_response.chat.completions.create(
        model="echoing",
        messages=[{"role": "user", "content": content}],
        stream=True,
        extra_headers={"X-Conversation-Id": conversation},
    ) as stream:
        async for line in stream.iter_lines():
            if line == "data: [DONE]":
                return
    raise AssertionError


@requirement("several.killed")
async def test_a_turn_whose_process_was_killed_in_its_midst_is_not_half_there(
    url: str, agents: Leash, conversation: str
) -> None:
    with hosts(url, 1) as servers:
        (host,) = servers.all()
        async with host.client() as client:
            await chat(client, conversation, "before", model="remembering")
            before = await stored(client, conversation)
            turn = soon(chat(client, conversation, agents.prompt("never"), stream=True))
            run = await agents.run()
            run.say("half")
            async for chunk in await turn:
                if chunk.choices and chunk.choices[0].delta.content:
                    break
            host.kill()
        (host,) = servers.all()
        async with host.client() as client:
            await eventually(partial(taken, client, conversation, "after"), SOON)
            assert await stored(client, conversation) == [*before, "after", "after"]


class Talker:
    """Runs turn after turn in a conversation, at whichever server answers, and remembers the acknowledged ones."""

    def __init__(self, client: AsyncOpenAI, servers: Hosts, conversation: str, dice: random.Random) -> None:
        self.conversation = conversation
        self.acknowledged: list[str] = []
        self.leaves = False
        self._client = client
        self._servers = servers
        self._dice = dice

    async def run(self) -> None:
        for number in itertools.count():
            if self.leaves:
                return
            client = self._client.with_options(base_url=self._dice.choice(self._servers.known()).url)
            try:
                await chat(client, self.conversation, f"turn {number}", model="echoing")
                self.acknowledged.append(f"turn {number}")
            except (openai.APIConnectionError, openai.ConflictError, openai.InternalServerError):
                await asyncio.sleep(0.05)

    async def gets_on(self) -> None:
        """Return after another turn."""
        before = len(self.acknowledged)
        while len(self.acknowledged) == before:
            await asyncio.sleep(0.02)

    async def check(self, client: AsyncOpenAI) -> None:
        """Check that every acknowledged turn is stored, once and in order, and that all other stored turns are whole."""
        everything = await stored(client, self.conversation)
        said = everything[::2]
        assert everything[1::2] == said
        assert len(said) == len(set(said))
        assert [turn for turn in said if turn in self.acknowledged] == self.acknowledged
        assert sorted(said, key=lambda turn: int(turn.split()[1])) == said


@requirement("several.killed")
async def test_every_acknowledged_turn_survives_processes_that_are_killed_at_random(
    url: str, conversation: str
) -> None:
    dice = random.Random(3)
    with hosts(url, 2) as servers:
        client = servers.all()[0].client()
        talkers = [Talker(client, servers, f"{conversation}-{number}", dice) for number in range(6)]
        async with anyio.create_task_group() as tasks:
            for talker in talkers:
                tasks.start_soon(talker.run)
            for _ in range(3):
                await asyncio.sleep(dice.uniform(0.2, 0.6))
                dice.choice(servers.known()).kill()
                await asyncio.to_thread(servers.all)
                with anyio.fail_after(PATIENCE):
                    for talker in talkers:
                        await talker.gets_on()
            for talker in talkers:
                talker.leaves = True
        await client.close()
        async with servers.all()[0].client() as client:
            for talker in talkers:
                await talker.check(client)


@requirement("several.rolling")
async def test_a_rolling_restart_loses_no_turn_and_runs_none_twice(
    store_url: str, agents: Leash, conversation: str
) -> None:
    """Each server in turn is stopped while turns run in it: these turns end, and new ones go to the other servers."""
    with hosts(store_url, 2) as servers:
        client = servers.all()[0].client()
        talkers = [Talker(client, servers, f"{conversation}-{number}", random.Random(number)) for number in range(4)]
        async with anyio.create_task_group() as tasks:
            for talker in talkers:
                tasks.start_soon(talker.run)
            for number in range(2):
                host = servers.all()[number]
                async with host.client() as at_host:
                    long = soon(chat(at_host, f"{conversation}-long-{number}", agents.prompt("long")))
                    run = await agents.run()
                    host.stop()
                    for talker in talkers:
                        await talker.gets_on()
                    assert await run.end("to its end") == "ended"
                    assert text(await long) == "to its end"
                assert await asyncio.to_thread(host.ended) == 0, host.log
                await asyncio.to_thread(servers.all)
            for talker in talkers:
                talker.leaves = True
        await client.close()
        async with servers.all()[0].client() as client:
            for talker in talkers:
                await talker.check(client)


@requirement("store.engine")
async def test_servers_go_on_when_their_engine_was_restarted(
    postgres: Cluster, store_url: str, agents: Leash, conversation: str
) -> None:
    """A turn that runs during the outage is stored; requests get 503 meanwhile; no server needs a restart."""
    with hosts(store_url, 2) as servers:
        a, b = servers.all()
        async with a.client() as at_a, b.client() as at_b:
            turn = soon(chat(at_a, conversation, agents.prompt("through it all")))
            run = await agents.run()
            await asyncio.to_thread(postgres.kill)
            with pytest.raises(openai.InternalServerError) as caught:
                await chat(at_b, f"{conversation}-other", "hi", model="remembering")
            assert (caught.value.status_code, caught.value.code) == (503, "store_unavailable")
            assert caught.value.response.headers["retry-after"]
            assert text(
                await at_b.chat.completions.create(model="remembering", messages=[{"role": "user", "content": "x"}])
            )
            assert (await at_b.models.list()).data
            await asyncio.to_thread(postgres.start)
            await run.end("stored")
            assert text(await turn) == "stored"
            assert (await stored(at_b, conversation))[-1] == "stored"
            _, seen = await remembered(at_b, f"{conversation}-other")
            assert seen == []


@requirement("store.engine")
async def test_servers_whose_engine_is_frozen_answer_in_time_and_serve_what_needs_no_state(
    postgres: Cluster, store_url: str, conversation: str
) -> None:
    with hosts(store_url, 1) as servers:
        (host,) = servers.all()
        async with host.client() as client:
            assert text(await chat(client, conversation, "before", model="echoing")) == "before"
            with postgres.frozen():
                stateful = soon(chat(client, conversation, "meanwhile", model="echoing"))
                with anyio.fail_after(1):
                    assert (await client.models.list()).data
                    alone = [{"role": "user", "content": "alone"}]
                    assert text(await client.chat.completions.create(model="echoing", messages=alone)) == "alone"
                with pytest.raises(openai.InternalServerError) as caught, anyio.fail_after(12):
                    await stateful
                assert caught.value.status_code == 503
                assert caught.value.code in ("store_unavailable", "store_outcome_unknown")
            await eventually(partial(taken, client, conversation, "after"), SOON)
            assert (await stored(client, conversation))[-2:] == ["after", "after"]
