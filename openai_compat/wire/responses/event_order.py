"""The allowed order of events in a Responses stream: tables, and a checker that enforces them.

A stream is many sequences at once. The response passes through its states; each output item passes through the events
of its type, independent of other items; speech is a sequence of its own. These tables are the only definition of the
order, and `docs/explanation/responses-events.md` is drawn from them.

Sources: OpenAI's streaming reference, the accumulators of its SDKs, and the Open Responses specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

START = "start"
"""The state before the first event of a sequence."""

ADDED = "response.output_item.added"
DONE = "response.output_item.done"
RUNNING = "response.in_progress"
"""The state in which output items and speech can occur."""

Table: TypeAlias = Mapping[str, frozenset[str]]
"""Maps each event to the events that may follow it, and `START` to the events that may come first.

The names of content part events include the part's type, to distinguish text from refusals.
"""


RESPONSE: Table = {
    START: frozenset(["response.created"]),
    # A response stopped before it ran ends with `response.incomplete`: there is no event for cancellation.
    "response.created": frozenset(["response.queued", RUNNING, "response.incomplete", "error"]),
    "response.queued": frozenset([RUNNING, "response.incomplete", "error"]),
    RUNNING: frozenset([RUNNING, "response.completed", "response.incomplete", "error"]),
    # SDK helpers wait for one of the last three; after `error` alone they would wait forever.
    "error": frozenset(["response.failed"]),
    "response.completed": frozenset(),
    "response.incomplete": frozenset(),
    "response.failed": frozenset(),
}

_TEXT = "response.content_part.added output_text"
_TEXT_DELTA = "response.output_text.delta"
_TEXT_DONE = "response.output_text.done"
_TEXT_END = "response.content_part.done output_text"
_ANNOTATION = "response.output_text.annotation.added"
_REFUSAL = "response.content_part.added refusal"
_REFUSAL_DELTA = "response.refusal.delta"
_REFUSAL_DONE = "response.refusal.done"
_REFUSAL_END = "response.content_part.done refusal"

MESSAGE: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset([_TEXT, _REFUSAL]),
    _TEXT: frozenset([_TEXT_DELTA, _ANNOTATION, _TEXT_DONE]),
    _TEXT_DELTA: frozenset([_TEXT_DELTA, _ANNOTATION, _TEXT_DONE]),
    _ANNOTATION: frozenset([_TEXT_DELTA, _ANNOTATION, _TEXT_DONE]),
    _TEXT_DONE: frozenset([_TEXT_END]),
    # No text part follows a text part: clients join a message's parts without a separator.
    _TEXT_END: frozenset([_REFUSAL, DONE]),
    _REFUSAL: frozenset([_REFUSAL_DELTA]),
    _REFUSAL_DELTA: frozenset([_REFUSAL_DELTA, _REFUSAL_DONE]),
    _REFUSAL_DONE: frozenset([_REFUSAL_END]),
    _REFUSAL_END: frozenset([_TEXT, DONE]),
    DONE: frozenset(),
}

REASONING: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset(["response.reasoning_summary_part.added"]),
    "response.reasoning_summary_part.added": frozenset(["response.reasoning_summary_text.delta"]),
    "response.reasoning_summary_text.delta": frozenset(
        ["response.reasoning_summary_text.delta", "response.reasoning_summary_text.done"]
    ),
    "response.reasoning_summary_text.done": frozenset(["response.reasoning_summary_part.done"]),
    "response.reasoning_summary_part.done": frozenset([DONE]),
    DONE: frozenset(),
}

FUNCTION_CALL: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset(["response.function_call_arguments.delta", "response.function_call_arguments.done"]),
    "response.function_call_arguments.delta": frozenset(
        ["response.function_call_arguments.delta", "response.function_call_arguments.done"]
    ),
    "response.function_call_arguments.done": frozenset([DONE]),
    DONE: frozenset(),
}

CUSTOM_TOOL_CALL: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset(["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"]),
    "response.custom_tool_call_input.delta": frozenset(
        ["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"]
    ),
    "response.custom_tool_call_input.done": frozenset([DONE]),
    DONE: frozenset(),
}

MCP_CALL: Table = {
    START: frozenset([ADDED]),
    # This event carries the status line that Open WebUI shows.
    ADDED: frozenset(["response.mcp_call.in_progress"]),
    "response.mcp_call.in_progress": frozenset(
        ["response.mcp_call_arguments.delta", "response.mcp_call_arguments.done", DONE]
    ),
    "response.mcp_call_arguments.delta": frozenset(
        ["response.mcp_call_arguments.delta", "response.mcp_call_arguments.done", DONE]
    ),
    "response.mcp_call_arguments.done": frozenset(["response.mcp_call.completed", "response.mcp_call.failed", DONE]),
    "response.mcp_call.completed": frozenset([DONE]),
    "response.mcp_call.failed": frozenset([DONE]),
    DONE: frozenset(),
}

MCP_APPROVAL_REQUEST: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset([DONE]),
    DONE: frozenset(),
}

IMAGE_GENERATION_CALL: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset(["response.image_generation_call.in_progress"]),
    "response.image_generation_call.in_progress": frozenset(["response.image_generation_call.completed"]),
    "response.image_generation_call.completed": frozenset([DONE]),
    DONE: frozenset(),
}

COMPACTION: Table = {
    START: frozenset([ADDED]),
    ADDED: frozenset(["response.compaction.compacting"]),
    "response.compaction.compacting": frozenset([DONE]),
    DONE: frozenset(),
}

ITEMS: Mapping[str, Table] = {
    "message": MESSAGE,
    "reasoning": REASONING,
    "function_call": FUNCTION_CALL,
    "custom_tool_call": CUSTOM_TOOL_CALL,
    "mcp_call": MCP_CALL,
    "mcp_approval_request": MCP_APPROVAL_REQUEST,
    "image_generation_call": IMAGE_GENERATION_CALL,
    "compaction": COMPACTION,
}
"""The tables by the type of the output item."""

_SPOKEN = ["response.audio.delta", "response.audio.transcript.delta", "response.audio.done"]
SPEECH: Table = {
    START: frozenset(_SPOKEN),
    "response.audio.delta": frozenset(_SPOKEN),
    "response.audio.transcript.delta": frozenset(_SPOKEN),
    "response.audio.done": frozenset(["response.audio.transcript.done"]),
    "response.audio.transcript.done": frozenset(),
}

NEVER_CUT = frozenset(["function_call", "custom_tool_call"])
"""Items that stay open when a turn breaks off: clients run every call that is done, regardless of its status."""


def event_name(event: Mapping[str, Any]) -> str:
    """Return the name of an event in the tables."""
    kind: str = event["type"]
    return f"{kind} {event['part']['type']}" if kind.startswith("response.content_part.") else kind


@dataclass(slots=True)
class _ItemState:
    item: Mapping[str, Any]
    last: str = ADDED
    parts: int = 0

    @property
    def kind(self) -> str:
        kind: str = self.item["type"]
        return kind


class EventOrder:
    """Checks the events of one stream, in order, against the tables."""

    def __init__(self) -> None:
        self._number = -1
        self._response = START
        self._speech = START
        self._items: list[_ItemState] = []

    @property
    def ended(self) -> bool:
        """True once no event may follow."""
        return self._response != START and not RESPONSE[self._response]

    def check(self, event: Mapping[str, Any]) -> None:
        """Check the next event. Raises ValueError if it is out of order."""
        self._number += 1
        _expect(event["sequence_number"] == self._number, f"number {event['sequence_number']} for {self._number}")
        name = event_name(event)
        if name in RESPONSE:
            self._response = _next_state(RESPONSE, self._response, name)
            self._check_end(event)
            return
        _expect(self._response == RUNNING, f"{name} after {self._response}")
        if name in SPEECH:
            self._speech = _next_state(SPEECH, self._speech, name)
        else:
            self._check_in_item(name, event)

    def _check_end(self, event: Mapping[str, Any]) -> None:
        if not self.ended:
            return
        cut = event["type"] != "response.completed"
        open_items = [item for item in self._items if item.last != DONE and not (cut and item.kind in NEVER_CUT)]
        _expect(not open_items, f"{event['type']} while items are open: {[item.kind for item in open_items]}")
        _expect(self._speech in (START, "response.audio.done", "response.audio.transcript.done"), "speech did not end")
        self._check_output(event["response"]["output"])

    def _check_output(self, output: Sequence[Mapping[str, Any]]) -> None:
        """Check that the final response matches the streamed items."""
        _expect([item["id"] for item in output] == [item.item["id"] for item in self._items], "the output is another")
        for now, item in zip(output, self._items, strict=True):
            same = now == item.item if item.last == DONE else now["status"] == "incomplete"
            _expect(same, f"the {item.kind} is not as it was sent")

    def _check_in_item(self, name: str, event: Mapping[str, Any]) -> None:
        index: int = event["output_index"]
        if name == ADDED:
            _expect(index == len(self._items), f"an item begins at {index}, not at {len(self._items)}")
            self._items.append(_ItemState(event["item"]))
            return
        _expect(0 <= index < len(self._items), f"{name} in an item that has not begun")
        item = self._items[index]
        item.last = _next_state(ITEMS[item.kind], item.last, name)
        if name == DONE:
            before, now = item.item, event["item"]
            _expect((before["id"], before["type"]) == (now["id"], now["type"]), "an item ends as another one")
            item.item = now
            return
        _expect(event["item_id"] == item.item["id"], f"{name} has the id of another item")
        self._check_in_part(item, name, event)

    def _check_in_part(self, item: _ItemState, name: str, event: Mapping[str, Any]) -> None:
        """Check that parts are numbered consecutively and do not overlap."""
        index = event.get("content_index", event.get("summary_index"))
        if index is None:
            return
        item.parts += name.split(" ", maxsplit=1)[0].endswith("_part.added")
        _expect(index == item.parts - 1, f"{name} in part {index}, not in {item.parts - 1}")


def _next_state(table: Table, last: str, name: str) -> str:
    _expect(name in table[last], f"{name} after {last}")
    return name


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
