"""What an agent has asked for in the middle of its work, and what a request brings for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..agent_request import AgentRequest, Decision, Resume
from ..aio.timers import new_waiter
from ..events import PendingCall
from ..messages import AssistantMessage, ToolCall, ToolMessage
from ..wire.json import same_json


class AwaitedCall:
    """A call that an agent waits for.

    Attributes:
        call: the call, with the id by which it is answered.
        answered: what was brought for it. The agent gets it with the answers of all that it has asked for.
    """

    def __init__(self, call: PendingCall) -> None:
        self.call = call
        self.answered: Decision | ToolMessage | None = None
        self._waiter = new_waiter()

    async def answer(self) -> Decision | ToolMessage:
        """Wait until it was answered, and return the answer."""
        await self._waiter.sleep()
        assert self.answered is not None
        return self.answered

    def wake(self) -> None:
        """Let the agent have the answer."""
        self._waiter.wake()

    def take_answer(self, request: AgentRequest) -> None:
        """Look whether a request brings the answer."""
        if self.answered is None and request.resume is not None:
            self.answered = _answers(request.resume, self.call).get(self.call.call_id)

    def deny(self, instead: Decision) -> None:
        """Nobody answers: a person's decision is `instead`, a result says what that says."""
        if self.answered is None:
            denied = ToolMessage(self.call.call_id, instead.reason or "", self.call.name, is_error=True)
            self.answered = instead if self.call.waits_for == "approval" else denied


def brought_before(request: AgentRequest, call: PendingCall, used: list[str]) -> Decision | ToolMessage | None:
    """What a request brings for a call of the run before it, which asks for it in the same words: each answer once.

    `used` are the ids of the calls whose answers were taken; this one's is added.
    """
    resume = request.resume
    if resume is None:
        return None
    answers = _answers(resume, call)
    for call_id, asked in resume.calls.items() if call.waits_for == "approval" else _calls(request):
        same = asked.name == call.name and same_json(asked.arguments, call.arguments)
        if same and call_id in answers and call_id not in used:
            used.append(call_id)
            return answers[call_id]
    return None


def _answers(resume: Resume, call: PendingCall) -> Mapping[str, Decision | ToolMessage]:
    return resume.decisions if call.waits_for == "approval" else resume.results


def _calls(request: AgentRequest) -> Iterator[tuple[str, ToolCall]]:
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls:
                yield call.call_id, call
