"""Output items of a Responses stream under construction: each writes its events and accumulates their content."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ....events import Citation
from ...json import dump_texts, dumps
from ..event_types import InPart, InSummary, Step, StreamEvent, SummaryPartDone
from ..response_types import (
    ItemStatus,
    OutputItem,
    OutputMessage,
    Part,
    Phase,
    Reasoning,
    ResponseSummaryText,
    TokenLogprob,
    TopLogprob,
    UrlAnnotation,
)

Closing: TypeAlias = Literal["completed", "incomplete"]

LOWEST_LOGPROB = -9999.0
"""OpenAI's log probability for tokens without a finite one."""


class EventWriter:
    """Numbers events consecutively and writes them as server-sent events named by their type.

    Attributes:
        sequence: the number of the last event; -1 before the first.
        quiet: True if only the final object is needed: events are counted but not written.
    """

    def __init__(self) -> None:
        self.sequence = -1
        self.quiet = False

    def write(self, event: StreamEvent) -> bytes:
        """Number one event and return it."""
        self.sequence += 1
        if self.quiet:
            return b""
        event["sequence_number"] = self.sequence
        # `event:` must equal `type` (Open Responses); OpenAI sends no `id:`.
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))

    def write_deltas(self, before: bytes, texts: list[str]) -> bytes:
        """Return one event per text: `before`, then the text as JSON. Nothing is built or validated."""
        # Formatted by hand: a model per event costs more than all other work for a word of text.
        first = self.sequence + 1
        self.sequence += len(texts)
        if self.quiet:
            return b""
        numbered = enumerate(dump_texts(texts), first)
        return b"".join([b'%b%b,"sequence_number":%d}\n\n' % (before, text, number) for number, text in numbered])

    def delta_head(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        """Return the bytes before the text of all delta events of this kind and place; empty if quiet."""
        if self.quiet:
            return b""
        return b'event: %b\ndata: %b,"delta":' % (kind.encode(), dumps({"type": kind, **fields})[:-1])


class ItemWriter(ABC):
    """One output item: `begin`, then its content, then `close`.

    `is_answer` is False for items that clients neither act on nor look at: an answer needs at least one other item.
    """

    is_answer = True

    def __init__(self, out: EventWriter, id: str, index: int) -> None:
        self._out = out
        self.id = id
        self.index = index
        self.status: ItemStatus = "in_progress"

    @abstractmethod
    def item(self) -> OutputItem:
        """Return the item as of now."""

    @property
    def open(self) -> bool:
        """True until the item is closed."""
        return self.status == "in_progress"

    def begin(self) -> bytes:
        """Return the event that begins the item."""
        return self._out.write({"type": "response.output_item.added", "output_index": self.index, "item": self.item()})

    def close(self, status: Closing) -> bytes:
        """Return the events that end the item; none if it has ended."""
        if not self.open:
            return b""
        last = self._end_content(status)
        self.status = status
        return last + self._out.write(
            {"type": "response.output_item.done", "output_index": self.index, "item": self.item()}
        )

    def break_off(self) -> bytes:
        """Return the events that end the item when the turn breaks off."""
        return self.close("incomplete")

    @abstractmethod
    def _end_content(self, status: Closing) -> bytes:
        """Return the events that end the item's content."""


class WholeItem(ItemWriter):
    """An item written as a whole: an image, an approval request, or a compaction.

    `first` is the item as shown when it is added; by default the item itself.
    """

    def __init__(self, out: EventWriter, index: int, item: OutputItem, first: OutputItem | None = None) -> None:
        super().__init__(out, item["id"], index)
        self.is_answer = item["type"] != "compaction"
        self._item = item
        self._first = first or item

    def item(self) -> OutputItem:
        return self._first if self.open else self._item

    def write_all(self, *steps: Step) -> bytes:
        """Return all events of the item."""
        begun = self.begin()
        for step in steps:
            begun += self._out.write({"type": step, "item_id": self.id, "output_index": self.index})
        return begun + self.close("completed")

    def _end_content(self, status: Closing) -> bytes:
        return b""


class ReasoningWriter(ItemWriter):
    """Reasoning as a summary with one paragraph: summaries are the form that all clients read."""

    is_answer = False

    def __init__(self, out: EventWriter, id: str, index: int) -> None:
        super().__init__(out, id, index)
        self._pieces: list[str] = []
        self._place: InSummary = {"item_id": id, "output_index": index, "summary_index": 0}
        # For raw reasoning, OpenAI and Open Responses name the events differently; for summaries the names agree.
        self._head = out.delta_head("response.reasoning_summary_text.delta", self._place)

    def item(self) -> Reasoning:
        summary = [self._part()] if self._pieces else []
        return {"id": self.id, "type": "reasoning", "status": self.status, "summary": summary}

    def begin(self) -> bytes:
        part: ResponseSummaryText = {"type": "summary_text", "text": ""}
        return super().begin() + self._out.write(
            {"type": "response.reasoning_summary_part.added", **self._place, "part": part}
        )

    def add(self, text: str) -> bytes:
        """Append reasoning text, which is sent at once."""
        self._pieces.append(text)
        return self._out.write_deltas(self._head, [text])

    def _part(self) -> ResponseSummaryText:
        return {"type": "summary_text", "text": "".join(self._pieces)}

    def _end_content(self, status: Closing) -> bytes:
        part = self._part()
        done: SummaryPartDone = {
            "item_id": self.id,
            "output_index": self.index,
            "summary_index": 0,
            "type": "response.reasoning_summary_part.done",
            "part": part,
        }
        if status == "incomplete":
            done["status"] = "incomplete"
        text = self._out.write({"type": "response.reasoning_summary_text.done", **self._place, "text": part["text"]})
        return text + self._out.write(done)


class MessageWriter(ItemWriter):
    """A message. Text is appended to the last part; a refusal is a part of its own.

    `said` is the number of characters in the answer before this message, the offset of citations.
    """

    def __init__(self, out: EventWriter, id: str, index: int, phase: Phase | None, said: int) -> None:
        super().__init__(out, id, index)
        self.phase: Phase | None = phase
        self._said = said
        self._parts: list[_TextPart | _RefusalPart] = []

    def item(self) -> OutputMessage:
        message: OutputMessage = {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": [part.part() for part in self._parts],
        }
        if self.phase is not None:
            message["phase"] = self.phase
        return message

    @property
    def end_offset(self) -> int:
        """The number of text characters in the answer up to the end of this message."""
        return self._said + sum([part.length for part in self._parts if isinstance(part, _TextPart)])

    def add_texts(self, texts: list[str]) -> bytes:
        """Append texts, each as one event; the first begins a text part if none is open."""
        begun, part = self._open_text_part()
        return begun + part.add(texts)

    def add_with_logprobs(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:
        """Append text with the log probabilities of its tokens."""
        begun, part = self._open_text_part()
        tokens: list[TokenLogprob] = [
            {
                **_to_top_logprob(token),
                "top_logprobs": [_to_top_logprob(top) for top in token.get("top_logprobs") or ()],
            }
            for token in logprobs
        ]
        return begun + part.add_with_logprobs(text, tokens)

    def cite(self, citation: Citation) -> bytes:
        """Add a citation."""
        begun, part = self._open_text_part()
        return begun + part.annotate(citation)

    def refuse(self, text: str) -> bytes:
        """Append to the refusal."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _RefusalPart):
            return last.add(text)
        part = _RefusalPart(self._out, self._next_position())
        return self._begin_part(part) + part.add(text)

    def _open_text_part(self) -> tuple[bytes, _TextPart]:
        """Return the part to append text to, and the events that begin it."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _TextPart):
            return b"", last
        part = _TextPart(self._out, self._next_position(), self.end_offset)
        return self._begin_part(part), part

    def _next_position(self) -> InPart:
        return {"item_id": self.id, "output_index": self.index, "content_index": len(self._parts)}

    def _begin_part(self, part: _TextPart | _RefusalPart) -> bytes:
        ended = self._parts[-1].end() if self._parts else b""
        self._parts.append(part)
        return ended + part.begin()

    def _end_content(self, status: Closing) -> bytes:
        return self._parts[-1].end() if self._parts else b""


class _PartWriter(ABC):
    """A part of a message."""

    def __init__(self, out: EventWriter, place: InPart) -> None:
        self._out = out
        self._place = place

    @abstractmethod
    def part(self) -> Part:
        """Return the part as of now."""

    @abstractmethod
    def _write_done(self) -> bytes:
        """Return the event with the complete text."""

    def begin(self) -> bytes:
        """Return the event that begins the part."""
        return self._out.write({"type": "response.content_part.added", **self._place, "part": self.part()})

    def end(self) -> bytes:
        """Return the events that end the part."""
        done = self._write_done()
        return done + self._out.write({"type": "response.content_part.done", **self._place, "part": self.part()})


class _TextPart(_PartWriter):
    """A text part. `offset` is the number of characters in the answer before it."""

    def __init__(self, out: EventWriter, place: InPart, offset: int) -> None:
        super().__init__(out, place)
        self._offset = offset
        self._pieces: list[str] = []
        self._annotations: list[UrlAnnotation] = []
        self._logprobs: list[TokenLogprob] = []
        # OpenAI's document requires `logprobs` in every delta, requested or not.
        self._head = out.delta_head("response.output_text.delta", {**place, "logprobs": []})

    @property
    def length(self) -> int:
        return sum(map(len, self._pieces))

    def part(self) -> Part:
        text = "".join(self._pieces)
        # Both lists are required by OpenAI's document, even if empty.
        return {"type": "output_text", "text": text, "annotations": self._annotations, "logprobs": self._logprobs}

    def add(self, texts: list[str]) -> bytes:
        self._pieces += texts
        return self._out.write_deltas(self._head, texts)

    def add_with_logprobs(self, text: str, logprobs: list[TokenLogprob]) -> bytes:
        """Append text with the log probabilities of its tokens."""
        self._pieces.append(text)
        self._logprobs += logprobs
        return self._out.write(
            {"type": "response.output_text.delta", **self._place, "delta": text, "logprobs": logprobs}
        )

    def annotate(self, citation: Citation) -> bytes:
        """Add a citation. A cited span that starts in an earlier part is clipped to this part."""
        annotation: UrlAnnotation = {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title,
            "start_index": max(0, citation.start_index - self._offset),
            "end_index": max(0, citation.end_index - self._offset),
        }
        self._annotations.append(annotation)
        return self._out.write(
            {
                "type": "response.output_text.annotation.added",
                **self._place,
                "annotation_index": len(self._annotations) - 1,
                "annotation": annotation,
            }
        )

    def _write_done(self) -> bytes:
        text = "".join(self._pieces)
        return self._out.write(
            {"type": "response.output_text.done", **self._place, "text": text, "logprobs": self._logprobs}
        )


class _RefusalPart(_PartWriter):
    def __init__(self, out: EventWriter, place: InPart) -> None:
        super().__init__(out, place)
        self._pieces: list[str] = []
        self._head = out.delta_head("response.refusal.delta", place)

    def part(self) -> Part:
        return {"type": "refusal", "refusal": "".join(self._pieces)}

    def add(self, text: str) -> bytes:
        self._pieces.append(text)
        return self._out.write_deltas(self._head, [text])

    def _write_done(self) -> bytes:
        return self._out.write({"type": "response.refusal.done", **self._place, "refusal": "".join(self._pieces)})


def _to_top_logprob(token: Mapping[str, Any]) -> TopLogprob:
    """Return a token in the format of the Responses API: unlike in chat, `bytes` is never null."""
    logprob = token["logprob"]
    return {
        "token": token["token"],
        "logprob": logprob if math.isfinite(logprob) else LOWEST_LOGPROB,
        "bytes": list(token.get("bytes") or token["token"].encode("utf-8", "replace")),
    }
