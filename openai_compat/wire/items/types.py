"""Items, of which a Responses conversation consists. Source: OpenAI's OpenAPI document (InputItem) and its SDK's types.

Unknown item types and tool types are kept unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from annotated_types import MinLen
from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ..chat.request_types import AudioContent, RefusalContent, WireModel
from ..responses.tool_types import OTHER, ToolParam

# OpenAI rejects a history in which a function call's id does not begin with `fc`, and so on: stored items must remain
# valid there.
ID_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "reasoning": "rs_",
    "compaction": "cmp_",
    "mcp_call": "mcp_",
    "mcp_list_tools": "mcpl_",
    "mcp_approval_request": "mcpr_",
    "mcp_approval_response": "mcpa_",
}
"""Prefixes of item ids, by type."""

OTHER_PREFIX = "item_"
"""Prefix of the ids of all other types."""

TYPES_WITH_STATUS = frozenset(
    [
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        "mcp_call",
        "tool_search_output",
    ]
)
"""Types whose items always have a `status` in the server's output."""

DEFAULT_FIELDS: Mapping[str, Mapping[str, str]] = {
    "additional_tools": {"role": "developer"},
    "computer_call_output": {"status": "completed"},
    "shell_call": {"status": "completed"},
    "shell_call_output": {"status": "completed"},
    "tool_search_call": {"execution": "server", "status": "completed"},
    "tool_search_output": {"execution": "server"},
}
"""Fields that items of these types always have in the server's output, although a client may omit them."""

ACTION_TYPES = frozenset(["compaction_trigger"])
"""Types of items that are not part of a conversation: they request a one-time action."""


class ItemTextContent(WireModel):
    """Text of any role. Its `type` is corrected when it is stored."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class SourcedContent(WireModel):
    """Content from one of several sources: at least one of the fields in `sources` is required."""

    sources: ClassVar[tuple[str, ...]]

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if all(getattr(self, name) is None for name in self.sources):
            raise PydanticCustomError("no_source", "needs one of {names}", {"names": ", ".join(self.sources)})
        return self


class ItemImageContent(SourcedContent):
    """An image, by URL or by the id of an uploaded file."""

    sources = ("image_url", "file_id")

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class ItemFileContent(SourcedContent):
    """A document: base64 data, a URL, or the id of an uploaded file."""

    sources = ("file_data", "file_id", "file_url")

    type: Literal["input_file"]
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


AssistantContent = Annotated[ItemTextContent | RefusalContent, Field(discriminator="type")]
InputContent = Annotated[
    ItemTextContent | ItemImageContent | ItemFileContent | AudioContent, Field(discriminator="type")
]
Output = str | list[InputContent]
"""The output of a tool."""

Identifier = Annotated[str, MinLen(1)]


class ItemParam(WireModel):
    """Fields shared by all items."""

    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class MessageItemParam(ItemParam):
    """A message, in its full or its short ("easy") form. `name` comes from chat and is kept."""

    type: Literal["message"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    name: str | None = None


class UserMessageItemParam(MessageItemParam):
    """A message of the user: text, or parts including images and files."""

    role: Literal["user"]
    content: str | list[InputContent]


class SystemMessageItemParam(MessageItemParam):
    """Instructions. Both roles are treated alike; agents receive the role that was sent."""

    role: Literal["system", "developer"]
    content: str | list[ItemTextContent]


class AssistantMessageItemParam(MessageItemParam):
    """An earlier message of the assistant."""

    role: Literal["assistant"]
    content: str | list[AssistantContent]


MessageParam = Annotated[
    UserMessageItemParam | SystemMessageItemParam | AssistantMessageItemParam, Field(discriminator="role")
]


class FunctionCallItemParam(ItemParam):
    """A function call made by the assistant."""

    type: Literal["function_call"]
    call_id: Identifier
    name: str
    arguments: str


class CustomCallItemParam(ItemParam):
    """A call of a tool that accepts free text."""

    type: Literal["custom_tool_call"]
    call_id: Identifier
    name: str
    input: str


class CallOutputItemParam(ItemParam):
    """The client's result of a call. Without a `call_id`, the tool's name or the only open call identifies the call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Identifier | None = None
    name: str | None = None
    namespace: str | None = None
    output: Output


class ItemSummaryText(WireModel):
    """A paragraph of a summary."""

    type: Literal["summary_text"]
    text: str


class ReasoningText(WireModel):
    """A paragraph of raw reasoning, not a summary."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItemParam(ItemParam):
    """The assistant's reasoning. Other servers' `encrypted_content` is kept but has no meaning here."""

    type: Literal["reasoning"]
    summary: list[ItemSummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class ItemReferenceParam(WireModel):
    """A reference to an item stored on the server."""

    type: Literal["item_reference"] | None = None
    id: Identifier


class ApprovalResponseParam(ItemParam):
    """A user's decision on a call that waits for approval. `always` and `arguments` are extensions."""

    type: Literal["mcp_approval_response"]
    approval_request_id: Identifier
    approve: bool
    reason: str | None = None
    always: bool | None = None
    arguments: str | dict[str, Any] | None = None


class CompactionItemParam(ItemParam):
    """The replacement for the beginning of a conversation."""

    type: Literal["compaction"]
    encrypted_content: str


class ToolsItemParam(ItemParam):
    """Tools that the client offers from here on; the second type holds tools that a client-side search found."""

    type: Literal["additional_tools", "tool_search_output"]
    role: Literal["developer"] | None = None
    tools: list[ToolParam]


class OtherItemParam(WireModel):
    """An item of any other type."""

    type: Annotated[str, MinLen(1)]
    id: str | None = None


_MODELS = {  # no tag is a key of an item: error paths contain both
    "message": "a message",
    "function_call": "function_call",
    "custom_tool_call": "custom_tool_call",
    "function_call_output": "a call's output",
    "custom_tool_call_output": "a call's output",
    "reasoning": "reasoning",
    "item_reference": "item_reference",
    "mcp_approval_response": "mcp_approval_response",
    "compaction": "compaction",
    "additional_tools": "more tools",
    "tool_search_output": "more tools",
}


VALIDATED_TYPES = frozenset(_MODELS)
"""Types whose fields are validated when a client sends them; all others are accepted unchanged."""


def _model_tag(value: Any) -> str:
    """Return an item's model by its type. Untyped items are messages, or references if they have an id but no role."""
    if not isinstance(value, dict):
        return "a message"  # rejected by every model
    fields = cast("dict[str, Any]", value)
    kind = fields.get("type")
    if kind is None:
        return "item_reference" if "id" in fields and "role" not in fields else "a message"
    return _MODELS.get(kind, OTHER) if isinstance(kind, str) else OTHER


ItemInput = Annotated[
    Annotated[MessageParam, Tag("a message")]
    | Annotated[FunctionCallItemParam, Tag("function_call")]
    | Annotated[CustomCallItemParam, Tag("custom_tool_call")]
    | Annotated[CallOutputItemParam, Tag("a call's output")]
    | Annotated[ReasoningItemParam, Tag("reasoning")]
    | Annotated[ItemReferenceParam, Tag("item_reference")]
    | Annotated[ApprovalResponseParam, Tag("mcp_approval_response")]
    | Annotated[CompactionItemParam, Tag("compaction")]
    | Annotated[ToolsItemParam, Tag("more tools")]
    | Annotated[OtherItemParam, Tag(OTHER)],
    Discriminator(_model_tag),
]
"""An item as clients send it."""
