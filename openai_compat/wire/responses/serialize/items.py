"""Output items of a Responses stream while they are made: each writes its own events, and is what it has written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

from ..event_types import InSummary, Step, SummaryPartDone
from ..response_types import ItemStatus, OutputItem, Reasoning, ResponseSummaryText
from .events import EventWriter, delta_head

Closing: TypeAlias = Literal["completed", "incomplete"]


class ItemWriter(ABC):
    """One output item: `added`, then what is in it, then `close`."""

    def __init__(self, out: EventWriter, id: str, index: int) -> None:
        self._out = out
        self.id = id
        self.index = index
        self.status: ItemStatus = "in_progress"

    @abstractmethod
    def item(self) -> OutputItem:
        """The item as it stands."""

    @property
    def open(self) -> bool:
        """True while more of it is to come."""
        return self.status == "in_progress"

    def added(self) -> bytes:
        """The event that begins it."""
        return self._out.write({"type": "response.output_item.added", "output_index": self.index, "item": self.item()})

    def close(self, status: Closing) -> bytes:
        """The events that end it; none if it has ended."""
        if not self.open:
            return b""
        last = self._last(status)
        self.status = status
        return last + self._out.write(
            {"type": "response.output_item.done", "output_index": self.index, "item": self.item()}
        )

    def cut(self) -> bytes:
        """The events that end it where the turn breaks off."""
        return self.close("incomplete")

    @abstractmethod
    def _last(self, status: Closing) -> bytes:
        """The events that end what is in it."""


class WholeItem(ItemWriter):
    """An item that comes as a whole: a picture, a question to people, a summary of what was said before.

    `first` is what clients are shown before it is there; the item itself, if it is small.
    """

    def __init__(self, out: EventWriter, index: int, item: OutputItem, first: OutputItem | None = None) -> None:
        super().__init__(out, item["id"], index)
        self._item = item
        self._first = first or item

    def item(self) -> OutputItem:
        return self._first if self.open else self._item

    def written(self, *steps: Step) -> bytes:
        """All events of the item."""
        begun = self.added()
        for step in steps:
            begun += self._out.write({"type": step, "item_id": self.id, "output_index": self.index})
        return begun + self.close("completed")

    def _last(self, status: Closing) -> bytes:
        return b""


class ReasoningWriter(ItemWriter):
    """Thinking, as the one paragraph of a summary: summaries are what all clients read."""

    def __init__(self, out: EventWriter, id: str, index: int) -> None:
        super().__init__(out, id, index)
        self._pieces: list[str] = []
        self._place: InSummary = {"item_id": id, "output_index": index, "summary_index": 0}
        # For thinking as it is, OpenAI and Open Responses have events of different names; for summaries the same.
        self._head = delta_head("response.reasoning_summary_text.delta", self._place)

    def item(self) -> Reasoning:
        summary = [self._part()] if self._pieces else []
        return {"id": self.id, "type": "reasoning", "status": self.status, "summary": summary}

    def added(self) -> bytes:
        part: ResponseSummaryText = {"type": "summary_text", "text": ""}
        return super().added() + self._out.write(
            {"type": "response.reasoning_summary_part.added", **self._place, "part": part}
        )

    def think(self, text: str) -> bytes:
        """Add a piece of thinking, which is an event at once."""
        self._pieces.append(text)
        return self._out.deltas(self._head, [text])

    def _part(self) -> ResponseSummaryText:
        return {"type": "summary_text", "text": "".join(self._pieces)}

    def _last(self, status: Closing) -> bytes:
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
