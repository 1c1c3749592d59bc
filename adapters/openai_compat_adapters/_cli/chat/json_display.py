"""Answers for programs: as the server has sent them, and nothing else on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from .answer_events import AnswerEvent, Remark, WireEvent
from .display import PlainDisplay


class JsonDisplay(PlainDisplay):
    """Events of the stream to stdout, a line each; or, at the end, the last whole answer alone."""

    def __init__(self, *, every_event: bool) -> None:
        super().__init__(tells=False)
        self._every_event = every_event
        self._last: dict[str, Any] = {}
        self._chunks: list[dict[str, Any]] = []

    def show(self, event: AnswerEvent) -> None:
        """Write an event, or keep what makes up the answer."""
        if isinstance(event, Remark):
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
        """A context in which events are shown."""
        self._chunks = []
        with super().turn(model):
            yield
        if self._chunks:
            self._last = whole_completion(self._chunks)

    def close(self) -> None:
        """There is no further turn: write the answer, if events were not."""
        if self._last and not self._every_event:
            click.echo(json.dumps(self._last, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def whole_completion(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The chat completion that was streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: dict[int, dict[str, Any]] = {}
    whole = {name: value for name, value in chunks[0].items() if name not in ("choices", "object", "event")}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": None}
    for chunk in chunks:
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        for piece in chunk.get("choices") or []:
            delta = piece.get("delta") or {}
            for name in ("content", "refusal", "reasoning_content"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            for part in delta.get("tool_calls") or []:
                call = calls.setdefault(
                    part.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["id"] = part.get("id") or call["id"]
                for name in ("name", "arguments"):
                    call["function"][name] += (part.get("function") or {}).get(name) or ""
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if calls:
        message["tool_calls"] = list(calls.values())
    return {**whole, "object": "chat.completion", "choices": [choice]}
