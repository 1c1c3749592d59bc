"""The life of a turn: the buffer between agent and client, slots, and clean-up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Capabilities, Deadlines, Finished, Limits, MediaDelta, RunContext, Server, TextDelta
from openai_compat.agents.worker_thread import BUFFER as THREAD_BUFFER
from openai_compat.aio.timers import asyncio_loop, new_wake_event
from openai_compat.http import ResponseBody, ResponseStart
from openai_compat.turns.agent_run import BUFFER
from openai_compat.wire.reducer import LARGE_ITEM
from tests.loops import anyio_backend as anyio_backend
from tests.support.exchanges import Recorder, answer, chat
from tests.support.stepping import agent_threads, eventually, tasks

pytestmark = pytest.mark.anyio


# back-pressure


class Stalled:
    """A client that reads the head and some pieces, and then blocks until it is released."""

    def __init__(self, pieces: int = 1) -> None:
        self.messages: list[ResponseStart | ResponseBody] = []
        self.go = anyio.Event()
        self._pieces = pieces

    async def __call__(self, message: ResponseStart | ResponseBody) -> None:
        self.messages.append(message)
        if len(self.messages) > self._pieces:
            await self.go.wait()


def texts(sent: Stalled) -> str:
    whole = Recorder()
    whole.messages = sent.messages
    return whole.text


@pytest.mark.parametrize("kind", ["str", "event", "with a stop sequence"])
async def test_an_agent_is_never_further_ahead_of_its_client_than_the_buffer(kind: str) -> None:
    made = 0

    async def eager(prompt: str) -> AsyncIterator[str | TextDelta]:
        nonlocal made
        for _ in range(3000):
            made += 1
            yield TextDelta("x") if kind == "event" else "x"

    sent, fields = Stalled(), {"stop": ["never"]} if kind == "with a stop sequence" else {}
    async with anyio.create_task_group() as group:
        group.start_soon(Server(eager).handle, chat(stream=True, **fields), sent)
        await eventually(lambda: made >= BUFFER)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert made <= 2 * BUFFER + 1  # the batch being written, and the buffer behind it
        sent.go.set()
    assert texts(sent) == "x" * 3000


async def test_a_plain_generator_is_never_further_ahead_either() -> None:
    made = [0]

    def eager(prompt: str) -> Iterator[str]:
        for _ in range(3000):
            made[0] += 1
            yield "x"

    sent = Stalled()
    async with anyio.create_task_group() as group:
        group.start_soon(Server(eager).handle, chat(stream=True), sent)
        await eventually(lambda: made[0] >= BUFFER)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert made[0] <= 2 * BUFFER + 2 * THREAD_BUFFER + 2
        sent.go.set()
    assert texts(sent) == "x" * 3000


@pytest.mark.parametrize(
    "large", ["x" * LARGE_ITEM, TextDelta("x" * LARGE_ITEM), MediaDelta(b"x" * LARGE_ITEM, "image/png")]
)
async def test_large_items_do_not_pile_up(large: Any) -> None:
    made = 0

    async def painter(prompt: str) -> AsyncIterator[Any]:
        nonlocal made
        for _ in range(50):
            made += 1
            yield large

    sent = Stalled()
    async with anyio.create_task_group() as group:
        group.start_soon(Server(painter).handle, chat(stream=True), sent)
        await eventually(lambda: made)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert made <= 3
        sent.go.set()
    assert made == 50


async def test_all_that_was_said_meanwhile_goes_out_in_one_write() -> None:
    said = anyio.Event()

    async def quick(prompt: str) -> AsyncIterator[str]:
        yield "first "
        for number in range(100):
            yield f"{number} "
        said.set()

    sent = Stalled()
    async with anyio.create_task_group() as group:
        group.start_soon(Server(quick).handle, chat(stream=True), sent)
        await said.wait()
        await eventually(lambda: len(sent.messages) > 1)
        sent.go.set()
    assert texts(sent) == "first " + "".join([f"{number} " for number in range(100)])
    assert len(sent.messages) <= 5


async def test_each_piece_goes_out_before_the_next_is_made() -> None:
    sent, seen = Recorder(), []

    async def slow(prompt: str) -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}"
            with anyio.fail_after(20):
                while f'"content":"{number}"'.encode() not in sent.data:
                    await anyio.lowlevel.checkpoint()
            seen.append(number)

    await Server(slow).handle(chat(stream=True), sent)
    assert seen == [*range(5)]


async def test_an_endless_plain_answer_is_ended_at_the_limit() -> None:
    async def endless(prompt: str) -> AsyncIterator[str]:
        while True:
            yield "x" * 100

    server = Server(endless, limits=Limits(answer=10_000))
    sent = await answer(server, chat())
    assert (sent.status, sent.error["code"]) == (502, "answer_too_large")
    await eventually(lambda: not server.services.live.slots.used)


# slots


async def test_never_more_agents_run_than_there_are_slots() -> None:
    running, most, go = 0, 0, anyio.Event()

    async def patient(prompt: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await go.wait()
        finally:
            running -= 1
        return "done"

    server, answers = Server(patient, limits=Limits(slots=4)), list[Recorder]()

    async def call(stream: bool) -> None:
        answers.append(await answer(server, chat(stream=stream)))

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(call, number % 2 == 0)
        await eventually(lambda: len(answers) == 26)
        assert (running, server.services.live.slots.used) == (4, 4)
        go.set()
    refused = [sent for sent in answers if sent.status == 429]
    assert (len(refused), most) == (26, 4)
    for sent in refused:
        assert (sent.error["code"], sent.error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert float(sent.headers["retry-after"]) > 0
        assert "x-should-retry" not in sent.headers  # no agent has run, so the client may retry
    assert [sent.text for sent in answers if sent.status == 200] == ["done"] * 4
    assert (await answer(server, chat())).status == 200


async def test_each_choice_takes_a_slot_and_all_or_none_are_taken() -> None:
    async def say(prompt: str) -> str:
        return "hi"

    server = Server(say, limits=Limits(slots=3))
    assert (await answer(server, chat(n=3))).status == 200
    await eventually(lambda: not server.services.live.slots.used)
    assert (await answer(server, chat(n=4))).status == 429
    assert server.services.live.slots.used == 0


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_slots_come_back_whatever_happened(stream: bool) -> None:
    ways: list[Any] = [RuntimeError("no"), SystemExit(1), None]

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "said"
        if (error := ways.pop()) is not None:
            raise error

    server, before = Server(agent, limits=Limits(slots=1)), tasks()
    for _ in range(3):
        assert (await answer(server, chat(stream=stream))).status in (200, 500)
        await eventually(lambda: not server.services.live.slots.used)
    assert tasks() == before


# several choices


async def test_choices_are_independent_runs_of_the_agent() -> None:
    turns = []

    async def agent(prompt: str, context: RunContext) -> AsyncIterator[str]:
        turns.append(context.turn_id)
        mine = len(turns)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
            yield f"{mine}"

    plain = await answer(Server(agent), chat(n=3))
    assert sorted([choice["message"]["content"] for choice in plain.json["choices"]]) == ["111", "222", "333"]
    assert len(set(turns)) == 3
    assert plain.json["id"] in turns
    turns.clear()
    streamed = await answer(Server(agent), chat(n=3, stream=True))
    said = {0: "", 1: "", 2: ""}
    for chunk in streamed.events[:-1]:
        choice = chunk["choices"][0]
        said[choice["index"]] += choice["delta"].get("content", "")
    assert sorted(said.values()) == ["111", "222", "333"]


async def test_choices_are_stopped_all_at_once() -> None:
    cleaned_up, runs = anyio.Event(), []

    async def agent(prompt: str) -> AsyncIterator[str]:
        number = len(runs)
        runs.append(number)
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            # The others can only end if all are told to stop before waiting for any of them.
            with anyio.CancelScope(shield=True):
                if number == 1:
                    cleaned_up.set()
                await cleaned_up.wait()
            runs.append("ended")

    server, sent = Server(agent, deadlines=Deadlines(grace=60)), Recorder()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, chat(n=3), sent)
            await eventually(lambda: len(runs) == 3)
            group.cancel_scope.cancel()
    assert runs == [0, 1, 2, "ended", "ended", "ended"]
    assert server.services.live.slots.used == 0


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_one_choice_that_fails_fails_the_answer_and_stops_the_others(stream: bool) -> None:
    runs, stopped = [], []

    async def agent(prompt: str) -> AsyncIterator[str]:
        runs.append(prompt)
        if len(runs) == 2:
            raise RuntimeError("no")
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            stopped.append(prompt)

    server = Server(agent)
    sent = await answer(server, chat(n=3, stream=stream))
    assert (sent.status, sent.error["code"]) == (500, "agent_error")
    await eventually(lambda: not server.services.live.slots.used)
    assert (len(runs), len(stopped)) == (3, 2)


# the end of a turn


async def test_what_an_agent_says_after_its_end_is_dropped() -> None:
    async def talkative(prompt: str) -> AsyncIterator[str | Finished]:
        yield "done"
        yield Finished("content_filter")
        yield "one more thing"
        yield Finished()

    sent = await answer(Server(talkative), chat())
    assert sent.json["choices"][0]["message"]["content"] == "done"
    assert sent.json["choices"][0]["finish_reason"] == "content_filter"


async def test_an_agent_that_fails_after_its_end_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openai_compat")

    async def agent(prompt: str) -> AsyncIterator[str | Finished]:
        yield "done"
        yield Finished()
        raise RuntimeError("too late")

    server = Server(agent)
    assert (await answer(server, chat())).text == "done"
    await eventually(lambda: "too late" in caplog.text)
    await eventually(lambda: not server.services.live.slots.used)


async def test_an_agent_that_never_stops_talking_after_its_end_is_stopped() -> None:
    async def endless(prompt: str) -> AsyncIterator[str | Finished]:
        yield "done"
        yield Finished()
        while True:
            yield "and "

    server, before = Server(endless), tasks()
    assert (await answer(server, chat(stream=True))).text == "done"
    await eventually(lambda: not server.services.live.slots.used)
    assert tasks() == before


@pytest.mark.parametrize("fields", [{"stop": ["STOP"]}, {"max_tokens": 1}])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_agent_whose_answer_was_cut_is_stopped(fields: dict[str, Any], stream: bool) -> None:
    closed = []

    async def endless(prompt: str) -> AsyncIterator[str]:
        try:
            while True:
                yield "one STOP two"
                await anyio.lowlevel.checkpoint()
        finally:
            closed.append(True)

    server = Server(endless)
    sent = await answer(server, chat(stream=stream, **fields))
    assert sent.text == "one "
    await eventually(lambda: closed and not server.services.live.slots.used)


async def test_a_choice_that_was_cut_is_stopped_while_others_go_on() -> None:
    stopped, runs = anyio.Event(), []

    async def agent(prompt: str) -> AsyncIterator[str]:
        runs.append(prompt)
        if len(runs) == 2:
            await stopped.wait()
            yield "the other was stopped"
            return
        try:
            yield "one STOP"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    sent = await answer(Server(agent), chat(n=2, stop=["STOP"]))
    texts = [choice["message"]["content"] for choice in sent.json["choices"]]
    assert sorted(texts) == ["one ", "the other was stopped"]


async def test_a_plain_generator_whose_answer_was_cut_is_closed() -> None:
    closed = []

    def endless(prompt: str) -> Iterator[str]:
        try:
            while True:
                yield "one STOP two"
        finally:
            closed.append(True)

    server = Server(endless)
    assert (await answer(server, chat(stop=["STOP"]))).text == "one "
    await eventually(lambda: closed and not server.services.live.slots.used and not agent_threads())


async def test_text_said_before_a_failure_is_sent_even_if_it_was_held_back() -> None:
    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "one ST"
        raise RuntimeError("no")

    sent = await answer(Server(agent), chat(stop=["STOP"], stream=True))
    assert sent.text == "one ST"
    assert sent.events[-1]["error"]["code"] == "agent_error"


# draining


async def test_a_server_that_drains_takes_no_new_turns_and_lets_the_running_ones_end() -> None:
    go, began = anyio.Event(), anyio.Event()

    async def patient(prompt: str) -> str:
        began.set()
        await go.wait()
        return "done"

    server, sent = Server(patient), Recorder()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, chat(), sent)
            await began.wait()
            group.start_soon(server.drain, 20)
            group.start_soon(server.drain, 20)
            await eventually(lambda: server.services.live.slots.closed)
            refused = await answer(server, chat())
            assert (refused.status, refused.error["code"]) == (503, "shutting_down")
            assert float(refused.headers["retry-after"]) > 0
            go.set()
    assert sent.text == "done"


async def test_a_server_that_drains_ends_the_turns_that_outlast_its_patience() -> None:
    began = anyio.Event()

    async def endless(prompt: str) -> AsyncIterator[str]:
        yield "begun"
        began.set()
        await anyio.sleep_forever()

    server, sent = Server(endless), Recorder()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, chat(stream=True), sent)
            await began.wait()
            await server.drain(0)
    wire = b"".join([message.data for message in sent.messages if isinstance(message, ResponseBody)])
    assert b'"code":"shutting_down"' in wire
    assert b"[DONE]" not in wire
    assert server.services.live.slots.used == 0


async def test_leaving_the_lifespan_drains() -> None:
    async def say(prompt: str) -> str:
        return "hi"

    server = Server(say)
    async with server.lifespan():
        assert (await answer(server, chat())).status == 200
    assert (await answer(server, chat())).status == 503


# waking


async def test_a_wake_is_never_lost() -> None:
    wake, woken = new_wake_event(asyncio_loop()), []
    wake.set()
    wake.set()
    with anyio.fail_after(20):
        await wake.wait(anyio.current_time() + 10)

    async def sleeper() -> None:
        await wake.wait(anyio.current_time() + 10)
        woken.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(sleeper)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert not woken
        wake.set()


async def test_leaving_the_lifespan_closes_the_backends_that_can_be_closed() -> None:
    closed: list[str] = []

    class Closable:
        capabilities = Capabilities()

        def __init__(self, name: str, error: Exception | None = None) -> None:
            self._name, self._error = name, error

        async def run(self, request: Any, context: Any) -> AsyncIterator[str]:
            yield "hi"

        async def aclose(self) -> None:
            closed.append(self._name)
            if self._error is not None:
                raise self._error

    server = Server({"a": Closable("a", OSError("cannot")), "b": Closable("b")})
    async with server.lifespan():
        assert (await answer(server, chat())).status in (200, 404)
    assert closed == ["a", "b"]
