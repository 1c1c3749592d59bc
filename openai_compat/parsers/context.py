"""Whether the items of a request continue the conversation that goes before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..errors import InvalidRequest, NotFound
from ..messages import TextPart
from .items import INCOMPLETE, input_parts

Item: TypeAlias = dict[str, Any]

CALLS = frozenset(["function_call", "custom_tool_call"])
OUTPUTS = frozenset(["function_call_output", "custom_tool_call_output"])

LONGEST_QUOTED = 64
"""Longest call id in characters that an error quotes."""


def own_items(sent: Sequence[Item], context: Sequence[Item], lookup: Mapping[str, Item]) -> dict[int, Item]:
    """The items of a request by their places in it, references replaced by what they refer to.

    A reference to what is in the context anyway is left out. Raises NotFound for one to nothing, InvalidRequest for
    an item that is in the context already.
    """
    known = {item.get("id") for item in context}
    own: dict[int, Item] = {}
    for index, item in enumerate(sent):
        if item["type"] == "item_reference":
            if item["id"] not in known:
                own[index] = _found(item["id"], lookup, index)
        elif item["id"] in known:
            text = "An item with this id is in the conversation already: leave it out, or refer to it."
            raise InvalidRequest(text, param=f"input[{index}].id", code="invalid_value")
        else:
            own[index] = item
    return own


def _found(identity: str, lookup: Mapping[str, Item], index: int) -> Item:
    if identity not in lookup:
        text = "No item with this id is stored: send the item itself, or have responses stored."
        raise NotFound(text, param=f"input[{index}].id")
    return lookup[identity]


def check_calls(context: Sequence[Item], own: Mapping[int, Item]) -> None:
    """Raise InvalidRequest if a result answers no call, or a call that cannot wait has no result."""
    waiting: dict[str, bool] = {}
    called: set[str] = set()
    placed = [(f"input[{index}].call_id", item) for index, item in own.items()]
    for where, item in [*[("", item) for item in context], *placed]:
        call_id = str(item.get("call_id"))
        if item.get("type") in CALLS and item.get("status") != INCOMPLETE:
            _expect(not where or call_id not in called, "Each tool call needs an id of its own.", where)
            called.add(call_id)
            waiting[call_id] = item.get("async") is not True
        elif item.get("type") in OUTPUTS:
            text = f"No tool call found for the output of call{_quoted(call_id)}, or it has its output already."
            _expect(not where or call_id in waiting, text, where)
            waiting.pop(call_id, None)
    for call_id, must_have_output in waiting.items():
        _expect(not must_have_output, f"No tool output found for function call{_quoted(call_id)}.", "input")


def _expect(right: bool, text: str, where: str) -> None:
    if not right:
        raise InvalidRequest(text, param=where, code="invalid_value")


def _quoted(call_id: str) -> str:
    return f" {call_id}" if len(call_id) <= LONGEST_QUOTED and call_id.isascii() and call_id.isprintable() else ""


def check_something_is_asked(items: Sequence[Item]) -> None:
    """Raise InvalidRequest if all that there is are instructions and the assistant's own words."""
    if not any(_asks(item) for item in reversed(items)):
        raise InvalidRequest("No user message found in 'input'.", param="input")


def _asks(item: Item) -> bool:
    """Whether this is for the assistant to answer: a message with something in it, a result, a decision, or unknown."""
    if item.get("type", "message") != "message":
        return item["type"] not in CALLS and item["type"] != "reasoning"
    parts = input_parts(item.get("content")) if item.get("role") == "user" else ()
    return any(not isinstance(part, TextPart) or part.text.strip() for part in parts)
