"""A middleware for LangChain's agents that applies a request's settings and tools to model calls."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from ...agent_request import AgentRequest
from .content import lc

interrupt: Any = importlib.import_module("langgraph.types").interrupt

PARAMETERS = frozenset(
    ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "reasoning_effort"]
)
"""The parameters that `per_request` passes on by default, named as in LangChain's OpenAI models."""

CLIENT_TOOL = "openai_compat.client_tool"
"""The type of an interrupt that waits for the client's result."""

current_request: ContextVar[AgentRequest | None] = ContextVar("request", default=None)
"""The request of the current turn."""


def per_request(*, parameters: frozenset[str] = PARAMETERS) -> Any:
    """Make a middleware for `create_agent` that passes a request's parameters, tools and `response_format` to the model.

    `parameters` are the fields of `Sampling` to pass on: leave out those that your model does not accept. Needs
    `langchain`, and a graph with a checkpointer.
    """
    base: Any = importlib.import_module("langchain.agents.middleware").AgentMiddleware
    return type("PerRequest", (_RequestMiddleware, base), {})(parameters)


class _RequestMiddleware:
    def __init__(self, parameters: frozenset[str]) -> None:
        super().__init__()
        self.parameters = parameters

    async def abefore_agent(self, state: Any, runtime: Any) -> None:
        """Do nothing: the hook adds a node to the graph, by which the backend detects the middleware."""

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Call the model with the request's parameters, tools and `response_format`."""
        client_request = current_request.get()
        if client_request is None:
            return await handler(request)
        given = {name: value for name, value in client_request.sampling.given().items() if name in self.parameters}
        if "stop" in given:
            given["stop"] = list(given["stop"])
        changes: dict[str, Any] = {"model_settings": {**request.model_settings, **given}}
        if client_request.tools:
            described = [
                {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
                for tool in client_request.tools
            ]
            client_tools = [{"type": "function", "function": function} for function in described]
            changes["tools"] = [*request.tools, *client_tools]
        wanted = client_request.json_schema
        if wanted is not None:
            strategy: Any = importlib.import_module("langchain.agents.structured_output").ProviderStrategy
            changes["response_format"] = strategy({"title": wanted.name, **wanted.schema})
        return await handler(request.override(**changes))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run one of the agent's own tools, or interrupt the graph for a client tool."""
        client_request, call = current_request.get(), request.tool_call
        if (
            request.tool is not None
            or client_request is None
            or call["name"] not in [tool.name for tool in client_request.tools]
        ):
            return await handler(request)
        result = interrupt({"type": CLIENT_TOOL, "tool_call_id": call["id"]})
        return lc.ToolMessage(result, name=call["name"], tool_call_id=call["id"])
