"""Answers for programs: the server's JSON, and nothing else on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

from .answer_events import AnswerEvent, ProgramNotice, WireEvent
from .display import PlainDisplay
from .json_values import JsonObject, number_in, object_in, objects_in, text_in


class JsonDisplay(PlainDisplay):
    """Writes each event of the stream to stdout as a line, or only the last complete answer, at the end."""

    def __init__(self, *, every_event: bool) -> None:
        super().__init__(verbose=False)
        self._every_event = every_event
        self._last: JsonObject = {}
        self._chunks: list[JsonObject] = []

    def show(self, event: AnswerEvent) -> None:
        """Write an event, or collect it for the answer."""
        if isinstance(event, ProgramNotice):
            super().show(event)
        if not isinstance(event, WireEvent):
            return
        if self._every_event:
            click.echo(json.dumps(event.data, ensure_ascii=False))
        elif "response" in event.data:
            self._last = event.data["response"]
        elif event.data.get("object") == "chat.completion.chunk":
            self._chunks.append(event.data)

    @contextmanager
    def turn(self, model: str) -> Generator[None]:
        """A context in which the events of one turn are shown."""
        self._chunks = []
        with super().turn(model):
            yield
        if self._chunks:
            self._last = assemble_completion(self._chunks)

    def close(self) -> None:
        """Write the answer after the last turn, unless events were written."""
        if self._last and not self._every_event:
            click.echo(json.dumps(self._last, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def assemble_completion(chunks: list[JsonObject]) -> JsonObject:
    """Assemble the chat completion from its chunks."""
    message: JsonObject = {"role": "assistant", "content": None}
    calls: dict[int, JsonObject] = {}
    whole = {name: value for name, value in chunks[0].items() if name not in ("choices", "object", "event")}
    choice: JsonObject = {"index": 0, "message": message, "finish_reason": None}
    for chunk in chunks:
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        for piece in objects_in(chunk.get("choices")):
            delta = object_in(piece.get("delta"))
            for name in ("content", "refusal", "reasoning_content"):
                if text := text_in(delta.get(name)):
                    message[name] = text_in(message.get(name)) + text
            for part in objects_in(delta.get("tool_calls")):
                function = {"name": "", "arguments": ""}
                empty = {"id": "", "type": "function", "function": function}
                call = calls.setdefault(number_in(part.get("index")) or 0, empty)
                call["id"] = text_in(part.get("id")) or call["id"]
                for name in function:
                    call["function"][name] += text_in(object_in(part.get("function")).get(name))
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if calls:
        message["tool_calls"] = list(calls.values())
    return {**whole, "object": "chat.completion", "choices": [choice]}
