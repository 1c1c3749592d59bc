"""Chat turns over the Responses API, which also carries the agent's activity, its questions and its token usage."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Iterator
from typing import Any

from .answer_events import (
    CONNECTION_LOST,
    Activity,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    ApprovalRequest,
    ChatFailed,
    ClientToolCall,
    GeneratedMedia,
    ProgramNotice,
    ThoughtEnded,
    ThoughtPiece,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    WireEvent,
)
from .connection import ServerConnection, failure
from .dialogue import Dialogue, Item
from .json_values import JsonObject, number_in, object_in, objects_in, text_in

END_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def responses_turn(server: ServerConnection, dialogue: Dialogue, items: list[Item]) -> Generator[AnswerEvent]:
    """Send the items, yield the events, and add the turn, or the part of it that arrived, to the dialogue. Raises ChatFailed."""
    items = dialogue.with_results(items)
    try:
        yield from _ResponseTurn(dialogue, items).run(server)
    except ChatFailed as error:
        if error.code != "previous_response_not_found" or not dialogue.previous:
            raise
        # For example, a server with its state in memory was restarted.
        dialogue.previous = ""
        yield ProgramNotice("The server no longer has this conversation, so the whole history is sent again.")
        yield from _ResponseTurn(dialogue, items).run(server)


class _ResponseTurn:
    def __init__(self, dialogue: Dialogue, items: list[Item]) -> None:
        self._dialogue = dialogue
        self._items = items
        self._output: list[Item] = []
        self._calls: list[ClientToolCall] = []
        self._pieces: list[str] = []  # of the incomplete message
        self._thought = False  # True if the current reasoning came in pieces
        self._speech: list[str] = []

    def run(self, server: ServerConnection) -> Iterator[AnswerEvent]:
        dialogue, whole = self._dialogue, False
        try:
            for event in server.stream("responses", self._body()):
                yield WireEvent(event)
                yield from self._translate(event)
                if event.get("type") in END_EVENTS:
                    response = object_in(event.get("response"))
                    whole = True
                    dialogue.add_turn([*self._items, *self._output], text_in(response.get("id")))
                    dialogue.open_calls = self._calls
                    usage, cut = object_in(response.get("usage")), object_in(response.get("incomplete_details"))
                    tokens_in, tokens_out = number_in(usage.get("input_tokens")), number_in(usage.get("output_tokens"))
                    yield TurnEnded(tokens_in, tokens_out, text_in(cut.get("reason")).replace("_", " "))
                    return
            raise ChatFailed(CONNECTION_LOST, code="connection_lost")
        finally:
            if not whole:
                partial = [{"role": "assistant", "content": "".join(self._pieces)}] if self._pieces else []
                dialogue.add_partial_turn(self._items, self._output + partial)

    def _body(self) -> JsonObject:
        dialogue = self._dialogue
        # An MCP tool requests approvals as items that a program can answer. Other servers do not know the agent as a label.
        tools = [*dialogue.tools, *([{"type": "mcp", "server_label": dialogue.model}] if dialogue.is_ours else [])]
        body: JsonObject = {"model": dialogue.model, "input": dialogue.request_input(self._items), "stream": True}
        body |= {"previous_response_id": dialogue.previous} if dialogue.previous else {}
        body |= {"instructions": dialogue.system} if dialogue.system else {}
        return body | ({"tools": tools} if tools else {})

    def _translate(self, event: JsonObject) -> Iterator[AnswerEvent]:
        kind, index = text_in(event.get("type")), number_in(event.get("output_index")) or 0
        item, delta = object_in(event.get("item")), text_in(event.get("delta"))
        told = object_in(object_in(event.get("event")).get("data"))  # the agent's progress, in words
        if status := text_in(told.get("description")):
            yield Activity("" if told.get("done") else status)
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._pieces.append(delta)
            yield AnswerPiece(delta)
        elif kind.startswith("response.reasoning") and kind.endswith(".delta"):
            self._thought = True
            yield ThoughtPiece(delta)
        elif kind == "response.output_item.added" and item.get("type") == "mcp_call":
            yield ToolStarted(index, text_in(item.get("name")))
        elif kind == "response.output_item.done":
            yield from self._translate_item(index, item)
        elif kind == "response.audio.delta":
            self._speech.append(delta)
        elif kind == "response.audio.done":
            yield GeneratedMedia("speech", "mp3", _decode("".join(self._speech)))
        elif kind == "error":
            raise failure(event.get("error") or event)
        elif kind == "response.failed":
            raise failure(object_in(event.get("response")).get("error"))

    def _translate_item(self, index: int, item: JsonObject) -> Iterator[AnswerEvent]:
        kind, name, given = text_in(item.get("type")), text_in(item.get("name")), text_in(item.get("arguments"))
        match kind:
            case "message":
                yield from self._translate_message(item)
            case "reasoning":
                parts = [*objects_in(item.get("summary")), *objects_in(item.get("content"))]
                if not self._thought:
                    yield ThoughtPiece("\n\n".join([text_in(part.get("text")) for part in parts]))
                self._thought = False
                yield ThoughtEnded()
            case "mcp_call":
                failed = item.get("error") is not None
                said = _error_text(item["error"]) if failed else text_in(item.get("output"))
                yield ToolEnded(index, name, given, said, failed)
            case "mcp_approval_request":
                yield ApprovalRequest(text_in(item.get("id")), name, given)
            case "function_call" | "custom_tool_call":
                yield self._add_call(item, kind)
            case "image_generation_call":
                picture = _decode(text_in(item.get("result")))
                suffix = text_in(item.get("output_format"))  # never a path of the server's choice
                yield GeneratedMedia("picture", suffix if suffix.isalnum() else "png", picture)
            case _:  # tools that other servers run
                yield ToolEnded(index, kind, "", text_in(item.get("status")), failed=False)

    def _translate_message(self, item: JsonObject) -> Iterator[AnswerEvent]:
        parts = objects_in(item.get("content"))
        text = "\n\n".join([text_in(part.get("text")) or text_in(part.get("refusal")) for part in parts])
        if not self._pieces and text:
            yield AnswerPiece(text)
        self._pieces = []
        self._output.append({"role": "assistant", "content": text})
        noted = [note for part in parts for note in objects_in(part.get("annotations"))]
        cited = [(text_in(note.get("title")), text_in(note.get("url"))) for note in noted]
        yield AnswerEnded(tuple([(title or url, url) for title, url in cited if url]))

    def _add_call(self, item: JsonObject, kind: str) -> ClientToolCall:
        given = "input" if kind == "custom_tool_call" else "arguments"
        call = ClientToolCall(text_in(item.get("call_id")), text_in(item.get("name")), text_in(item.get(given)), kind)
        self._output.append({"type": kind, "call_id": call.id, "name": call.name, given: call.arguments})
        self._calls.append(call)
        return call


def _error_text(error: Any) -> str:
    """Return the error text of a failed tool, without the object around it, which only marks it as a tool's."""
    parts = objects_in(object_in(error).get("content"))
    if parts:
        return "\n".join([text_in(part.get("text")) for part in parts])
    return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        raise ChatFailed("The server sent a picture or a sound that is none.", code="not_an_event") from None
