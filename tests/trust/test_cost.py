"""Cost of a request in counts: our functions that it enters, tasks, scopes, and objects that an open stream holds.

Counts are the same on every machine. A budget that is exceeded means that a feature has made every request more expensive:
make it cheaper, or raise the budget in the same change and say why.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest

from openai_compat import Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.exchange import Exchange
from openai_compat.api.ollama import Ollama
from openai_compat.turns.agent_run import AgentRun
from openai_compat.turns.plan import TurnPlan
from openai_compat_adapters.starlette import create_app
from tests.requirements import requirement
from tests.support.exchanges import CHAT

RESPONSES = "/v1/responses"
USER = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
TOOL_ROUND = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "found", "tool_call_id": "call_1"},
]


PACED = 200


async def words(prompt: str) -> AsyncIterator[str]:
    for _ in range(20):
        yield "token "


async def paced(prompt: str) -> AsyncIterator[str]:
    for _ in range(PACED):
        await asyncio.sleep(0)
        yield "token "


async def pairs(prompt: str) -> AsyncIterator[str]:
    for _ in range(10):
        await asyncio.sleep(0)
        yield "one "
        yield "two "


async def idle(prompt: str) -> AsyncIterator[str]:
    yield "token "
    await asyncio.sleep(3600)


@dataclass
class Flow:
    """uvicorn's flow control: it never blocks a write."""

    write_paused: bool = False


@dataclass
class Cycle:
    """One request as uvicorn passes it on: `send` is a method of an object with the flow control."""

    body: bytes
    sent: list[Any] = field(default_factory=list[Any])
    flow: Flow = field(default_factory=Flow)

    async def receive(self) -> dict[str, Any]:
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Any) -> None:
        self.sent.append(message)


App = Callable[..., Coroutine[Any, Any, None]]


def call(app: App, path: str, **fields: Any) -> tuple[Cycle, Coroutine[Any, Any, None]]:
    """Send a request to the application; returns the recorded answer and the running call."""
    cycle = Cycle(json.dumps({"model": "words", **fields}).encode())
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"authorization", b"Bearer x")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    return cycle, app(scope, cycle.receive, cycle.send)


def application() -> App:
    agents = {"words": words, "paced": paced, "pairs": pairs, "idle": idle}
    return create_app(Server(agents, apis=[AnthropicMessages(), Ollama()]))


def counted(path: str, **fields: Any) -> Counter[str]:
    """Functions that the second of two requests enters, by name. A coroutine is entered each time it resumes."""
    entered: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and "openai_compat" in frame.f_code.co_filename:  # not Python's own, which vary
            entered[frame.f_code.co_qualname] += 1

    async def main() -> None:
        app = application()
        _, first = call(app, path, **fields)
        await first
        await asyncio.sleep(0)
        cycle, second = call(app, path, **fields)
        sys.setprofile(profile)
        try:
            await second
        finally:
            sys.setprofile(None)
        assert cycle.sent[0]["status"] == 200
        assert cycle.sent[-1]["more_body"] is False

    asyncio.run(main())
    return entered


BUDGETS: dict[str, tuple[str, dict[str, Any], int]] = {
    "plain": (CHAT, {"messages": [USER]}, 145),
    "streamed": (CHAT, {"messages": [USER], "stream": True}, 157),
    "settings": (CHAT, {"messages": [USER], "temperature": 0.5, "seed": 1}, 166),
    "limited": (CHAT, {"messages": [USER], "stream": True, "max_completion_tokens": 1000}, 180),
    "Anthropic's": ("/v1/messages", {"messages": [USER], "stream": True, "max_tokens": 1000}, 280),
    "Ollama's": ("/api/chat", {"messages": [USER]}, 225),
    "history": (CHAT, {"messages": [USER, {"role": "assistant", "content": "hello"}] * 100 + [USER]}, 150),
    "tools": (CHAT, {"messages": [USER, *TOOL_ROUND, {"role": "assistant", "content": "so"}] * 50 + [USER]}, 250),
    "response": (RESPONSES, {"input": "hi", "store": False}, 255),
    "response streamed": (RESPONSES, {"input": "hi", "store": False, "stream": True}, 284),
    "response stored": (RESPONSES, {"input": "hi"}, 298),
}


@requirement("server.cost")
@pytest.mark.parametrize("kind", BUDGETS)
def test_a_request_enters_no_more_functions_than_its_budget(kind: str) -> None:
    path, fields, budget = BUDGETS[kind]
    entered = sum(counted(path, **fields).values())
    assert budget * 0.7 < entered <= budget, f"{entered} functions: the budget is {budget}"


@requirement("server.cost")
def test_a_paced_event_enters_no_more_functions_than_its_budget() -> None:
    entered = counted(CHAT, model="paced", messages=[USER], stream=True)
    per_event = (sum(entered.values()) - BUDGETS["streamed"][2]) / PACED
    assert 14 < per_event <= 21, f"{per_event} functions an event"


@requirement("server.cost")
def test_pieces_that_come_together_are_written_together() -> None:
    async def main() -> list[int]:
        cycle, work = call(application(), CHAT, model="pairs", messages=[USER], stream=True)
        await work
        bodies = [message["body"] for message in cycle.sent if message["type"] == "http.response.body"]
        assert b"".join(bodies).count(b'"one "') == b"".join(bodies).count(b'"two "') == 10
        return [body.count(b'"content":"one "') + body.count(b'"content":"two "') for body in bodies]

    assert asyncio.run(main()).count(2) == 10


@requirement("server.cost")
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_request_makes_one_task(stream: bool) -> None:
    entered = counted(CHAT, messages=[USER], stream=stream)
    assert entered["_AsyncioTask.__init__"] == 1


def ours_among(objects: list[Any]) -> list[object]:
    return [one for one in objects if isinstance(one, Exchange | TurnPlan | AgentRun)]


@requirement("server.cost")
@pytest.mark.parametrize(("path", "budget"), [(CHAT, 132), (RESPONSES, 158)])
def test_an_open_stream_holds_no_more_objects_than_its_budget(path: str, budget: int) -> None:
    async def main() -> float:
        app = application()
        fields: dict[str, Any] = {"messages": [USER]} if path == CHAT else {"input": "hi", "store": False}
        tasks: list[asyncio.Task[None]] = []

        async def opened(number: int) -> list[Any]:
            for _ in range(number):
                _, work = call(app, path, model="idle", stream=True, **fields)
                tasks.append(asyncio.create_task(work))
            while len(asyncio.all_tasks()) < 1 + 3 * len(
                tasks
            ):  # the request, the agent, and the task that waits for a disconnect
                await asyncio.sleep(0)
            gc.collect()
            return gc.get_objects()

        earlier = len(ours_among(gc.get_objects()))  # left by other tests, whose agents may still run
        before = len(await opened(10))
        objects = await opened(50)
        each = (len(objects) - before) / 50
        # With 30 attributes an object gets a dict of its own and takes three times as long to create.
        ours = ours_among(objects)
        assert 60 * 3 <= len(ours) <= 60 * 3 + earlier
        assert max([len(vars(one)) for one in ours]) < 30
        del objects, ours
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return each

    each = asyncio.run(main())
    assert budget * 0.7 < each <= budget, f"{each} objects: the budget is {budget}"
