"""The requests of Chat Completions. Source: OpenAI's OpenAPI document (CreateChatCompletionRequest) and its SDK's types.

Strict: no value is coerced. Tolerant: unknown fields are kept, at every level. `null` means "absent".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema


class WireModel(BaseModel):
    """Base class of everything that clients send."""

    # Unknown fields are kept: OpenAI adds parameters every few weeks, and agents receive the unknown ones.
    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


class ChatTextContent(WireModel):
    """A text part of a message."""

    type: Literal["text"]
    text: str


class ImageUrlField(WireModel):
    """An image's URL and the level of detail to process it with."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ChatImageContent(WireModel):
    """An image part of a message, as a URL or a `data:` URL."""

    type: Literal["image_url"]
    image_url: ImageUrlField


class InputAudioField(WireModel):
    """Input audio: base64 data and its encoding format."""

    data: str
    # OpenAI's document has wav and mp3; the model behind an agent may accept others.
    format: str


class AudioContent(WireModel):
    """An audio part of a message."""

    type: Literal["input_audio"]
    input_audio: InputAudioField


class FileField(WireModel):
    """A document: base64 data or a file id. `file_url` comes from the Responses API and is kept when converting to chat."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_url: str | None = None


class ChatFileContent(WireModel):
    """A document part of a message."""

    type: Literal["file"]
    file: FileField


class RefusalContent(WireModel):
    """The assistant's text when it declined to answer."""

    type: Literal["refusal"]
    refusal: str


UserContent = Annotated[
    ChatTextContent | ChatImageContent | AudioContent | ChatFileContent, Field(discriminator="type")
]
AssistantContent = Annotated[ChatTextContent | RefusalContent, Field(discriminator="type")]


class SystemMessageParam(WireModel):
    """Instructions to the agent, from the operator or the developer."""

    role: Literal["system", "developer"]
    content: str | list[ChatTextContent]
    name: str | None = None


class UserMessageParam(WireModel):
    """A message of the user: a text, or parts of several kinds."""

    role: Literal["user"]
    content: str | Annotated[list[UserContent], MinLen(1)]
    name: str | None = None


class FunctionCallField(WireModel):
    """The name and arguments of a function call."""

    name: str
    arguments: str


class FunctionCallParam(WireModel):
    """A function call made by the assistant."""

    id: Annotated[str, MinLen(1)]
    type: Literal["function"]
    function: FunctionCallField


class CustomCallField(WireModel):
    """The name and input of a custom tool call."""

    name: str
    input: str


class CustomCallParam(WireModel):
    """A custom tool call made by the assistant."""

    id: Annotated[str, MinLen(1)]
    type: Literal["custom"]
    custom: CustomCallField


CallParam = Annotated[FunctionCallParam | CustomCallParam, Field(discriminator="type")]


class AssistantMessageParam(WireModel):
    """An earlier message of the assistant. Some clients return `reasoning_content` in it."""

    role: Literal["assistant"]
    content: str | list[AssistantContent] | None = None
    refusal: str | None = None
    tool_calls: list[CallParam] | None = None
    reasoning_content: str | None = None
    function_call: Any = None
    audio: dict[str, Any] | None = None
    name: str | None = None


class ToolMessageParam(WireModel):
    """The result of a tool call. OpenAI's document allows texts only; clients whose tools return images send those too."""

    role: Literal["tool"]
    content: str | list[UserContent]
    tool_call_id: str


MessageParam = Annotated[
    SystemMessageParam | UserMessageParam | AssistantMessageParam | ToolMessageParam, Field(discriminator="role")
]

# OpenAI's limits, shared by the APIs of other models: better rejected before an agent runs than by its model.
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(WireModel):
    """A function that the client offers."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatFunctionToolParam(WireModel):
    """A client's tool that takes JSON arguments."""

    type: Literal["function"]
    function: FunctionDefinition


class CustomDefinition(WireModel):
    """A free-text tool that the client offers."""

    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None


class ChatCustomToolParam(WireModel):
    """A client's tool that takes free text."""

    type: Literal["custom"]
    custom: CustomDefinition


ToolParam = Annotated[ChatFunctionToolParam | ChatCustomToolParam, Field(discriminator="type")]


class NamedTool(WireModel):
    """A reference to a tool by name."""

    name: str


class FunctionChoiceParam(WireModel):
    """Requires the answer to call this function."""

    type: Literal["function"]
    function: NamedTool


class CustomChoiceParam(WireModel):
    """Requires the answer to call this free-text tool."""

    type: Literal["custom"]
    custom: NamedTool


class AllowedTools(WireModel):
    """The only tools that may be called; with mode "required", one of them must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[dict[str, Any]], MinLen(1)]


class ChatAllowedToolsParam(WireModel):
    """Restricts which tools may be called without changing the `tools` list."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceObject = Annotated[
    FunctionChoiceParam | CustomChoiceParam | ChatAllowedToolsParam, Field(discriminator="type")
]


class JsonSchemaField(WireModel):
    """The schema that the answer must match."""

    name: ToolName
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(WireModel):
    """Plain text, which is the default."""

    type: Literal["text"]


class JsonObjectFormat(WireModel):
    """Requires a JSON object of any shape."""

    type: Literal["json_object"]


class ChatJsonSchemaFormat(WireModel):
    """Requires JSON that matches the schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaField


ResponseFormatParam = Annotated[TextFormat | JsonObjectFormat | ChatJsonSchemaFormat, Field(discriminator="type")]


class StreamOptions(WireModel):
    """Options of a stream: `include_usage` adds a final usage chunk; `include_obfuscation` is accepted but has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class AudioParam(WireModel):
    """The format and voice of audio output."""

    format: str
    voice: str | dict[str, Any]


StopSequence = Annotated[str, MinLen(1), MaxLen(500)]
# At most four, as in OpenAI's document. The length bounds the text held back while it may begin a stop sequence.
StopParam = StopSequence | Annotated[list[StopSequence], MaxLen(4)]
# From OpenAI's document: 16 pairs, keys of 64 characters, values of 512.
Metadata = Annotated[dict[Annotated[str, MaxLen(64)], Annotated[str, MaxLen(512)]], MaxLen(16)]
WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Makes an integer field accept whole floats like `4096.0`, sent by programs without integers. Put it last."""
TokenLimit = Annotated[
    Annotated[int, Ge(1), WHOLE] | None,
    BeforeValidator(lambda value: None if value == -1 else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": -1}, {"type": "null"}]}),
]
"""Maximum number of tokens; -1 means no limit, as in llama.cpp and LM Studio."""
Penalty = Annotated[float, Ge(-2), Le(2)]


class SamplingParams(WireModel):
    """Parameters shared by both completion APIs."""

    model: Annotated[str, MinLen(1)]
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Ge(-100), Le(100)]] | None = None
    max_tokens: TokenLimit = None
    n: Annotated[int, Ge(1), Le(128), WHOLE] | None = None
    presence_penalty: Penalty | None = None
    # OpenAI's document has 64 bits; Python's integers are unbounded.
    seed: Annotated[int, Ge(-(2**63)), Lt(2**63), WHOLE] | None = None
    stop: StopParam | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    # Open WebUI can send an object.
    user: str | dict[str, Any] | None = None


class ChatCompletionRequest(SamplingParams):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[MessageParam], MinLen(1)]
    audio: AudioParam | None = None
    function_call: Any = None
    functions: Any = None
    logprobs: bool | None = None
    max_completion_tokens: TokenLimit = None
    metadata: Metadata | None = None
    modalities: Annotated[list[Literal["text", "audio"]], MinLen(1)] | None = None
    moderation: Any = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: ResponseFormatParam | None = None
    safety_identifier: Annotated[str, MaxLen(64)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceObject | None = None
    tools: list[ToolParam] | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20), WHOLE] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: dict[str, Any] | None = None


class CompletionRequest(SamplingParams):
    """The body of `POST /v1/completions`, the older API for plain text."""

    prompt: str | Annotated[list[str], MinLen(1)] | list[int] | list[list[int]]
    best_of: Annotated[int, Ge(1), Le(20), WHOLE] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Ge(0), Le(5), WHOLE] | None = None
    suffix: str | None = None
