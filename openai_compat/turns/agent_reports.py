"""Reports what an agent leaves undone: to the client if the answer has a place for it, and to the log once per agent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..agent_request import AgentRequest
from ..backend import Capabilities
from .plan import Requester

logger = logging.getLogger("openai_compat")


class AgentReports:
    """Reports each problem, and logs it once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def report_ignored(
        self, agent: str, requester: Requester, requests: Sequence[AgentRequest], can: Capabilities
    ) -> None:
        """Report parameters from the client that the agent does not pass on."""
        ignored = sorted({name for request in requests for name in can.ignored(request.sampling)})
        if ignored:
            requester.note_ignored(ignored)
        for name in ignored:
            self._log(logging.INFO, requester, f"agent '{agent}' does not pass on '{name}': it is ignored")

    def report_silent(self, agent: str, requester: Requester) -> None:
        """Report that the agent gave no output at all, for instance a function that forgot to return its text."""
        text = f"agent '{agent}' said nothing, so its answer is empty: what it returns or yields is said"
        self._log(logging.WARNING, requester, text)

    def report_lost_state(self, agent: str, requester: Requester) -> None:
        """Report a state left with calls of the client's tools whose ids do not lead to the state."""
        text = f"agent '{agent}' has left a state with calls of the client's tools, which is lost where there is no "
        text += "conversation: Capabilities(keeps_state=True) lets their ids lead to it"
        self._log(logging.WARNING, requester, text)

    def _log(self, level: int, requester: Requester, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            request_id = requester.request_id
            logger.log(level, "%s: %s", request_id, text, extra={"request_id": request_id})
