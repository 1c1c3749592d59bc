"""Tool definitions of the Responses API. Source: OpenAI's OpenAPI document (Tool) and its SDK's types."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any, Literal, cast

from annotated_types import MaxLen, MinLen
from pydantic import Discriminator, Field, StringConstraints, Tag

from ..chat.request_types import WireModel

OTHER = "another type"
"""The tag of the model for unknown types. It is no valid key, since error paths contain both tags and keys."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
Name = Annotated[str, MinLen(1), MaxLen(256)]


class ResponseFunctionToolParam(WireModel):
    """A function that the client offers."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    async_: bool | None = Field(default=None, alias="async")


class ResponseCustomToolParam(WireModel):
    """A free-text tool that the client offers."""

    type: Literal["custom"]
    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None
    async_: bool | None = Field(default=None, alias="async")


OfferedTool = Annotated[ResponseFunctionToolParam | ResponseCustomToolParam, Field(discriminator="type")]


class NamespaceToolParam(WireModel):
    """A group of the client's tools under one name."""

    type: Literal["namespace"]
    name: Name
    description: str | None = None
    tools: list[OfferedTool]


class McpToolParam(WireModel):
    """An MCP server. Here it only declares that the client knows the label and will answer its approval requests."""

    type: Literal["mcp"]
    server_label: Name


class OtherToolParam(WireModel):
    """A hosted tool, or a tool of an unknown type."""

    type: Name


CHECKED_TOOLS = frozenset(["function", "custom", "namespace", "mcp"])


def known_type(value: Any, kinds: Container[str]) -> str:
    """Return the type of `value` if it is in `kinds`, otherwise OTHER."""
    kind = cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in kinds else OTHER


ToolParam = Annotated[
    Annotated[ResponseFunctionToolParam, Tag("function")]
    | Annotated[ResponseCustomToolParam, Tag("custom")]
    | Annotated[NamespaceToolParam, Tag("namespace")]
    | Annotated[McpToolParam, Tag("mcp")]
    | Annotated[OtherToolParam, Tag(OTHER)],
    Discriminator(lambda value: known_type(value, CHECKED_TOOLS)),
]
