"""The events of a stream, and the content blocks of a whole message, folded from the same events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_core import from_json

from ..json import dump_texts, dumps

PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def event(kind: str, **fields: Any) -> bytes:
    """Return a server-sent event. The SDKs ignore events without an `event:` line."""
    return b"event: " + kind.encode() + b"\ndata: " + dumps({"type": kind, **fields}) + b"\n\n"


class BlockWriter(Protocol):
    """Writes the content blocks of a message, one after another."""

    def start(self, block: dict[str, Any]) -> bytes:
        """Begin a block, as in `content_block_start`: without the content that follows in deltas."""
        ...

    def add_texts(self, texts: Sequence[str]) -> bytes:
        """Append texts to a text block."""
        ...

    def add_delta(self, kind: str, field: str, value: Any) -> bytes:
        """Add a delta to the open block: `kind` is its type, `field` the key of `value`."""
        ...

    def stop(self) -> bytes:
        """End the open block; clients now act on its content."""
        ...


class BlockEvents:
    """Writes blocks as events. Text, by far the most common content, is written into a template of bytes.

    Attributes:
        index: the index of the open or last block.
    """

    def __init__(self) -> None:
        self.index = -1
        self._before = self._between = b""

    def start(self, block: dict[str, Any]) -> bytes:
        """Return `content_block_start` with the next index: indexes have no gaps, since the Python SDK fails on them."""
        self.index += 1
        self._before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self.index
        )
        self._between = b"}}\n\n" + self._before
        return event("content_block_start", index=self.index, content_block=block)

    def add_texts(self, texts: Sequence[str]) -> bytes:
        """Return one `content_block_delta` of type `text_delta` per text."""
        return self._before + self._between.join(dump_texts(list(texts))) + b"}}\n\n"

    def add_delta(self, kind: str, field: str, value: Any) -> bytes:
        """Return a `content_block_delta` with `value` in `field`."""
        return event("content_block_delta", index=self.index, delta={"type": kind, field: value})

    def stop(self) -> bytes:
        """Return `content_block_stop`: Claude Code runs a tool call on receipt, whatever follows."""
        return event("content_block_stop", index=self.index)


class BlockFold:
    """Collects blocks in the form of a whole message, as the SDKs fold the events. Writes nothing.

    Attributes:
        blocks: the complete blocks, and the open one.
    """

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self._pieces: dict[str, list[Any]] = {}

    def start(self, block: dict[str, Any]) -> bytes:
        """Begin a block; subsequent deltas belong to it."""
        self.blocks.append(dict(block))
        self._pieces = {}
        return b""

    def add_texts(self, texts: Sequence[str]) -> bytes:
        """Collect texts, joined at the end of the block."""
        self._pieces.setdefault("text", []).extend(texts)
        return b""

    def add_delta(self, kind: str, field: str, value: Any) -> bytes:
        """Collect a delta of any field."""
        del kind
        self._pieces.setdefault(field, []).append(value)
        return b""

    def stop(self) -> bytes:
        """Join the collected deltas into the block."""
        block = self.blocks[-1]
        for name, pieces in self._pieces.items():
            if name == "partial_json":
                block["input"] = from_json("".join(pieces))
            elif name == "citation":
                block["citations"] = pieces
            else:
                block[name] += "".join(pieces)
        return b""
