"""A request leaves nothing behind: reference counting frees its objects, without the garbage collector.

The collector is off here. An object that waits for it keeps everything it refers to alive, a whole history for example, and
a busy collector delays every other request.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from openai_compat import (
    Admission,
    AgentError,
    AgentRequest,
    ChatRest,
    ChatWebSocket,
    Conversations,
    Deadlines,
    Disconnect,
    Limits,
    MemoryStore,
    ReplayFailures,
    RunContext,
    Server,
)
from openai_compat.agents.adapt import as_backend
from openai_compat.aio.background import spawn
from openai_compat.api.ollama import Ollama
from openai_compat.backend import AgentBackend, Capabilities
from openai_compat.events import Paused, PendingCall, ToolCallDelta, ToolCallReady, ToolCallStarted
from openai_compat.messages import ToolMessage
from openai_compat.tools import ToolLoop
from openai_compat_adapters.websocket import WebSocket, connect
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import CHAT, Recorder, answer, ask, request

pytestmark = pytest.mark.anyio

MANY = 200
"""Requests of each kind, on asyncio's own loop."""
FEW = 50
"""Requests of each kind on the other loops, and of each further kind: these show a reference cycle as well."""

RESPONSES = "/v1/responses"
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": WEATHER}
RESPONSE_TOOL = {"type": "function", **WEATHER}

Session: TypeAlias = Callable[[int], Awaitable[None]]
"""Sends request `number`."""


class Talker:
    """Does what the prompt says, or reports that the tools have run."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        prompt = request.prompt if request.resume is None else ""
        if prompt == "fail":
            raise AgentError("Not today.", status=409)
        yield "some "
        await anyio.lowlevel.checkpoint()
        yield "text"
        match prompt:
            case "break":
                raise AgentError("Not any more.")
            case "bug":
                raise RuntimeError("a bug of the agent's")
            case "wait":
                await anyio.sleep_forever()
            case "call":
                yield ToolCallReady("call_1", "weather", "{}")
            case "own":
                yield ToolCallStarted("call_2", "search")
                yield ToolCallDelta("call_2", "{}")
                yield ToolCallReady("call_2", "search", "{}")
            case "ask":
                yield Paused((PendingCall("call_3", "delete", "{}", "approval"),), {"at": 1})
            case _:
                pass


class Shared(MemoryStore):
    """Claims to be shared with other processes, so requests have leases and a start deadline."""

    shared = True


def in_a_thread(prompt: str) -> Iterator[str]:
    yield from ("some ", "text")


async def echo(prompt: str) -> str:
    return prompt


def echoing() -> AgentBackend:
    return as_backend(echo, capabilities=Capabilities(structured_output=True))


async def asks_a_tool(request: AgentRequest) -> AsyncIterator[Any]:
    """A bare model: calls each of its tools, then answers."""
    if isinstance(request.messages[-1], ToolMessage):
        yield "It rains."
    else:
        yield ToolCallReady("call_1", "weather", "{}")
        yield ToolCallReady("call_2", "time", "{}")


def looping() -> ToolLoop:
    def weather() -> str:
        """Runs in a thread."""
        return "rain"

    async def time() -> str:
        """Runs in the event loop."""
        raise RuntimeError("a bug of the tool's")

    model = as_backend(asks_a_tool, capabilities=Capabilities(client_tools=True))
    return ToolLoop(model, [weather, time], security="full")


def http(server: Server, path: str, status: int, headers: Mapping[str, str], fields: Mapping[str, Any]) -> Session:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def once(number: int) -> None:
        numbered = [(name, value.replace(b"#", b"%d" % number)) for name, value in sent]
        got = await answer(server, request(path, fields, *numbered))
        assert got.status == status, got.data

    return once


def chat(
    prompt: str = "hi", *, status: int = 200, server: Mapping[str, Any] = {}, headers: Any = (), **fields: Any
) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return lambda: http(serving(server), CHAT, status, dict(headers), ask(messages=messages, **fields))


def respond(prompt: str = "hi", *, status: int = 200, server: Mapping[str, Any] = {}, **fields: Any) -> Any:
    body = {"model": "agent", "input": prompt, "store": False, **fields}
    return lambda: http(serving(server), RESPONSES, status, {}, body)


def ollama(prompt: str = "hi", *, status: int = 200, **fields: Any) -> Any:
    body = {"model": "agent", "messages": [{"role": "user", "content": prompt}], **fields}
    return lambda: http(serving({"apis": [Ollama()]}), "/api/chat", status, {}, body)


def decided(probability: float, status: int) -> Any:
    def decide(text: str, questions: list[Any]) -> list[float]:
        return [probability for _ in questions]

    body = {"model": "judge", "input": "hi", "questions": [{"type": "predicate", "instructions": "It is so."}]}
    return lambda: http(serving({"decisions": {"judge": decide}}), "/v1/decisions", status, {}, body)


def serving(options: Mapping[str, Any]) -> Server:
    """A server for one test: `agent` and `store` are factories, so it shares neither."""
    made = {name: value() if name in ("agent", "store") else value for name, value in options.items()}
    return Server(made.pop("agent", None) or Talker(), **made)


def cancelled(path: str, body: Mapping[str, Any], **server: Any) -> Any:
    """The client disconnects after it has read a piece or, for a plain answer, while the agent waits."""

    def begin() -> Session:
        served = serving(server)

        async def once(number: int) -> None:
            sent = Recorder()

            async def handle() -> None:
                await served.handle(request(path, body), sent)

            task = spawn(handle, "request", lambda: None)
            while not served.services.live.slots.used or (body.get("stream") and not sent.bodies):
                await anyio.lowlevel.checkpoint()
            task.cancel()
            await task.wait()
            await unused(served)

        return once

    return begin


def socket(path: str, frames: Callable[[int], list[Any]], last: set[str], **server: Any) -> Any:
    """One connection per request: send the frames, then read up to the last one."""

    def begin() -> Session:
        served = serving(server)

        async def once(number: int) -> None:
            with anyio.fail_after(20):
                async with connect(served, path) as websocket:
                    for frame in frames(number):
                        await websocket.send(json.dumps(frame))
                        await until(websocket, last)
                await unused(served)

        return once

    return begin


def stopped() -> Session:
    """The client sends a stop frame."""
    server = Server(Talker(), chat_websocket=NO_REPLAY)

    async def once(number: int) -> None:
        with anyio.fail_after(20):
            async with connect(server, "/chat") as websocket:
                await websocket.send(json.dumps({"role": "user", "content": "wait", "thread_id": f"t{number}"}))
                await until(websocket, {"chunk"})
                await websocket.send(json.dumps({"type": "stop", "thread_id": f"t{number}"}))
                await until(websocket, {"generation_stopped"})
            await unused(server)

    return once


async def unused(server: Server) -> None:
    """Wait until everything that a client left behind has ended."""
    while server.services.live.slots.used or server.services.live.responses:
        await anyio.lowlevel.checkpoint()


async def until(websocket: WebSocket, last: set[str]) -> None:
    while json.loads(await websocket.receive())["type"] not in last:
        pass


ENDED = {"response.completed", "response.failed", "error"}
SAID = {"message", "error", "tool_call"}
TOOL = [FUNCTION]
LATE = Deadlines(request=0.002)
SHARED: dict[str, Any] = {"store": Shared}
NO_REPLAY = ChatWebSocket(replay=0)  # with replay, a thread keeps its frames for a client that reconnects
WAITING = ask(messages=[{"role": "user", "content": "wait"}], stream=True)

KINDS: dict[str, Any] = {
    "plain": chat(),
    "streamed": chat(stream=True),
    "several choices": chat(n=2),
    "several choices, streamed": chat(n=2, stream=True),
    "stored": chat(store=True),
    "in a conversation": chat(headers={"x-conversation-id": "c#"}, server={"conversations": Conversations()}),
    "with an idempotency key": chat(headers={"idempotency-key": "k#"}),
    "replayed": chat(headers={"idempotency-key": "k"}),
    "finished without a client": chat(stream=True, server={"disconnect": Disconnect("finish")}),
    "client's tool": chat("call", tools=TOOL),
    "client's tool, streamed": chat("call", tools=TOOL, stream=True),
    "own tool": chat("own", stream=True),
    "refused": chat(status=400, temperature="hot"),
    "unknown": chat(status=404, model="nobody"),
    "failed": chat("fail", status=409),
    "failed, streamed": chat("fail", status=409, stream=True),
    "failed in a stream": chat("break", stream=True),
    "failed in two streams": chat("break", stream=True, n=2),
    "failed by a bug": chat("bug", status=500),
    "failed in a conversation": chat(
        "break", status=500, headers={"x-conversation-id": "c"}, server={"conversations": Conversations()}
    ),
    "failed with a key": chat("fail", status=409, headers={"idempotency-key": "k#"}),
    "failed, to be told again": chat("fail", status=409, server={"replay_failures": ReplayFailures(seconds=0)}),
    "told again": chat("fail", status=409, server={"replay_failures": ReplayFailures()}),
    "failed under detach": chat("break", stream=True, server={"disconnect": Disconnect("detach")}),
    "too late": chat("wait", status=504, server={"deadlines": LATE}),
    "no slot": chat(status=429, server={"limits": Limits(slots=0)}),
    "no slot in the queue": chat(status=429, n=2, server={"limits": Limits(slots=1), "admission": Admission(queue=1)}),
    "cancelled": cancelled(CHAT, {**WAITING, "stream": False}),
    "cancelled, streamed": cancelled(CHAT, WAITING),
    "Ollama's": ollama(stream=False),
    "Ollama's, streamed": ollama(),
    "Ollama's, client's tool": ollama("call", tools=TOOL),
    "Ollama's, failed in a stream": ollama("break"),
    "Ollama's, refused": ollama(think="much", status=400),
    "Ollama's, cancelled": cancelled("/api/chat", WAITING, apis=[Ollama()]),
    "decision": decided(0.5, 200),
    "decision, failed": decided(5, 500),
    "response": respond(),
    "response, streamed": respond(stream=True),
    "response, stored": respond(store=True),
    "response, journaled": respond(store=True, stream=True, server={"disconnect": Disconnect("detach")}),
    "response in the background": respond(store=True, background=True, stream=True),
    "response with a tool": respond("call", tools=[RESPONSE_TOOL]),
    "response with an own tool": respond("own", stream=True),
    "response that asks": respond("ask"),
    "response, refused": respond(status=400, temperature="hot"),
    "response, failed": respond("fail", status=409),
    "response, failed in a stream": respond("break", stream=True),
    "response, failed in the background": respond("bug", store=True, background=True, stream=True),
    "response, cancelled": cancelled(RESPONSES, {"model": "agent", "input": "wait", "stream": True, "store": False}),
    "response over a WebSocket": socket(
        RESPONSES, lambda n: [{"type": "response.create", "model": "agent", "input": "hi", "store": False}] * 2, ENDED
    ),
    "response with a tool over a WebSocket": socket(
        RESPONSES,
        lambda n: [
            {"type": "response.create", "model": "agent", "input": "call", "store": False, "tools": [RESPONSE_TOOL]}
        ],
        ENDED,
    ),
    "response, cancelled over a WebSocket": socket(
        RESPONSES,
        lambda n: [{"type": "response.create", "model": "agent", "input": "wait", "store": False}],
        {"response.output_text.delta"},
    ),
    "response that fails over a WebSocket": socket(
        RESPONSES, lambda n: [{"type": "response.create", "model": "agent", "input": "break", "store": False}], ENDED
    ),
    "chat over a WebSocket": socket(
        "/chat",
        lambda n: [{"role": "user", "content": "hi", "thread_id": f"t{n}"}] * 2,
        SAID,
        chat_websocket=NO_REPLAY,
    ),
    "chat that fails over a WebSocket": socket(
        "/chat",
        lambda n: [{"role": "user", "content": "break", "thread_id": f"t{n}"}],
        SAID,
        chat_websocket=NO_REPLAY,
    ),
    "chat with a tool over a WebSocket": socket(
        "/chat",
        lambda n: [
            {"role": "user", "content": "call", "thread_id": f"t{n}", "tools": TOOL},
            {"type": "tool_result", "tool_call_id": "call_1", "thread_id": f"t{n}", "result": 1},
        ],
        SAID,
        chat_websocket=NO_REPLAY,
    ),
    "chat, stopped over a WebSocket": stopped,
    "chat that asks over a WebSocket": socket(
        "/chat",
        lambda n: [{"role": "user", "content": "ask", "thread_id": f"t{n}"}],
        SAID,
        chat_websocket=NO_REPLAY,
    ),
    "chat REST": lambda: http(
        Server(Talker(), chat_rest=ChatRest()),
        "/api/chat/completions",
        200,
        {},
        {"messages": [{"role": "user", "content": "hi"}], "model": "agent"},
    ),
}

FURTHER: dict[str, Any] = {
    "in a thread": chat(server={"agent": lambda: in_a_thread}),
    "tool loop": chat(server={"agent": looping}),
    "tool loop, streamed": chat(stream=True, server={"agent": looping}),
    "response of a tool loop": respond(server={"agent": looping}),
    "a form that is kept": respond("{}", text={"format": {"type": "json_object"}}, server={"agent": echoing}),
    "a form that is not kept": respond(status=502, text={"format": {"type": "json_object"}}, server={"agent": echoing}),
    "shared store": chat(server=SHARED),
    "shared store, streamed": chat(stream=True, server=SHARED),
    "shared store, in a conversation": chat(
        headers={"x-conversation-id": "c#"}, server={"conversations": Conversations(), **SHARED}
    ),
    "shared store, failed": chat(
        "fail", status=409, headers={"x-conversation-id": "c"}, server={"conversations": Conversations(), **SHARED}
    ),
    "shared store, refused": chat(status=400, temperature="hot", headers={"idempotency-key": "k#"}, server=SHARED),
    "shared store, with a key": chat(headers={"idempotency-key": "k#"}, server=SHARED),
    "shared store, cancelled": cancelled(CHAT, WAITING, **SHARED),
    # With a shared store the deadline also covers the work before the agent, which takes over 2 ms on a busy machine.
    "shared store, too late": chat("wait", status=504, server={"deadlines": Deadlines(request=0.05), **SHARED}),
    "shared store, response in the background": respond(store=True, background=True, stream=True, server=SHARED),
    "shared store, response over a WebSocket": socket(
        RESPONSES,
        lambda n: [{"type": "response.create", "model": "agent", "input": "hi", "store": False}],
        ENDED,
        **SHARED,
    ),
    "chat over a WebSocket, shared store": socket(
        "/chat",
        lambda n: [{"role": "user", "content": "hi", "thread_id": f"t{n}"}],
        SAID,
        chat_websocket=NO_REPLAY,
        store=Shared,
    ),
}


def ours(thing: object) -> str | None:
    """The name of an object of ours, or of code of ours that is suspended; None for anything else."""
    code = None
    if isinstance(thing, FrameType):
        code = thing.f_code
    elif isinstance(thing, CoroutineType):
        code = thing.cr_code
    elif isinstance(thing, GeneratorType):
        code = thing.gi_code
    elif isinstance(thing, AsyncGeneratorType):
        code = thing.ag_code
    if code is not None:
        found = "openai_compat" in code.co_filename or code.co_filename == __file__
        return f"{type(thing).__name__} {code.co_qualname}" if found else None
    kind = type(thing)
    module = str(kind.__module__)  # may be anything for types written in C
    return f"{module}.{kind.__qualname__}" if module.startswith(("openai_compat", __name__)) else None


def alive() -> Counter[str]:
    """Number of our objects by name, without those of a store, which keeps and counts its data."""
    names = filter(None, map(ours, gc.get_objects()))
    return Counter([name for name in names if not name.startswith("openai_compat.stores.")])


@contextmanager
def collector_off() -> Iterator[None]:
    """Turn the collector off, and logging too: pytest keeps log records and their exceptions."""
    gc.collect()
    gc.freeze()  # objects that exist already need no inspection, here or in the next of these tests
    gc.disable()
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def garbage() -> Counter[str]:
    """Objects of ours that only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    return Counter(filter(None, map(ours, gc.garbage)))


@requirement("server.garbage")
@pytest.mark.parametrize("kind", [*KINDS, *FURTHER])
async def test_requests_leave_nothing_behind(anyio_backend: Any, kind: str) -> None:
    if anyio_backend == "trio" and kind == "chat with a tool over a WebSocket" and sys.version_info >= (3, 13):
        pytest.skip("contextlib's __aexit__ keeps trio's cancellation, which leads to its frame from Python 3.13 on")
    once, numbers = (KINDS | FURTHER)[kind](), itertools.count()
    for _ in range(3):  # warm-up: creates what is created once
        await once(next(numbers))
    with collector_off():
        before = alive()
        for _ in range(MANY if kind in KINDS and anyio_backend == "asyncio" else FEW):
            await once(next(numbers))
        for _ in range(50):  # let the last request release everything
            await anyio.lowlevel.checkpoint()
        left, grown = garbage(), alive() - before
    assert not left
    assert grown.total() <= FEW // 2, grown.most_common(10)
