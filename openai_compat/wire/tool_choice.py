"""The client's tools and which of them may be called: rules that all APIs share."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from ..agent_request import FunctionTool, Tool, ToolChoice
from ..errors import InvalidRequest
from .request_schemas import check_parameters

MAX_TOOLS = 1024


def checked_tools(tools: Sequence[tuple[str, Tool]], schema: str = "parameters") -> list[Tool]:
    """The tools, each of which comes with the place of its name. Raises InvalidRequest if two have the same name.

    Also for schemas of their parameters that refer to what they do not hold; `schema` is what the API calls these.
    """
    if not tools:
        return []
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"At most {MAX_TOOLS} tools can be given.", param="tools", code="invalid_value")
    seen: set[str] = set()
    for param, tool in tools:
        if tool.name in seen:
            raise InvalidRequest("Each tool needs a name of its own.", param=param, code="invalid_value")
        seen.add(tool.name)
    check_parameters(
        [
            (f"{param.removesuffix('name')}{schema}", tool.parameters)
            for param, tool in tools
            if isinstance(tool, FunctionTool)
        ]
    )
    return [tool for _, tool in tools]


def choice_by_mode(mode: Literal["none", "auto", "required"] | None, names: frozenset[str]) -> ToolChoice:
    """The choice that a mode in `tool_choice` makes of the tools of these names. Raises InvalidRequest."""
    if mode == "none":
        return ToolChoice(frozenset(), withheld=names)
    return only(names, names, "tool_choice") if mode == "required" else ToolChoice(names)


def only(wanted: AbstractSet[str], names: frozenset[str], param: str, *, required: bool = True) -> ToolChoice:
    """Only these tools. Raises InvalidRequest if one of them is not among `names`, or there is none."""
    if not wanted or not wanted <= names:
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param=param, code="invalid_value")
    return ToolChoice(frozenset(wanted), required, withheld=names - wanted)
