"""Chat turns over Chat Completions, which every OpenAI-compatible server has."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from .answer_events import (
    Activity,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    ClientToolCall,
    ThoughtEnded,
    ThoughtPiece,
    TurnEnded,
    WireEvent,
)
from .connection import ServerConnection, failure
from .dialogue import Dialogue, Item
from .json_values import JsonObject, number_in, object_in, objects_in, text_in


def completions_turn(server: ServerConnection, dialogue: Dialogue, items: list[Item]) -> Generator[AnswerEvent]:
    """Send the items with the whole history, yield the events, and add the turn to the dialogue. Raises ChatFailed."""
    dialogue.previous = ""
    items = dialogue.with_results(items)
    turn, whole = _CompletionTurn(), False
    try:
        for chunk in server.stream("chat/completions", _body(dialogue, items)):
            yield WireEvent(chunk)
            if chunk.get("error"):
                raise failure(chunk["error"])
            yield from turn.translate(chunk)
        calls = turn.calls
        dialogue.add_turn([*items, *turn.output], "")
        dialogue.open_calls = calls
        whole = True
        yield AnswerEnded(turn.sources)
        yield from calls
        used = [number_in(turn.usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        yield TurnEnded(used[0], used[1], turn.cut)
    finally:
        if not whole:
            dialogue.add_partial_turn(items, turn.output)


class _CompletionTurn:
    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._thinks = False
        self._status = ""
        self.usage: JsonObject = {}
        self.cut = ""
        self.sources: tuple[tuple[str, str], ...] = ()

    @property
    def calls(self) -> list[ClientToolCall]:
        return [ClientToolCall(call["id"], call["name"], call["arguments"]) for call in self._calls.values()]

    @property
    def output(self) -> list[Item]:
        said = "".join(self._pieces)
        message = [{"role": "assistant", "content": said}] if said else []
        return message + [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in self.calls
        ]

    def translate(self, chunk: JsonObject) -> Iterator[AnswerEvent]:
        # Activity comes in a key beside an empty delta, the only place that breaks no client.
        told = object_in(object_in(chunk.get("event")).get("data"))
        if (status := text_in(told.get("description"))) and status != self._status:
            self._status = status
            yield Activity(status)
        self.usage = object_in(chunk.get("usage")) or self.usage
        for choice in objects_in(chunk.get("choices")):
            delta, finish = object_in(choice.get("delta")), text_in(choice.get("finish_reason"))
            if thought := text_in(delta.get("reasoning_content")) or text_in(delta.get("reasoning")):
                self._thinks = True
                yield ThoughtPiece(thought)
            text = text_in(delta.get("content")) or text_in(delta.get("refusal"))
            if self._thinks and (text or finish):
                self._thinks = False
                yield ThoughtEnded()
            if text:
                self._pieces.append(text)
                yield AnswerPiece(text)
            self._add_delta(delta)
            if finish in ("length", "content_filter"):
                self.cut = finish.replace("_", " ")

    def _add_delta(self, delta: JsonObject) -> None:
        """Add pieces of tool calls, and citations."""
        for piece in objects_in(delta.get("tool_calls")):
            call = self._calls.setdefault(number_in(piece.get("index")) or 0, {"id": "", "name": "", "arguments": ""})
            call["id"] = text_in(piece.get("id")) or call["id"]
            for name in ("name", "arguments"):
                call[name] += text_in(object_in(piece.get("function")).get(name))
        for note in objects_in(delta.get("annotations")):
            cited = object_in(note.get("url_citation"))
            if url := text_in(cited.get("url")):
                self.sources += ((text_in(cited.get("title")) or url, url),)


def _body(dialogue: Dialogue, items: list[Item]) -> JsonObject:
    system = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    messages = system + _messages(dialogue.request_input(items))
    body = {"model": dialogue.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    given = [{name: value for name, value in tool.items() if name != "type"} for tool in dialogue.tools]
    tools = [{"type": "function", "function": function} for function in given]
    return body | ({"tools": tools} if tools else {})


def _messages(items: list[Item]) -> list[JsonObject]:
    messages: list[JsonObject] = []
    for item in items:
        if item.get("type") == "function_call":
            called = {"name": item["name"], "arguments": item["arguments"]}
            call = {"type": "function", "id": item["call_id"], "function": called}
            # The text and the tool calls of one turn are one message.
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


def _part(part: JsonObject) -> JsonObject:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if part["type"] == "input_file":
        return {"type": "file", "file": {"filename": part["filename"], "file_data": part["file_data"]}}
    return {"type": "text", "text": part["text"]}
