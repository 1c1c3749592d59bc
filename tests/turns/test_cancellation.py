"""A client may disconnect at any await point: nothing of its request is left behind, and no outcome is faked."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Capabilities, Deadlines, RunContext, Server
from openai_compat.http import HttpRequest
from tests.loops import anyio_backend as anyio_backend
from tests.support.exchanges import Recorder, answer, chat
from tests.support.stepping import Diary, agent_threads, cancel_after, eventually, handling, tasks

pytestmark = pytest.mark.anyio
Agent = Callable[..., Any]


def async_generator(diary: Diary) -> Agent:
    async def agent(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            for piece in ("one ", "two ", "three"):
                await anyio.lowlevel.checkpoint()
                yield piece
            diary.done += 1
        finally:
            diary.cleaned_up += 1

    return agent


def coroutine(diary: Diary) -> Agent:
    async def agent(prompt: str) -> str:
        diary.began += 1
        try:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            diary.done += 1
            return "one two three"
        finally:
            diary.cleaned_up += 1

    return agent


def generator(diary: Diary) -> Agent:
    def agent(prompt: str) -> Iterator[str]:
        diary.began += 1
        try:
            yield from ("one ", "two ", "three")
            diary.done += 1
        finally:
            diary.cleaned_up += 1

    return agent


def function(diary: Diary) -> Agent:
    def agent(prompt: str) -> str:
        diary.began += 1
        try:
            diary.done += 1
            return "one two three"
        finally:
            diary.cleaned_up += 1

    return agent


def factory(diary: Diary) -> Agent:
    async def make(prompt: str) -> AsyncIterator[str]:
        return async_generator(diary)(prompt)

    return make


def plain_factory(diary: Diary) -> Agent:
    def make(prompt: str) -> AsyncIterator[str]:
        items: AsyncIterator[str] = async_generator(diary)(prompt)
        return items

    return make


def swallowing(diary: Diary) -> Agent:
    """An agent that continues after it was told to stop."""

    async def agent(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            for piece in ("one ", "two ", "three"):
                with suppress(anyio.get_cancelled_exc_class()):
                    await anyio.lowlevel.checkpoint()
                yield piece
            diary.done += 1
        finally:
            diary.cleaned_up += 1

    return agent


def angry(diary: Diary) -> Agent:
    """An agent that fails when it is told to stop."""

    async def agent(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            for piece in ("one ", "two ", "three"):
                await anyio.lowlevel.checkpoint()
                yield piece
            diary.done += 1
        finally:
            diary.cleaned_up += 1
            if not diary.done:
                raise RuntimeError("I was not done")

    return agent


KINDS = [async_generator, coroutine, generator, function, factory, plain_factory, swallowing, angry]


def check_left_behind(server: Server, sent: Recorder, diary: Diary, before: int, *, over: bool) -> None:
    """Check the invariants after a request that was completed or cancelled at any point."""
    assert diary.cleaned_up == diary.began
    assert server.services.live.slots.used == 0
    assert tasks() == before
    assert not agent_threads()
    if over:
        assert sent.complete
        assert diary.done == diary.began
        assert sent.text == "one two three"
    elif sent.begun:
        assert sent.status == 200
    # Only an agent that ran to its end has finished.
    assert diary.done or b'"finish_reason":"' not in sent.data
    assert diary.done or b"[DONE]" not in sent.data


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_may_leave_at_every_await_point(kind: Callable[[Diary], Agent], stream: bool, how: str) -> None:
    for steps in range(1000):
        diary, sent = Diary(), Recorder()
        server = Server(kind(diary))
        before = tasks()
        over = await cancel_after(steps, handling(server, lambda: chat(stream=stream), sent), how)
        recorded = len(sent.messages)
        await anyio.lowlevel.checkpoint()
        check_left_behind(server, sent, diary, before, over=over)
        assert len(sent.messages) == recorded, "something was sent after the client had left"
        if over:
            break
    else:
        pytest.fail("the request never came to its end")
    assert steps > 3
    assert (await answer(server, chat(stream=stream))).text == "one two three"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_client_with_several_choices_may_leave_at_every_await_point(stream: bool) -> None:
    for steps in range(1000):
        diary, sent = Diary(), Recorder()
        server = Server(async_generator(diary))
        before = tasks()
        over = await cancel_after(steps, handling(server, lambda: chat(stream=stream, n=3), sent), "task")
        assert diary.cleaned_up == diary.began <= 3
        assert server.services.live.slots.used == 0
        assert tasks() == before
        if over:
            break
    assert diary.done == 3


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_the_client_of_an_agent_that_talks_without_end_may_leave(stream: bool) -> None:
    diary = Diary()

    async def steady(prompt: str) -> AsyncIterator[str]:
        try:
            while True:
                diary.began += 1
                yield "more "
                await anyio.lowlevel.checkpoint()
        finally:
            diary.cleaned_up += 1

    async def take(message: object) -> None:
        """A client that reads so fast that no write ever waits."""

    server = Server(steady)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, chat(stream=stream), take)
            await eventually(lambda: diary.began > 20)
            group.cancel_scope.cancel()
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)


async def test_a_body_that_is_still_coming_starts_no_agent() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        data = b'{"model": "agent", "messages": [{"role": "user", "content": "hi"}]}'
        for byte in data:
            await anyio.lowlevel.checkpoint()
            yield bytes([byte])

    for steps in range(60):
        diary, sent = Diary(), Recorder()
        server = Server(async_generator(diary))
        request = HttpRequest("POST", "/v1/chat/completions", "", [(b"host", b"localhost")], slowly())
        assert not await cancel_after(steps, handling(server, lambda request=request: request, sent), "task")
        assert (diary.began, server.services.live.slots.used, sent.messages) == (0, 0, [])


# agents that do not stop properly


async def started(diary: Diary) -> None:
    await eventually(lambda: diary.began)


async def leave_once(server: Server, diary: Diary, how: str, *, stream: bool) -> Recorder:
    """Cancel a request as soon as its agent has started; return when the server is done with it."""
    sent = Recorder()

    async def call() -> None:
        await server.handle(chat(stream=stream), sent)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await started(diary)
            group.cancel_scope.cancel()
    return sent


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_agent_that_swallows_its_cancellation_is_ended_at_its_next_word(stream: bool) -> None:
    diary = Diary()

    async def stubborn(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            diary.log.append("swallowed")
        try:
            yield "I go on"
            diary.log.append("went on")
        finally:
            diary.cleaned_up += 1

    server, before = Server(stubborn), tasks()
    sent = await leave_once(server, diary, "scope", stream=stream)
    await eventually(lambda: not server.services.live.slots.used)
    assert diary == Diary(began=1, cleaned_up=1, log=["swallowed"])
    assert (sent.messages, tasks()) == ([], before)


async def test_an_agent_that_swallows_its_cancellation_and_returns_is_over() -> None:
    diary = Diary()

    async def stubborn(prompt: str) -> str:
        diary.began += 1
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            diary.cleaned_up += 1
        return "too late"

    server = Server(stubborn)
    sent = await leave_once(server, diary, "scope", stream=True)
    await eventually(lambda: not server.services.live.slots.used)
    assert (diary.cleaned_up, sent.messages) == (1, [])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_an_agent_that_raises_while_it_is_stopped_harms_nobody(error: BaseException, stream: bool) -> None:
    diary = Diary()

    async def angry(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            diary.cleaned_up += 1
            raise error

    server, before = Server(angry), tasks()
    sent = await leave_once(server, diary, "scope", stream=stream)
    assert (diary.cleaned_up, server.services.live.slots.used, sent.messages, tasks()) == (1, 0, [], before)


async def test_asynchronous_clean_up_is_let_finish(anyio_backend: str) -> None:
    diary = Diary()

    async def careful(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            # On trio everything in a cancelled scope is cancelled, so clean-up must be shielded there.
            with anyio.CancelScope(shield=anyio_backend == "trio"):
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
            diary.cleaned_up += 1

    server = Server(careful)
    await leave_once(server, diary, "scope", stream=True)
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_thread_that_blocks_is_not_waited_for_and_keeps_its_slot_until_it_ends(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    diary, release = Diary(), threading.Event()

    def blocking(prompt: str) -> str:
        diary.began += 1
        release.wait(20)
        diary.cleaned_up += 1
        return "too late"

    server, before = Server(blocking, deadlines=Deadlines(grace=0.05)), tasks()
    sent = await leave_once(server, diary, "scope", stream=stream)
    assert (sent.messages, server.services.live.slots.used, diary.cleaned_up) == ([], 1, 0)
    assert "still runs" in caplog.text
    release.set()
    await eventually(lambda: not server.services.live.slots.used)
    assert (diary.cleaned_up, tasks(), sent.messages) == (1, before, [])
    await eventually(lambda: not agent_threads())


async def test_a_blocking_agent_can_see_that_it_is_to_stop() -> None:
    diary = Diary()

    def polite(prompt: str, context: RunContext) -> str:
        diary.began += 1
        assert context.wait_cancelled(20)
        assert context.cancelled
        diary.cleaned_up += 1
        return "too late"

    server = Server(polite)
    await leave_once(server, diary, "scope", stream=True)
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)


async def test_an_abandoned_generator_is_closed_in_its_own_thread() -> None:
    diary, threads = Diary(), []

    def endless(prompt: str) -> Iterator[str]:
        threads.append(threading.get_ident())
        try:
            while True:
                yield "more "
                diary.began += 1
        finally:
            threads.append(threading.get_ident())
            diary.cleaned_up += 1

    server = Server(endless)
    await leave_once(server, diary, "scope", stream=True)
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)
    assert threads[0] == threads[1] != threading.get_ident()


async def test_a_generator_that_raises_while_it_is_closed_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()

    def angry(prompt: str) -> Iterator[str]:
        try:
            while True:
                yield "more "
                diary.began += 1
        finally:
            diary.cleaned_up += 1
            raise RuntimeError("secret")

    caplog.set_level("INFO", "openai_compat")
    server = Server(angry)
    await leave_once(server, diary, "scope", stream=True)
    assert (diary.cleaned_up, server.services.live.slots.used) == (1, 0)
    assert "RuntimeError: secret" in caplog.text


async def test_an_agent_cut_by_a_stop_sequence_keeps_its_slot_until_its_thread_has_ended() -> None:
    release, after = threading.Event(), []

    def slow_to_end(prompt: str) -> Iterator[str]:
        yield "one STOP"
        release.wait(20)
        after.append("ended")

    server = Server(slow_to_end, deadlines=Deadlines(grace=0.05))
    sent = await answer(server, chat(stop=["STOP"], stream=True))
    assert (sent.text, sent.complete, server.services.live.slots.used, after) == ("one ", True, 1, [])
    release.set()
    await eventually(lambda: not server.services.live.slots.used)
    assert after == ["ended"]


async def test_an_agent_cut_by_a_stop_sequence_is_cancelled_once() -> None:
    diary = Diary()

    async def careful(prompt: str) -> AsyncIterator[str]:
        diary.began += 1
        yield "one STOP"
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            diary.log.append("cancelled")
            for _ in range(10):
                try:
                    await anyio.sleep(0.001)
                except anyio.get_cancelled_exc_class():
                    diary.log.append("again")
            raise
        finally:
            diary.cleaned_up += 1

    server = Server(careful)
    assert (await answer(server, chat(stop=["STOP"]))).text == "one "
    await eventually(lambda: diary.cleaned_up)
    assert diary.log[0] == "cancelled"
    if anyio.get_cancelled_exc_class().__module__.startswith("asyncio"):  # trio cancels at every await, by design
        assert diary.log == ["cancelled"]


async def test_a_backend_is_asked_to_stop_before_it_is_cancelled() -> None:
    log: list[str] = []

    class Polite:
        capabilities = Capabilities()

        async def run(self, request: object, context: RunContext) -> AsyncIterator[str]:
            log.append("began")
            try:
                await anyio.sleep_forever()
                yield "never"
            finally:
                log.append("cancelled")

        def request_cancel(self, context: RunContext) -> None:
            log.append(f"asked, cancelled {context.cancelled}")
            raise RuntimeError("that is its own problem")

    server, sent = Server(Polite()), Recorder()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, chat(), sent)
            await eventually(lambda: log)
            group.cancel_scope.cancel()
    assert log == ["began", "asked, cancelled True", "cancelled"]
    assert server.services.live.slots.used == 0
