"""Which of the agents on the command line are kept idle between turns."""

from __future__ import annotations

from typing import Any

from openai_compat import AgentBackend, as_backend
from openai_compat.backends.pool import pooled


def backend_maker(idle: int, *, asked_for: bool) -> Any:
    """What makes backends of agents: a pool, of up to `idle`, of each class, and of all else what it is.

    Classes that are no AgentBackend may hold the conversation of the turn they are made for, so only where it is
    `asked_for` are they lent to the next one.
    """

    def make(agent: Any) -> AgentBackend:
        backend = as_backend(agent)  # says what is wrong with it
        poolable = isinstance(agent, type) and (asked_for or hasattr(agent, "capabilities"))
        return pooled(agent, idle=idle) if idle and poolable else backend

    return make
