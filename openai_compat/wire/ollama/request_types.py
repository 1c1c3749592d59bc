"""The requests of Ollama's API. Source: the types of its Python package, and observed requests of its clients.

Strict: no value is coerced. Tolerant: unknown fields are kept, at every level. `null` means "absent".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_DIMENSIONS = 65_536
MAX_INPUTS = 2048

WHOLE_NUMBER = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Makes an integer field accept whole floats like `128.0`, sent by programs without integers. Put it last."""

StopText = Annotated[str, MinLen(1), MaxLen(500)]
Picture = Annotated[str, MinLen(1)]


class OllamaParam(BaseModel):
    """Base class of everything that clients send."""

    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


class CalledFunction(OllamaParam):
    """The function that the assistant called, with its arguments as an object."""

    name: Annotated[str, MinLen(1)]
    arguments: dict[str, Any] = Field(default_factory=dict)


class MadeCall(OllamaParam):
    """A call made by the assistant. Most clients omit its id."""

    function: CalledFunction
    id: str | None = None


class OllamaMessage(OllamaParam):
    """A message. A tool result identifies its call by `tool_call_id`, `tool_name` or position."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Picture] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OfferedFunction(OllamaParam):
    """A function that the client runs."""

    name: Annotated[str, MinLen(1), MaxLen(256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OfferedTool(OllamaParam):
    """A tool that the client runs."""

    function: OfferedFunction
    type: Literal["function"] | None = None


class ModelOptions(OllamaParam):
    """Sampling parameters of the model. Ollama's other options are for its runtime, and are passed to the agent unchanged."""

    num_predict: Annotated[int, WHOLE_NUMBER] | None = None
    stop: StopText | Annotated[list[StopText], MaxLen(64)] | None = None
    temperature: Annotated[float, Ge(0)] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    seed: Annotated[int, Ge(-(2**63)), Le(2**63 - 1), WHOLE_NUMBER] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class OllamaModelRequest(OllamaParam):
    """Fields shared by all requests: the model, and `keep_alive`, which has no meaning here."""

    model: Annotated[str, MinLen(1)]
    keep_alive: float | str | None = None


class AnswerRequest(OllamaModelRequest):
    """Fields shared by the requests for an answer, which is streamed unless `stream` is false."""

    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: ModelOptions | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20), WHOLE_NUMBER] | None = None


class OllamaChatRequest(AnswerRequest):
    """The body of `POST /api/chat`."""

    messages: list[OllamaMessage] | None = None
    tools: list[OfferedTool] | None = None


class GenerateRequest(AnswerRequest):
    """The body of `POST /api/generate`."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[Picture] | None = None


class EmbedRequest(OllamaModelRequest):
    """The body of `POST /api/embed`."""

    input: str | Annotated[list[str], Field(fail_fast=True), MaxLen(MAX_INPUTS)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Ge(1), Le(MAX_DIMENSIONS), WHOLE_NUMBER] | None = None


class OldEmbedRequest(OllamaModelRequest):
    """The body of `POST /api/embeddings`, the older embedding API."""

    prompt: str | None = None
