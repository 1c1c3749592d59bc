"""Turns in conversations that several processes serve with one PostgreSQL store."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
import openai
import pytest
from openai import AsyncOpenAI

from tests.requirements import requirement
from tests.state.asking import chat, remembered, soon, stored, taken, text
from tests.state.hosts import LEASE, SOON, Host, Hosts, Leash, eventually

pytestmark = pytest.mark.anyio


@requirement("store.workers")
async def test_what_was_said_in_one_process_is_known_in_the_other(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, b: Host, conversation: str
) -> None:
    first, before = await remembered(at_a, conversation)
    second, seen = await remembered(at_b, conversation)
    assert (first, second) == (a.pid, b.pid)
    assert before == []
    assert len(seen) == 2


@requirement("store.workers")
async def test_responses_continue_those_of_the_other_process(at_a: AsyncOpenAI, at_b: AsyncOpenAI) -> None:
    first = await at_a.responses.create(model="remembering", input="my name is Ada")
    second = await at_b.responses.create(model="remembering", input="who am I?", previous_response_id=first.id)
    assert "my name is Ada" in second.output_text
    assert (await at_a.responses.retrieve(second.id)).output_text == second.output_text


@requirement("several.turns")
async def test_a_conversation_that_is_busy_in_one_process_is_busy_in_the_other(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash, conversation: str
) -> None:
    turn = soon(chat(at_a, conversation, agents.prompt("long")))
    run = await agents.run()
    with pytest.raises(openai.ConflictError) as caught:
        await chat(at_b, conversation, agents.prompt("meanwhile"))
    assert caught.value.code == "conversation_busy"
    await run.end("done")
    assert text(await turn) == "done"
    assert await stored(at_b, conversation) == [agents.prompt("long"), "done"]


@requirement("several.turns")
async def test_turns_in_one_conversation_never_overlap_whichever_process_takes_them(
    store_url: str, agents: Leash, conversation: str
) -> None:
    hosts = Hosts(store_url, 2, QUEUE="1")
    try:
        clients = [host.client() for host in hosts.all()]
        turns = [soon(chat(clients[number % 2], conversation, agents.prompt(str(number)))) for number in range(6)]
        expected: list[str] = []
        for number in range(6):
            run = await agents.run()
            assert agents.number == number + 1
            assert run.seen == expected
            assert await run.end(f"answer {number}") == "ended"
            expected += [run.prompt, f"answer {number}"]
        assert sorted([text(await turn) for turn in turns]) == [f"answer {number}" for number in range(6)]
        assert await stored(clients[0], conversation) == expected
        for client in clients:
            await client.close()
    finally:
        hosts.remove()


@requirement("several.lease")
async def test_a_turn_that_takes_longer_than_the_lease_keeps_what_it_holds(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash, conversation: str
) -> None:
    turn = soon(chat(at_a, conversation, agents.prompt("long")))
    run = await agents.run()
    with anyio.move_on_after(2 * LEASE):
        while True:
            await asyncio.sleep(LEASE / 4)
            with pytest.raises(openai.ConflictError):
                await chat(at_b, conversation, agents.prompt("meanwhile"))
    assert await run.end("done") == "ended"
    assert text(await turn) == "done"
    assert agents.number == 1


@requirement("several.lease")
async def test_a_conversation_whose_process_was_killed_in_mid_turn_is_free_in_the_other_soon(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash, conversation: str
) -> None:
    await chat(at_a, conversation, "before", model="remembering")
    before = await stored(at_b, conversation)
    turn = soon(chat(at_a, conversation, agents.prompt("never"), stream=True))
    run = await agents.run()
    run.say("half of an answ")
    a.kill()
    assert await run.over() == ""
    with pytest.raises(openai.APIConnectionError), anyio.fail_after(SOON):
        async for _ in await turn:
            pass
    await eventually(partial(taken, at_b, conversation, "after"), SOON)
    assert await stored(at_b, conversation) == [*before, "after", "after"]


@requirement("several.fence")
async def test_a_process_that_wakes_after_its_lease_finds_its_turn_refused_and_tells_its_client(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash, conversation: str
) -> None:
    late = soon(chat(at_a, conversation, agents.prompt("late")))
    run = await agents.run()
    with a.frozen():
        await eventually(partial(taken, at_b, conversation, "theirs"), SOON)
        theirs = await stored(at_b, conversation)
        run.say("too late")
        run.say(".")
    with pytest.raises(openai.ConflictError) as caught:
        await late
    assert caught.value.code == "turn_lost"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert await stored(at_a, conversation) == theirs


@requirement("several.fence")
async def test_a_stream_of_a_process_that_wakes_after_its_lease_ends_with_an_error(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash, conversation: str
) -> None:
    stream = await _streaming(at_a, conversation, agents)
    with a.frozen():
        await eventually(partial(taken, at_b, conversation, "theirs"), SOON)
    with pytest.raises(openai.APIError) as caught, anyio.fail_after(SOON):
        await _unfinished(stream)
    assert caught.value.code == "turn_lost"
    assert "theirs" in await stored(at_a, conversation)
    assert "first words" not in await stored(at_a, conversation)


async def _streaming(client: AsyncOpenAI, conversation: str, agents: Leash) -> openai.AsyncStream:
    """A stream whose agent has sent its first text."""
    turn = soon(chat(client, conversation, agents.prompt("late"), stream=True))
    (await agents.run()).say("first words")
    stream: openai.AsyncStream = await turn
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            return stream
    raise AssertionError


async def _unfinished(stream: openai.AsyncStream) -> None:
    """Read on; the stream must not end successfully."""
    async for chunk in stream:
        assert not chunk.choices or chunk.choices[0].finish_reason is None


@requirement("several.fence")
async def test_a_conversation_deleted_elsewhere_during_a_turn_stays_deleted(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash, conversation: str
) -> None:
    await chat(at_a, conversation, "before", model="remembering")
    turn = soon(chat(at_a, conversation, agents.prompt("into the void")))
    run = await agents.run()
    assert (await at_b.conversations.delete(conversation)).deleted
    run.say("too late")
    run.say(".")
    with pytest.raises(openai.ConflictError) as caught, anyio.fail_after(SOON):
        await turn
    assert caught.value.code == "turn_lost"
    with pytest.raises(openai.NotFoundError):
        await at_a.conversations.retrieve(conversation)


# idempotency keys and slots


@requirement("several.idempotency")
async def test_requests_with_one_key_to_both_processes_run_once(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, agents: Leash, conversation: str
) -> None:
    keyed = {"Idempotency-Key": conversation}
    prompt = agents.prompt("once")
    asked = [soon(chat(client, conversation, prompt, extra_headers=keyed)) for client in (at_a, at_b) * 3]
    await (await agents.run()).end("only once")
    answers = [await answer for answer in asked]
    assert agents.number == 1
    assert len({answer.id for answer in answers}) == 1
    assert {text(answer) for answer in answers} == {"only once"}
    with pytest.raises(openai.UnprocessableEntityError):
        await chat(at_b, conversation, agents.prompt("another"), extra_headers=keyed)


@requirement("several.idempotency")
async def test_a_key_whose_process_was_killed_is_not_run_again(
    at_a: AsyncOpenAI, at_b: AsyncOpenAI, a: Host, agents: Leash, conversation: str
) -> None:
    keyed = {"Idempotency-Key": conversation}
    prompt = agents.prompt("who knows what it did")
    turn = soon(chat(at_a, conversation, prompt, extra_headers=keyed))
    run = await agents.run()
    waiting = soon(chat(at_b, conversation, prompt, extra_headers=keyed))
    a.kill()
    await run.over()
    with pytest.raises(openai.APIConnectionError):
        await turn
    with pytest.raises(openai.ConflictError) as caught, anyio.fail_after(SOON):
        await waiting
    assert caught.value.code == "idempotency_outcome_unknown"
    assert agents.number == 1


@requirement("slots.shared")
async def test_slots_are_counted_over_both_processes_and_those_of_the_dead_return(
    store_url: str, agents: Leash, conversation: str
) -> None:
    hosts = Hosts(store_url, 2, SLOTS="2")
    try:
        a, b = hosts.all()
        async with a.client() as at_a, b.client() as at_b:
            first = soon(chat(at_a, f"{conversation}-1", agents.prompt("1")))
            second = soon(chat(at_b, f"{conversation}-2", agents.prompt("2")))
            runs = {run.pid: run for run in (await agents.run(), await agents.run())}
            for client in (at_a, at_b):
                with pytest.raises(openai.RateLimitError) as caught:
                    await chat(client, f"{conversation}-3", agents.prompt("3"))
                assert caught.value.code == "rate_limit_exceeded"
                assert "retry-after" in caught.value.response.headers
            await runs[b.pid].end("done")
            await second
            third = soon(chat(at_b, f"{conversation}-3", agents.prompt("3")))
            fourth = await agents.run()
            a.kill()
            with pytest.raises(openai.APIConnectionError):
                await first

            async def free() -> bool:
                try:
                    await chat(at_b, f"{conversation}-4", "4", model="remembering")
                except openai.RateLimitError:
                    return False
                return True

            await eventually(free, SOON)
            await fourth.end("done")
            await third
    finally:
        hosts.remove()
