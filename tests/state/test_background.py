"""Background responses of one process, read, followed and cancelled from another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from tests.requirements import requirement
from tests.state.asking import background, soon
from tests.state.hosts import LEASE, PATIENCE, SOON, Host, Leash, eventually

pytestmark = pytest.mark.anyio


async def numbers(stream: Any) -> list[int]:
    """The sequence numbers of a stream's events, to its end."""
    with anyio.fail_after(PATIENCE):
        return [event.sequence_number async for event in stream]


@requirement("several.background")
async def test_a_response_that_one_process_makes_is_read_in_the_other(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("slowly"))
    assert made.status in ("queued", "in_progress")
    run = await agents.run()

    async def in_progress() -> bool:
        return (await at_b.responses.retrieve(made.id)).status == "in_progress"

    run.say("so far ")
    await eventually(in_progress)
    await run.end("and done")

    async def completed() -> Any:
        found = await at_b.responses.retrieve(made.id)
        return found if found.status == "completed" else None

    assert (await eventually(completed)).output_text == "so far and done"
    assert agents.number == 1


@requirement("several.background")
async def test_a_response_is_cancelled_by_the_other_process(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("for ever"))
    run = await agents.run()
    run.say("unfinished")
    with anyio.fail_after(SOON):
        assert (await at_b.responses.cancel(made.id)).status == "cancelled"
        assert await run.over() == "cancelled"
    assert (await at_a.responses.retrieve(made.id)).status == "cancelled"


@requirement("several.background")
async def test_a_response_of_a_process_that_does_not_answer_is_cancelled_all_the_same(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("for ever"))
    run = await agents.run()
    with a.frozen(), anyio.fail_after(10):
        ended = await at_b.responses.cancel(made.id)
        assert ended.status in ("cancelled", "failed")  # whichever is seen first: it is frozen, or its lease is over
        run.say("too late")
        run.say(".")
    await run.over()
    for client in (at_a, at_b):
        assert (await client.responses.retrieve(made.id)).status == ended.status


@requirement("several.background")
async def test_a_response_whose_process_was_killed_has_failed_for_every_reader(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("never"))
    run = await agents.run()
    run.say("half")
    a.kill()
    assert await run.over() == ""

    async def failed() -> Any:
        found = await at_b.responses.retrieve(made.id)
        return found if found.status == "failed" else None

    found = await eventually(failed, SOON)
    assert found.error.message == "The process that ran this response has died."


@requirement("several.background")
async def test_a_stream_is_resumed_in_the_other_process_without_gap_or_repeat(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI
) -> None:
    """A stream that is left in one process after some events is resumed in the other, while the response runs."""
    stream = await background(at_a, "20", model="counting", stream=True)
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 8:
            break
    await stream.close()
    identifier, last = seen[0].response.id, seen[-1].sequence_number
    rest = [event async for event in await at_b.responses.retrieve(identifier, stream=True, starting_after=last)]
    assert [event.sequence_number for event in (*seen, *rest)] == list(range(len(seen) + len(rest)))
    assert rest[-1].type == "response.completed"
    said = "".join([event.delta for event in (*seen, *rest) if event.type == "response.output_text.delta"])
    assert said == "".join([f"{number} " for number in range(20)])
    again = [event async for event in await at_b.responses.retrieve(identifier, stream=True)]
    assert [event.to_json() for event in again] == [event.to_json() for event in (*seen, *rest)]


@requirement("several.background")
async def test_many_follow_one_response_from_both_processes_and_see_the_same(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI
) -> None:
    made = await background(at_a, "15", model="counting")
    followers = [soon(_followed(client, made.id, after)) for client in (at_a, at_b) for after in (None, 3, 10)]
    found = [await follower for follower in followers]
    whole = found[0]
    for client_found in (found[:3], found[3:]):
        assert client_found == [whole, whole[4:], whole[11:]]
    assert whole[-1] == len(whole) - 1


async def _followed(client: AsyncOpenAI, identifier: str, after: int | None) -> list[int]:
    options: Any = {} if after is None else {"starting_after": after}
    return await numbers(await client.responses.retrieve(identifier, stream=True, **options))


@requirement("several.background")
async def test_who_follows_a_response_whose_process_is_killed_is_told_that_it_failed(
    at_a: AsyncOpenAI, a: Host, b: Host, agents: Leash
) -> None:
    """Read without the SDK, which raises at the `error` event and does not return the last event."""
    made = await background(at_a, agents.prompt("never"))
    run = await agents.run()
    run.say("half")
    async with httpx2.AsyncClient(base_url=b.url, timeout=SOON) as client:

        def killed(event: dict[str, Any]) -> None:
            if event["type"] == "response.output_text.delta":
                a.kill()

        events = await raw_events(client, made.id, killed)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert events[-1]["response"]["status"] == "failed"
        assert (await client.get(f"/responses/{made.id}")).json()["status"] == "failed"
        assert await raw_events(client, made.id) == events


async def raw_events(
    client: httpx2.AsyncClient, identifier: str, each: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """All events of a response as they were sent."""
    events: list[dict[str, Any]] = []
    async with client.stream("GET", f"/responses/{identifier}", params={"stream": "true"}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: ")))
                each(events[-1])
    return events


@requirement("several.fence")
async def test_a_process_that_wakes_after_its_response_was_given_up_does_not_bring_it_back(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, b: Host, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("asleep"))
    run = await agents.run()
    run.say("before")

    async def has(status: str) -> bool:
        return (await at_b.responses.retrieve(made.id)).status == status

    await eventually(partial(has, "in_progress"))
    async with httpx2.AsyncClient(base_url=b.url, timeout=SOON) as client:
        with a.frozen():
            await eventually(partial(has, "failed"), SOON)
            before = await raw_events(client, made.id)
            run.say("after")
            run.say(".")
        await run.over()
        await asyncio.sleep(LEASE)
        for other in (at_a, at_b):
            assert (await other.responses.retrieve(made.id)).status == "failed"
        for host in (a, b):
            async with httpx2.AsyncClient(base_url=host.url, timeout=SOON) as other_client:
                assert await raw_events(other_client, made.id) == before


@requirement("several.background")
async def test_a_client_that_leaves_at_the_first_event_leaves_a_response_that_completes(
    a: Host, at_b: AsyncOpenAI, agents: Leash
) -> None:
    body = {"model": "leashed", "input": agents.prompt("alone"), "background": True, "stream": True}
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        async with client.stream("POST", f"{a.url}/responses", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    break
    run = await agents.run()
    identifier = line.split('"id":"')[1].split('"')[0]
    assert await run.end("to nobody") == "ended"

    async def completed() -> bool:
        return (await at_b.responses.retrieve(identifier)).status == "completed"

    await eventually(completed)
    assert (await at_b.responses.retrieve(identifier)).output_text == "to nobody"


@requirement("several.fence")
async def test_a_response_deleted_by_the_other_process_is_stopped_and_stays_deleted(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash
) -> None:
    made = await background(at_a, agents.prompt("unwanted"))
    run = await agents.run()
    run.say("still here")
    with anyio.fail_after(SOON):
        await at_b.responses.delete(made.id)
        assert await run.over() == "cancelled"
    await asyncio.sleep(1)
    for client in (at_a, at_b):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
