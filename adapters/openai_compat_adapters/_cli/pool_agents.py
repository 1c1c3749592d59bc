"""Pools of the command line's agents."""

from __future__ import annotations

from typing import Any

from openai_compat import AgentBackend, as_backend
from openai_compat.backends.pool import pooled


def backend_maker(idle: int, *, asked_for: bool) -> Any:
    """Return a function that makes backends: a pool of up to `idle` instances for a class, else `as_backend`.

    An instance of a class that is no AgentBackend may hold the conversation of its turn, so it is reused only if pooling
    was `asked_for`.
    """

    def make(agent: Any) -> AgentBackend:
        backend = as_backend(agent)  # raises for anything that is no agent
        poolable = isinstance(agent, type) and (asked_for or hasattr(agent, "capabilities"))
        return pooled(agent, idle=idle) if idle and poolable else backend

    return make
