"""Items: what a Responses conversation is made of. Source: OpenAI's OpenAPI document (InputItem) and its SDK's types.

Types that are not known, of items and of tools, are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from annotated_types import MinLen
from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ..chat.request_types import AudioContent, RefusalContent, WireModel
from ..responses.tool_types import OTHER, ToolParam

# OpenAI refuses a history in which the id of a function call does not begin with `fc`, and so on: what is taken there later
# has to fit.
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
"""How ids of items begin."""

OTHER_PREFIX = "item_"
"""How those of all other types begin."""

WITH_STATUS = frozenset(
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
"""Types whose items always have a `status` when the server shows them."""

ALWAYS: Mapping[str, Mapping[str, str]] = {
    "additional_tools": {"role": "developer"},
    "computer_call_output": {"status": "completed"},
    "shell_call": {"status": "completed"},
    "shell_call_output": {"status": "completed"},
    "tool_search_call": {"execution": "server", "status": "completed"},
    "tool_search_output": {"execution": "server"},
}
"""What items of these types always have when the server shows them, where a client may leave it out."""

ONLY_ASKED = frozenset(["compaction_trigger"])
"""Types of what is no part of a conversation: it asks for something, once."""


class ItemTextContent(WireModel):
    """Text of any role. Which `type` it has is put right when it is stored."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class SourcedContent(WireModel):
    """Content that comes from one of several places: at least one of the fields `sources` is given."""

    sources: ClassVar[tuple[str, ...]]

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if all(getattr(self, name) is None for name in self.sources):
            raise PydanticCustomError("no_source", "needs one of {names}", {"names": ", ".join(self.sources)})
        return self


class ItemImageContent(SourcedContent):
    """A picture: by URL, or by the id of an uploaded file."""

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
"""What a tool answered."""

Identifier = Annotated[str, MinLen(1)]


class ItemParam(WireModel):
    """What all items may have."""

    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class MessageItemParam(ItemParam):
    """A message, in its long or its short ("easy") form. Names are chat's, and are kept."""

    type: Literal["message"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    name: str | None = None


class UserMessageItemParam(MessageItemParam):
    """A message of the user: text, or parts, pictures and files among them."""

    role: Literal["user"]
    content: str | list[InputContent]


class SystemMessageItemParam(MessageItemParam):
    """Instructions. Both roles mean the same here; agents are told which one it was."""

    role: Literal["system", "developer"]
    content: str | list[ItemTextContent]


class AssistantMessageItemParam(MessageItemParam):
    """What the assistant said before."""

    role: Literal["assistant"]
    content: str | list[AssistantContent]


MessageParam = Annotated[
    UserMessageItemParam | SystemMessageItemParam | AssistantMessageItemParam, Field(discriminator="role")
]


class FunctionCallItemParam(ItemParam):
    """A function call that the assistant made."""

    type: Literal["function_call"]
    call_id: Identifier
    name: str
    arguments: str


class CustomCallItemParam(ItemParam):
    """A call of a tool that takes free text."""

    type: Literal["custom_tool_call"]
    call_id: Identifier
    name: str
    input: str


class CallOutputItemParam(ItemParam):
    """The client's result of a call; without a call's id where the tool's name, or nothing, tells which one."""

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
    """A paragraph of thinking as it was, not a summary of it."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItemParam(ItemParam):
    """What the assistant thought. Other servers' `encrypted_content` is kept, and means nothing here."""

    type: Literal["reasoning"]
    summary: list[ItemSummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class ItemReferenceParam(WireModel):
    """An item that the server has already."""

    type: Literal["item_reference"] | None = None
    id: Identifier


class ApprovalResponseParam(ItemParam):
    """Somebody's decision about a call that waited for approval. OpenAI has no `always` and no `arguments`."""

    type: Literal["mcp_approval_response"]
    approval_request_id: Identifier
    approve: bool
    reason: str | None = None
    always: bool | None = None
    arguments: str | dict[str, Any] | None = None


class CompactionItemParam(ItemParam):
    """What took the place of a conversation's beginning."""

    type: Literal["compaction"]
    encrypted_content: str


class ToolsItemParam(ItemParam):
    """Tools that the client offers from here on; those of the second type it has found by a search of its own."""

    type: Literal["additional_tools", "tool_search_output"]
    role: Literal["developer"] | None = None
    tools: list[ToolParam]


class OtherItemParam(WireModel):
    """An item of any other type."""

    type: Annotated[str, MinLen(1)]
    id: str | None = None


_MODELS = {  # no tag is a key that an item may have: errors are placed by both
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


CHECKED = frozenset(_MODELS)
"""Types whose fields are checked when a client sends them; all others are taken as they are."""


def _model(value: Any) -> str:
    """Which model an item is for: by its type; without one it is a message, or, having no role, a reference."""
    if not isinstance(value, dict):
        return "a message"  # is refused by any model
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
    Discriminator(_model),
]
"""An item as clients send it."""
