"""The API's representation of uploaded files. Source: OpenAI's OpenAPI document (OpenAIFile) and its SDK's types."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NotRequired, get_args

from typing_extensions import TypedDict

from ..errors import InvalidRequest
from .multipart import FormPart, MultipartForm

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

DAY = 24 * 3600
EXPIRY_RANGE = range(3600, 30 * DAY + 1)
"""Allowed lifetimes of a file, in seconds."""


class File(TypedDict):
    """An uploaded file. `bytes` is its size; times are in unix seconds."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: NotRequired[int]
    filename: str
    purpose: str
    status: Literal["processed"]


class FilePage(TypedDict):
    """One page of uploaded files; pass `last_id` as `after` to get the next page."""

    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(TypedDict):
    """The response of `DELETE /v1/files/{id}`."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


FORM_OVERHEAD = 64 * 1024
"""Bytes that a form may have in addition to the file."""

MAX_FIELD = 1024
MAX_FILENAME = 255
FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
UNKNOWN_TYPE = "application/octet-stream"
BATCH_EXPIRY = 30 * DAY

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file as received. `expires_after` is in seconds; None keeps the file for good."""

    filename: str
    media_type: str
    purpose: str
    content: bytes
    expires_after: int | None


def upload_form(content_type: str, limit: int) -> MultipartForm:
    """Return a parser for the request body; the file may have up to `limit` bytes."""
    return MultipartForm(content_type, {"file": limit, **dict.fromkeys(FIELDS, MAX_FIELD)})


def parse_upload(parts: Mapping[str, FormPart]) -> Upload:
    """Return the upload. Raises InvalidRequest with the `param` at fault."""
    sent = _require_part(parts, "file")
    if sent.filename is None:
        raise InvalidRequest("'file' has to be a file, with a name.", param="file", code="invalid_type")
    if not sent.size:
        raise InvalidRequest("The file is empty.", param="file", code="invalid_value")
    purpose = _require_part(parts, "purpose").text
    if purpose not in PURPOSES:
        raise InvalidRequest(f"'purpose' is one of {', '.join(PURPOSES)}.", param="purpose", code="invalid_value")
    # As at OpenAI, where batch files expire after thirty days.
    expires_after = _expires_after(parts) or (BATCH_EXPIRY if purpose == "batch" else None)
    filename = clean_filename(sent.filename)
    return Upload(filename, _media_type(sent.content_type, filename), purpose, sent.content, expires_after)


def _expires_after(parts: Mapping[str, FormPart]) -> int | None:
    _, anchor, seconds = FIELDS
    if anchor not in parts and seconds not in parts:
        return None
    if _require_part(parts, anchor).text != "created_at":
        raise InvalidRequest("Files can expire after 'created_at' only.", param=anchor, code="invalid_value")
    sent = _require_part(parts, seconds).text
    # `isdigit` alone accepts digits of other scripts, and `int` would be slow on a million digits.
    if not sent.isascii() or not sent.isdigit() or len(sent) > 9 or int(sent) not in EXPIRY_RANGE:
        text = f"Files can expire after {EXPIRY_RANGE[0]} to {EXPIRY_RANGE[-1]} seconds."
        raise InvalidRequest(text, param=seconds, code="invalid_value")
    return int(sent)


def _require_part(parts: Mapping[str, FormPart], name: str) -> FormPart:
    if name not in parts:
        raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    return parts[name]


def clean_filename(sent: str) -> str:
    """Return the last path component of a client's filename, with each non-printable character replaced by `_`."""
    name = re.split(r"[/\\]", sent.replace("%22", '"'))[-1].strip()  # browsers encode quotes in forms as %22
    name = "".join([character if character.isprintable() else "_" for character in name])
    # Keep the end, which holds the file extension.
    return name[-MAX_FILENAME:] if name.strip(".") else "file"


def _media_type(sent: str, filename: str) -> str:
    """Return the media type that was sent or, if the client did not know it, the one guessed from the filename."""
    kind = sent.partition(";")[0].strip().lower()
    if kind == UNKNOWN_TYPE or not _MEDIA_TYPE.fullmatch(kind):
        return mimetypes.guess_type(filename)[0] or UNKNOWN_TYPE
    return kind
