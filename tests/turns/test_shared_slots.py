"""`Limits(shared_slots=…)`: the limit on agents running at once in all processes that share a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import Admission, Deadlines, Limits, MemoryStore, Server
from openai_compat.errors import Unavailable
from openai_compat.stores.port import LEASE
from openai_compat.turns.shared_slots import POOL
from tests.loops import EVERY_LOOP
from tests.requirements import requirement
from tests.support.operated import Gate, Recorder
from tests.transports import TRANSPORTS, reach

pytestmark = pytest.mark.anyio
Clients = Callable[..., Any]


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Counting(MemoryStore):
    """Counts like a shared store: slots that are not renewed are released."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        if self.away:
            raise Unavailable("The store cannot be reached.", code="store_unavailable")
        return await super().take_slot(pool, token, size, lease)

    def taken(self) -> int:
        return len(self._slots.get(POOL, ()))

    def lose_slots(self) -> None:
        """Simulate a process that was frozen for longer than its lease."""
        self._slots.clear()


@asynccontextmanager
async def processes(
    *agents: Any, store: MemoryStore, shared: int, transport: str = "in-process", **options: Any
) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Run a server for each agent, all with one store, to simulate several processes."""
    limits = Limits(shared_slots=shared, choices=8)
    async with AsyncExitStack() as stack:
        servers = [Server(agent, store=store, limits=limits, **options) for agent in agents]
        yield [await stack.enter_async_context(reach(server, transport)) for server in servers]


async def ask(client: httpx2.AsyncClient, text: str = "hi", **options: Any) -> httpx2.Response:
    body = {"model": "agent", "messages": [{"role": "user", "content": text}], **options}
    return await client.post("/v1/chat/completions", json=body)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


@requirement("slots.shared")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_runs_in_one_process_leaves_less_for_the_others(transport: str) -> None:
    gate, store = Gate(), Counting()
    async with (
        processes(gate, Recorder(), store=store, shared=1, transport=transport) as (first, second),
        anyio.create_task_group() as group,
    ):
        group.start_soon(ask, first)
        await gate.wait_begun()
        refused = await ask(second)
        gate.opened.set()
        await until(lambda: store.taken() == 0)
        answers = [await ask(second) for _ in range(3)]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers] == [200, 200, 200]


@requirement("slots.shared")
async def test_who_has_an_answer_can_ask_another_process_at_once() -> None:
    async with processes(Recorder(), Recorder(), store=Counting(), shared=1) as clients:
        answers = [await ask(client, stream=stream) for client in clients * 3 for stream in (False, True)]
    assert {answer.status_code for answer in answers} == {200}


@requirement("slots.shared")
async def test_a_request_for_several_answers_takes_several_slots_or_none() -> None:
    gate, store = Gate(), Counting()
    async with (
        processes(gate, Recorder(), store=store, shared=3) as (first, second),
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: ask(first, n=2))
        for _ in range(2):
            await gate.wait_begun()
        refused = await ask(second, n=2)
        held = store.taken()
        fits = await ask(second)
        gate.opened.set()
    assert (refused.status_code, held, fits.status_code) == (429, 2, 200)
    assert store.taken() == 0


@requirement("slots.shared")
async def test_a_request_can_wait_for_another_processs_slot() -> None:
    gate, store = Gate(), Counting()
    answers: list[httpx2.Response] = []

    async def wait() -> None:
        answers.append(await ask(second))

    async with (
        processes(gate, Recorder(), store=store, shared=1, admission=Admission(queue=20)) as (first, second),
        anyio.create_task_group() as group,
    ):
        group.start_soon(ask, first)
        await gate.wait_begun()
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
    assert [answer.status_code for answer in answers] == [200]


@requirement("slots.shared")
async def test_a_slot_is_given_back_by_a_client_that_left_and_by_one_that_left_while_it_waited() -> None:
    gate, store = Gate(), Counting()
    async with processes(gate, Recorder(), store=store, shared=1, admission=Admission(queue=20)) as (first, second):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, first)
            await gate.wait_begun()
            group.start_soon(ask, second)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        await until(lambda: gate.ended == ["cancelled"])
        answer = await ask(second)
    assert (answer.status_code, store.taken()) == (200, 0)


@requirement("slots.stuck")
async def test_an_agent_that_does_not_stop_keeps_its_slot_until_it_has_ended() -> None:
    release = anyio.Event()
    begun = anyio.Event()

    async def stuck(prompt: str) -> str:
        begun.set()
        while not release.is_set():
            with suppress(anyio.get_cancelled_exc_class()):
                await release.wait()
        return prompt

    store = Counting()
    deadlines = Deadlines(grace=0.05)
    async with processes(stuck, Recorder(), store=store, shared=1, deadlines=deadlines) as (first, second):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, first)
            await begun.wait()
            group.cancel_scope.cancel()
        refused = await ask(second)
        release.set()
        await until(lambda: store.taken() == 0)
        accepted = await ask(second)
    assert (refused.status_code, accepted.status_code) == (429, 200)


@requirement("slots.outage")
async def test_while_the_store_is_away_each_process_has_its_own_limit_alone(caplog: pytest.LogCaptureFixture) -> None:
    gates, store = [Gate(), Gate()], Counting()
    store.away = True
    answers: list[int] = []

    async def run(client: httpx2.AsyncClient) -> None:
        answers.append((await ask(client)).status_code)

    async with processes(*gates, store=store, shared=1) as clients, anyio.create_task_group() as group:
        for gate, client in zip(gates, clients, strict=True):
            group.start_soon(run, client)
            await gate.wait_begun()
        refused = await ask(clients[0])
        for gate in gates:
            gate.opened.set()
    assert (answers, refused.status_code) == ([200, 200], 429)
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["the store does not answer: only each process's own limit bounds how many agents run"] * 2


@requirement("slots.outage")
async def test_a_turn_whose_slot_was_lost_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gate, store = Gate(), Counting()
    answers: list[int] = []

    async def run() -> None:
        answers.append((await ask(client)).status_code)

    deadlines = Deadlines(lease=0.03)
    async with processes(gate, store=store, shared=2, deadlines=deadlines) as [client]:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await gate.wait_begun()
            store.lose_slots()
            await until(lambda: "was lost" in caplog.text)
            gate.opened.set()
        after = await ask(client)
    assert (answers, after.status_code) == ([200], 200)
    assert store.taken() == 0


class Slow(Counting):
    """Grants a slot, but delays its answer until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.granted = 0
        self.answer = anyio.Event()

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        taken = await super().take_slot(pool, token, size, lease)
        self.granted += 1
        await self.answer.wait()
        return taken


@requirement("slots.shared")
async def test_a_slot_granted_to_a_client_that_has_left_comes_back() -> None:
    store = Slow()
    async with processes(Recorder(), store=store, shared=1) as [client]:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client)
            await until(lambda: store.granted == 1)
            group.cancel_scope.cancel()
        store.answer.set()
        await until(lambda: store.taken() == 0)
        assert (await ask(client)).status_code == 200


@requirement("slots.outage")
async def test_a_slot_granted_after_nobody_waited_for_it_any_more_comes_back() -> None:
    store = Slow()
    async with processes(Recorder(), store=store, shared=1) as [client]:
        answer = await ask(client)  # after a second
        held = store.taken()
        store.answer.set()
        await until(lambda: store.taken() == 0)
    assert (answer.status_code, held) == (200, 1)
