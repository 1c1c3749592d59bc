"""Agents and applications without a defect: every check that applies to them must pass."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Decision,
    Paused,
    PendingCall,
    ReasoningDelta,
    RunContext,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
    as_backend,
)
from openai_compat.testing import Conformance
from openai_compat_adapters.starlette import create_app

counter = itertools.count()


async def _reference(request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
    """Does a bit of everything: usage in two reports, its own tool, the client's tool in pieces."""
    if request.resume is not None:
        yield "It is "
        for result in request.resume.results.values():
            yield result.text
        return
    assert request.sampling.temperature is None or request.sampling.temperature >= 0  # its model would receive it
    yield UsageReported(3, 1)
    if request.tools:
        call_id = f"call_{next(counter)}"
        yield ToolCallStarted(call_id, request.tools[0].name)
        yield ToolCallDelta(call_id, '{"city": ')
        yield ToolCallDelta(call_id, '"Paris"}')
        return
    yield "Hello, "
    yield ToolCallReady("own_1", "clock", "{}", "agent")
    yield ToolResult("own_1", "12:00")
    yield "world"
    yield UsageReported(4, 2)


reference = as_backend(
    _reference, capabilities=Capabilities(own_tools=frozenset({"clock"}), parameters=frozenset({"temperature"}))
)


class Approving:
    """Requests approval before it pays; a subclass does one thing wrong."""

    capabilities = Capabilities(own_tools=frozenset({"pay"}), client_tools=False)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is not None:
            for call_id, decision in request.resume.decisions.items():
                async for item in self.decided(request, call_id, decision):
                    yield item
        elif "pay" in request.prompt:
            async for item in self.asks():
                yield item
        else:
            yield "Hello, "
            yield "world"

    async def asks(self) -> AsyncIterator[Any]:
        yield Paused((PendingCall("call_pay", "pay", '{"to": "Ann"}', "approval"),), {"to": "Ann"})

    async def decided(self, request: AgentRequest, call_id: str, decision: Decision) -> AsyncIterator[Any]:
        if not decision.approved:
            yield ToolResult(call_id, "not paid", denied=True)
            yield "As you wish."
            return
        to = json.loads(decision.arguments)["to"] if decision.arguments else request.resume.state["to"]
        yield ToolResult(call_id, f"paid to {to}")
        yield "Done."


async def remembering(request: AgentRequest) -> AsyncIterator[str]:
    """Stores messages under a key that belongs to one caller, after its answer."""
    heard = MEMORY.get(request.session_key or "", [])
    yield "Hello, "
    yield " / ".join(heard) or "you"
    if request.session_key is not None:
        MEMORY[request.session_key] = [*heard, request.prompt]


MEMORY: dict[str, list[str]] = {}


async def reasoner(prompt: str) -> AsyncIterator[Any]:
    yield ReasoningDelta("What is ")
    yield ReasoningDelta("said here? ")
    yield "Hello, "
    yield prompt


async def greeter(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


def plain_greeter(prompt: str) -> Iterator[str]:
    yield "Hello, "
    yield prompt


def echo(prompt: str) -> str:
    return prompt


async def declared_failure(prompt: str) -> AsyncIterator[str]:
    yield "Looking … "
    if "fail" in prompt:
        raise AgentError("The calendar is closed.", status=409, code="calendar_closed")
    yield "done"


async def thinker(prompt: str) -> AsyncIterator[str]:
    yield "Let me think. "
    await asyncio.sleep(30 if "long" in prompt else 0)
    yield "Yes."


def patient_thread(prompt: str, context: RunContext) -> Iterator[str]:
    yield "Let me think. "
    if "long" in prompt:
        context.wait_cancelled(30)
    yield "Yes."


class OneConversation:
    """Holds the state of one turn, as some frameworks' agents do: so the server gets the class, a factory."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def run(self, prompt: str) -> AsyncIterator[str]:
        for word in ("one ", "two"):
            self.said.append(word)
            await asyncio.sleep(0)
            yield "".join(self.said)


async def handwritten(scope: Any, receive: Any, send: Any) -> None:
    """A hand-written ASGI application with the required features and nothing more."""
    try:
        body = json.loads((await receive())["body"] or b"{}")
    except ValueError:
        body = {}
    if scope["path"] == "/v1/models":
        await _answer(send, 200, {"object": "list", "data": [MODEL]})
    elif not isinstance(body.get("messages"), list):
        await _fail(send, 400, "messages")
    elif body["model"] != "hand":
        await _fail(send, 404, "model")
    else:
        work = asyncio.create_task(_reply(send, body))
        left = asyncio.create_task(receive())
        await asyncio.wait([work, left], return_when=asyncio.FIRST_COMPLETED)
        for task in (work, left):
            task.cancel()
        await asyncio.wait([work, left])


MODEL = {"id": "hand", "object": "model", "created": 1, "owned_by": "me"}


async def _reply(send: Any, body: dict[str, Any]) -> None:
    prompt = body["messages"][-1]["content"]
    head = {"id": f"chatcmpl-{next(counter)}", "created": int(time.time()), "model": "hand"}
    if "fail" in prompt:
        await _fail(send, 500, None)
    elif body.get("stream"):
        await _start(send, 200, b"text/event-stream", (b"cache-control", b"no-cache"))
        chunk = {**head, "object": "chat.completion.chunk"}
        for delta, reason in (
            ({"role": "assistant"}, None),
            ({"content": "Hello, "}, None),
            ({"content": "you"}, None),
        ):
            await _event(send, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        await asyncio.sleep(30 if "long" in prompt else 0)
        await _event(send, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            await _event(send, {**chunk, "choices": [], "usage": USAGE})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        await asyncio.sleep(30 if "long" in prompt else 0)
        message = {"role": "assistant", "content": "Hello, you", "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await _answer(send, 200, {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def _start(send: Any, status: int, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
    headers = ((b"content-type", kind), *headers)
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def _event(send: Any, value: Any) -> None:
    await send(
        {"type": "http.response.body", "body": b"data: " + json.dumps(value).encode() + b"\n\n", "more_body": True}
    )


async def _answer(send: Any, status: int, value: Any, *headers: tuple[bytes, bytes]) -> None:
    await _start(send, status, b"application/json", *headers)
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


async def _fail(send: Any, status: int, param: str | None) -> None:
    error = {"message": "That did not work.", "type": "invalid_request_error", "param": param, "code": None}
    await _answer(send, status, {"error": error}, (b"x-should-retry", b"false"))


class Reference(Conformance):
    agent = reference
    tool_prompt = "What is the weather?"


class ReferenceOnTrio(Reference):
    event_loop = "trio"


class Approves(Conformance):
    agent = Approving()
    approval_prompt = "Please pay."
    edited_arguments: ClassVar = {"to": "Bob"}
    edited_result = "paid to Bob"


class Remembers(Conformance):
    agent = staticmethod(remembering)


class Reasons(Conformance):
    agent = staticmethod(reasoner)


class SeveralByName(Conformance):
    agent: ClassVar = {"one": greeter, "two": echo}


class BelowAPrefix(Conformance):
    agent = staticmethod(Starlette(routes=[Mount("/ai", create_app(Server(greeter)))]))
    path = "/ai/v1"


class AsyncGenerator(Conformance):
    agent = greeter


class PlainGenerator(Conformance):
    agent = plain_greeter


class Function(Conformance):
    agent = echo


class DeclaredFailure(Conformance):
    agent = declared_failure
    failing_prompt = "Please fail."


class LongThinker(Conformance):
    agent = thinker
    long_prompt = "A long one, please."


class PatientThread(Conformance):
    agent = patient_thread
    long_prompt = "A long one, please."


class Factory(Conformance):
    agent = OneConversation


class WithKeyAndOtherModels(Conformance):
    agent = Server({"other": echo, "mine": reference}, keys="the-key")
    model = "mine"
    api_key = "the-key"


class BehindStarlette(Reference):
    """The agent in an ASGI application of its own, which can still be watched, since `serve` builds it."""

    def serve(self, agent: Any) -> object:
        return create_app(Server({"behind": agent}))


class AsgiApplication(Conformance):
    agent = staticmethod(create_app(Server(declared_failure)))
    failing_prompt = "Please fail."


class Handwritten(Conformance):
    agent = handwritten
    long_prompt = "A long one, please."
    failing_prompt = "Please fail."


GOOD = (
    Reference,
    ReferenceOnTrio,
    AsyncGenerator,
    PlainGenerator,
    Function,
    DeclaredFailure,
    LongThinker,
    PatientThread,
    Factory,
    WithKeyAndOtherModels,
    BehindStarlette,
    AsgiApplication,
    Handwritten,
    Approves,
    Remembers,
    Reasons,
    SeveralByName,
    BelowAPrefix,
)
