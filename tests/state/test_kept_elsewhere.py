"""The last changes of a killed process are visible to the other processes: two on SQLite, three on PostgreSQL."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx2
import openai
import pytest

from openai_compat.stores.open import open_store
from openai_compat.stores.port import Key
from tests.backends.upstream import Upstream
from tests.providers.support import says
from tests.requirements import requirement
from tests.state.asking import chat, soon, stored, text
from tests.state.hosts import PATIENCE, SOON, Host, Hosts, Leash, eventually
from tests.state.kept_host import BUDGET

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]  # servers are started and restarted

SEALED_WITH = base64.b64encode(b"k" * 32).decode()
SECRET = "sk-nobody-may-read-this"


class Place:
    """Hosts that share a store."""

    def __init__(self, url: str, number: int) -> None:
        self.url = url
        names = {"OPENAI_COMPAT_SECRET_KEY": SEALED_WITH, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
        self.hosts = Hosts(url, number, module="tests.state.kept_host", **names)

    async def used(self) -> tuple[int, int]:
        """The tokens that were charged to the budget and to the rate."""
        store = open_store(self.url)
        try:
            spent = await store.spent("anonymous", BUDGET.period(datetime.now(UTC)), BUDGET.of)
            return spent, round(await store.ahead(Key("anonymous", "tokens")) / 1000)
        finally:
            await store.aclose()


@pytest.fixture(scope="module", params=[("sqlite", 2), ("postgresql", 3)], ids=lambda param: param[0])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kind, number = request.param
    in_file = f"sqlite:///{tmp_path_factory.mktemp('kept') / 'state.db'}"
    made = Place(in_file if kind == "sqlite" else request.getfixturevalue("store_url"), number)
    yield made
    made.hosts.remove()


@asynccontextmanager
async def rest(host: Host) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of its chat REST API."""
    url = host.url.removesuffix("/v1") + "/api/chat"
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        yield client


async def asks_about(host: Host) -> list[dict[str, Any]]:
    """The approval requests of the shopper in a new conversation."""
    async with rest(host) as client:
        name = (await client.post("/conversations", json={})).json()["conversation"]["id"]
        body = {"content": "Buy bread", "model": "shopper"}
        said = await client.post(f"/conversations/{name}/messages/with-tools", json=body)
        assert said.status_code == 200, said.text
        return [{**pending, "conversation": name} for pending in said.json()["pendingApprovals"]]


@requirement("approval.grants")
async def test_what_was_allowed_for_always_holds_where_its_process_was_killed(place: Place) -> None:
    killed, *others = place.hosts.all()
    (pending,) = await asks_about(killed)
    async with rest(killed) as client:
        body = {"conversationId": pending["conversation"], "approvalId": pending["id"], "decision": "allow-always"}
        assert (await client.post("/tools/approve", json=body)).json()["success"]
        killed.kill()
    for host in (*others, *place.hosts.all()):  # the second time with the successor of the killed server
        assert await asks_about(host) == []
    async with rest(others[0]) as client:
        (grant,) = (await client.get("/grants")).json()["grants"]
        assert (await client.delete(f"/grants/{grant['id']}")).json() == {"success": True}
    others[0].kill()
    for host in place.hosts.all():
        assert len(await asks_about(host)) == 1


@requirement("providers.stored")
async def test_a_provider_that_was_changed_is_used_where_its_process_was_killed(place: Place) -> None:
    killed, *others = place.hosts.all()
    upstream = Upstream(*[says("from there") for _ in range(10)])
    with upstream.served() as url:
        async with rest(killed) as client:
            sent = {"apiKey": SECRET, "baseUrl": f"{url}/v1"}
            assert (await client.post("/providers/openai/configure", json=sent)).status_code == 200
            killed.kill()
        for host in (*others, place.hosts.all()[0]):
            async with host.client() as client:

                async def answered(client: openai.AsyncOpenAI = client) -> str:
                    try:
                        found = await client.chat.completions.create(
                            model="provided", messages=[{"role": "user", "content": "hi"}]
                        )
                    except openai.APIStatusError:  # this server does not know the change yet
                        return ""
                    return text(found)

                assert await eventually(answered) == "from there"
        assert {headers["authorization"] for headers in upstream.headers} == {f"Bearer {SECRET}"}


@requirement("budget.exact")
@requirement("rates.tokens")
async def test_tokens_are_counted_with_the_answers_that_were_given_and_no_others(place: Place, agents: Leash) -> None:
    hosts = place.hosts.all()
    before = await place.used()

    async def turn(host: Host, number: int) -> None:
        async with host.client() as client:
            assert text(await chat(client, f"tokens {number}", agents.prompt("go on"), "metered")) == "done"

    async with anyio.create_task_group() as group:
        for number in range(2 * len(hosts)):
            group.start_soon(turn, hosts[number % len(hosts)], number)
        for _ in range(2 * len(hosts)):
            await (await agents.run()).end("done")
    async with hosts[0].client() as client:
        lost = soon(chat(client, "tokens lost", agents.prompt("never"), "metered"))
        await agents.run()
        hosts[0].kill()
        with pytest.raises(openai.APIConnectionError):
            await lost
    used = 2 * len(hosts) * 100
    assert await place.used() == (before[0] + used, before[1] + used)
    async with place.hosts.all()[0].client() as client:
        made = await client.chat.completions.with_raw_response.create(
            model="echoing", messages=[{"role": "user", "content": "hi"}]
        )
        assert made.headers["x-ratelimit-remaining-tokens"] == str(BUDGET.tokens - before[0] - used)


@requirement("several.supersede")
async def test_a_newer_message_has_the_conversation_where_the_older_ones_process_lives_or_was_killed(
    place: Place, agents: Leash
) -> None:
    first, second = place.hosts.all()[:2]
    async with first.client() as at_first, second.client() as at_second:
        old = soon(chat(at_first, "talk", agents.prompt("old")))
        run = await agents.run()
        assert text(await chat(at_second, "talk", "newer", "echoing")) == "newer"
        assert await run.over() == "cancelled"
        with pytest.raises(openai.ConflictError) as refused:
            await old
        assert refused.value.code == "superseded"
        lost = soon(chat(at_first, "talk", agents.prompt("lost")))
        await agents.run()
        first.kill()
        with pytest.raises(openai.APIConnectionError):
            await lost
        with anyio.fail_after(SOON + PATIENCE):
            assert text(await chat(at_second, "talk", "newest", "echoing")) == "newest"
        assert await stored(at_second, "talk") == ["newer", "newer", "newest", "newest"]
