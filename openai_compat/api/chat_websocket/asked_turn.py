"""What a client of the chat WebSocket asks for: a turn, or a decision that lets an earlier one go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from ...agent_request import AgentRequest, Caller, Sampling
from ...backend import AgentBackend
from ...events import PendingCall
from ...state.approvals import Decisions
from ...stores.records import Approval
from ...wire.chat.parse import parse_chat_object
from ...wire.chat_websocket import serialize as chat_frames
from ..attachments import Places

Fields: TypeAlias = dict[str, Any]

WORKFLOW = "workflow"
"""Where the settings of a turn that has asked name its workflow."""


class Origin(Protocol):
    """The connection on which a turn was asked for."""

    def post(self, frame: Fields, *, binary: bool) -> None:
        """Send a frame that belongs to no turn that has begun."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTurn:
    """A request for one turn.

    Attributes:
        request: what is new: a message, or a decision as the words that stand for it.
        workflow: the workflow that is run, None for a model.
        answers: decisions about what an earlier turn has asked.
        places: where uploaded files are named.
        origin: who is told what goes wrong before the turn has its thread, in `binary` frames or not.
        path: of the WebSocket, for the log.
        long: whether there is more in the message than the event loop should look at.
    """

    request: AgentRequest
    agent: str
    backend: AgentBackend
    workflow: str | None
    answers: Decisions | None
    places: Places
    origin: Origin
    binary: bool
    path: str
    long: bool = False

    @property
    def asker(self) -> str:
        """The agent by the name that its questions are kept under."""
        return asker_name(self.agent, self.workflow)


def asker_name(agent: str, workflow: str | None) -> str:
    """A workflow may be called as an agent is: the questions of one are not the other's."""
    return agent if workflow is None else f"{WORKFLOW}:{workflow}"


def request_as_before(model: str, settings: Mapping[str, Any], tools: Sequence[Fields], caller: Caller) -> AgentRequest:
    """The request of a turn that goes on: asked as it was at first, with the tools that the client has now."""
    nothing = [{"role": "user", "content": ""}]  # what was said is in the conversation
    fields = {"model": model, "messages": nothing, "stream": True, "tools": list(tools) or None}
    request = replace(parse_chat_object(fields, caller).request, messages=(), raw_messages=[])
    sampling = Sampling(
        settings.get("temperature"), max_tokens=settings.get("maxTokens"), reasoning_effort=settings.get("effort")
    )
    extra, metadata = settings.get("extra", {}), settings.get("metadata", {})
    return replace(request, sampling=sampling, extra=extra, metadata=metadata)


def asked_about(approval: Approval) -> Fields:
    """The frame that asks for a decision."""
    call = PendingCall(approval.call_id, approval.tool, approval.arguments, "approval")
    return chat_frames.approval_request(approval.id, call, approval.expires)
