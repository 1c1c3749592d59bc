"""The tools of a Responses request: the client's, hosted ones, and which of them may be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ....agent_request import CustomTool, FunctionTool, Tool, ToolChoice, choice_by_mode, choice_by_name
from ....errors import InvalidRequest
from ...items.parse import qualified_name
from ...items.types import ToolsItemParam
from ...json import MAX_TOOLS, check_tools
from ..request_types import (
    McpChoiceParam,
    OfferedChoiceParam,
    ResponseAllowedToolsParam,
    ResponseRequest,
    ToolChoiceParam,
)
from ..tool_types import McpToolParam, NamespaceToolParam, ResponseCustomToolParam, ResponseFunctionToolParam, ToolParam

TOOL_ITEM_TYPES = frozenset(["additional_tools", "tool_search_output"])
"""Types of items in which a client offers more tools in the middle of a conversation."""


@dataclass(frozen=True, slots=True)
class ResponseTools:
    """The tools of a request.

    Attributes:
        offered: the tools that the client runs, in the order of the request.
        hosted: all other tools, as they were sent: an agent may have an equivalent.
        labels: the labels of the declared MCP servers, for whose approval requests the client will answer.
        namespaces: maps the name under which a tool is offered to its namespace and its name there.
        deferred: the names of the offered tools whose results may come later, or never.
        names: the names of the offered tools.
        custom: the names of the offered free-text tools.
    """

    offered: tuple[Tool, ...] = ()
    hosted: tuple[dict[str, Any], ...] = ()
    labels: frozenset[str] = frozenset()
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    deferred: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    custom: frozenset[str] = frozenset()


NO_TOOLS = ResponseTools()


@dataclass(frozen=True, slots=True)
class _Offer:
    param: str
    tool: ResponseFunctionToolParam | ResponseCustomToolParam
    namespace: str | None = None

    @property
    def name(self) -> str:
        """The name under which the tool is offered."""
        return qualified_name(self.tool.name, self.namespace)

    @property
    def agent_tool(self) -> Tool:
        """The tool as agents receive it."""
        tool = self.tool
        if isinstance(tool, ResponseCustomToolParam):
            return CustomTool(self.name, tool.description, tool.format)
        return FunctionTool(self.name, tool.description, tool.parameters, tool.strict)


def parse_tools(wire: ResponseRequest, raw: Mapping[str, Any]) -> ResponseTools:
    """Return the tools of a request, sent as `raw`, including those in its items. Raises InvalidRequest."""
    tools = _to_response_tools(wire.tools, raw["tools"], "tools") if wire.tools else NO_TOOLS
    for index, item in enumerate(wire.input if isinstance(wire.input, list) else []):
        if isinstance(item, ToolsItemParam):
            tools = merge_tools(
                tools, _to_response_tools(item.tools, raw["input"][index]["tools"], f"input[{index}].tools")
            )
        if len(tools.hosted) > MAX_TOOLS:  # quadratic: each is compared with every other
            raise InvalidRequest(f"At most {MAX_TOOLS} tools can be given.", param="tools", code="invalid_value")
    return tools


def tools_of_items(items: Sequence[Mapping[str, Any]]) -> ResponseTools:
    """Return the tools that stored items bring; tools that are invalid are left out."""
    tools = NO_TOOLS
    for item in items:
        with suppress(ValidationError, InvalidRequest):
            tools = merge_tools(
                tools, _to_response_tools(ToolsItemParam.model_validate(item).tools, item["tools"], "tools")
            )
    return tools


def merge_tools(first: ResponseTools, more: ResponseTools) -> ResponseTools:
    """Merge both. If two offered tools have the same name, the later one wins: clients redeclare their tools."""
    again = more.names
    kept = [tool for tool in first.offered if tool.name not in again]
    return ResponseTools(
        offered=(*kept, *more.offered),
        hosted=(*[tool for tool in first.hosted if tool not in more.hosted], *more.hosted),
        labels=first.labels | more.labels,
        namespaces={
            **{name: there for name, there in first.namespaces.items() if name not in again},
            **more.namespaces,
        },
        deferred=(first.deferred - again) | more.deferred,
        names=first.names | again,
        custom=(first.custom - again) | more.custom,
    )


def _to_response_tools(params: Sequence[ToolParam], raw: Sequence[dict[str, Any]], where: str) -> ResponseTools:
    offers = [offer for index, param in enumerate(params) for offer in _offers(param, f"{where}[{index}]")]
    tools = check_tools([(offer.param, offer.agent_tool) for offer in offers])
    own = ResponseFunctionToolParam | ResponseCustomToolParam | NamespaceToolParam
    return ResponseTools(
        offered=tuple(tools),
        # As they were sent: they have fields that no type here declares.
        hosted=tuple([sent for param, sent in zip(params, raw, strict=True) if not isinstance(param, own)]),
        labels=frozenset([param.server_label for param in params if isinstance(param, McpToolParam)]),
        namespaces={offer.name: (offer.namespace, offer.tool.name) for offer in offers if offer.namespace is not None},
        deferred=frozenset([offer.name for offer in offers if offer.tool.async_]),
        names=frozenset([tool.name for tool in tools]),
        custom=frozenset([tool.name for tool in tools if isinstance(tool, CustomTool)]),
    )


def _offers(param: ToolParam, where: str) -> list[_Offer]:
    if isinstance(param, NamespaceToolParam):
        return [_Offer(f"{where}.tools[{i}].name", tool, param.name) for i, tool in enumerate(param.tools)]
    return (
        [_Offer(f"{where}.name", param)]
        if isinstance(param, ResponseFunctionToolParam | ResponseCustomToolParam)
        else []
    )


def parse_tool_choice(choice: ToolChoiceParam, tools: ResponseTools) -> ToolChoice:
    """Return which of the client's tools may be called. Raises InvalidRequest for tools missing from the request.

    The agent decides about hosted tools: it can see the tool choice as it was sent.
    """
    names = tools.names
    if isinstance(choice, str):
        # A required call of a hosted tool is up to the agent: no tool of the client is meant.
        only_hosted = choice == "required" and not names and tools.hosted
        return ToolChoice(names) if only_hosted else choice_by_mode(choice, names)
    if isinstance(choice, OfferedChoiceParam):
        return choice_by_name(_find_names(choice.model_dump(), tools), names, "tool_choice.name")
    if isinstance(choice, ResponseAllowedToolsParam):
        return _allowed_choice(choice, tools)
    asked = choice.model_dump(include={"type", "server_label"} if isinstance(choice, McpChoiceParam) else {"type"})
    _expect_hosted(asked, tools, "tool_choice")
    return ToolChoice(names)


def _allowed_choice(choice: ResponseAllowedToolsParam, tools: ResponseTools) -> ToolChoice:
    wanted: set[str] = set()
    for index, tool in enumerate(choice.tools):
        match tool.get("type"):
            case "function" | "custom":
                wanted |= _find_names(tool, tools)
            case "namespace":
                # No tool has an empty name, so an unknown namespace is rejected by `choice_by_name`.
                wanted |= {name for name, (space, _) in tools.namespaces.items() if space == tool.get("name")} or {""}
            case _:
                _expect_hosted(tool, tools, f"tool_choice.tools[{index}]")
    # Only hosted tools are allowed: the client's tools stay known, since earlier calls may use them.
    if not wanted:
        return ToolChoice(frozenset(), withheld=tools.names)
    return choice_by_name(wanted, tools.names, "tool_choice.tools", required=choice.mode == "required")


def _find_names(tool: Mapping[str, Any], tools: ResponseTools) -> set[str]:
    """Return the offered tools that match a name, which may be one in a namespace; an empty name if none matches."""
    name, namespace = tool.get("name"), tool.get("namespace")
    if isinstance(name, str) and name in tools.names:
        return {name}
    there = [(offered, space) for offered, (space, own) in tools.namespaces.items() if own == name]
    return {offered for offered, space in there if namespace in (None, space)} or {""}


def _expect_hosted(asked: Mapping[str, Any], tools: ResponseTools, param: str) -> None:
    """Raise InvalidRequest unless a hosted tool has the requested type and, if given, label."""
    keys = [key for key in ("type", "server_label") if asked.get(key) is not None]
    if not any(keys and all(tool.get(key) == asked[key] for key in keys) for tool in tools.hosted):
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param=param, code="invalid_value")


def tool_place(body: Mapping[str, Any], name: str) -> str:
    """Return the path of a tool's name in a validated request's body; "tools" if there is none."""
    sent: list[Any] = body["input"] if isinstance(body.get("input"), list) else []
    lists = [("tools", body.get("tools")), *[(f"input[{i}].tools", item.get("tools")) for i, item in enumerate(sent)]]
    for where, tools in lists:
        for index, tool in enumerate(tools or ()):
            if tool.get("type") in ("function", "custom") and tool.get("name") == name:
                return f"{where}[{index}].name"
            within: list[Any] = (tool.get("tools") or []) if tool.get("type") == "namespace" else []
            for place, inner in enumerate(within):
                if qualified_name(inner["name"], tool["name"]) == name:
                    return f"{where}[{index}].tools[{place}].name"
    return "tools"
