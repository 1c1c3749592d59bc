"""What an agent leaves undone, told to the client where there is a place for it, and to the log once for each agent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..agent_request import AgentRequest
from ..backend import Capabilities
from .plan import Requester

logger = logging.getLogger("openai_compat")


class ToldOnce:
    """Tells it, and remembers what the log has."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def ignored(self, agent: str, requester: Requester, requests: Sequence[AgentRequest], can: Capabilities) -> None:
        """What a client has sent that the agent does not pass on."""
        ignored = sorted({name for request in requests for name in can.ignored(request.sampling)})
        if ignored:
            requester.note_ignored(ignored)
        for name in ignored:
            self._log(logging.INFO, requester, f"agent '{agent}' does not pass on '{name}': it is ignored")

    def silent(self, agent: str, requester: Requester) -> None:
        """That the agent has said nothing at all: a function that forgot to return its text, for one."""
        text = f"agent '{agent}' said nothing, so its answer is empty: what it returns or yields is said"
        self._log(logging.WARNING, requester, text)

    def lost_state(self, agent: str, requester: Requester) -> None:
        """That it has left a state with calls of the client's tools, to which their ids do not lead."""
        text = f"agent '{agent}' has left a state with calls of the client's tools, which is lost where there is no "
        text += "conversation: Capabilities(keeps_state=True) lets their ids lead to it"
        self._log(logging.WARNING, requester, text)

    def _log(self, level: int, requester: Requester, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            request_id = requester.request_id
            logger.log(level, "%s: %s", request_id, text, extra={"request_id": request_id})
