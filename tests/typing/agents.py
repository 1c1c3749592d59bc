"""Agents as users write them are accepted, and the objects they get are typed. Checked by mypy and pyright, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from openai_compat import (
    AgentBackend,
    AgentEvent,
    AgentRequest,
    Capabilities,
    Finished,
    Principal,
    Resume,
    RunContext,
    Server,
    TextDelta,
    as_backend,
)
from openai_compat.messages import Message, ToolMessage


def function(prompt: str) -> str:
    return prompt


async def coroutine(messages: list[dict[str, object]]) -> str:
    return f"{len(messages)} messages"


def generator(prompt: str, context: RunContext) -> Iterator[str]:
    assert_type(context.cancelled, bool)
    assert_type(context.remaining, float)
    assert_type(context.wait_cancelled(1), bool)
    assert_type(context.turn_id, str)
    yield prompt


async def async_generator(request: AgentRequest) -> AsyncIterator[AgentEvent | str]:
    assert_type(request.prompt, str)
    assert_type(request.messages, tuple[Message, ...])
    assert_type(request.new_messages, tuple[Message, ...])
    assert_type(request.principal, Principal)
    assert_type(request.sampling.max_tokens, int | None)
    assert_type(request.sampling.stop, tuple[str, ...])
    assert_type(request.resume, Resume | None)
    if request.resume is not None:
        for call_id, result in request.resume.results.items():
            assert_type(call_id, str)
            assert_type(result, ToolMessage)
    yield request.prompt
    yield TextDelta("and more")
    yield Finished()


class Agent:
    async def run(self, prompt: str) -> str:
        return prompt


class Backend:
    """Satisfies the AgentBackend protocol structurally."""

    capabilities = Capabilities(vision=False)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[TextDelta]:
        yield TextDelta(request.prompt)


class Property:
    """Capabilities may be a property, and events plain text."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        return async_generator(request)


class Synchronous:
    """Rejected: `run` must return an async iterator."""

    capabilities = Capabilities()

    def run(self, request: AgentRequest, context: RunContext) -> Iterator[str]:
        yield request.prompt


class Undeclared:
    """Rejected: a backend must declare its capabilities."""

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        raise NotImplementedError


backends: list[AgentBackend] = [Backend(), Property()]
wrong_1: AgentBackend = Synchronous()  # type: ignore[assignment]
wrong_2: AgentBackend = Undeclared()  # type: ignore[assignment]
wrong_3: AgentBackend = function  # type: ignore[assignment]

assert_type(as_backend(function), AgentBackend)
assert_type(as_backend(Agent(), capabilities=Capabilities(logprobs=True)), AgentBackend)
assert_type(as_backend(Backend()).capabilities, Capabilities)

Server(function)
Server(coroutine)
Server(generator)
Server(async_generator)
Server(Agent)
Server(Agent())
Server(Backend())
Server(functools.partial(function, "hi"))
Server(lambda: ["hi"])
Server({"one": function, "two": Agent(), "three": Backend()})
Server("agent")  # type: ignore[arg-type]
Server({"one": 1})  # type: ignore[dict-item]
as_backend(["agent"])  # type: ignore[arg-type]

request = AgentRequest(model="agent", messages=(), raw_messages=[])
request.model = "other"  # type: ignore[misc]
AgentRequest("agent", (), [])  # type: ignore[call-arg]
