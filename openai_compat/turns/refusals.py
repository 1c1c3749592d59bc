"""The reason why no agent was started, as a keyword shared by metrics and logs."""

from __future__ import annotations

from ..errors import AgentError, OpenAICompatError
from ..policies.hooks import RefusalReason
from .slots import NoSlot

REASONS: dict[str | None, RefusalReason] = {
    "invalid_api_key": "auth",
    "invalid_token": "auth",
    "insufficient_scope": "auth",
    "auth_unavailable": "auth",
    "rate_limit_exceeded": "rate_limit",
    "insufficient_quota": "budget",
    "store_unavailable": "store",
    "store_outcome_unknown": "store",
    "hook_failed": "hook",
    "shutting_down": "shutting_down",
}
"""Reasons by the code of the error sent to the client."""


def refusal_reason(error: OpenAICompatError) -> RefusalReason | None:
    """Return the reason of a refusal; None for an invalid request, and for an agent's own error."""
    if isinstance(error, AgentError):
        return None
    return "slots" if isinstance(error, NoSlot) else REASONS.get(error.code)
