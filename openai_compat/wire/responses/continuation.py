"""Checks that a request's items continue the earlier conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ...errors import InvalidRequest, NotFound
from ..items.parse import INCOMPLETE, tool_of

Item: TypeAlias = dict[str, Any]

CALLS = frozenset(["function_call", "custom_tool_call"])
"""Calls of the client's tools: the agent resumes once it has their results."""
OUTPUTS = frozenset(["function_call_output", "custom_tool_call_output"])

NOT_RUN = "Not run: the user sent a new message instead."
"""The result inserted for a call that the client never answered: models reject open calls."""

MAX_QUOTED = 64
"""Longest call id in characters that an error message quotes."""


def own_items(sent: Sequence[Item], context: Sequence[Item], lookup: Mapping[str, Item]) -> dict[int, Item]:
    """Return a request's items by index, with references resolved and each result assigned to its call.

    A reference to an item already in the context is dropped. Raises NotFound for a dangling reference, InvalidRequest for
    an item already in the context, and for a result that does not identify its call.
    """
    known = {item.get("id") for item in context}
    own: dict[int, Item] = {}
    for index, item in enumerate(sent):
        if item["type"] == "item_reference":
            if item["id"] not in known:
                own[index] = _find_item(item["id"], lookup, index)
        elif item["id"] in known:
            text = "An item with this id is in the conversation already: leave it out, or refer to it."
            raise InvalidRequest(text, param=f"input[{index}].id", code="invalid_value")
        else:
            own[index] = item
    return _add_call_ids(own, context)


def _find_item(identity: str, lookup: Mapping[str, Item], index: int) -> Item:
    if identity not in lookup:
        text = "No item with this id is stored: send the item itself, or have responses stored."
        raise NotFound(text, param=f"input[{index}].id")
    return lookup[identity]


def _add_call_ids(own: dict[int, Item], context: Sequence[Item]) -> dict[int, Item]:
    """Add the missing call ids of results: each must match exactly one open call."""
    nameless = [index for index, item in own.items() if item.get("type") in OUTPUTS and item.get("call_id") is None]
    if not nameless:
        return own
    items = [*context, *own.values()]
    answered = {_call_id(item) for item in items if _is_output(item)}
    waiting = {_call_id(item): item for item in items if _is_answerable(item) and _call_id(item) not in answered}
    for index in nameless:
        meant = [call_id for call_id, call in waiting.items() if _may_answer(own[index], call)]
        # Guessing could assign one tool's output to another tool's call.
        if len(meant) != 1:
            many = "There are several calls that it can answer" if meant else "No tool call found that it can answer"
            text = f"{many}: send the 'call_id' of the call with its output."
            raise InvalidRequest(text, param=f"input[{index}].call_id", code="invalid_value")
        own[index] = {**own[index], "call_id": meant[0]}
        del waiting[meant[0]]  # each call has only one result
    return own


def _may_answer(output: Item, call: Item) -> bool:
    """True if a result without a call id can belong to the call; it may carry the tool's name."""
    name = tool_of(output)
    return name in ("", tool_of(call)) or (output.get("namespace") is None and name == call.get("name"))


def check_calls(context: Sequence[Item], own: Mapping[int, Item]) -> None:
    """Raise InvalidRequest if a result matches no call, or if a call that needs a result has none."""
    waiting: dict[str, bool] = {}
    called: set[str] = set()
    placed = [(f"input[{index}].call_id", item) for index, item in own.items()]
    for where, item in [*[("", item) for item in context], *placed]:
        call_id, kind = _call_id(item), item.get("type")
        if _is_answerable(item):
            # Only the request's own items are rejected: the client cannot fix stored ones.
            _expect(
                not where or call_id not in called or kind not in CALLS, "Each tool call needs an id of its own.", where
            )
            called.add(call_id)
            waiting[call_id] = _needs_output(item)
        elif _is_output(item):
            text = f"No tool call found for the output of call{_quote_call_id(call_id)}, or it has its output already."
            _expect(not where or call_id in waiting or kind not in OUTPUTS, text, where)
            waiting.pop(call_id, None)
    for call_id, must_have_output in waiting.items():
        _expect(not must_have_output, f"No tool output found for function call{_quote_call_id(call_id)}.", "input")


def repair_history(context: Sequence[Item], own: Mapping[int, Item]) -> list[Item]:
    """Repair stored items so that they can be continued: items can be deleted singly, and clients can disconnect.

    Unanswered calls get a result that says so; results without a call are left out.
    """
    answered = {_call_id(item) for item in (*context, *own.values()) if _is_output(item)}
    called: set[str] = set()
    kept: list[Item] = []
    for item in context:
        call_id = _call_id(item)
        # The call was deleted. Model APIs reject a result without its call.
        if item.get("type") in OUTPUTS and call_id not in called:
            continue
        kept.append(item)
        if _is_answerable(item):
            called.add(call_id)
            # Otherwise one unanswered call would block the conversation forever.
            if _needs_output(item) and call_id not in answered:
                kept.append({"type": f"{item['type']}_output", "call_id": call_id, "output": NOT_RUN})
        elif _is_output(item):
            called.discard(call_id)
    return kept


def result_ids(own: Sequence[Item]) -> frozenset[str]:
    """Return the ids of the calls whose results are in the new input after the last assistant item."""
    results: set[str] = set()
    for item in reversed(own):
        if _is_output(item):
            results.add(_call_id(item))
        # Earlier results were consumed by that assistant item.
        elif is_from_assistant(item):
            break
    return frozenset(results)


def is_from_assistant(item: Mapping[str, Any]) -> bool:
    """True for an item from the assistant: a message, reasoning or a call."""
    kind = item.get("type", "message")
    return item.get("role") == "assistant" or kind == "reasoning" or str(kind).endswith("_call")


def _is_answerable(item: Item) -> bool:
    """True for a call that a result may follow: of a client's tool, or of a type that other servers use."""
    kind = str(item.get("type"))
    return bool(_call_id(item)) and not kind.endswith("_output") and item.get("status") != INCOMPLETE


def _is_output(item: Item) -> bool:
    return str(item.get("type")).endswith("_output")


def _call_id(item: Item) -> str:
    call_id = item.get("call_id")
    return call_id if isinstance(call_id, str) else ""


def _needs_output(item: Item) -> bool:
    return item.get("type") in CALLS and item.get("async") is not True


def _expect(right: bool, text: str, where: str) -> None:
    if not right:
        raise InvalidRequest(text, param=where, code="invalid_value")


def _quote_call_id(call_id: str) -> str:
    return f" {call_id}" if len(call_id) <= MAX_QUOTED and call_id.isascii() and call_id.isprintable() else ""


def check_not_empty(items: Sequence[Item]) -> None:
    """Raise InvalidRequest if both the request and the history are empty."""
    if not items:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
