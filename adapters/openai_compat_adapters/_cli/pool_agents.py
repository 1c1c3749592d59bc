"""Pools of the command line's agents."""

from __future__ import annotations

from typing import Any

from openai_compat import AgentBackend, as_backend
from openai_compat.backends.pool import pooled


def backend_maker(idle: int, *, asked_for: bool) -> Any:
    """A function that makes backends of agents: a pool of up to `idle` objects of a class, or `as_backend`.

    An object of a class that is no AgentBackend may keep the conversation of its turn. It is used for further turns
    only if pooling was `asked_for`.
    """

    def make(agent: Any) -> AgentBackend:
        backend = as_backend(agent)  # says what is wrong with it
        poolable = isinstance(agent, type) and (asked_for or hasattr(agent, "capabilities"))
        return pooled(agent, idle=idle) if idle and poolable else backend

    return make
