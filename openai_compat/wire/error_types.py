"""OpenAI's error envelope."""

from __future__ import annotations

from typing_extensions import TypedDict


class ErrorDetail(TypedDict):
    """What went wrong. All four keys are required by OpenAI's specification; `param` and `code` may be null."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of every error answer."""

    error: ErrorDetail
