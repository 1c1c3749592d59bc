"""The end of a response whose process has died, as written by another."""

from __future__ import annotations

from typing import Any

from ....errors import OpenAICompatError
from .events import EventWriter
from .response import error_event, error_of


def lost_response(response: dict[str, Any], error: OpenAICompatError, last: int) -> tuple[dict[str, Any], bytes, int]:
    """The Response object, the events after number `last`, and the number of the last of these."""
    failed = {**response, "status": "failed", "error": error_of(error)}
    out = EventWriter()
    out.sequence = last
    begun = b"" if last >= 0 else out.write({"type": "response.created", "response": response})
    frames = out.write(error_event(error)) + out.write({"type": "response.failed", "response": failed})
    return failed, begun + frames, out.sequence
