"""The model behind every agent of the acceptance cases, whose answer depends only on its input.

The model knows no framework. The test double of each framework converts the framework's model input to `Seen`, and the
model's steps to the framework's model output.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio

SECRET = "the secret of the database"
INNER = "INNER DRAFT"
INPUT, CACHED, OUTPUT, REASONING = 50, 10, 6, 2
"""Token usage of each model call."""


@dataclass(frozen=True)
class Shown:
    """A message in the model's input: `calls` are the ids of the assistant's calls, `call_id` is that of a result."""

    role: str
    text: str
    calls: tuple[str, ...] = ()
    call_id: str = ""
    media: tuple[bytes | str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One model call. `settings` are named as in `Sampling`, `schema` is the required schema of the answer."""

    messages: list[Shown]
    tools: list[str] = field(default_factory=list[str])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    schema: dict[str, Any] | None = None

    @property
    def said(self) -> list[tuple[str, str]]:
        """Role and text of all messages."""
        return [(message.role, message.text) for message in self.messages]

    @property
    def open_calls(self) -> set[str]:
        """The calls without a result, which a real model's API refuses."""
        made = {call for message in self.messages for call in message.calls}
        return made - {message.call_id for message in self.messages}


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Think:
    text: str


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def pieces(self) -> tuple[str, str]:
        """The arguments, in two pieces."""
        text = json.dumps(self.arguments)
        return text[:6], text[6:]


@dataclass(frozen=True)
class Answer:
    """The JSON of an answer with a schema; test doubles without structured output send it as text."""

    value: dict[str, Any]


class RateLimited(Exception):
    """Test doubles raise the framework's exception for a 429 with `Retry-After: 7` instead."""


class Model:
    """Answers, and records its input. `stopped` is set once a hanging answer or tool was cancelled."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.ran: list[str] = []
        self.stopped = threading.Event()
        self.hangs = threading.Event()

    def reset(self) -> None:
        """Clear the recorded input."""
        self.seen.clear()
        self.ran.clear()
        self.stopped.clear()
        self.hangs.clear()

    async def hang(self) -> None:
        """Wait for cancellation."""
        self.hangs.set()
        try:
            await anyio.sleep(60)
        finally:
            self.stopped.set()

    # the tools of the agents

    async def get_weather(self, city: str) -> str:
        """The weather in a city."""
        self.ran.append(city)
        return f"sunny in {city}"

    async def tell_time(self) -> str:
        """The time."""
        return "noon"

    async def wait(self) -> str:
        """Takes long."""
        await self.hang()
        return "never"

    # the answers

    async def answer(self, seen: Seen) -> AsyncIterator[Say | Think | Call | Answer]:
        """The steps of one answer."""
        self.seen.append(seen)
        results = []
        for message in reversed(seen.messages):
            if message.role != "tool":
                break
            results.insert(0, message.text)
        last = seen.messages[-1] if seen.messages else Shown("user", "")
        if results and seen.schema is None:
            for piece in ("The tools ", "said: ", f"{'; '.join(results)}."):
                yield Say(piece)
            return
        prompt = next((message.text for message in reversed(seen.messages) if message.role == "user"), last.text)
        if seen.schema is not None:
            yield Answer({"city": "Rome"})
            return
        async for step in self._to(prompt.partition(" ")[0], seen):
            yield step

    async def _to(self, word: str, seen: Seen) -> AsyncIterator[Say | Think | Call]:
        """The answer to a prompt with this first word."""
        offered = [name for name in seen.tools if "kit" in name]
        for step in CALLS.get(word, ()) if word != "kit" else [Call("call_1", name, PARIS) for name in offered]:
            yield step
        if word in CALLS or (word == "kit" and offered):
            return
        if word == "fail":
            raise RuntimeError(SECRET)
        if word == "limit":
            raise RateLimited
        said = (
            INNER if word == "inner" else "You said: " + " ".join([text for role, text in seen.said if role == "user"])
        )
        for piece in re.findall(r"\S+ ?", "one two three " if word in ("late", "hang") else said):
            yield Say(piece)
        if word == "late":
            raise RuntimeError(SECRET)
        if word == "hang":
            await self.hang()


PARIS = {"city": "Paris"}
CALLS: dict[str, list[Say | Think | Call]] = {
    "weather": [
        Think("I need the weather."),
        Say("Let me "),
        Say("check."),
        Call("call_1", "get_weather", PARIS),
    ],
    "pair": [Call("call_1", "get_weather", PARIS), Call("call_2", "get_weather", {"city": "Oslo"})],
    "client": [Call("call_1", "look_up", {"key": "x"})],
    "twice": [Call("call_1", "look_up", {"key": "x"}), Call("call_2", "look_up", {"key": "y"})],
    "both": [Call("call_1", "get_weather", PARIS), Call("call_2", "look_up", {"key": "x"})],
    "time": [Call("call_1", "tell_time", {})],
    "wait": [Call("call_1", "wait", {})],
    "expert": [Call("call_1", "ask_expert", {"question": "inner question"})],
}
"""The first steps of an answer, by the first word of the prompt."""
