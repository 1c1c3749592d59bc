"""What endpoints need of the server: its agents, its policies, its clock and its ids."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from .backend import AgentBackend
from .errors import NotFound
from .policies.admission import Slots
from .policies.limits import Deadlines, Limits
from .serializers.presentation import Visibility

logger = logging.getLogger("openai_compat")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Shared by all endpoints of one server; nothing in it belongs to a request.

    Attributes:
        agents: the backends by model name, in the order they are listed.
        started: when the server was made, in unix seconds.
        agent_headers: names (lower case) of the request headers that agents are given.
    """

    agents: Mapping[str, AgentBackend]
    slots: Slots
    limits: Limits
    deadlines: Deadlines
    visibility: Visibility
    agent_headers: frozenset[str]
    owned_by: str
    started: int

    def backend(self, model: str) -> AgentBackend:
        """The agent that serves `model`. Raises NotFound (404 `model_not_found`)."""
        backend = self.agents.get(model)
        if backend is None:
            shown = model if len(model) <= 64 else model[:64] + "…"
            raise NotFound(f"The model '{shown}' does not exist", code="model_not_found", param="model")
        return backend


def new_id(prefix: str) -> str:
    """A new id nobody can guess: `prefix` and 32 hexadecimal digits."""
    return prefix + uuid.uuid4().hex


def now() -> int:
    """Unix time in seconds."""
    return int(time.time())
