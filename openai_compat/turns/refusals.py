"""Why no agent was started, in a few words that metrics and logs have in common."""

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
"""By the code of the error that the client is told."""


def refusal_reason(error: OpenAICompatError) -> RefusalReason | None:
    """Why a request was refused; None for one that is wrong itself, and for what an agent says."""
    if isinstance(error, AgentError):
        return None
    return "slots" if isinstance(error, NoSlot) else REASONS.get(error.code)
