"""Agents that real clients drive over Responses, and `server`, which `openai-compat serve` runs with them."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import anyio

from openai_compat import (
    AgentError,
    AgentRequest,
    Deadlines,
    Paused,
    PendingCall,
    ReasoningDelta,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.messages import ToolMessage

_gates: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


async def echo(request: AgentRequest) -> AsyncIterator[Any]:
    """Repeats the whole conversation."""
    yield "heard: "
    yield " / ".join([message.text for message in request.messages])
    yield UsageReported(3, 2)


async def weather(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool in pieces, then reports its result and the number of messages."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        yield f"It is {last.text}, "
        yield f"after {len(request.messages)} messages."
        return
    yield ReasoningDelta("I have to look.")
    call = f"call_{len(request.messages)}"
    yield ToolCallStarted(call, "weather")
    yield ToolCallDelta(call, '{"city":')
    yield ToolCallDelta(call, ' "Paris"}')


async def searcher() -> AsyncIterator[Any]:
    """Has a tool of its own, which no client must run."""
    yield ToolCallReady("call_1", "search", '{"for": "it"}')
    yield ToolResult("call_1", "a needle")
    yield "Found it."


async def careful(request: AgentRequest) -> AsyncIterator[Any]:
    """Asks before it deletes."""
    if request.resume is None or not request.resume.decisions:
        yield "I am about to delete. "
        yield Paused((PendingCall("call_1", "delete", '{"file": "a"}', "approval"),), {"step": 7})
        return
    decision, state = request.resume.decisions["call_1"], request.resume.state
    yield ToolResult("call_1", "gone", denied=not decision.approved)
    yield f"Approved: {decision.approved}, state: {json.dumps(state)}"


async def person() -> str:
    """Answers with an object that fits the tests' schema."""
    return '{"name": "Ada", "age": 36}'


async def waiting(prompt: str) -> AsyncIterator[str]:
    """Says "one ", waits until `opener` gets the same prompt, says "two"."""
    yield "one "
    await _gates[prompt].wait()
    yield "two"


async def opener(prompt: str) -> str:
    """Releases `waiting`."""
    _gates[prompt].set()
    return "opened"


async def breaks() -> AsyncIterator[str]:
    """Fails in the middle."""
    yield "so far"
    raise AgentError("The calendar is closed today.", code="calendar_closed")


AGENTS = {agent.__name__: agent for agent in (echo, weather, searcher, careful, person, waiting, opener, breaks)}


def server(store: str, lease: float = 15.0) -> Server:
    """A server with all agents. Leases of a killed server expire after `lease` seconds."""
    return Server(AGENTS, store=store, deadlines=Deadlines(lease=lease))


if "STORE" in os.environ:
    served = server(os.environ["STORE"], float(os.environ["LEASE"]))
