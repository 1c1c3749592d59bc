"""A turn may end at any moment and in any way: its conversation is then unchanged, or has the turn, and is unlocked.

The store in these tests suspends before and after every call, like one behind a network.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Admission, AgentRequest, Conversations, Deadlines, Limits, MemoryStore, Principal, Server
from openai_compat.agent_request import ANONYMOUS
from openai_compat.http import ClientDisconnected, HttpRequest, ResponseBody
from openai_compat.stores.port import Key
from openai_compat.turns.slots import SlotRequest
from openai_compat.wire.serialize_messages import chat_messages_of
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.clocks import backends, jump
from tests.support.exchanges import CHAT, Recorder, answer, ask, request
from tests.support.stepping import cancel_after, eventually, handling, tasks

pytestmark = pytest.mark.anyio
T = TypeVar("T")

MOST_STEPS = 1000
SUSPENDING = ("begin", "commit", "release", "read", "claim", "settle")
BEFORE = ["one", "re: one"]
AFTER = [*BEFORE, "two", "re: two"]
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


class FarStore(MemoryStore):
    """Suspends around every call, so that a cancellation can hit before or after its effect."""

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        return _suspending(method) if name in SUSPENDING else method


def _suspending(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*arguments: Any, **named: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        result = await method(*arguments, **named)
        await anyio.lowlevel.checkpoint()
        return result

    return call


class Talker:
    """Repeats the prompt, in two pieces; fails in the middle if told to."""

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    async def run(self, request: AgentRequest) -> AsyncIterator[str]:
        self.seen.append([message["content"] for message in request.raw_messages])
        await anyio.lowlevel.checkpoint()
        yield "re: "
        await anyio.lowlevel.checkpoint()
        if request.prompt == "fail":
            raise ValueError("as asked")
        if request.prompt == "silence":
            await anyio.sleep_forever()
        yield request.prompt


class Trip:
    """A server with one conversation that has one turn."""

    def __init__(self, **settings: Any) -> None:
        self.agent = Talker()
        conversations = Conversations(**settings.pop("conversations", {}))
        self.server = Server(
            self.agent, conversations=conversations, store=FarStore(), limits=Limits(slots=1), **settings
        )

    def turn(self, text: str, *, stream: bool = False, key: str = "") -> HttpRequest:
        headers = [(b"x-conversation-id", b"trip"), *([(b"idempotency-key", key.encode())] if key else [])]
        return request(CHAT, ask(messages=[{"role": "user", "content": text}], stream=stream), *headers)

    async def begin(self) -> None:
        assert (await answer(self.server, self.turn("one"))).status == 200

    async def kept(self) -> list[str]:
        found = await self.server.services.state.store.read(Key(ANONYMOUS.id, "trip"))
        return [
            m["content"] for m in chat_messages_of([json.loads(item.body) for item in (found.items if found else ())])
        ]

    async def check(self) -> list[str]:
        """Return the stored messages, after checking that they are consistent and that the next turn can follow at once."""
        kept = await self.kept()
        assert kept in (BEFORE, AFTER)
        following = await answer(self.server, self.turn("next"))
        assert following.status == 200, following.error
        assert self.agent.seen[-1] == [*kept, "next"]
        assert self.server.services.live.slots.used == 0
        return kept


def finished(sent: Recorder) -> bool:
    """True if the client got the whole answer of an agent that succeeded."""
    return sent.begun and sent.complete and sent.status == 200 and b'"error"' not in sent.data


@requirement("conversation.commit")
@pytest.mark.parametrize("how", ["task", "scope"])
@STREAM
async def test_a_turn_that_is_cancelled_at_any_step_is_kept_whole_or_not_at_all(stream: bool, how: str) -> None:
    outcomes: list[int] = []
    for steps in range(MOST_STEPS):
        trip, sent = Trip(), Recorder()
        await trip.begin()
        before = tasks()
        over = await cancel_after(steps, handling(trip.server, lambda: trip.turn("two", stream=stream), sent), how)  # noqa: B023  (called within the round)
        assert tasks() == before
        kept = await trip.check()
        outcomes.append(len(kept))
        assert kept == AFTER or not finished(sent)
        if over:
            break
    assert kept == AFTER
    assert outcomes == sorted(outcomes)
    assert steps > 10


@requirement("conversation.commit")
@STREAM
async def test_a_turn_whose_client_cannot_be_written_to_is_kept_whole_or_not_at_all(stream: bool) -> None:
    for number in range(20):
        trip, left = Trip(), Recorder()
        await trip.begin()

        async def send(message: Any, left: Recorder = left, number: int = number) -> None:
            if len(left.messages) == number:
                raise ClientDisconnected
            await left(message)

        try:
            with anyio.fail_after(20):
                await trip.server.handle(trip.turn("two", stream=stream), send)
        except ClientDisconnected:
            await trip.check()
        else:
            break
    assert await trip.check() == AFTER
    assert number > 1


@requirement("conversation.commit")
@pytest.mark.parametrize("anyio_backend", backends(), ids=["asyncio", "trio"])
@STREAM
async def test_a_turn_whose_time_is_up_at_any_step_is_kept_only_if_its_client_has_it(stream: bool) -> None:
    for steps in range(MOST_STEPS):
        trip, sent = Trip(deadlines=Deadlines(request=60, write=10_000, body=10_000)), Recorder()
        await trip.begin()
        over = anyio.Event()

        async def handle(trip: Trip = trip, sent: Recorder = sent, over: anyio.Event = over) -> None:
            await trip.server.handle(trip.turn("two", stream=stream), sent)
            over.set()

        with anyio.fail_after(5_000):
            async with anyio.create_task_group() as group:
                group.start_soon(handle)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                was_over = over.is_set()
                jump(61)
        assert (await trip.check() == AFTER) is finished(sent)
        if was_over:
            break
    assert steps > 10


@requirement("conversation.commit")
@STREAM
async def test_a_turn_that_fails_changes_nothing(stream: bool) -> None:
    trip = Trip()
    await trip.begin()
    assert not finished(await answer(trip.server, trip.turn("fail", stream=stream)))
    assert await trip.check() == BEFORE


@requirement("conversation.free")
@pytest.mark.parametrize("text", ["two", "fail", "silence"])
@STREAM
async def test_whoever_is_told_how_a_turn_ended_can_go_on_at_once(stream: bool, text: str) -> None:
    trip, ends = Trip(deadlines=Deadlines(request=0.2, head=0.05)), list[bool]()
    await trip.begin()

    async def send(message: Any) -> None:
        if isinstance(message, ResponseBody) and not message.more:
            locked = await trip.server.services.state.store.begin(Key(ANONYMOUS.id, "trip"), "next")
            ends.append(locked is not None)

    with anyio.fail_after(20):
        await trip.server.handle(trip.turn(text, stream=stream), send)
    assert ends == [True]


@requirement("conversation.free")
async def test_nor_does_an_answer_that_the_server_is_busy_hold_the_conversation() -> None:
    trip = Trip(admission=Admission(busy="Later."))
    await trip.begin()
    answers: list[int] = []

    async def send(message: Any) -> None:
        if isinstance(message, ResponseBody) and not message.more:
            answers.append((await answer(trip.server, trip.turn("again"))).status)

    with anyio.fail_after(20):
        await trip.server.services.live.slots.take(SlotRequest(1, "agent", Principal("somebody")))
        await trip.server.handle(trip.turn("two"), send)
    assert answers == [200]
    assert await trip.kept() == BEFORE


@requirement("conversation.commit")
@STREAM
async def test_a_turn_that_fails_and_is_cancelled_at_any_step_meanwhile_changes_nothing(stream: bool) -> None:
    for steps in range(MOST_STEPS):
        trip, sent = Trip(), Recorder()
        await trip.begin()
        over = await cancel_after(steps, handling(trip.server, lambda: trip.turn("fail", stream=stream), sent), "task")  # noqa: B023  (called within the round)
        assert await trip.check() == BEFORE
        if over:
            break
    assert steps > 10


@requirement("conversation.commit")
async def test_a_first_turn_that_is_cancelled_at_any_step_is_kept_whole_or_leaves_no_conversation() -> None:
    for steps in range(MOST_STEPS):
        trip, sent = Trip(), Recorder()
        over = await cancel_after(steps, handling(trip.server, lambda: trip.turn("one"), sent), "task")  # noqa: B023  (called within the round)
        assert await trip.kept() in ([], BEFORE)
        await trip.begin()
        if over:
            break
    assert steps > 10


@requirement("conversation.commit")
@pytest.mark.parametrize("busy", ["queue", "supersede"])
async def test_one_who_stops_waiting_for_the_conversation_at_any_step_leaves_it_free(busy: str) -> None:
    for steps in range(MOST_STEPS):
        trip, sent = Trip(conversations={"busy": busy}), Recorder()
        await trip.begin()
        token = "held"
        assert await trip.server.services.state.store.begin(Key(ANONYMOUS.id, "trip"), token) is not None
        call = handling(trip.server, lambda: trip.turn("two"), sent)  # noqa: B023  (called within the round)
        assert not await cancel_after(steps, call, "scope")
        assert trip.agent.seen == [["one"]]
        await trip.server.services.state.store.release(Key(ANONYMOUS.id, "trip"), token)
        assert await trip.check() == BEFORE
        if steps == 40:
            break


@requirement("idempotency.lost")
@STREAM
async def test_a_keyed_request_that_is_cancelled_at_any_step_runs_once_in_all(stream: bool) -> None:
    outcomes: set[str] = set()
    for steps in range(MOST_STEPS):
        trip, sent = Trip(), Recorder()
        await trip.begin()
        call = handling(trip.server, lambda: trip.turn("two", stream=stream, key="k"), sent)  # noqa: B023  (called within the round)
        over = await cancel_after(steps, call, "task")
        again = await answer(trip.server, trip.turn("two", stream=stream, key="k"))
        assert len(trip.agent.seen) == 1 + 1
        if over:
            assert again.data == sent.data
            break
        outcomes.add("answered" if again.status == 200 else again.error["code"])
    assert outcomes == {"answered", "idempotency_outcome_unknown"}


@requirement("idempotency.replay")
@STREAM
async def test_an_answer_that_was_whole_is_kept_though_its_client_left_before_the_last_of_it(stream: bool) -> None:
    """A result that races with its client's disconnect is neither lost nor computed again."""
    trip = Trip()

    async def send(message: Any) -> None:
        if isinstance(message, ResponseBody) and not message.more:
            raise ClientDisconnected

    with pytest.raises(ClientDisconnected), anyio.fail_after(20):
        await trip.server.handle(trip.turn("one", stream=stream, key="k"), send)
    again = await answer(trip.server, trip.turn("one", stream=stream, key="k"))
    assert (again.text, again.headers["idempotent-replayed"]) == ("re: one", "true")
    assert trip.agent.seen == [["one"]]
    assert await trip.kept() == BEFORE


@requirement("conversation.commit")
async def test_a_server_that_shuts_down_refuses_turns_before_anything_is_kept_and_keeps_none_it_ends() -> None:
    trip, sent = Trip(), Recorder()
    await trip.begin()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(trip.server.handle, trip.turn("silence"), sent)
            await eventually(lambda: len(trip.agent.seen) == 2)
            await trip.server.drain(0)
        refused = await answer(trip.server, trip.turn("two"))
    assert (sent.status, sent.error["code"]) == (refused.status, refused.error["code"]) == (503, "shutting_down")
    assert await trip.kept() == BEFORE
