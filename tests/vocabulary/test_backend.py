"""Optional abilities of backends, found by protocol, through wrappers too."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from openai_compat.agent_request import AgentRequest
from openai_compat.agents.compaction import CompactingBackend, Compaction
from openai_compat.backend import (
    OPTIONAL_METHODS,
    AgentBackend,
    Capabilities,
    HasTools,
    RunContext,
    SupportsCancel,
    SupportsClose,
    SupportsForget,
    SupportsSteering,
    SupportsTokenCount,
    SupportsToolNames,
)
from openai_compat.testing import Watched

PROTOCOLS = (
    SupportsCancel,
    SupportsClose,
    SupportsForget,
    SupportsSteering,
    SupportsTokenCount,
    SupportsToolNames,
    HasTools,
)


class Plain:
    capabilities = Capabilities()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        yield "Hello"


class Able(Plain):
    tools = "a toolbox"

    def request_cancel(self, context: RunContext) -> None: ...

    async def aclose(self) -> None: ...

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> bool:
        return True

    def count_tokens(self, request: AgentRequest) -> int:
        return 7

    def tool_names(self, request: AgentRequest) -> list[str]:
        return ["search"]

    def forget(self, state: Mapping[str, Any]) -> None: ...


def compacting(agent: AgentBackend) -> AgentBackend:
    return CompactingBackend(agent, Compaction())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrap", [compacting, Watched, lambda agent: agent, lambda agent: compacting(Watched(agent))])
def test_a_wrapper_can_do_what_the_agent_inside_can(wrap: Any, protocol: Any) -> None:
    assert isinstance(wrap(Able()), protocol)
    assert not isinstance(wrap(Plain()), protocol)


@pytest.mark.parametrize("wrap", [compacting, Watched])
def test_its_methods_are_found_without_getattr(wrap: Any) -> None:
    """The way `isinstance` looks for them from Python 3.12 on."""
    for name in OPTIONAL_METHODS:
        assert inspect.getattr_static(wrap(Able()), name, None) is not None
