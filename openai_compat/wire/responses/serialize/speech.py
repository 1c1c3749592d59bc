"""Serializes speech in a Responses stream, where speech belongs to no item."""

from __future__ import annotations

import base64
from typing import Literal

from ....events import MediaDelta
from ..event_types import SpeechDeltaEvent
from .items import EventWriter


class SpeechWriter:
    """Encodes audio as base64 chunks that clients can concatenate: all but the last hold whole groups of three bytes."""

    def __init__(self, response_id: str, out: EventWriter) -> None:
        self._id = response_id
        self._out = out
        self._rest = b""
        self._begun = False
        self._spoken = False

    def feed(self, event: MediaDelta) -> bytes:
        """Return the events for a chunk of speech."""
        self._begun = True
        data = self._rest + event.data
        # Three bytes make four characters: an incomplete group is held back, or padding would end up inside the data.
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        spoken = self._write_delta("response.audio.delta", base64.b64encode(data[:whole]).decode()) if whole else b""
        if event.transcript:
            self._spoken = True
            spoken += self._write_delta("response.audio.transcript.delta", event.transcript)
        return spoken

    def end(self) -> bytes:
        """Return the events that end the speech; none if there was no speech."""
        if not self._begun:
            return b""
        self._begun = False
        rest = self._write_delta("response.audio.delta", base64.b64encode(self._rest).decode()) if self._rest else b""
        done = self._out.write({"type": "response.audio.done", "response_id": self._id})
        # A transcript that never began gets no `done` event.
        if not self._spoken:
            return rest + done
        return rest + done + self._out.write({"type": "response.audio.transcript.done", "response_id": self._id})

    def _write_delta(
        self, kind: Literal["response.audio.delta", "response.audio.transcript.delta"], delta: str
    ) -> bytes:
        event: SpeechDeltaEvent = {"type": kind, "response_id": self._id, "delta": delta}
        return self._out.write(event)
