"""Uploaded files as they are shown. Source: OpenAI's OpenAPI document (OpenAIFile) and its SDK's types."""

from __future__ import annotations

from typing import Literal, NotRequired, get_args

from typing_extensions import TypedDict

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

DAY = 24 * 3600
EXPIRY = range(3600, 30 * DAY + 1)
"""Seconds after which a file may be told to expire."""


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
    """Uploaded files; the next page begins `after` the last id."""

    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(TypedDict):
    """What was deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]
