"""An agent's omissions are reported: to the client in a header, to the log once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from openai_compat import (
    AgentRequest,
    Capabilities,
    ChatRest,
    ChatWebSocket,
    Finished,
    MediaDelta,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    Server,
    ToolCallReady,
    UsageReported,
    as_backend,
)
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat.testing import ScriptedBackend
from tests.api.chat_websocket.client import chat as chat_websocket
from tests.requirements import requirement
from tests.support.exchanges import answer, chat
from tests.transports import reach

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
SENT: dict[str, Any] = {"temperature": 0.5, "top_p": 0.5, "max_tokens": 50, "stop": ["never"], "seed": 1}


async def echo(request: AgentRequest) -> str:
    return str(sorted(request.sampling.given()))


def passing(*names: str) -> Any:
    return as_backend(echo, capabilities=Capabilities(parameters=frozenset(names)))


def said(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [record.getMessage().partition(": ")[2] for record in caplog.records if word in record.getMessage()]


# parameters that are not passed on


@requirement("agents.ignored")
@pytest.mark.parametrize("stream", [False, True])
async def test_the_client_is_told_which_parameters_its_agent_does_not_pass_on(stream: bool) -> None:
    async with reach(Server(passing("temperature")), "in-process") as client:
        sent = await client.post(CHAT, json={"model": "agent", "messages": HI, **SENT, "stream": stream})
        assert (sent.status_code, sent.headers["x-ignored-parameters"]) == (200, "seed, top_p")
        plain = await client.post(CHAT, json={"model": "agent", "messages": HI, "temperature": 0.5, "stream": stream})
    assert "x-ignored-parameters" not in plain.headers


@requirement("agents.ignored")
async def test_the_other_apis_tell_it_too() -> None:
    async with reach(Server(passing(), chat_rest=ChatRest()), "in-process") as client:
        body = {"model": "agent", "input": "hi", "temperature": 0.5, "reasoning": {"effort": "low"}}
        sent = await client.post("/v1/responses", json=body)
        assert sent.headers["x-ignored-parameters"] == "reasoning_effort, temperature"
        sent = await client.post("/api/chat/completions", json={"messages": HI, "temperature": 0.5})
        assert (sent.status_code, sent.headers["x-ignored-parameters"]) == (200, "temperature")


@requirement("agents.ignored")
async def test_an_agent_that_does_not_say_what_it_passes_on_is_believed() -> None:
    async with reach(Server(echo), "in-process") as client:
        sent = await client.post(CHAT, json={"model": "agent", "messages": HI, **SENT})
    assert "x-ignored-parameters" not in sent.headers


@requirement("agents.ignored")
async def test_the_log_is_told_once_for_each_agent_and_parameter(caplog: pytest.LogCaptureFixture) -> None:
    server = Server({"a": passing(), "b": passing("seed")}, chat_websocket=ChatWebSocket())
    with caplog.at_level(logging.INFO, "openai_compat"):
        for model in ("a", "b", "a", "b"):
            await answer(server, chat(model=model, temperature=0.5, seed=1))
        async with chat_websocket(server) as client:  # WebSocket frames have no headers
            await client.ask("hi", model="a", top_p=0.5)
            await client.ask("hi", model="a", temperature=0.5)
    assert said(caplog, "does not pass on") == [
        "agent 'a' does not pass on 'seed': it is ignored",
        "agent 'a' does not pass on 'temperature': it is ignored",
        "agent 'b' does not pass on 'temperature': it is ignored",
        "agent 'a' does not pass on 'top_p': it is ignored",
    ]


@requirement("agents.ignored")
async def test_a_command_passes_nothing_on() -> None:
    async with reach(Server(SubprocessBackend(["echo", "Hello"])), "in-process") as client:
        sent = await client.post(CHAT, json={"model": "agent", "messages": HI, **SENT})
    assert (sent.status_code, sent.headers["x-ignored-parameters"]) == (200, "seed, temperature, top_p")


# agents without output


@requirement("agents.silent")
async def test_an_agent_that_says_nothing_at_all_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    async def forgot(prompt: str) -> None:
        return None

    async def empty(prompt: str) -> AsyncIterator[Any]:
        yield ""
        yield Progress("step", "1", "Working")
        yield Notice("slow today")
        yield UsageReported(1, 1)
        yield Finished()

    server = Server({"forgot": forgot, "empty": empty})
    for model in ("forgot", "empty", "forgot", "empty"):
        sent = await answer(server, chat(model=model))
        assert (sent.status, sent.text) == (200, "")
    assert [text.partition(",")[0] for text in said(caplog, "said nothing")] == [
        "agent 'forgot' said nothing",
        "agent 'empty' said nothing",
    ]


SOMETHING: dict[str, Iterable[Any]] = {
    "text": ["x"],
    "text that is no ASCII": ["\u00e4"],
    "thought": [ReasoningDelta("x")],
    "refusal": [RefusalDelta("x")],
    "picture": [MediaDelta(b"x", "image/png")],
    "own call": [ToolCallReady("c", "look", "{}")],
    "question": [Paused((PendingCall("c", "pay", "{}", "approval"),), {})],
    "filtered": [Finished("content_filter")],
    "failure": [RuntimeError("x")],
}


@requirement("agents.silent")
@pytest.mark.parametrize("what", SOMETHING)
async def test_an_agent_that_says_or_does_anything_is_not_silent(what: str, caplog: pytest.LogCaptureFixture) -> None:
    await answer(Server(ScriptedBackend(list(SOMETHING[what]))), chat())
    assert said(caplog, "said nothing") == []


@requirement("agents.silent")
async def test_an_agent_whose_words_the_server_has_cut_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    sent = await answer(Server(ScriptedBackend(["END of it"])), chat(stop=["END"]))
    assert (sent.text, said(caplog, "said nothing")) == ("", [])
