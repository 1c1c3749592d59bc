"""A client that repeats a failed request gets the same failure again; a person who tries again gets a new run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentError, Conversations, Deadlines, Disconnect, Limits, Principal, ReplayFailures, Server
from openai_compat.state.recent_failures import MAX_BYTES, MAX_FAILURES, MAX_FAILURES_OF_ONE, RecentFailures
from openai_compat.stores.port import Key, Replay
from openai_compat_adapters.client import async_openai
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import CHAT, Recorder, answer, ask, request
from tests.support.stepping import eventually

RESPONSES = "/v1/responses"
AGAIN = (b"x-stainless-retry-count", b"1")
FIRST = (b"x-stainless-retry-count", b"0")


class Fails:
    """Counts its runs, and fails in each one as its prompt says."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        self.runs += 1
        if prompt == "well":
            yield "well"
            return
        if prompt in ("later", "long"):
            yield "some text" if prompt == "later" else "x" * MAX_BYTES
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
        if prompt == "again":
            raise AgentError("Try again.", status=503, should_retry=True)
        raise AgentError(f"Run {self.runs} has failed.", status=500)


def said(prompt: str = "fail", **fields: Any) -> dict[str, Any]:
    return ask(messages=[{"role": "user", "content": prompt}], **fields)


def serving(agent: Any, **settings: Any) -> Server:
    return Server(agent, replay_failures=ReplayFailures(), **settings)


@requirement("run_once.replayed")
@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("policy", [Disconnect(), Disconnect("finish")], ids=lambda policy: policy.then)
@pytest.mark.parametrize("prompt", ["fail", "later"])
async def test_the_same_request_gets_the_failure_again(prompt: str, policy: Disconnect, stream: bool) -> None:
    agent = Fails()
    server = serving(agent, disconnect=policy)
    sent = [await answer(server, request(CHAT, said(prompt, stream=stream))) for _ in range(8)]
    assert agent.runs == 1
    assert len({(one.status, one.data) for one in sent}) == 1
    assert b"Run 1 has failed." in sent[-1].data
    assert [one.headers.get("idempotent-replayed") for one in sent] == [None, *["true"] * 7]
    if not stream:
        assert {one.headers["x-should-retry"] for one in sent} == {"false"}


@requirement("run_once.replayed")
@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_response_gets_the_failure_again(stream: bool) -> None:
    agent = Fails()
    server = serving(agent)
    body = {"model": "agent", "input": "later", "stream": stream}
    sent = [await answer(server, request(RESPONSES, body)) for _ in range(3)]
    assert agent.runs == 1
    assert len({(one.status, one.data) for one in sent}) == 1


@requirement("run_once.replayed")
@pytest.mark.anyio
async def test_another_request_is_run() -> None:
    agent = Fails()
    server = serving(
        agent, conversations=Conversations(), keys={"a": Principal("ann"), "b": Principal("bob")}, agent_headers=["x-a"]
    )
    ann, bob = (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")
    asked = [
        request(CHAT, said(), ann),
        request(CHAT, said(), bob),
        request(CHAT, said(temperature=1), ann),
        request(CHAT, said("fail "), ann),
        request(CHAT, said(), ann, (b"x-conversation-id", b"c")),
        request(CHAT, said(), ann, (b"x-a", b"1")),
        request(RESPONSES, {"model": "agent", "input": "fail"}, ann),
    ]
    for one in asked:
        await answer(server, one)
    assert agent.runs == len(asked)
    assert (await answer(server, request(CHAT, said(), ann))).headers["idempotent-replayed"] == "true"
    assert agent.runs == len(asked)


@requirement("run_once.replayed")
@pytest.mark.anyio
async def test_what_went_well_or_may_be_run_again_or_was_refused_is_not_replayed() -> None:
    agent = Fails()
    server = serving(agent)
    for prompt in ("well", "again"):
        for _ in range(2):
            await answer(server, request(CHAT, said(prompt)))
    assert agent.runs == 4
    refused = [await answer(server, request(CHAT, said(temperature="hot"))) for _ in range(2)]
    assert [one.headers.get("idempotent-replayed") for one in refused] == [None, None]


@requirement("run_once.replayed")
@pytest.mark.anyio
async def test_nothing_is_replayed_unless_that_was_asked_for() -> None:
    agent = Fails()
    for _ in range(2):
        await answer(server := Server(agent), request(CHAT, said()))
        await answer(server, request(CHAT, said()))
    assert agent.runs == 4


@requirement("run_once.replayed")
@pytest.mark.anyio
async def test_after_the_pause_only_a_client_that_says_that_it_tries_again_gets_the_failure() -> None:
    agent = Fails()
    server = Server(agent, replay_failures=ReplayFailures(seconds=0))
    for headers in (FIRST, AGAIN, AGAIN, FIRST, AGAIN):
        await answer(server, request(CHAT, said(), headers))
    assert agent.runs == 2


@requirement("run_once.replayed")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("seconds", "runs"), [(5, 1), (0, 3)])
async def test_a_loop_around_the_sdk_gets_the_failure_and_a_person_a_run(
    seconds: float, runs: int, anyio_backend: str
) -> None:
    agent = Fails()
    server = Server(agent, replay_failures=ReplayFailures(seconds))
    async with async_openai(server, max_retries=2) as client:
        for _ in range(3):
            with pytest.raises(openai.APIStatusError):
                await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "fail"}])
    assert agent.runs == runs


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_counts_from_the_moment_it_is_told(stream: bool) -> None:
    """The agent is still being stopped at that time, which may take a while."""
    stopped, runs = anyio.Event(), list[str]()

    async def slow(prompt: str) -> AsyncIterator[str]:
        runs.append(prompt)
        try:
            yield "x" * 100
        finally:
            with anyio.CancelScope(shield=True):
                await stopped.wait()

    server = serving(slow, limits=Limits(answer=10), deadlines=Deadlines(request=0.05))
    first = Recorder()
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, request(CHAT, said(stream=stream)), first)
        await eventually(lambda: first.begun and first.complete)
        assert (await answer(server, request(CHAT, said(stream=stream)))).data == first.data
        stopped.set()
    assert len(runs) == 1


@pytest.mark.anyio
async def test_an_answer_that_was_too_long_to_keep_is_not_run_again() -> None:
    agent = Fails()
    server = serving(agent)
    sent = [await answer(server, request(CHAT, said("long", stream=True))) for _ in range(2)]
    assert agent.runs == 1
    assert sent[1].error["code"] == "idempotency_outcome_unknown"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


ANSWER = Replay(500, (), b"")
KEY = Key("ann", "digest")


@requirement("run_once.replayed")
@given(pauses=st.lists(st.floats(0.01, 20), max_size=20))
def test_a_pause_of_the_window_is_a_person_and_no_failure_is_told_for_ever(pauses: list[float]) -> None:
    clock, told = Clock(), True
    recent = RecentFailures(ReplayFailures(seconds=5, longest=60), clock)
    recent.keep(KEY, ANSWER)
    for pause in pauses:
        clock.now += pause
        told = told and pause <= 5 and clock.now <= 60
        assert (recent.find(KEY, None) is not None) == told


def test_what_is_remembered_is_bounded_and_nobody_takes_anothers_place() -> None:
    recent = RecentFailures(ReplayFailures(), Clock())
    recent.keep(KEY, ANSWER)
    for number in range(MAX_FAILURES_OF_ONE * 3):
        recent.keep(Key("bob", f"{number}"), ANSWER)
    assert recent.find(KEY, None) is ANSWER
    assert recent.find(Key("bob", "0"), None) is None
    for number in range(MAX_FAILURES * 2):
        recent.keep(Key(f"{number}", "digest"), ANSWER)
    assert len(recent._kept) == MAX_FAILURES
