"""The responses of the models API. Source: OpenAI's OpenAPI document."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class ModelCapabilities(TypedDict):
    """Features that a model supports, so that clients can offer only what works. OpenAI has no equivalent."""

    chat: bool
    embeddings: bool
    decisions: bool
    client_tools: bool
    vision: bool
    audio_input: bool
    files: bool
    structured_output: bool
    # "none", "yes_no" or "edit": see `Capabilities.approvals`
    approvals: str


class Model(TypedDict):
    """An agent, listed as a model that clients can choose. `created` is the server's start time in unix seconds."""

    id: str
    object: Literal["model"]
    # Required by the types of OpenAI's SDK.
    created: int
    owned_by: str
    # Both are extensions: OpenAI has neither.
    description: NotRequired[str]
    capabilities: ModelCapabilities


class ModelList(TypedDict):
    """The response of `GET /v1/models`: the models that the caller may use."""

    object: Literal["list"]
    data: list[Model]
