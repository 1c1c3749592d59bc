"""Checks of the agent as Ollama's clients see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..answer import Answer
from .transports import Event, TransportChecks, parse_json


class OllamaConformance(TransportChecks):
    """The agent as Ollama's clients see it. Its settings are those of `Conformance`."""

    def request_path(self) -> str:
        """The path, which is next to `/v1` and not below it."""
        return f"{self.path.removesuffix('/v1')}/api/chat"

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request in the format of Ollama's package."""
        body = self.body(prompt, stream=stream)
        return {**body, "tools": list(tools)} if tools else body

    def events(self, answer: Answer) -> list[Event]:
        """The JSON objects in the body, one per line."""
        return [
            cast("Event", found) for line in answer.body.splitlines() if isinstance(found := parse_json(line), dict)
        ]

    def order_fault(self, events: Sequence[Event]) -> str:
        """Only the last line has `done: true`, and each line has a message."""
        done = [event.get("done") for event in events]
        if done != [*[False] * (len(done) - 1), True]:
            return f"the last line, and no other one, is done: {done}"
        bare = [event for event in events if not isinstance(event.get("message", {}).get("content"), str)]
        return f"lines without a message: {bare}" if bare else ""

    def answer_text(self, told: Sequence[Event]) -> str:
        """The texts of the answer's messages."""
        return "".join([event.get("message", {}).get("content", "") for event in told])

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """The calls of the answer's messages."""
        calls = [call["function"] for event in told for call in event.get("message", {}).get("tool_calls", ())]
        return [(call["name"], call["arguments"]) for call in calls]

    def silence_fault(self, told: Sequence[Event]) -> str:
        """The fault of an answer without text: clients wait for the line with `done: true`."""
        return self.order_fault(told)

    def failure_fault(self, events: Sequence[Event]) -> str:
        """The last line is an error, and no line has `done: true`."""
        if not events or "error" not in events[-1] or any([event.get("done") for event in events]):
            return f"a stream that has failed ends with an error, and no line is done: {events}"
        return "a call was shown although the answer failed" if self.calls(events) else ""
