"""Numbered events of a Responses stream as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...json import dump_texts, dumps
from ..event_types import StreamEvent


class EventWriter:
    """Numbers events without a gap and writes them as server-sent events named by their type.

    Attributes:
        sequence: the number of the last one, -1 before the first.
        quiet: nobody wants the events, only what they come to: they are counted, and not written.
    """

    def __init__(self) -> None:
        self.sequence = -1
        self.quiet = False

    def write(self, event: StreamEvent) -> bytes:
        """One event, which gets its number."""
        self.sequence += 1
        if self.quiet:
            return b""
        event["sequence_number"] = self.sequence
        # `event:` has to say what `type` says (Open Responses); OpenAI writes no `id:`.
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))

    def deltas(self, before: bytes, texts: list[str]) -> bytes:
        """One event for each text: put, as JSON, behind `before`, which nothing is built or validated for."""
        # Written by hand: a model of each event costs more than all else that is done for a word of text.
        first = self.sequence + 1
        self.sequence += len(texts)
        if self.quiet:
            return b""
        numbered = enumerate(dump_texts(texts), first)
        return b"".join([b'%b%b,"sequence_number":%d}\n\n' % (before, text, number) for number, text in numbered])


def delta_head(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The bytes before the text in every delta event of this kind and place."""
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), dumps({"type": kind, **fields})[:-1])
