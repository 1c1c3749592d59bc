"""The answers of the models API. Source: OpenAI's OpenAPI document."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class ModelCapabilities(TypedDict):
    """What a request to a model may have, for clients that show only what works. OpenAI tells nothing of the kind."""

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
    """An agent, as the model that clients choose. `created` is when the server started, in unix seconds."""

    id: str
    object: Literal["model"]
    # Required by the types of OpenAI's SDK.
    created: int
    owned_by: str
    # OpenAI has neither of these.
    description: NotRequired[str]
    capabilities: ModelCapabilities


class ModelList(TypedDict):
    """The answer of `GET /v1/models`: what the caller may use."""

    object: Literal["list"]
    data: list[Model]
