"""Converts message parts to Anthropic's content blocks."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from ..errors import InvalidRequest
from ..messages import AssistantPart, AudioPart, FilePart, ImagePart, InputPart, RefusalPart, TextPart

Block = dict[str, Any]


def input_blocks(parts: Sequence[InputPart]) -> Iterator[Block]:
    """The user's parts as blocks. Raises InvalidRequest for a part that the API does not accept."""
    for part in parts:
        match part:
            case TextPart():
                yield from text_blocks(part.text)
            case ImagePart():
                data = part.content
                source = _url_source(part.url) if data is None else _base64_source(part.media_type, data)
                yield {"type": "image", "source": source}
            case FilePart():
                yield _document_block(part)
            case AudioPart():
                raise InvalidRequest("This agent cannot listen to speech.", param="messages", code="invalid_value")
            case _:
                assert_never(part)


def assistant_blocks(parts: Sequence[AssistantPart]) -> Iterator[Block]:
    """The assistant's earlier parts as blocks."""
    for part in parts:
        yield from text_blocks(part.refusal if isinstance(part, RefusalPart) else part.text)


def text_blocks(text: str) -> Iterator[Block]:
    """One text block; none for blank text, which the API refuses."""
    if text.strip():
        yield {"type": "text", "text": text}


def result_content(text: str, media: Sequence[InputPart]) -> str | list[Block]:
    """A tool result as text, or as blocks if it has media. Raises InvalidRequest for a part that the API does not accept."""
    return [*text_blocks(text), *input_blocks(media)] if media else text


def _url_source(url: str) -> Block:
    # Nothing is fetched here. Model servers that accept any scheme have been tricked into reading their own files (`file:`).
    if url.partition(":")[0].lower() not in ("http", "https"):
        text = "A picture's or document's URL starts with 'https:' or 'data:'."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    return {"type": "url", "url": url}


def _document_block(part: FilePart) -> Block:
    if part.file_data is None and part.file_url is not None:
        return {"type": "document", "source": _url_source(part.file_url)}
    if part.file_data is None:
        text = "This agent takes files as 'file_data' only, not by 'file_id'."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    # Clients send a `data:` URL, or the base64 text alone.
    media_type, data = part.media_type or "application/pdf", part.content or b""
    named = {"title": part.filename} if part.filename else {}
    if media_type == "application/pdf":
        return {"type": "document", "source": _base64_source(media_type, data), **named}
    if media_type.startswith("image/"):
        return {"type": "image", "source": _base64_source(media_type, data)}
    if media_type.startswith("text/") or media_type == "application/json":
        plain = {"type": "text", "media_type": "text/plain", "data": data.decode("utf-8", "replace")}
        return {"type": "document", "source": plain, **named}
    text = "This agent takes PDF files, text files and pictures."
    raise InvalidRequest(text, param="messages", code="invalid_value")


def _base64_source(media_type: str | None, data: bytes) -> Block:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
