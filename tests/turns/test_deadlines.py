"""Deadlines: whenever one passes, the client is told in the terms of its protocol, and the agent is stopped."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import AgentError, Deadlines, Progress, RunContext, Server
from openai_compat.http import ClientTooSlow, HttpRequest, ResponseBody, ResponseStart
from tests.support import clocks
from tests.support.exchanges import LOCALHOST, Recorder, ask, chat, request
from tests.support.stepping import Diary, agent_threads, eventually, tasks
from tests.turns.test_cancellation import KINDS, Agent, function, generator, plain_factory

pytestmark = pytest.mark.anyio
FAR = 1e9
THREADED = (generator, function, plain_factory)
NEVER = Deadlines(request=FAR, body=FAR, head=FAR, heartbeat=FAR, write=FAR, grace=20)


def only(**deadlines: float) -> Deadlines:
    """Deadlines that never pass, except the given ones."""
    return Deadlines(**{name: getattr(NEVER, name) for name in NEVER.__slots__} | deadlines)


@pytest.fixture(params=clocks.backends(), ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def jump_after(steps: int, server: Server, asked: HttpRequest, sent: Recorder, seconds: float) -> bool:
    """Let `seconds` pass after `steps` iterations of the loop; True if the request was over before."""
    over = False

    async def call() -> None:
        nonlocal over
        await server.handle(asked, sent)
        over = True

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        for _ in range(steps):
            if over:
                break
            await anyio.lowlevel.checkpoint()
        was_over = over
        clocks.jump(seconds)
    return was_over


def check_told(sent: Recorder, *, stream: bool) -> None:
    """A client whose turn took too long still has the whole answer, or an error."""
    assert sent.complete
    if sent.status == 504:
        assert sent.error["code"] == "timeout"
        assert sent.headers["x-should-retry"] == "false"
    elif not stream or sent.events[-1] == "[DONE]":
        assert sent.text == "one two three"
    else:
        assert sent.events[-1]["error"]["code"] == "timeout"
        assert b'"finish_reason":"' not in sent.data


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_request_deadline_may_pass_at_every_await_point(kind: Callable[[Diary], Agent], stream: bool) -> None:
    outcomes = set()
    for steps in range(1000):
        diary, sent = Diary(), Recorder()
        server = Server(kind(diary), deadlines=only(request=1000))
        before = tasks()
        over = await jump_after(steps, server, chat(stream=stream), sent, 2000)
        check_told(sent, stream=stream)
        assert diary.cleaned_up == diary.began
        assert server.services.live.slots.used == 0
        assert tasks() == before
        assert not agent_threads()
        outcomes.add(sent.status)
        if over:
            break
    else:
        pytest.fail("the request never came to its end")
    assert outcomes <= {200, 504}
    assert 504 in outcomes or kind in THREADED  # a thread may be done before the first step


class Held:
    """A `send` that blocks from the given message on, until it is released."""

    def __init__(self, first: int) -> None:
        self.messages: list[ResponseStart | ResponseBody] = []
        self._first = first
        self.go = anyio.Event()

    async def __call__(self, message: ResponseStart | ResponseBody) -> None:
        self.messages.append(message)
        if len(self.messages) > self._first:
            await self.go.wait()


async def handled(server: Server, asked: HttpRequest, sent: Any, ended: list[BaseException | None]) -> None:
    try:
        await server.handle(asked, sent)
    except ClientTooSlow as error:
        ended.append(error)
    else:
        ended.append(None)


async def steady(prompt: str) -> AsyncIterator[str]:
    while True:
        await anyio.lowlevel.checkpoint()
        yield "more "


async def silent(prompt: str) -> AsyncIterator[str]:
    await anyio.sleep_forever()
    yield "never"


def counting(diary: Diary, agent: Agent) -> Agent:
    async def counted(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            async with aclosing(agent(prompt)) as pieces:
                async for piece in pieces:
                    diary.done += 1
                    yield piece
        finally:
            diary.cleaned_up += 1

    return counted


@pytest.mark.parametrize("agent", [steady, silent])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_agent_that_never_ends_is_stopped_at_the_request_deadline(agent: Agent, stream: bool) -> None:
    diary, sent = Diary(), Recorder()
    server = Server(counting(diary, agent), deadlines=only(request=100))
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, chat(stream=stream), sent)
        await eventually(lambda: diary.done >= 3 if agent is steady else diary.began)
        clocks.jump(101)
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)
    if stream and agent is steady:
        assert sent.events[-1]["error"] == {
            "message": "The agent took too long and was stopped.",
            "type": "agent_error",
            "param": None,
            "code": "timeout",
        }
        assert sent.complete
    else:
        assert (sent.status, sent.error["code"], sent.error["type"]) == (504, "timeout", "server_error")


async def test_a_blocked_thread_does_not_keep_the_client_waiting_beyond_the_deadline() -> None:
    diary, sent, release = Diary(), Recorder(), threading.Event()

    def blocking(prompt: str) -> str:
        diary.began += 1
        release.wait(20)
        return "too late"

    server = Server(blocking, deadlines=only(request=100))
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, chat(), sent)
        await eventually(lambda: diary.began)
        clocks.jump(101)
        await eventually(lambda: sent.begun and sent.complete)  # within the grace period
        assert (sent.status, server.services.live.slots.used) == (504, 1)
        release.set()
    assert server.services.live.slots.used == 0


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_answer_that_is_being_written_is_not_interrupted_by_the_request_deadline(stream: bool) -> None:
    async def quick(prompt: str) -> str:
        return "done"

    for first in range(2):
        sent, ended = Held(first), list[BaseException | None]()
        server = Server(quick, deadlines=only(request=100))
        async with anyio.create_task_group() as group:
            group.start_soon(handled, server, chat(stream=stream), sent, ended)
            await eventually(lambda sent=sent, first=first: len(sent.messages) > first)
            clocks.jump(101)
            await anyio.lowlevel.checkpoint()
            sent.go.set()
        whole = Recorder()
        whole.messages = sent.messages
        assert (ended, whole.complete, whole.text) == ([None], True, "done")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_client_that_does_not_read_is_cut_at_the_write_deadline(stream: bool, first: int) -> None:
    diary, sent, ended = Diary(), Held(first), list[BaseException | None]()
    server = Server(counting(diary, steady if stream else say), deadlines=only(write=100))
    async with anyio.create_task_group() as group:
        group.start_soon(handled, server, chat(stream=stream), sent, ended)
        await eventually(lambda: len(sent.messages) > first)
        clocks.jump(101)
    assert [type(error) for error in ended] == [ClientTooSlow]
    assert len(sent.messages) == first + 1
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)


async def say(prompt: str) -> AsyncIterator[str]:
    yield "done"


async def test_an_error_is_not_written_for_ever_either() -> None:
    sent, ended = Held(0), list[BaseException | None]()
    server = Server(say, deadlines=only(write=100))
    async with anyio.create_task_group() as group:
        group.start_soon(handled, server, chat(messages=[]), sent, ended)
        await eventually(lambda: sent.messages)
        clocks.jump(101)
    assert [type(error) for error in ended] == [ClientTooSlow]


async def test_a_body_that_does_not_arrive_is_408_and_no_agent_starts() -> None:
    diary, sent = Diary(), Recorder()

    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"model": '
        await anyio.sleep_forever()

    server = Server(counting(diary, steady), deadlines=only(body=100))
    asked = HttpRequest("POST", "/v1/chat/completions", "", [LOCALHOST], stalled())
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, asked, sent)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        clocks.jump(101)
    assert (sent.status, sent.error["code"], sent.headers["connection"]) == (408, "request_timeout", "close")
    assert diary.began == 0


# the response head and the heartbeat


async def test_a_late_first_event_goes_out_after_a_200_and_a_comment() -> None:
    sent, go = Recorder(), anyio.Event()

    async def late(prompt: str) -> AsyncIterator[str]:
        await go.wait()
        yield "at last"

    async with anyio.create_task_group() as group:
        group.start_soon(Server(late, deadlines=only(head=2, heartbeat=10)).handle, chat(stream=True), sent)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert not sent.begun
        clocks.jump(2.1)
        await eventually(lambda: sent.bodies)
        assert (sent.status, sent.data) == (200, b": keep-alive\n\n")
        for beats in (2, 3):
            clocks.jump(10.1)
            await eventually(lambda beats=beats: len(sent.bodies) == beats)
        assert sent.data == b": keep-alive\n\n" * 3
        go.set()
    assert (sent.text, sent.events[-1]) == ("at last", "[DONE]")


async def test_a_failure_before_the_head_deadline_has_its_own_status() -> None:
    sent, go = Recorder(), anyio.Event()

    async def closed(prompt: str) -> AsyncIterator[str]:
        await go.wait()
        raise AgentError("The calendar is closed.", status=409, code="calendar_closed")
        yield "never"

    async with anyio.create_task_group() as group:
        group.start_soon(Server(closed, deadlines=only(head=2)).handle, chat(stream=True), sent)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        go.set()
    assert (sent.status, sent.error["code"]) == (409, "calendar_closed")


async def test_a_failure_after_the_head_deadline_ends_the_stream() -> None:
    sent, go = Recorder(), anyio.Event()

    async def closed(prompt: str) -> AsyncIterator[str]:
        await go.wait()
        raise AgentError("The calendar is closed.", status=409, code="calendar_closed")
        yield "never"

    async with anyio.create_task_group() as group:
        group.start_soon(Server(closed, deadlines=only(head=2)).handle, chat(stream=True), sent)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        clocks.jump(2.1)
        await eventually(lambda: sent.begun)
        go.set()
    assert (sent.status, sent.complete) == (200, True)
    assert [event["error"]["code"] for event in sent.events] == ["calendar_closed"]


@pytest.mark.parametrize("begun", [False, True])
async def test_an_agent_whose_work_is_not_shown_does_not_keep_the_heartbeat_away(begun: bool) -> None:
    sent, worked = Recorder(), Diary()

    async def busy(prompt: str) -> AsyncIterator[str | Progress]:
        if begun:
            yield "Let me see."
        for step in range(9):
            for _ in range(30):
                await anyio.lowlevel.checkpoint()
            clocks.jump(1)
            yield Progress("step", f"{step}", "working")
            worked.done += 1
        yield "done"

    server = Server(busy, deadlines=only(head=3.5, heartbeat=3.5), visibility="hidden")
    await server.handle(chat(stream=True), sent)
    assert worked.done == 9
    assert sent.data.count(b": keep-alive") == 2


async def test_the_agent_is_told_how_much_time_is_left() -> None:
    async def asks(prompt: str, context: RunContext) -> str:
        return f"{context.remaining:.0f} {context.cancelled}"

    sent = Recorder()
    await Server(asks, deadlines=Deadlines(request=300)).handle(request(body=ask()), sent)
    assert sent.text in ("300 False", "299 False")
