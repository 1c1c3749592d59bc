"""The requests of the Responses API. Source: OpenAI's OpenAPI document (CreateResponse) and its SDK's types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Discriminator, Field, Tag

from ..chat.request_types import (
    WHOLE,
    AllowedTools,
    JsonObjectFormat,
    JsonSchemaField,
    Metadata,
    Penalty,
    StreamOptions,
    TextFormat,
    TokenLimit,
    WireModel,
)
from ..items.types import ItemInput
from .tool_types import OTHER, Name, ToolParam, known_type

# Longer than any id of this server or OpenAI: ids are looked up in the store and quoted in errors.
Identifier = Annotated[str, MinLen(1), MaxLen(256)]


class OfferedChoiceParam(WireModel):
    """Requires a call of this client's tool."""

    type: Literal["function", "custom"]
    name: str


class ResponseAllowedToolsParam(AllowedTools):
    """Restricts which tools may be called without changing the `tools` list."""

    type: Literal["allowed_tools"]


class McpChoiceParam(WireModel):
    """Requires the use of a declared MCP server, or of one of its tools."""

    type: Literal["mcp"]
    server_label: str
    name: str | None = None


class OtherChoiceParam(WireModel):
    """Requires the use of a hosted tool, by its type."""

    type: Name


CHOICES = {"function": "an offered tool", "custom": "an offered tool", "allowed_tools": "allowed_tools", "mcp": "mcp"}


ToolChoiceParam = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a mode")]
    | Annotated[OfferedChoiceParam, Tag("an offered tool")]
    | Annotated[ResponseAllowedToolsParam, Tag("allowed_tools")]
    | Annotated[McpChoiceParam, Tag("mcp")]
    | Annotated[OtherChoiceParam, Tag(OTHER)],
    Discriminator(lambda value: "a mode" if isinstance(value, str) else CHOICES.get(known_type(value, CHOICES), OTHER)),
]


class ResponseJsonSchemaFormat(JsonSchemaField):
    """Requires JSON that matches the schema; the schema's fields are next to `type`, where chat nests them."""

    type: Literal["json_schema"]


FormatParam = Annotated[TextFormat | JsonObjectFormat | ResponseJsonSchemaFormat, Field(discriminator="type")]


class TextParam(WireModel):
    """Format and verbosity of the answer's text."""

    format: FormatParam | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningParam(WireModel):
    """Reasoning effort, and how much of the reasoning to show."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    # The older name of `summary`.
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationField(WireModel):
    """A reference to a conversation by its id."""

    id: Identifier


class ContextManagementParam(WireModel):
    """The strategy for long conversations."""

    type: Name
    compact_threshold: Annotated[int, Ge(1), WHOLE] | None = None


Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class BackgroundOptions(WireModel):
    """When to run a background response; this server always starts at once."""

    completion_window: Literal["soonest", "2h", "8h"] | None = None
    continuation_id: str | None = None


class ResponseRequest(WireModel):
    """The body of `POST /v1/responses`, and of `response.create` on a WebSocket, which also has `generate`."""

    model: Annotated[str, MinLen(1)]
    # May be omitted if the conversation or the previous response already holds everything.
    input: str | list[ItemInput] | None = None
    access_programs: Any = None
    background: bool | None = None
    background_options: BackgroundOptions | None = None
    conversation: Identifier | ConversationField | None = None
    context_management: Annotated[list[ContextManagementParam], MinLen(1)] | None = None
    frequency_penalty: Penalty | None = None
    generate: bool | None = None
    image: Any = None
    include: list[Includable] | None = None
    instructions: str | None = None
    max_output_tokens: TokenLimit = None
    max_tool_calls: Annotated[int, Ge(1), WHOLE] | None = None
    metadata: Metadata | None = None
    moderation: Any = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    previous_response_id: Identifier | None = None
    prompt: Any = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    reasoning: ReasoningParam | None = None
    safety_identifier: Annotated[str, MaxLen(64)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    text: TextParam | None = None
    tool_choice: ToolChoiceParam | None = None
    tools: list[ToolParam] | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20), WHOLE] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | dict[str, Any] | None = None  # Open WebUI can send an object
