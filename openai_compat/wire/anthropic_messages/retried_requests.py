"""Handles a request that Claude Code sends again because the connection broke.

Observed with 2.1.197 and 2.1.332. Claude Code resends the same body, or the same without `stream`. If complete blocks of the
answer have reached it, newer versions append them to the conversation, and request the rest in a text of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic_core import from_json

from ..json import dumps
from .conversation import BILLING, REMINDER
from .events import BlockFold, event
from .request_types import Block

CUT_OFF = "Your response above was cut off mid-stream"
"""The beginning of Claude Code's request for the rest of an answer."""

WANTS_WHOLE_ANSWER = "only your next message is delivered"
"""Text that Claude Code adds if it needs the whole answer: for its subagents, whose answer is one message."""

PlainMessage: TypeAlias = tuple[str, list[Block]]
"""The role of a message, and its blocks."""

ID_FIELDS: Mapping[str, str] = {
    "text": "text",
    "redacted_thinking": "data",
    "tool_use": "id",
    "mcp_tool_use": "id",
    "mcp_tool_result": "tool_use_id",
}
"""The field that identifies a block, for block types that have one."""


@dataclass(frozen=True, slots=True)
class WantedAnswer:
    """The answer that a request wants, equal for an original request and its retries.

    Attributes:
        digest: equal for requests that want the same answer.
        survived: the complete blocks of that answer that the client has; it wants the blocks after them.
    """

    digest: str
    survived: tuple[Block, ...] = ()


def wanted_answer(body: Mapping[str, Any]) -> WantedAnswer:
    """Return the answer that a request wants. `body` must be validated."""
    said = [_plain_message(message) for message in body["messages"]]
    survived = _remove_cut_offs(said)
    system = body.get("system") or ()
    instructions = [{"type": "text", "text": system}] if isinstance(system, str) else system
    texts = [block.get("text") for block in instructions if not str(block.get("text")).startswith(BILLING)]
    tools = [tool.get("name") for tool in body.get("tools") or ()]
    wanted = [body.get("model"), texts, tools, body.get("tool_choice"), body.get("output_config"), said]
    return WantedAnswer(hashlib.sha256(dumps(wanted)).hexdigest(), survived)


def _plain_message(message: Mapping[str, Any]) -> PlainMessage:
    """Return a message without anything that differs between retries: its notation, and `cache_control`."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return message["role"], [_plain_block(block) for block in blocks]


def _plain_block(block: Block) -> Block:
    plain = {name: value for name, value in block.items() if name != "cache_control"}
    if isinstance(plain.get("text"), str):
        plain["text"] = plain["text"].rstrip()  # Claude Code puts a line feed between texts that it sends together
    if isinstance(plain.get("content"), list):
        inner = cast("list[Any]", plain["content"])
        plain["content"] = [_plain_block(cast("Block", one)) if isinstance(one, dict) else one for one in inner]
    return plain


def _remove_cut_offs(said: list[PlainMessage]) -> tuple[Block, ...]:
    """Remove everything added to a conversation since the answer was cut off. Returns the surviving blocks of the answer."""
    survived: list[Block] = []
    whole = False
    while True:
        last = next((index for index in reversed(range(len(said))) if said[index][0] == "user"), None)
        cut_offs = [] if last is None else [block for block in said[last][1] if _is_cut_off(block)]
        if last is None or not cut_offs:
            return () if whole else tuple(survived)
        whole = whole or WANTS_WHOLE_ANSWER in cut_offs[-1]["text"]
        said[last][1][:] = [block for block in said[last][1] if block not in cut_offs]
        if not said[last][1]:
            del said[last]
            if last and said[last - 1][0] == "assistant":
                survived[:0] = said.pop(last - 1)[1]


def _is_cut_off(block: Block) -> bool:
    text = block.get("text")
    return isinstance(text, str) and text.startswith(REMINDER) and text[len(REMINDER) :].lstrip().startswith(CUT_OFF)


class RestOfAnswer:
    """The events of an answer without the blocks that its client already has, as a response of its own."""

    def __init__(self, survived: Sequence[Block], identifier: str) -> None:
        self._survived = list(survived)
        self._identifier = identifier
        self._fold = BlockFold()
        self._held: list[list[dict[str, Any]]] = []
        self._index = -1

    def feed(self, frames: bytes) -> bytes:
        """Return the events to send to the client for `frames`."""
        return b"".join([self._filter_event(data) for data in parse_events(frames)])

    def _filter_event(self, data: dict[str, Any]) -> bytes:
        match data["type"]:
            case "message_start":
                return _encode_event({**data, "message": {**data["message"], "id": self._identifier}})
            case "content_block_start" | "content_block_delta" | "content_block_stop":
                return self._filter_block_event(data)
            case "message_delta" if self._survived:  # other blocks: better sent twice than lost
                held, self._held, self._survived = self._held, [], []
                return b"".join([self._renumber_event(one) for block in held for one in block]) + _encode_event(data)
            case _:
                return _encode_event(data)

    def _filter_block_event(self, data: dict[str, Any]) -> bytes:
        if not self._survived:
            return self._renumber_event(data)
        if data["type"] == "content_block_start":
            self._held.append([])
        self._held[-1].append(data)
        fold_event(self._fold, data)
        if data["type"] == "content_block_stop" and _is_same(self._fold.blocks[-1], self._survived[0]):
            self._held.clear()
            del self._survived[0]
        return b""

    def _renumber_event(self, data: dict[str, Any]) -> bytes:
        if data["type"] == "content_block_start":
            self._index += 1
        return _encode_event({**data, "index": self._index})


def _is_same(block: Block, survived: Block) -> bool:
    kind = block["type"]
    name = ID_FIELDS.get(kind)
    if kind != survived.get("type") or name is None:
        return bool(kind == survived.get("type"))
    return str(block.get(name)).strip() == str(survived.get(name)).strip()


def fold_answer(frames: bytes) -> tuple[bool, bytes]:
    """Fold events into the body of a whole response. The flag is False if they end with an error."""
    message: dict[str, Any] = {}
    fold = BlockFold()
    for data in parse_events(frames):
        match data["type"]:
            case "message_start":
                message = data["message"]
            case "message_delta":
                message |= {**data["delta"], "usage": data["usage"]}
            case "error":
                return False, dumps(data)
            case _:
                fold_event(fold, data)
    return True, dumps({**message, "content": fold.blocks})


def parse_events(frames: bytes) -> Iterator[dict[str, Any]]:
    """Yield the data of whole events."""
    for frame in frames.split(b"\n\n")[:-1]:
        yield from_json(frame[frame.index(b"data: ") + len(b"data: ") :])


def fold_event(fold: BlockFold, data: Mapping[str, Any]) -> None:
    """Add a block event to the fold."""
    match data["type"]:
        case "content_block_start":
            fold.start(data["content_block"])
        case "content_block_delta":
            delta = data["delta"]
            (field,) = [name for name in delta if name != "type"]
            fold.add_delta(delta["type"], field, delta[field])
        case "content_block_stop":
            fold.stop()
        case _:
            pass


def _encode_event(data: Mapping[str, Any]) -> bytes:
    return event(data["type"], **{name: value for name, value in data.items() if name != "type"})
