"""Agents of `openai-compat demo`: they need no key, and their answers never change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio

from openai_compat import (
    AgentEvent,
    AgentRequest,
    Paused,
    PendingCall,
    ReasoningDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)

WORD_SECONDS = 0.03
"""Seconds between words, slow enough to watch."""

LOOKUP_SECONDS = 0.6
"""Duration of the researcher's tool calls, in seconds."""

OFFER_HINT = """\
I call a tool of your client, but you offer none. On the chat page, add this in the settings; other clients send it as `tools`:

```json
[{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
```
"""
"""Answer to a client without `get_weather`; the tool has the form of the Responses API, which the page uses."""


async def echo(prompt: str) -> AsyncIterator[str]:
    """Repeats your message, word by word."""
    async for word in _stream_words(prompt):
        yield word


async def researcher(request: AgentRequest) -> AsyncIterator[str | AgentEvent]:
    """Thinks, looks up two things, and asks before it buys a report."""
    resume = request.resume
    if resume is not None and resume.decisions:
        ((call_id, decision),) = resume.decisions.items()
        if decision.approved:
            price = json.loads(decision.arguments or resume.calls[call_id].arguments).get("euros", 0)
            yield ToolResult(call_id, json.dumps({"report": "Trains in Norway", "paid": price}))
            text = f"I bought it for {price} euros. It says: **take the train**, and book early."
        else:
            text = "Then I did not buy it. The free sources say: **take the train**."
        async for word in _stream_words(text):
            yield word
        yield UsageReported(input_tokens=240, output_tokens=20)
        return
    turn = len(request.messages)  # call ids must differ within a conversation
    async for word in _stream_words("Two things matter here: the weather, and the travel time. I will look up both."):
        yield ReasoningDelta(word)
    for number, (name, arguments, output) in enumerate(LOOKUPS):
        call_id = f"call_{turn}_{number}"
        yield ToolCallReady(call_id, name, json.dumps(arguments), executor="agent")
        await anyio.sleep(LOOKUP_SECONDS)
        yield ToolResult(call_id, json.dumps(output))
    async for word in _stream_words(FINDINGS):
        yield word
    yield UsageReported(input_tokens=120, output_tokens=75, reasoning_tokens=18)
    asked = json.dumps({"title": "Trains in Norway", "euros": 5})
    yield Paused((PendingCall(f"call_{turn}_buy", "buy_report", asked, "approval"),))


LOOKUPS = (
    ("forecast", {"city": "Oslo"}, {"sky": "rain", "celsius": 8}),
    ("timetable", {"from": "Oslo", "to": "Bergen"}, {"train": "6 h 38", "car": "7 h 10"}),
)
"""Tools of the researcher: name, arguments, output."""

FINDINGS = """\
It will rain in Oslo, and the train is faster than a car:

| by | hours |
|---|---|
| train | 6 h 38 |
| car | 7 h 10 |

A report about it costs 5 euros."""


async def weather(request: AgentRequest) -> AsyncIterator[str | AgentEvent]:
    """Calls your client's tool get_weather for a city."""
    results = request.resume.results.values() if request.resume is not None else ()
    text = " ".join([f"Your tool says: {result.text}" for result in results])
    if not text and "get_weather" in [tool.name for tool in request.tools]:
        arguments = json.dumps({"city": request.prompt or "Oslo"})
        yield ToolCallReady(f"call_{len(request.messages)}", "get_weather", arguments)
        return
    async for word in _stream_words(text or OFFER_HINT):
        yield word


async def _stream_words(text: str) -> AsyncIterator[str]:
    for number, word in enumerate(text.split(" ")):
        yield f" {word}" if number else word
        await anyio.sleep(WORD_SECONDS)


agents = {"researcher": researcher, "echo": echo, "weather": weather}
