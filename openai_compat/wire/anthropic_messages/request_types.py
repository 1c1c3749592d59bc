"""The requests of Anthropic's Messages API. Source: the types of Anthropic's SDK, and observed requests of its clients.

Strict: no value is coerced. Tolerant: unknown fields are kept, at every level. `null` means "absent".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Block = dict[str, Any]


class SentByClient(BaseModel):
    """Base class of everything that clients send."""

    # Unknown fields are kept: this API gains fields every few weeks, and agents receive the unknown ones.
    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


class TextBlockParam(SentByClient):
    """A text block of any role."""

    text: str


class Base64Source(SentByClient):
    """An image or document as base64 text."""

    type: Literal["base64"]
    media_type: str
    data: str


class UrlSource(SentByClient):
    """An image or document by URL."""

    type: Literal["url"]
    url: str


class FileSource(SentByClient):
    """An uploaded image or document."""

    type: Literal["file"]
    file_id: Annotated[str, MinLen(1)]


class PlainTextSource(SentByClient):
    """A plain text document."""

    type: Literal["text"]
    data: str


class ContentSource(SentByClient):
    """A document made of blocks."""

    type: Literal["content"]
    content: str | list[Block]


class ImageBlockParam(SentByClient):
    """An image: base64 data, a URL, or a file id."""

    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


class DocumentBlockParam(SentByClient):
    """A document: base64 data, a URL, a file id, or its text."""

    source: Annotated[
        Base64Source | UrlSource | FileSource | PlainTextSource | ContentSource, Field(discriminator="type")
    ]
    title: str | None = None
    context: str | None = None


class SearchResultBlockParam(SentByClient):
    """A search result."""

    source: str
    title: str
    content: list[TextBlockParam]


class ToolResultBlockParam(SentByClient):
    """The result of a call made by the assistant."""

    tool_use_id: Annotated[str, MinLen(1)]
    content: str | list[Block] | None = None
    is_error: bool | None = None


class ToolUseBlockParam(SentByClient):
    """A call made by the assistant."""

    id: Annotated[str, MinLen(1)]
    name: str
    input: dict[str, Any]


class ThinkingBlockParam(SentByClient):
    """The assistant's reasoning, unchanged since it was sent to the client."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlockParam(SentByClient):
    """Encrypted reasoning of the assistant."""

    data: str


class ConversationMessageParam(SentByClient):
    """A message. Clients may put system messages anywhere in the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolDefinition(SentByClient):
    """A tool that the client runs."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    type: Literal["custom"] | None = None
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class ServerToolDefinition(SentByClient):
    """A tool that Anthropic runs, or defines a schema for."""

    type: str
    name: str = ""


class AnyOfTools(SentByClient):
    """Determines whether the answer may, must or must not call tools."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class OneTool(SentByClient):
    """Requires the answer to call this tool."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class RequestMetadata(SentByClient):
    """The client's own id of its end user."""

    user_id: str | None = None


class ThinkingConfig(SentByClient):
    """Determines if, and how, reasoning is shown to the client."""

    type: str
    display: str | None = None


class OutputFormatParam(SentByClient):
    """Requires JSON that matches the schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(SentByClient):
    """Effort and format of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatParam | None = None


class NewThread(SentByClient):
    """Stores this conversation under the id of the response."""

    type: Literal["create"]


class ContinuedThread(SentByClient):
    """Continues after a stored message."""

    type: Literal["continue"]
    previous_message_id: Annotated[str, MinLen(1), MaxLen(256)]


WHOLE_NUMBER = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Makes an integer field accept whole floats like `4096.0`, sent by programs without integers. Put it last."""

Stops = Annotated[list[Annotated[str, MinLen(1), MaxLen(500)]], MaxLen(64)]


class TokenCountRequest(SentByClient):
    """The body of `POST /v1/messages/count_tokens`."""

    model: Annotated[str, MinLen(1)]
    messages: Annotated[list[ConversationMessageParam], MinLen(1)]
    system: str | list[Block] | None = None
    tools: list[Block] | None = None
    tool_choice: Annotated[AnyOfTools | OneTool, Field(discriminator="type")] | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    # The older name of `output_config.format`.
    output_format: OutputFormatParam | None = None


class MessagesRequest(TokenCountRequest):
    """The body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Ge(0), WHOLE_NUMBER]
    metadata: RequestMetadata | None = None
    stop_sequences: Stops | None = None
    stream: bool | None = None
    temperature: Annotated[float, Ge(0), Le(1)] | None = None
    thread: Annotated[NewThread | ContinuedThread, Field(discriminator="type")] | None = None
    top_k: Annotated[int, Ge(0), WHOLE_NUMBER] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
