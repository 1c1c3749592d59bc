"""What the stored completions API is sent."""

from __future__ import annotations

from .chat_request import Metadata, WireModel


class MetadataUpdate(WireModel):
    """The body of `POST /v1/chat/completions/{id}`."""

    metadata: Metadata | None
