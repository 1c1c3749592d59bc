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
    """Ids that a client wants the agent to know beside its messages."""

    principal: Principal
    preset_id: str | None = None
    task_id: str | None = None
    ticket_id: str | None = None
    project_id: str | None = None
    conversation_id: str | None = None


ContextHook: TypeAlias = Callable[[ContextQuery], Awaitable[str | None] | str | None]
"""Makes instructions of the ids, or None. It may raise `NotFound` for an id that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRest:
    """Serves the chat REST API.

    Attributes:
        prefix: where its paths begin.
        context: makes instructions for the agent of the preset, task and ticket that a client names.
        cookie: name of a cookie that may carry the API key instead of a header. Pages of other origins cannot use it,
            unless the server's `cors` names them; a `Cors` with a `regex` does not go with it.
        admins: ids of the principals that may configure providers and choose the default one. Nobody, unless told:
            whoever sets a provider's address gets everything that is sent there.

    Raises ValueError for a prefix that is no path.
    """

    prefix: str = "/api/chat"
    context: ContextHook | None = None
    cookie: str | None = None
    admins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_fields(self)
        check_strings("ChatRest.admins", self.admins)
        check_path("prefix", self.prefix)
