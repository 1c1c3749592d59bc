"""Turns by Chat Completions, which every OpenAI-compatible server has."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, cast

from .answer_events import (
    Answered,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    CalledClient,
    Doing,
    ThoughtEnded,
    ThoughtPiece,
    WireEvent,
)
from .connection import ServerConnection, failure
from .dialogue import Dialogue, Item


def completions_turn(server: ServerConnection, dialogue: Dialogue, items: list[Item]) -> Generator[AnswerEvent]:
    """Send the items with all that was said, and say what comes. The dialogue keeps the turn. Raises ChatFailed."""
    dialogue.previous = ""
    items = dialogue.with_results(items)
    turn, whole = _Turn(), False
    try:
        for chunk in server.stream("chat/completions", _body(dialogue, items)):
            yield WireEvent(chunk)
            if chunk.get("error"):
                raise failure(chunk["error"])
            yield from turn.said_by(chunk)
        calls = turn.calls
        dialogue.keep([*items, *turn.output], "")
        dialogue.open_calls = calls
        whole = True
        yield AnswerEnded(turn.sources)
        yield from calls
        yield Answered(turn.usage.get("prompt_tokens"), turn.usage.get("completion_tokens"), turn.cut)
    finally:
        if not whole:
            dialogue.keep_part(items, turn.output)


class _Turn:
    def __init__(self) -> None:
        self._said: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._thinks = False
        self._status = ""
        self.usage: dict[str, Any] = {}
        self.cut = ""
        self.sources: tuple[tuple[str, str], ...] = ()

    @property
    def calls(self) -> list[CalledClient]:
        return [CalledClient(call["id"], call["name"], call["arguments"]) for call in self._calls.values()]

    @property
    def output(self) -> list[Item]:
        said = "".join(self._said)
        message = [{"role": "assistant", "content": said}] if said else []
        return message + [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in self.calls
        ]

    def said_by(self, chunk: dict[str, Any]) -> Iterator[AnswerEvent]:
        # A key beside an empty delta is the one place for activity that no client trips over.
        told = (chunk.get("event") or {}).get("data") or {}
        if (status := str(told.get("description") or "")) and status != self._status:
            self._status = status
            yield Doing(status)
        self.usage = chunk.get("usage") or self.usage
        for choice in cast("list[dict[str, Any]]", chunk.get("choices") or []):
            delta = choice.get("delta") or {}
            if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                self._thinks = True
                yield ThoughtPiece(str(thought))
            text = str(delta.get("content") or delta.get("refusal") or "")
            if self._thinks and (text or choice.get("finish_reason")):
                self._thinks = False
                yield ThoughtEnded()
            if text:
                self._said.append(text)
                yield AnswerPiece(text)
            self._add(delta)
            if choice.get("finish_reason") in ("length", "content_filter"):
                self.cut = str(choice["finish_reason"]).replace("_", " ")

    def _add(self, delta: dict[str, Any]) -> None:
        """Add pieces of tool calls, and citations."""
        for piece in cast("list[dict[str, Any]]", delta.get("tool_calls") or []):
            call = self._calls.setdefault(piece.get("index", 0), {"id": "", "name": "", "arguments": ""})
            call["id"] = str(piece.get("id") or call["id"])
            for name in ("name", "arguments"):
                call[name] += str((piece.get("function") or {}).get(name) or "")
        noted = [note.get("url_citation") or {} for note in delta.get("annotations") or ()]
        self.sources += tuple(
            [(str(cited.get("title") or cited["url"]), str(cited["url"])) for cited in noted if cited.get("url")]
        )


def _body(dialogue: Dialogue, items: list[Item]) -> dict[str, Any]:
    system = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    messages = system + _messages(dialogue.to_send(items))
    body = {"model": dialogue.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    given = [{name: value for name, value in tool.items() if name != "type"} for tool in dialogue.tools]
    tools = [{"type": "function", "function": function} for function in given]
    return body | ({"tools": tools} if tools else {})


def _messages(items: list[Item]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for item in items:
        if item.get("type") == "function_call":
            called = {"name": item["name"], "arguments": item["arguments"]}
            call = {"type": "function", "id": item["call_id"], "function": called}
            # What the agent says and calls in one turn is one message.
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant"})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif item.get("type") == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif "role" in item:
            content = item["content"]
            parts = content if isinstance(content, str) else [_part(part) for part in content]
            messages.append({"role": item["role"], "content": parts})
    return messages


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if part["type"] == "input_file":
        return {"type": "file", "file": {"filename": part["filename"], "file_data": part["file_data"]}}
    return {"type": "text", "text": part["text"]}
