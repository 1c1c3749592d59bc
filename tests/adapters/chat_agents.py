"""Agents for the tests of `openai-compat chat`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from openai_compat import (
    AgentError,
    AgentRequest,
    Citation,
    MediaDelta,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    Server,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from tests.adapters.served_agents import leashed


def told(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Says how many messages it got, and repeats the last one."""
    yield f"{len(messages)}: "
    content = messages[-1]["content"]
    yield (content if isinstance(content, str) else " + ".join([part["type"] for part in content])) + "\n"


def fails(prompt: str) -> str:
    raise RuntimeError("the secret")


def half(prompt: str) -> Iterator[str]:
    yield "so far"
    raise RuntimeError("the\x1b[2Jsecret")


def refuses(prompt: str) -> str:
    raise AgentError("The calendar is closed.", status=409)


def rude(prompt: str) -> str:
    raise AgentError("no\x1b[2J\x9b", status=409)


def loud(prompt: str) -> Iterator[str]:
    yield from ["a\x1b", "[31mb\a\x9b2J\r\u202ec\x7f\t😀\n", "é\x00"]


async def held(messages: list[dict[str, str]]) -> AsyncIterator[Any]:
    """Repeats the messages; "think PORT", "run PORT" and "write PORT" hold it while it does so."""
    word, _, port = messages[-1]["content"].partition(" ")
    if port.isdigit():
        if word == "think":
            yield ReasoningDelta("I wonder")
        elif word == "run":
            yield ToolCallReady("c1", "look_up", '{"city": "Oslo"}', executor="agent")
        elif word == "write":
            yield "so far"
        async for said in leashed(port):
            yield said
    elif word == "fail":
        raise RuntimeError("asked to")
    else:
        yield Progress("tool", "1", "Listening …")
        yield "heard: " + " / ".join([message["content"] for message in messages])


async def buyer(request: AgentRequest) -> AsyncIterator[Any]:
    """Asks before it pays, and reports the decision."""
    if request.resume is not None:
        for call_id, decision in request.resume.decisions.items():
            if decision.approved:
                yield ToolResult(call_id, "paid")
            yield f"{'paid' if decision.approved else f'not paid: {decision.reason}'}\n"
        return
    yield "I pay Bob.\n"
    arguments = json.dumps({"euros": 5, "to": "Bob", "note": "lunch [red]\x1b[2J<b>"})
    yield Paused((PendingCall("c1", "pay", arguments, "approval"),))


async def busy(prompt: str) -> AsyncIterator[Any]:
    """Does everything that a display can show."""
    yield ReasoningDelta("Rain?\nI look ")
    yield ReasoningDelta("it up.")
    yield ToolCallReady("c1", "look_up", '{"city": "Oslo"}', executor="agent")
    yield ToolResult("c1", '{"sky":\n "rain"}')
    yield ToolCallReady("c2", "read_page", '{"url": "https://weather.example"}', executor="agent")
    yield ToolResult("c2", "timed out", is_error=True)
    yield "It will **rain**."
    yield Citation("https://weather.example", "Weather", 0, 2)
    yield UsageReported(input_tokens=431, output_tokens=212)


async def painter(prompt: str) -> AsyncIterator[Any]:
    yield MediaDelta(b"a picture", "image/png")
    yield "There."


async def caller(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool."""
    if request.resume is not None:
        yield "got: " + " ".join([result.text for result in request.resume.results.values()])
    elif request.tools:
        yield ToolCallReady("c1", "get_weather", json.dumps({"city": "Oslo"}))
    else:
        yield "no tools"


agents = {
    "told": told,
    "fails": fails,
    "half": half,
    "refuses": refuses,
    "rude": rude,
    "loud": loud,
    "held": held,
    "buyer": buyer,
    "busy": busy,
    "painter": painter,
    "caller": caller,
}
team = {"told": told, "fails": fails}
keyed = Server(told, keys="k")
