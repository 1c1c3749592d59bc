"""The agent's own tools and the client's: no name belongs to both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from ..agent_request import AgentRequest
from ..agents.error_mapping import to_public_error
from ..backend import AgentBackend, SupportsToolNames
from ..errors import InvalidRequest

LONGEST_QUOTED = 64
"""Longest name in characters that an error quotes."""


async def check_names(
    backend: AgentBackend, request: AgentRequest, names: AbstractSet[str], place: Callable[[str], str]
) -> None:
    """Raise InvalidRequest if the client offers a tool by a name that is one of the agent's own.

    It would take that tool's place, and the client would write its results. `place` tells where a name was sent.
    """
    taken = sorted(names & await own_tool_names(backend, request)) if names else []
    if taken:
        text = f"This agent has a tool called '{taken[0][:LONGEST_QUOTED]}' itself: give yours another name."
        raise InvalidRequest(text, param=place(taken[0]), code="tool_name_taken")


async def own_tool_names(backend: AgentBackend, request: AgentRequest) -> frozenset[str]:
    """The tool names that the agent declares, and those of its `tool_names(request)`, if it has that."""
    declared = backend.capabilities.own_tools
    if not isinstance(backend, SupportsToolNames):
        return declared
    try:
        named = backend.tool_names(request)
        return declared | frozenset(await named if inspect.isawaitable(named) else named)
    except Exception as error:
        raise to_public_error(error) from error
