"""One answer of the model within a turn: passes on its output, and collects its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from ..agent_request import AgentRequest, CustomTool
from ..errors import AgentError
from ..events import (
    AgentEvent,
    Citation,
    Executor,
    Finished,
    FinishReason,
    MessageBreak,
    Paused,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from ..messages import AssistantMessage, ToolCall
from .conversation import answer_message


@dataclass(slots=True)
class StepCall:
    """A call made by the model. `executor` is the side that runs it; `held` is True while the call is not reported."""

    call_id: str
    name: str
    executor: Executor
    kind: Literal["function", "custom"]
    held: bool
    pieces: list[str] = field(default_factory=list[str])
    ready: bool = False

    @property
    def arguments(self) -> str:
        """JSON text, or a custom tool's input."""
        return "".join(self.pieces) or ("" if self.kind == "custom" else "{}")


class Step:
    """Reads one answer. Replaces call ids that were used before: some models restart their numbering in each answer.

    `surely_runs` returns True for our tools whose calls run in any case: these calls are passed on as they arrive. Others are
    held back, because a call that may never run must not be shown as running.

    If the client wants JSON and the model may call our tools (`whole`), the text is held back too: the answer must be one
    JSON text, and the model's comments beside a call do not belong there.

    Attributes:
        text_length: characters of text so far, in this answer and the earlier ones of the turn.
        ended: True once the model has ended its answer.
        reason: the finish reason.
        tokens: input and output tokens used.
        output_tokens: output tokens used.
    """

    def __init__(
        self,
        request: AgentRequest,
        used: set[str],
        text_length: int,
        surely_runs: Callable[[str], bool],
        *,
        whole: bool = False,
    ) -> None:
        choice = request.tool_choice
        self._clients = choice.names | choice.withheld | {tool.name for tool in request.tools}
        self._custom = {tool.name for tool in request.tools if isinstance(tool, CustomTool)}
        self._parallel = request.parallel_tool_calls
        self._whole = whole and request.response_format is not None
        self._used = used
        self._surely_runs = surely_runs
        self._calls: dict[str, StepCall] = {}
        self._foreign: set[str] = set()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._earlier_length = text_length
        self.text_length = text_length
        self.ended = False
        self.reason: FinishReason = "stop"
        self.tokens = 0
        self.output_tokens = 0

    @property
    def calls(self) -> list[StepCall]:
        """The calls, in the order in which they started, without truncated ones."""
        # A truncated answer may end in the middle of a call's arguments.
        whole = self.reason in ("stop", "tool_calls")
        return [call for call in self._calls.values() if call.ready or whole]

    @property
    def message(self) -> AssistantMessage:
        """The answer as a message."""
        calls = [ToolCall(call.call_id, call.name, call.arguments, call.kind) for call in self.calls]
        return answer_message("".join(self._text), calls, "".join(self._reasoning))

    def read(self, item: AgentEvent | str) -> Iterator[AgentEvent | str]:
        """Convert an item of the model to events of the turn. Raises AgentError if the model waits for its own approvals."""
        match item:
            case str() | TextDelta():
                yield from self._read_text(item)
            case ReasoningDelta():
                self._reasoning.append(item.text)
                yield item
            case Citation():  # its positions are within this answer, but the turn's text includes earlier answers
                before = self._earlier_length
                yield replace(item, start_index=item.start_index + before, end_index=item.end_index + before)
            case ToolCallStarted() | ToolCallDelta() | ToolCallReady():
                yield from self._read_call_event(item)
            case UsageReported():
                self.tokens += item.input_tokens + item.output_tokens
                self.output_tokens += item.output_tokens
                yield item
            case Paused():
                self.ended = True
                for call in item.pending:
                    if call.waits_for == "approval":
                        text = "The model behind the agent waits for an approval of its own."
                        raise AgentError(text, code="event_order")
                    yield from self._complete_call(ToolCallReady(call.call_id, call.name, call.arguments))
            case Finished():
                self.ended, self.reason = True, item.reason
            case _:
                yield item

    def complete(self) -> Iterator[AgentEvent]:
        """Yield the events held back, and the calls that the model did not close but that are complete."""
        if self._whole and self._text:
            yield from self._held_text_events("".join(self._text))
        for call in self.calls:
            if not call.ready:
                call.ready = True
                yield from _unless_held(call, ToolCallReady(call.call_id, call.name, call.arguments, call.executor))

    # text

    def _read_text(self, item: str | TextDelta) -> Iterator[AgentEvent | str]:
        text = item if isinstance(item, str) else item.text
        first = text and not self._text and self._earlier_length
        self._text.append(text)
        if self._whole:
            return
        # Text before and after a tool is two messages, not "Let me check.It is sunny."
        if first:
            yield MessageBreak()
        self.text_length += len(text)
        yield item

    def _held_text_events(self, text: str) -> Iterator[AgentEvent]:
        if any([call.executor == "agent" for call in self.calls]):
            yield ReasoningDelta(text)
        else:
            self.text_length += len(text)
            yield TextDelta(text)

    # calls

    def _read_call_event(self, event: ToolCallStarted | ToolCallDelta | ToolCallReady) -> Iterator[AgentEvent]:
        if event.call_id in self._foreign or getattr(event, "executor", None) == "agent":
            self._foreign.add(event.call_id)  # run by the model's own provider, not by us
            yield event
        elif isinstance(event, ToolCallStarted):
            yield from self._start_call(event.call_id, event.name)
        elif isinstance(event, ToolCallReady):
            yield from self._complete_call(event)
        else:
            call = self._calls.get(event.call_id)
            if call is not None and not call.ready:
                call.pieces.append(event.arguments)
                yield from _unless_held(call, replace(event, call_id=call.call_id))

    def _start_call(self, call_id: str, name: str) -> Iterator[AgentEvent]:
        # With `parallel_tool_calls: false` a model may still make several calls: only the first counts.
        if call_id in self._calls or (self._calls and not self._parallel):
            return
        executor: Executor = "client" if name in self._clients else "agent"
        kind: Literal["function", "custom"] = "custom" if name in self._custom else "function"
        # Not reported until it is known to run: a denied call would be shown as running.
        held = executor == "agent" and not self._surely_runs(name)
        call = self._calls[call_id] = StepCall(self._new_id(call_id), name, executor, kind, held)
        yield from _unless_held(call, ToolCallStarted(call.call_id, name, executor))

    def _complete_call(self, event: ToolCallReady) -> Iterator[AgentEvent]:
        yield from self._start_call(event.call_id, event.name)
        call = self._calls.get(event.call_id)
        if call is not None and not call.ready:
            call.pieces, call.ready = [event.arguments], True
            yield from _unless_held(call, ToolCallReady(call.call_id, call.name, call.arguments, call.executor))

    def _new_id(self, call_id: str) -> str:
        number, new = 1, call_id
        while new in self._used:
            number += 1
            new = f"{call_id}_{number}"
        self._used.add(new)
        return new


def _unless_held(call: StepCall, event: AgentEvent) -> Iterator[AgentEvent]:
    if not call.held:
        yield event
