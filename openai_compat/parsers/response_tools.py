"""The tools of a Responses request: the client's own, those that somebody hosts, and which of them may be called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import CustomTool, FunctionTool, Tool, ToolChoice
from ..errors import InvalidRequest
from ..protocol.response_request import (
    AllowedToolsParam,
    CustomToolParam,
    FunctionToolParam,
    McpChoiceParam,
    McpToolParam,
    NamespaceToolParam,
    OfferedChoiceParam,
    ResponseRequest,
    ToolParam,
)
from .tools import checked_tools, choice_by_mode, only


@dataclass(frozen=True, slots=True)
class ResponseTools:
    """The tools of a request.

    Attributes:
        offered: those that the client runs, in the order of the request.
        hosted: all others, as they were sent: an agent may have something like them.
        labels: labels of the servers among them: the client will answer when one of these asks for approval.
        namespaces: by the name under which a tool is offered, its namespace and its name there.
        deferred: names of the offered tools whose results may come later, or never.
    """

    offered: tuple[Tool, ...] = ()
    hosted: tuple[dict[str, Any], ...] = ()
    labels: frozenset[str] = frozenset()
    namespaces: Mapping[str, tuple[str, str]] | None = None
    deferred: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The names of the offered tools."""
        return frozenset([tool.name for tool in self.offered])


@dataclass(frozen=True, slots=True)
class _Offer:
    param: str
    tool: FunctionToolParam | CustomToolParam
    namespace: str | None = None

    def named(self, times: Counter[str]) -> str:
        """Its name; with the namespace in front where another tool has the same."""
        name = self.tool.name
        return name if self.namespace is None or times[name] == 1 else f"{self.namespace}__{name}"


def parse_tools(params: Sequence[ToolParam], raw: Sequence[dict[str, Any]]) -> ResponseTools:
    """The tools in `params`, of which `raw` is what was sent. Raises InvalidRequest."""
    offers = [offer for index, param in enumerate(params) for offer in _offers(param, f"tools[{index}]")]
    times = Counter([offer.tool.name for offer in offers])
    named = [(offer.named(times), offer) for offer in offers]
    tools = checked_tools([(offer.param, _tool(offer.tool, name)) for name, offer in named])
    own = FunctionToolParam | CustomToolParam | NamespaceToolParam
    return ResponseTools(
        offered=tuple(tools),
        hosted=tuple([sent for param, sent in zip(params, raw, strict=True) if not isinstance(param, own)]),
        labels=frozenset([param.server_label for param in params if isinstance(param, McpToolParam)]),
        namespaces={name: (offer.namespace, offer.tool.name) for name, offer in named if offer.namespace is not None},
        deferred=frozenset([name for name, offer in named if offer.tool.async_]),
    )


def _offers(param: ToolParam, where: str) -> list[_Offer]:
    if isinstance(param, NamespaceToolParam):
        return [_Offer(f"{where}.tools[{i}].name", tool, param.name) for i, tool in enumerate(param.tools)]
    return [_Offer(f"{where}.name", param)] if isinstance(param, FunctionToolParam | CustomToolParam) else []


def _tool(param: FunctionToolParam | CustomToolParam, name: str) -> Tool:
    if isinstance(param, CustomToolParam):
        return CustomTool(name, param.description, param.format)
    return FunctionTool(name, param.description, param.parameters, param.strict)


def parse_tool_choice(wire: ResponseRequest, tools: ResponseTools) -> ToolChoice:
    """Which of the client's tools may be called. Raises InvalidRequest for tools that the request has not.

    Whether hosted tools are used is up to the agent, which can see what was sent.
    """
    choice, names = wire.tool_choice, tools.names
    if choice is None or isinstance(choice, str):
        only_hosted = choice == "required" and not names and tools.hosted
        return ToolChoice(names) if only_hosted else choice_by_mode(choice, names)
    if isinstance(choice, OfferedChoiceParam):
        return only({choice.name}, names, "tool_choice.name")
    if isinstance(choice, AllowedToolsParam):
        return _allowed(choice, tools)
    asked = choice.model_dump(include={"type", "server_label"} if isinstance(choice, McpChoiceParam) else {"type"})
    _expect_hosted(asked, tools, "tool_choice")
    return ToolChoice(names)


def _allowed(choice: AllowedToolsParam, tools: ResponseTools) -> ToolChoice:
    wanted: set[str] = set()
    for index, tool in enumerate(choice.tools):
        match tool.get("type"):
            case "function" | "custom":
                wanted.add(str(tool.get("name")))
            case "namespace":
                wanted |= _of_namespace(tool.get("name"), tools)
            case _:
                _expect_hosted(tool, tools, f"tool_choice.tools[{index}]")
    if not wanted:
        return ToolChoice(frozenset(), withheld=tools.names)
    return only(wanted, tools.names, "tool_choice.tools", required=choice.mode == "required")


def _of_namespace(namespace: object, tools: ResponseTools) -> set[str]:
    return {name for name, (own, _) in (tools.namespaces or {}).items() if own == namespace} or {""}


def _expect_hosted(asked: Mapping[str, Any], tools: ResponseTools, param: str) -> None:
    """Raise InvalidRequest unless a hosted tool has this type, and this label if one is asked for."""
    keys = [key for key in ("type", "server_label") if asked.get(key) is not None]
    if not any(keys and all(tool.get(key) == asked[key] for key in keys) for tool in tools.hosted):
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param=param, code="invalid_value")
