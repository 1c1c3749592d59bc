"""One answer keeps one slot from its first run to its last: no queued request gets in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Admission, AgentError, AgentRequest, Capabilities, ChatWebSocket, Limits, RunContext, Server
from openai_compat.events import ToolCallReady
from tests.api.chat_websocket.client import chat as chat_websocket
from tests.api.chat_websocket.client import text
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, chat, request
from tests.support.stepping import eventually

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
FORM = {"type": "json_schema", "name": "n", "schema": {"type": "object", "required": ["n"]}, "strict": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Repaired:
    """Gives a wrong answer at first, once `go_on` is set, and the requested one when asked again."""

    capabilities = Capabilities(repairs_output=True, structured_output=True)

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.begun = anyio.Event()
        self.go_on = anyio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        first = not self.runs
        self.runs.append(str(request.raw_messages[0]["content"]))
        if first:
            self.begun.set()
            await self.go_on.wait()
            yield "no JSON"
        else:
            yield '{"n": 1}'


def formed(prompt: str, **fields: Any) -> Any:
    return request(RESPONSES, {"model": "agent", "input": prompt, "text": {"format": FORM}, "store": False, **fields})


@requirement("server.one_slot")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", [{}, {"store": True}, {"store": True, "background": True}])
async def test_an_answer_that_is_repaired_keeps_its_slot(stream: bool, more: dict[str, Any]) -> None:
    agent = Repaired()
    server = Server(agent, limits=Limits(slots=1), admission=Admission(queue=20))
    first, second = Recorder(), Recorder()
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, formed("first", stream=stream, **more), first)
        await agent.begun.wait()
        group.start_soon(server.handle, formed("second"), second)
        await eventually(lambda: server.services.live.slots.waiting)
        agent.go_on.set()
    await eventually(lambda: not server.services.live.slots.used)
    assert (first.status, second.status) == (200, 200), (first.data, second.data)
    assert agent.runs == ["first", "first", "second"]


async def test_without_a_queue_an_answer_that_is_repaired_is_not_refused() -> None:
    agent = Repaired()
    agent.go_on.set()
    server = Server(agent, limits=Limits(slots=1))
    sent = await answer(server, formed("first"))
    assert sent.status == 200
    assert agent.runs == ["first", "first"]
    assert server.services.live.slots.used == 0


class Shortened:
    """Accepts one message only."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        self.runs.append(len(request.messages))
        await anyio.lowlevel.checkpoint()
        if len(request.messages) > 1:
            raise AgentError("Too long.", status=400, code="context_length_exceeded")
        yield "short enough"


async def test_an_answer_whose_input_is_shortened_keeps_its_slot() -> None:
    agent = Shortened()
    server = Server(agent, limits=Limits(slots=1), admission=Admission(queue=20))
    said = [{"role": role, "content": f"{n}"} for n in range(4) for role in ("user", "assistant")]
    body = {"model": "agent", "input": [*said, {"role": "user", "content": "now"}], "store": False}
    sent = [Recorder() for _ in range(3)]
    async with anyio.create_task_group() as group:
        for recorder in sent:
            group.start_soon(server.handle, request(RESPONSES, {**body, "truncation": "auto"}), recorder)
    assert [one.status for one in sent] == [200] * 3
    once = agent.runs[: len(agent.runs) // 3]
    assert len(once) > 1
    assert agent.runs == once * 3


class Caller:
    """Calls the client's tool, then repeats its result."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is None:
            yield ToolCallReady("call_1", "weather", "{}")
        else:
            yield "It is sunny."


@requirement("server.one_slot")
async def test_a_turn_keeps_its_slot_while_its_client_runs_a_tool() -> None:
    server = Server(Caller(), chat_websocket=ChatWebSocket(), limits=Limits(slots=1))
    async with chat_websocket(server) as client:
        await client.say("hi", tools=[WEATHER])
        await client.until("tool_call")
        assert server.services.live.slots.used == 1
        refused = await answer(server, chat())
        assert refused.status == 429
        await client.send(type="tool_result", tool_call_id="call_1", thread_id="t", result="sunny")
        assert text(await client.until()) == "It is sunny."
    await eventually(lambda: not server.services.live.slots.used)


@requirement("server.one_slot")
@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_has_read_an_answer_to_its_end_finds_its_slot_free(stream: bool) -> None:
    agent = Repaired()
    agent.go_on.set()
    server = Server(agent, limits=Limits(slots=1))
    used: list[int] = []

    class Reader(Recorder):
        async def __call__(self, message: Any) -> None:
            await super().__call__(message)
            if b"response.completed" in getattr(message, "data", b"") or getattr(message, "more", True) is False:
                used.append(server.services.live.slots.used)

    sent = Reader()
    await server.handle(formed("first", stream=stream), sent)
    assert sent.status == 200
    assert used
    assert not any(used)
