"""The answers of the models API. Source: OpenAI's OpenAPI document."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class Model(TypedDict):
    """An agent, as the model that clients choose. `created` is when the server started, in unix seconds."""

    id: str
    object: Literal["model"]
    # Required by the types of OpenAI's SDK.
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The answer of `GET /v1/models`: what the caller may use."""

    object: Literal["list"]
    data: list[Model]
