"""The responses of Ollama's API. Source: the types of Ollama's package."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class OllamaError(TypedDict):
    """An error. `code` is an extension: Ollama itself has none."""

    error: str
    code: NotRequired[str]


class AnsweredCall(TypedDict):
    """A call of a client's tool: `function` has `index`, `name`, and `arguments` (an object)."""

    id: str
    function: dict[str, Any]


class AnsweredMessage(TypedDict):
    """The agent's message, or a delta of it."""

    role: Literal["assistant"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[AnsweredCall]]


class AnswerEnd(TypedDict, total=False):
    """Extra fields of the last line. Durations are in nanoseconds."""

    done_reason: Literal["stop", "length", "load", "unload"]
    total_duration: int
    load_duration: int
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int
    logprobs: list[dict[str, Any]]


class ChatLine(AnswerEnd):
    """A line of a chat stream, or a whole response."""

    model: str
    created_at: str
    message: AnsweredMessage
    done: bool


class GenerateLine(AnswerEnd):
    """A line of a completion stream, or a whole response."""

    model: str
    created_at: str
    response: str
    thinking: NotRequired[str]
    done: bool


class EmbedAnswer(TypedDict):
    """The vectors, in the order of the texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OldEmbedAnswer(TypedDict):
    """The vector of one text."""

    embedding: list[float]


class VersionAnswer(TypedDict):
    """The version of Ollama whose API is served."""

    version: str


class ListedModel(TypedDict):
    """A model in a listing."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: dict[str, Any]


class TagsAnswer(TypedDict):
    """The models that the caller may use."""

    models: list[ListedModel]


class ShowAnswer(TypedDict):
    """The properties and capabilities of a model."""

    modelfile: str
    parameters: str
    template: str
    details: dict[str, Any]
    model_info: dict[str, Any]
    capabilities: list[Literal["completion", "tools", "vision", "thinking", "embedding"]]
    modified_at: str
