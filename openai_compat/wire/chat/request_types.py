"""The requests of Chat Completions. Source: OpenAI's OpenAPI document (CreateChatCompletionRequest) and its SDK's types.

Strict: nothing is coerced. Tolerant: fields that are not known are kept, at every level. `null` means "not there".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema


class WireModel(BaseModel):
    """Base of everything that clients send."""

    # Extra fields are kept: OpenAI adds parameters every few weeks, and agents get those not known here.
    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


class ChatTextContent(WireModel):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class ImageUrlField(WireModel):
    """Where the picture is, and how closely to look at it."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ChatImageContent(WireModel):
    """A part of a message that is a picture, by URL or as a `data:` URL."""

    type: Literal["image_url"]
    image_url: ImageUrlField


class InputAudioField(WireModel):
    """Speech: base64 data, and the format that it is encoded in."""

    data: str
    # OpenAI's document has wav and mp3; the model behind an agent may take others.
    format: str


class AudioContent(WireModel):
    """A part of a message that is speech."""

    type: Literal["input_audio"]
    input_audio: InputAudioField


class FileField(WireModel):
    """A document: base64 data or a file's id. A URL is what the Responses API may have and chat is then written with."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_url: str | None = None


class ChatFileContent(WireModel):
    """A part of a message that is a document."""

    type: Literal["file"]
    file: FileField


class RefusalContent(WireModel):
    """What the assistant said when it declined."""

    type: Literal["refusal"]
    refusal: str


UserContent = Annotated[
    ChatTextContent | ChatImageContent | AudioContent | ChatFileContent, Field(discriminator="type")
]
AssistantContent = Annotated[ChatTextContent | RefusalContent, Field(discriminator="type")]


class SystemMessageParam(WireModel):
    """Instructions to the agent, of the operator or the developer."""

    role: Literal["system", "developer"]
    content: str | list[ChatTextContent]
    name: str | None = None


class UserMessageParam(WireModel):
    """What the user says: a text, or parts of several kinds."""

    role: Literal["user"]
    content: str | Annotated[list[UserContent], MinLen(1)]
    name: str | None = None


class FunctionCallField(WireModel):
    """A call's name and arguments."""

    name: str
    arguments: str


class FunctionCallParam(WireModel):
    """A function call that the assistant made."""

    id: Annotated[str, MinLen(1)]
    type: Literal["function"]
    function: FunctionCallField


class CustomCallField(WireModel):
    """A call's name and input."""

    name: str
    input: str


class CustomCallParam(WireModel):
    """A custom tool call that the assistant made."""

    id: Annotated[str, MinLen(1)]
    type: Literal["custom"]
    custom: CustomCallField


CallParam = Annotated[FunctionCallParam | CustomCallParam, Field(discriminator="type")]


class AssistantMessageParam(WireModel):
    """What the assistant said before. `reasoning_content` is what some clients send back."""

    role: Literal["assistant"]
    content: str | list[AssistantContent] | None = None
    refusal: str | None = None
    tool_calls: list[CallParam] | None = None
    reasoning_content: str | None = None
    function_call: Any = None
    audio: dict[str, Any] | None = None
    name: str | None = None


class ToolMessageParam(WireModel):
    """The result of a call. OpenAI's document has texts only; clients whose tools take pictures send those too."""

    role: Literal["tool"]
    content: str | list[UserContent]
    tool_call_id: str


MessageParam = Annotated[
    SystemMessageParam | UserMessageParam | AssistantMessageParam | ToolMessageParam, Field(discriminator="role")
]

# OpenAI's bounds, which the APIs of other models have too: better told before an agent runs than by its model.
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(WireModel):
    """A function that the client offers."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatFunctionToolParam(WireModel):
    """A tool of the client whose arguments are JSON."""

    type: Literal["function"]
    function: FunctionDefinition


class CustomDefinition(WireModel):
    """A free-text tool that the client offers."""

    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None


class ChatCustomToolParam(WireModel):
    """A tool of the client whose input is free text."""

    type: Literal["custom"]
    custom: CustomDefinition


ToolParam = Annotated[ChatFunctionToolParam | ChatCustomToolParam, Field(discriminator="type")]


class NamedTool(WireModel):
    """A tool by its name."""

    name: str


class FunctionChoiceParam(WireModel):
    """The answer has to call this function."""

    type: Literal["function"]
    function: NamedTool


class CustomChoiceParam(WireModel):
    """The answer has to call this free-text tool."""

    type: Literal["custom"]
    custom: NamedTool


class AllowedTools(WireModel):
    """Call only these; with "required", call one of them."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[dict[str, Any]], MinLen(1)]


class ChatAllowedToolsParam(WireModel):
    """A restriction of the tools without taking any from the list."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceObject = Annotated[
    FunctionChoiceParam | CustomChoiceParam | ChatAllowedToolsParam, Field(discriminator="type")
]


class JsonSchemaField(WireModel):
    """The schema that the answer shall follow."""

    name: ToolName
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(WireModel):
    """The answer is plain text, which it is anyway."""

    type: Literal["text"]


class JsonObjectFormat(WireModel):
    """The answer has to be a JSON object, of any shape."""

    type: Literal["json_object"]


class ChatJsonSchemaFormat(WireModel):
    """The answer has to be JSON that the schema allows."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaField


ResponseFormatParam = Annotated[TextFormat | JsonObjectFormat | ChatJsonSchemaFormat, Field(discriminator="type")]


class StreamOptions(WireModel):
    """Whether a stream ends with its usage; obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class AudioParam(WireModel):
    """The speech to answer with."""

    format: str
    voice: str | dict[str, Any]


StopSequence = Annotated[str, MinLen(1), MaxLen(500)]
# Four, as OpenAI's document has it. The length bounds the text that is held back while it may be the beginning of one.
StopParam = StopSequence | Annotated[list[StopSequence], MaxLen(4)]
# OpenAI's document: 16 pairs, keys of 64 characters, values of 512.
Metadata = Annotated[dict[Annotated[str, MaxLen(64)], Annotated[str, MaxLen(512)]], MaxLen(16)]
WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Of an integer: it may be written as a float, `4096.0`, as programs do that have no integers. It comes last."""
TokenLimit = Annotated[
    Annotated[int, Ge(1), WHOLE] | None,
    BeforeValidator(lambda value: None if value == -1 else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": -1}, {"type": "null"}]}),
]
"""How many tokens at most; -1, as llama.cpp and LM Studio have it, is no limit."""
Penalty = Annotated[float, Ge(-2), Le(2)]


class SamplingParams(WireModel):
    """What both completion APIs have in common."""

    model: Annotated[str, MinLen(1)]
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Ge(-100), Le(100)]] | None = None
    max_tokens: TokenLimit = None
    n: Annotated[int, Ge(1), Le(128), WHOLE] | None = None
    presence_penalty: Penalty | None = None
    # OpenAI's document has 64 bits; Python's integers have no end.
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
