"""The events of a stream, and the blocks of a whole message, which are the same events put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_core import from_json

from ..json import dump_texts, dumps

PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def event(kind: str, **fields: Any) -> bytes:
    """A server-sent event. The SDKs do not see one without its `event:` line."""
    return b"event: " + kind.encode() + b"\ndata: " + dumps({"type": kind, **fields}) + b"\n\n"


class BlockWriter(Protocol):
    """Writes the blocks of a message, one after the other."""

    def start(self, block: dict[str, Any]) -> bytes:
        """Begin a block, as `content_block_start` has it: without what is still to come."""
        ...

    def texts(self, texts: Sequence[str]) -> bytes:
        """More of a text block."""
        ...

    def delta(self, kind: str, field: str, value: Any) -> bytes:
        """Add to the open block: the kind of delta, its field, and what is added."""
        ...

    def stop(self) -> bytes:
        """End the open block; clients act upon what is in it now."""
        ...


class BlockEvents:
    """Blocks as events. Text, which is nearly all there is, is written into a template of bytes.

    Attributes:
        index: of the block that is open, or was the last one.
    """

    def __init__(self) -> None:
        self.index = -1
        self._before = self._between = b""

    def start(self, block: dict[str, Any]) -> bytes:
        """`content_block_start`, with the next index: they have no gaps, which the Python SDK does not survive."""
        self.index += 1
        self._before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self.index
        )
        self._between = b"}}\n\n" + self._before
        return event("content_block_start", index=self.index, content_block=block)

    def texts(self, texts: Sequence[str]) -> bytes:
        """A `content_block_delta` for each, of the kind `text_delta`."""
        return self._before + self._between.join(dump_texts(list(texts))) + b"}}\n\n"

    def delta(self, kind: str, field: str, value: Any) -> bytes:
        """`content_block_delta`, with `value` in the field that its kind has."""
        return event("content_block_delta", index=self.index, delta={"type": kind, field: value})

    def stop(self) -> bytes:
        """`content_block_stop`: Claude Code runs a tool's call from here on, whatever comes behind it."""
        return event("content_block_stop", index=self.index)


class BlockFold:
    """Blocks as a whole message has them: what the SDKs make of the events. Writes nothing.

    Attributes:
        blocks: those that are whole, and the one that is open.
    """

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self._pieces: dict[str, list[Any]] = {}

    def start(self, block: dict[str, Any]) -> bytes:
        """The block that all deltas belong to now."""
        self.blocks.append(dict(block))
        self._pieces = {}
        return b""

    def texts(self, texts: Sequence[str]) -> bytes:
        """Put together when the block is whole."""
        self._pieces.setdefault("text", []).extend(texts)
        return b""

    def delta(self, kind: str, field: str, value: Any) -> bytes:
        """The same for any field."""
        del kind
        self._pieces.setdefault(field, []).append(value)
        return b""

    def stop(self) -> bytes:
        """Put together what the block was made of."""
        block = self.blocks[-1]
        for name, pieces in self._pieces.items():
            if name == "partial_json":
                block["input"] = from_json("".join(pieces))
            elif name == "citation":
                block["citations"] = pieces
            else:
                block[name] += "".join(pieces)
        return b""
