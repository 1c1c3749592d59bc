"""What a backend may have besides `run`, each with a protocol by which it is found."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from .backend import AgentBackend, AgentRequest, RunContext


@runtime_checkable
class SupportsCancel(Protocol):
    """A backend whose agent has a way of its own to stop."""

    def request_cancel(self, context: RunContext) -> None:
        """Ask the agent to stop. Called just before the task of its turn is cancelled."""
        ...


@runtime_checkable
class SupportsClose(Protocol):
    """A backend that holds something: a client, a pool, processes."""

    async def aclose(self) -> None:
        """Close it. Called once, when the server shuts down."""
        ...


@runtime_checkable
class SupportsSteering(Protocol):
    """A backend whose agent can take further input of the user into account while it runs."""

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> bool:
        """Bring the turn to an end at a good place; another turn follows, with the new messages.

        Returns True if the turn is cut short by that.
        """
        ...


@runtime_checkable
class SupportsTokenCount(Protocol):
    """A backend that counts a request's tokens itself; of others, they are estimated."""

    def count_tokens(self, request: AgentRequest) -> int | Awaitable[int]:
        """The number of tokens of the request's input."""
        ...


@runtime_checkable
class SupportsToolNames(Protocol):
    """A backend with tools that are only known at the time of a request."""

    def tool_names(self, request: AgentRequest) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The names of its own tools, besides those in `capabilities.own_tools`."""
        ...


@runtime_checkable
class SupportsForget(Protocol):
    """A backend whose states name something that it keeps elsewhere: a thread, a session, a checkpoint."""

    def forget(self, state: Mapping[str, Any]) -> Awaitable[object] | None:
        """Drop what the state names.

        Called once nothing leads any more to this state, nor to another one that came of the same first turn. At least
        once, perhaps by several processes; where it fails, it is called again for as long as things are kept.
        """
        ...


@runtime_checkable
class HasTools(Protocol):
    """A backend that shows its own tools, as a `Toolbox`: the chat REST API tells how dangerous a tool is by it."""

    @property
    def tools(self) -> object:
        """The tools, as a `Toolbox`."""
        ...


OPTIONAL_METHODS = ("request_cancel", "aclose", "steer", "count_tokens", "tool_names", "forget", "tools")
"""What the protocols above ask for."""


def offer_methods_of(inner: AgentBackend, wrapper: AgentBackend) -> None:
    """Give a wrapper the optional methods of the backend that it wraps, but for those it has itself.

    A `__getattr__` would not do: from Python 3.12 on, `isinstance` with a protocol does not call it.
    """
    for name in OPTIONAL_METHODS:
        if hasattr(inner, name) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(inner, name))
