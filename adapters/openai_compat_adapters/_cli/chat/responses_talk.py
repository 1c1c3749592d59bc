"""Turns by the Responses API: what the agent does, its questions and its tokens come with the answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

from .answer_events import (
    LOST,
    Answered,
    AnswerEnded,
    AnswerEvent,
    AnswerPiece,
    AskedApproval,
    CalledClient,
    ChatFailed,
    Doing,
    MediaMade,
    Remark,
    ThoughtEnded,
    ThoughtPiece,
    ToolBegan,
    ToolEnded,
    WireEvent,
)
from .connection import ServerConnection, failure
from .dialogue import Dialogue, Item

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def responses_turn(server: ServerConnection, dialogue: Dialogue, items: list[Item]) -> Generator[AnswerEvent]:
    """Send the items, and say what comes. The dialogue keeps the turn, or what was said of it. Raises ChatFailed."""
    items = dialogue.with_results(items)
    try:
        yield from _Turn(dialogue, items).run(server)
    except ChatFailed as error:
        if error.code != "previous_response_not_found" or not dialogue.previous:
            raise
        # The server was started anew, say, with its state in memory.
        dialogue.previous = ""
        yield Remark("The server does not know this conversation any more, so it is told again.")
        yield from _Turn(dialogue, items).run(server)


class _Turn:
    def __init__(self, dialogue: Dialogue, items: list[Item]) -> None:
        self._dialogue = dialogue
        self._items = items
        self._output: list[Item] = []
        self._calls: list[CalledClient] = []
        self._said = ""  # of the message that is not complete
        self._thought: set[int] = set()  # reasoning that came in pieces
        self._speech = ""

    def run(self, server: ServerConnection) -> Iterator[AnswerEvent]:
        dialogue, whole = self._dialogue, False
        try:
            for event in server.stream("responses", self._body()):
                yield WireEvent(event)
                yield from self._said_by(event)
                if event.get("type") in ENDS:
                    response = event.get("response") or {}
                    whole = True
                    dialogue.keep([*self._items, *self._output], str(response.get("id") or ""))
                    dialogue.open_calls = self._calls
                    yield _answered(response)
                    return
            raise ChatFailed(LOST, code="connection_lost")
        finally:
            if not whole:
                partial = [{"role": "assistant", "content": self._said}] if self._said else []
                dialogue.keep_part(self._items, self._output + partial)

    def _body(self) -> dict[str, Any]:
        dialogue = self._dialogue
        # The tool of MCP asks for questions as items that a program can answer; no other server has to know the agent by it.
        tools = [*dialogue.tools, *([{"type": "mcp", "server_label": dialogue.model}] if dialogue.is_ours else [])]
        body: dict[str, Any] = {"model": dialogue.model, "input": dialogue.to_send(self._items), "stream": True}
        body |= {"previous_response_id": dialogue.previous} if dialogue.previous else {}
        body |= {"instructions": dialogue.system} if dialogue.system else {}
        return body | ({"tools": tools} if tools else {})

    def _said_by(self, event: dict[str, Any]) -> Iterator[AnswerEvent]:
        kind, index = str(event.get("type")), event.get("output_index", 0)
        item = cast("dict[str, Any]", event.get("item") or {})
        told = (event.get("event") or {}).get("data") or {}  # the agent's progress, in words
        if told.get("description"):
            yield Doing("" if told.get("done") else str(told["description"]))
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._said += event["delta"]
            yield AnswerPiece(event["delta"])
        elif kind.startswith("response.reasoning") and kind.endswith(".delta"):
            self._thought.add(index)
            yield ThoughtPiece(event["delta"])
        elif kind == "response.output_item.added" and item.get("type") == "mcp_call":
            yield ToolBegan(index, str(item.get("name")))
        elif kind == "response.output_item.done":
            yield from ITEMS.get(str(item.get("type")), _Turn._other)(self, index, item)
        elif kind == "response.audio.delta":
            self._speech += event["delta"]
        elif kind == "response.audio.done":
            yield MediaMade("speech", "mp3", base64.b64decode(self._speech))
        elif kind == "error":
            raise failure(event.get("error") or event)
        elif kind == "response.failed":
            raise failure((event.get("response") or {}).get("error"))

    def _message(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        parts = cast("list[dict[str, Any]]", item.get("content") or [])
        text = "\n\n".join([str(part.get("text") or part.get("refusal") or "") for part in parts])
        if not self._said and text:
            yield AnswerPiece(text)
        self._said = ""
        self._output.append({"role": "assistant", "content": text})
        noted = [note for part in parts for note in part.get("annotations") or () if note.get("url")]
        yield AnswerEnded(tuple([(str(note.get("title") or note["url"]), str(note["url"])) for note in noted]))

    def _reasoning(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        if index not in self._thought:
            parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
            yield ThoughtPiece("\n\n".join([str(part.get("text") or "") for part in parts]))
        yield ThoughtEnded()

    def _tool(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        error = item.get("error")
        said = item.get("output") or "" if error is None else _error_text(error)
        yield ToolEnded(index, str(item.get("name")), str(item.get("arguments") or ""), str(said), error is not None)

    def _approval(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        yield AskedApproval(str(item["id"]), str(item.get("name")), str(item.get("arguments") or ""))

    def _call(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        kind = str(item["type"])
        given = "input" if kind == "custom_tool_call" else "arguments"
        kept = {name: item[name] for name in ("type", "call_id", "name", given) if name in item}
        call = CalledClient(str(item.get("call_id")), str(item.get("name")), str(item.get(given) or ""), kind)
        self._output.append(kept)
        self._calls.append(call)
        yield call

    def _picture(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        if item.get("result"):
            yield MediaMade("picture", str(item.get("output_format") or "png"), base64.b64decode(item["result"]))

    def _other(self, index: int, item: dict[str, Any]) -> Iterator[AnswerEvent]:
        yield ToolEnded(index, str(item.get("type")), "", str(item.get("status") or ""), failed=False)


ITEMS: dict[str, Callable[[_Turn, int, dict[str, Any]], Iterator[AnswerEvent]]] = {
    "message": _Turn._message,  # noqa: SLF001  (of this module)
    "reasoning": _Turn._reasoning,  # noqa: SLF001
    "mcp_call": _Turn._tool,  # noqa: SLF001
    "mcp_approval_request": _Turn._approval,  # noqa: SLF001
    "function_call": _Turn._call,  # noqa: SLF001
    "custom_tool_call": _Turn._call,  # noqa: SLF001
    "image_generation_call": _Turn._picture,  # noqa: SLF001
}


def _answered(response: dict[str, Any]) -> Answered:
    usage = response.get("usage") or {}
    cut = (response.get("incomplete_details") or {}).get("reason") or ""
    return Answered(usage.get("input_tokens"), usage.get("output_tokens"), str(cut).replace("_", " "))


def _error_text(error: Any) -> str:
    """What a tool said that has failed: the object around it only says that it is a tool's."""
    parts = cast("dict[str, Any]", error).get("content") if isinstance(error, dict) else None
    if isinstance(parts, list):
        return "\n".join([str(part.get("text") or "") for part in cast("list[dict[str, Any]]", parts)])
    return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
