"""Questions that an agent asks in the middle of its work, and their answers from a later request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..agent_request import AgentRequest, Decision, Resume
from ..aio.timers import new_waiter
from ..events import PendingCall
from ..messages import AssistantMessage, ToolCall, ToolMessage
from ..wire.json import is_same_json


class AwaitedCall:
    """A call that an agent waits for.

    Attributes:
        call: the call, with the id by which it is answered.
        answer: the answer, if one came. The agent gets it once all of its questions are answered.
    """

    def __init__(self, call: PendingCall) -> None:
        self.call = call
        self.answer: Decision | ToolMessage | None = None
        self._waiter = new_waiter()

    async def wait_for_answer(self) -> Decision | ToolMessage:
        """Wait for the answer and return it."""
        await self._waiter.sleep()
        assert self.answer is not None
        return self.answer

    def wake(self) -> None:
        """Pass the answer to the agent."""
        self._waiter.wake()

    def take_answer(self, request: AgentRequest) -> None:
        """Store the answer if the request brings one."""
        if self.answer is None and request.resume is not None:
            self.answer = _answers(request.resume, self.call).get(self.call.call_id)

    def deny(self, instead: Decision) -> None:
        """Answer with a denial: an approval gets `instead`, a result its reason as an error."""
        if self.answer is None:
            denied = ToolMessage(self.call.call_id, instead.reason or "", self.call.name, is_error=True)
            self.answer = instead if self.call.waits_for == "approval" else denied


def find_answer(request: AgentRequest, call: PendingCall, used: list[str]) -> Decision | ToolMessage | None:
    """Return the answer to a call of the earlier run that asked for the same thing, or None. Each answer is used once.

    `used` are the ids of calls whose answers were used; the id of this call is added.
    """
    resume = request.resume
    if resume is None:
        return None
    answers = _answers(resume, call)
    for call_id, asked in resume.calls.items() if call.waits_for == "approval" else _calls(request):
        same = asked.name == call.name and is_same_json(asked.arguments, call.arguments)
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
