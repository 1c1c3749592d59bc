"""The client's tools and which of them may be called: rules that all APIs share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from ..agent_request import FunctionTool, Tool, ToolChoice
from ..errors import InvalidRequest
from .json_schema import InvalidSchema, References, WorkBudget
from .json_schema.keywords import REFERENCES
from .request_schemas import invalid_schema

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


def check_parameters(schemas: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
    """Check what tools take, each with the place where it was sent. Raises InvalidRequest (`invalid_json_schema`).

    Only the references: what else a schema may say is for the agent and its model to know.
    """
    budget: WorkBudget | None = None
    for param, schema in schemas:
        if schema is None or not _may_refer(schema):
            continue
        budget = budget or WorkBudget()
        try:
            References(dict(schema), budget, strict=False)
        except InvalidSchema as error:
            raise invalid_schema(str(error), param) from None


def _may_refer(schema: object) -> bool:
    """True if there may be a reference: most schemas have none, and this is fast."""
    waiting: list[Any] = [schema]
    while waiting:
        item = waiting.pop()
        if item.__class__ is dict:
            if not item.keys().isdisjoint(REFERENCES):
                return True
            waiting.extend(item.values())
        elif item.__class__ is list:
            waiting.extend(item)
    return False


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
