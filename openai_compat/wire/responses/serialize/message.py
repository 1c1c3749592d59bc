"""A message of a Responses stream while it is made: parts of text and of refusal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ....events import Citation
from ..event_types import InPart
from ..response_types import OutputMessage, Part, Phase, TokenLogprob, TopLogprob, UrlAnnotation
from .events import EventWriter, delta_head
from .items import Closing, ItemWriter

NEVER = -9999.0
"""How OpenAI writes the logarithm of a probability that is no number."""


class MessageWriter(ItemWriter):
    """A message. Text goes to its last part; a refusal is a part of its own.

    `said` is how many characters the answer's messages had before it: citations count from there.
    """

    def __init__(self, out: EventWriter, id: str, index: int, phase: Phase | None, said: int) -> None:
        super().__init__(out, id, index)
        self.phase: Phase | None = phase
        self._said = said
        self._parts: list[_Text | _Refusal] = []

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
    def said(self) -> int:
        """The number of characters of text in the answer up to the end of this message."""
        return self._said + sum([part.length for part in self._parts if isinstance(part, _Text)])

    def texts(self, texts: list[str]) -> bytes:
        """Add pieces of text, each as an event; the first one begins the part."""
        begun, part = self._text()
        return begun + part.add(texts)

    def logged(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:
        """A piece of text with the probabilities of its tokens."""
        begun, part = self._text()
        tokens: list[TokenLogprob] = [
            {**_top(token), "top_logprobs": [_top(top) for top in token.get("top_logprobs") or ()]}
            for token in logprobs
        ]
        return begun + part.logged(text, tokens)

    def cite(self, citation: Citation) -> bytes:
        """A source of the text."""
        begun, part = self._text()
        return begun + part.annotate(citation)

    def refuse(self, text: str) -> bytes:
        """A piece of a refusal."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Refusal):
            return last.add(text)
        part = _Refusal(self._out, self._place())
        return self._begin(part) + part.add(text)

    def _text(self) -> tuple[bytes, _Text]:
        """The part that text goes to, and the events that begin it."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Text):
            return b"", last
        part = _Text(self._out, self._place(), self.said)
        return self._begin(part), part

    def _place(self) -> InPart:
        return {"item_id": self.id, "output_index": self.index, "content_index": len(self._parts)}

    def _begin(self, part: _Text | _Refusal) -> bytes:
        ended = self._parts[-1].end() if self._parts else b""
        self._parts.append(part)
        return ended + part.begin()

    def _last(self, status: Closing) -> bytes:
        return self._parts[-1].end() if self._parts else b""


class _PartWriter(ABC):
    """A part of a message."""

    def __init__(self, out: EventWriter, place: InPart) -> None:
        self._out = out
        self._place = place

    @abstractmethod
    def part(self) -> Part:
        """The part as it stands."""

    @abstractmethod
    def _whole(self) -> bytes:
        """The event that says its text is whole."""

    def begin(self) -> bytes:
        """The event that begins it."""
        return self._out.write({"type": "response.content_part.added", **self._place, "part": self.part()})

    def end(self) -> bytes:
        """The events that end it."""
        done = self._whole()
        return done + self._out.write({"type": "response.content_part.done", **self._place, "part": self.part()})


class _Text(_PartWriter):
    """Text. `offset` is how many characters the answer had before it."""

    def __init__(self, out: EventWriter, place: InPart, offset: int) -> None:
        super().__init__(out, place)
        self._offset = offset
        self._pieces: list[str] = []
        self._annotations: list[UrlAnnotation] = []
        self._logprobs: list[TokenLogprob] = []
        # OpenAI's document requires `logprobs` of every piece, asked for or not.
        self._head = delta_head("response.output_text.delta", {**place, "logprobs": []})

    @property
    def length(self) -> int:
        return sum(map(len, self._pieces))

    def part(self) -> Part:
        text = "".join(self._pieces)
        # Both lists, though empty: OpenAI's document requires them of every text.
        return {"type": "output_text", "text": text, "annotations": self._annotations, "logprobs": self._logprobs}

    def add(self, texts: list[str]) -> bytes:
        self._pieces += texts
        return self._out.deltas(self._head, texts)

    def logged(self, text: str, logprobs: list[TokenLogprob]) -> bytes:
        """A piece with the probabilities of its tokens."""
        self._pieces.append(text)
        self._logprobs += logprobs
        return self._out.write(
            {"type": "response.output_text.delta", **self._place, "delta": text, "logprobs": logprobs}
        )

    def annotate(self, citation: Citation) -> bytes:
        """A source. What it is for may have begun in an earlier part; it is cut off there."""
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

    def _whole(self) -> bytes:
        text = "".join(self._pieces)
        return self._out.write(
            {"type": "response.output_text.done", **self._place, "text": text, "logprobs": self._logprobs}
        )


class _Refusal(_PartWriter):
    def __init__(self, out: EventWriter, place: InPart) -> None:
        super().__init__(out, place)
        self._pieces: list[str] = []
        self._head = delta_head("response.refusal.delta", place)

    def part(self) -> Part:
        return {"type": "refusal", "refusal": "".join(self._pieces)}

    def add(self, text: str) -> bytes:
        self._pieces.append(text)
        return self._out.deltas(self._head, [text])

    def _whole(self) -> bytes:
        return self._out.write({"type": "response.refusal.done", **self._place, "refusal": "".join(self._pieces)})


def _top(token: Mapping[str, Any]) -> TopLogprob:
    """A token as the Responses API writes it: unlike in chat, `bytes` is never null."""
    logprob = token["logprob"]
    return {
        "token": token["token"],
        "logprob": logprob if math.isfinite(logprob) else NEVER,
        "bytes": list(token.get("bytes") or token["token"].encode("utf-8", "replace")),
    }
