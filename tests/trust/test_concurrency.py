"""Many requests at once: each client gets its own whole answer and nothing else. Numbers refer to the list of faults."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import anyio
import httpx2
import pytest

from openai_compat import AgentRequest, Limits, Server
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, ask, frames, soon, strict_json, text_of

pytestmark = pytest.mark.anyio
PIECES = 40


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on uvicorn's loop, so the clients' loop does not matter."""
    return "asyncio"


async def repeats(prompt: str) -> AsyncIterator[str]:
    """Repeats the prompt many times, and lets other turns run in between."""
    for number in range(PIECES):
        yield f"<{prompt} {number}>"
        await anyio.lowlevel.checkpoint()


def repeats_in_a_thread(prompt: str) -> Iterator[str]:
    for number in range(PIECES):
        yield f"<{prompt} {number}>"


def whole(name: str) -> str:
    return "".join([f"<{name} {number}>" for number in range(PIECES)])


def asking(name: str, model: str, *, stream: bool) -> dict[str, object]:
    return ask(model=model, messages=[{"role": "user", "content": name}], stream=stream)


@pytest.mark.parametrize("model", ["async", "thread"])
async def test_streams_side_by_side_each_have_their_own_text_and_id(model: str) -> None:
    """125: eight clients with eight streams each"""
    ids: list[str] = []
    server = Server({"async": repeats, "thread": repeats_in_a_thread}, limits=Limits(slots=100))

    with uvicorn_socket(server) as url:

        async def client(number: int) -> None:
            async with httpx2.AsyncClient(base_url=url, timeout=30) as http, anyio.create_task_group() as group:
                for index in range(8):
                    group.start_soon(stream, http, f"client {number} stream {index}")

        async def stream(http: httpx2.AsyncClient, name: str) -> None:
            answer = await http.post(CHAT, json=asking(name, model, stream=True))
            events = frames(answer.content)
            assert events[-1] == "[DONE]"
            assert text_of(events) == whole(name)
            assert len({event["id"] for event in events[:-1]}) == 1
            ids.append(events[0]["id"])

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(client, number)
    assert len(set(ids)) == 64


async def test_two_hundred_answers_at_once_each_have_their_own_text_and_id() -> None:
    """126"""
    answers: dict[str, str] = {}
    server = Server({"async": repeats, "thread": repeats_in_a_thread}, limits=Limits(slots=200))
    limits = httpx2.Limits(max_connections=50)

    with uvicorn_socket(server) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30, limits=limits) as http:

            async def one(name: str, model: str) -> None:
                body = strict_json((await http.post(CHAT, json=asking(name, model, stream=False))).content)
                assert body["choices"][0]["message"]["content"] == whole(name)
                answers[body["id"]] = name

            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(one, f"number {number}", "async" if number % 2 else "thread")
    assert sorted(answers.values()) == sorted([f"number {number}" for number in range(200)])


async def test_clients_that_leave_leave_nothing_of_theirs_in_the_others_answers() -> None:
    """127: 48 streams on a few connections, half of them closed at a random point"""
    dice = random.Random(48)
    server = Server({"async": repeats, "thread": repeats_in_a_thread}, limits=Limits(slots=100))
    limits = httpx2.Limits(max_connections=12)
    finished: list[str] = []

    with uvicorn_socket(server) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30, limits=limits) as http:

            async def one(name: str, model: str, leaves_after: int | None) -> None:
                async with http.stream("POST", CHAT, json=asking(name, model, stream=True)) as answer:
                    text = ""
                    async for piece in answer.aiter_text(200):
                        text += piece
                        if leaves_after is not None and len(text) > leaves_after:
                            return
                if leaves_after is None:
                    assert text_of(frames(text)) == whole(name)
                    finished.append(name)

            async with anyio.create_task_group() as group:
                for number in range(48):
                    leaves_after = dice.randrange(8_000) if number % 2 else None
                    group.start_soon(one, f"number {number}", dice.choice(["async", "thread"]), leaves_after)
        await soon(lambda: server.services.live.slots.used == 0)
    assert len(finished) == 24


async def test_choices_of_one_answer_are_runs_of_their_own() -> None:
    """125: eight choices, each with the text of its own run"""
    runs = iter(range(8))

    async def agent(request: AgentRequest) -> AsyncIterator[str]:
        number = next(runs)
        for _ in range(PIECES):
            yield f"<{number}>"
            await anyio.lowlevel.checkpoint()

    with uvicorn_socket(Server(agent)) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
            events = frames((await http.post(CHAT, json=ask(n=8, stream=True))).content)[:-1]
    texts = {choice["index"]: "" for event in events for choice in event["choices"]}
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert sorted(texts.values()) == [f"<{number}>" * PIECES for number in range(8)]
