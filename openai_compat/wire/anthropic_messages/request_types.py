"""The requests of Anthropic's Messages API. Source: the types of Anthropic's SDK, and what its clients were seen to send.

Strict: nothing is coerced. Tolerant: fields that are not known are kept, at every level. `null` means "not there".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Block = dict[str, Any]


class SentByClient(BaseModel):
    """Base of everything that clients send."""

    # Extra fields are kept: this API gains some every few weeks, and agents get those not known here.
    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


class TextBlockParam(SentByClient):
    """Text, said by whoever the message is of."""

    text: str


class Base64Source(SentByClient):
    """A picture or document as base64 text."""

    type: Literal["base64"]
    media_type: str
    data: str


class UrlSource(SentByClient):
    """A picture or document by its URL."""

    type: Literal["url"]
    url: str


class FileSource(SentByClient):
    """An uploaded picture or document."""

    type: Literal["file"]
    file_id: Annotated[str, MinLen(1)]


class PlainTextSource(SentByClient):
    """A document that is text."""

    type: Literal["text"]
    data: str


class ContentSource(SentByClient):
    """A document that is made of blocks."""

    type: Literal["content"]
    content: str | list[Block]


class ImageBlockParam(SentByClient):
    """A picture: base64 data, a URL, or the id of a file."""

    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


class DocumentBlockParam(SentByClient):
    """A document: base64 data, a URL, the id of a file, or its text."""

    source: Annotated[
        Base64Source | UrlSource | FileSource | PlainTextSource | ContentSource, Field(discriminator="type")
    ]
    title: str | None = None
    context: str | None = None


class SearchResultBlockParam(SentByClient):
    """Something that a search has found."""

    source: str
    title: str
    content: list[TextBlockParam]


class ToolResultBlockParam(SentByClient):
    """The result of a call that the assistant made."""

    tool_use_id: Annotated[str, MinLen(1)]
    content: str | list[Block] | None = None
    is_error: bool | None = None


class ToolUseBlockParam(SentByClient):
    """A call that the assistant made."""

    id: Annotated[str, MinLen(1)]
    name: str
    input: dict[str, Any]


class ThinkingBlockParam(SentByClient):
    """What the assistant thought, as it was sent."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlockParam(SentByClient):
    """What the assistant thought and nobody is shown."""

    data: str


class ConversationMessageParam(SentByClient):
    """A message. Clients put instructions between the others, too."""

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
    """A tool that Anthropic runs, or has a form of its own for."""

    type: str
    name: str = ""


class AnyOfTools(SentByClient):
    """Which of the tools may be called, or must be."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class OneTool(SentByClient):
    """The answer has to call this tool."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class RequestMetadata(SentByClient):
    """On whose behalf the client asks, in its own words."""

    user_id: str | None = None


class ThinkingConfig(SentByClient):
    """Whether the client wants to see what is thought."""

    type: str
    display: str | None = None


class OutputFormatParam(SentByClient):
    """The answer has to be JSON that this schema allows."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(SentByClient):
    """How much effort an answer is worth, and what it looks like."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatParam | None = None


class NewThread(SentByClient):
    """Keep this conversation under the id of the answer."""

    type: Literal["create"]


class ContinuedThread(SentByClient):
    """Go on after an answer that was kept."""

    type: Literal["continue"]
    previous_message_id: Annotated[str, MinLen(1), MaxLen(256)]


WHOLE_NUMBER = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""Of an integer: it may be written as a float, `4096.0`, as programs do that have no integers. It comes last."""

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
    # As `output_config.format` was called before.
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
