"""Settings of the chat REST API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..agent_request import Principal
from ..agents.setting_types import check_fields, check_strings
from .paths import check_path


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextQuery:
    """Ids in a chat request for which the agent gets extra instructions."""

    principal: Principal
    preset_id: str | None = None
    task_id: str | None = None
    ticket_id: str | None = None
    project_id: str | None = None
    conversation_id: str | None = None


ContextHook: TypeAlias = Callable[[ContextQuery], Awaitable[str | None] | str | None]
"""Returns instructions for the ids, or None. May raise `NotFound` for an unknown id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRest:
    """Serves the chat REST API.

    Attributes:
        prefix: the start of its paths.
        context: returns instructions for the agent from the preset, task and ticket ids that a client sends.
        cookie: name of a cookie that may carry the API key instead of a header. Pages of other origins cannot use it,
            unless the server's `cors` names them; a `Cors` with a `regex` is rejected.
        admins: ids of the principals that may configure providers and choose the default one. Empty by default: whoever
            sets a provider's address receives everything that is sent to it.

    Raises ValueError for an invalid prefix.
    """

    prefix: str = "/api/chat"
    context: ContextHook | None = None
    cookie: str | None = None
    admins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_fields(self)
        check_strings("ChatRest.admins", self.admins)
        check_path("prefix", self.prefix)
