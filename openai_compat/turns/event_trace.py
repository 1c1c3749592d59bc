"""Logs a turn's events at DEBUG: their type and size, never their content."""

from __future__ import annotations

import logging

from ..events import AgentEvent, TextDelta, ToolCallReady
from ..policies.hooks import Hooks, TurnInfo, TurnOutcome

logger = logging.getLogger("openai_compat")


class EventTrace(Hooks):
    """Logs each event of each turn."""

    def started(self, turn: TurnInfo) -> None:
        """Log the agent and the request."""
        self._log(turn, f"{turn.agent} begins ({turn.id}, run {turn.run})")

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Log the type of the event."""
        if isinstance(item, str | TextDelta):
            description = f"{len(item if isinstance(item, str) else item.text)} characters"
        elif isinstance(item, ToolCallReady):
            description = f"ToolCallReady {item.name}"
        else:
            description = type(item).__name__
        self._log(turn, description)

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Log the outcome."""
        how = outcome.cancelled or outcome.finish or (outcome.error.code if outcome.error is not None else None)
        self._log(turn, f"{turn.agent} ends after {outcome.seconds:.3f} s: {how}")

    def _log(self, turn: TurnInfo, text: str) -> None:
        logger.debug("%s: %s", turn.request_id, text, extra={"request_id": turn.request_id})
