"""One turn of the tool loop, and its limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import anyio

from ..agent_request import AgentRequest, Decision, FunctionTool, Resume
from ..agents.adapt import close
from ..backend import AgentBackend, RunContext
from ..errors import InvalidRequest
from ..events import AgentEvent, Finished, Notice, Paused, Progress, ToolCallReady, ToolResult
from ..messages import ToolMessage
from .approvals import Approver, ContextGrants, Grants
from .authorize import MAX_CONCURRENT, CallAuthorizer
from .call_tool import FAILED, CallResult
from .conversation import LoopConversation
from .gather_events import merge_events
from .model_step import Step
from .modes import Modes
from .pause import LoopUsage, OpenCall, Pause
from .registry import AgentTool, Toolbox
from .sandbox import Sandbox

REPORT_FIELD = "report_steps"
"""The request field that turns on progress reports of each step."""

STEPS_FIELD = "max_steps"
BUDGET_FIELD = "max_budget"
"""The request fields that bound a turn."""

NO_RESULT = "There is no result."
NOT_RUN = CallResult("Not run: the agent has come to its limit.", is_error=True)
SUPERSEDED = Decision(approved=False, reason="the user has gone on with another message instead.")


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Limits of one tool-loop turn: the number of times that it runs tools, and its token budget; None for no bound.

    A request may lower both, and raise the first up to `most_roundtrips`. A request counts *steps*, which are answers of the
    model: one more than roundtrips. Raises ValueError for contradictory limits.
    """

    roundtrips: int
    budget: int | None = None
    most_roundtrips: int | None = None

    def __post_init__(self) -> None:
        if self.roundtrips < 0 or (self.budget is not None and self.budget < 1):
            raise ValueError("a tool loop makes no less than 0 roundtrips, on a budget of at least one token")
        if self.most_roundtrips is not None and self.most_roundtrips < self.roundtrips:
            raise ValueError("the most roundtrips that a request may ask for are no less than those it has anyway")

    def for_request(self, request: AgentRequest) -> LoopLimits:
        """Return the limits for a request. Raises InvalidRequest for invalid numbers."""
        steps, budget = _positive_number(request, STEPS_FIELD), _positive_number(request, BUDGET_FIELD)
        roundtrips = self.roundtrips if steps is None else min(steps - 1, self.most_roundtrips or self.roundtrips)
        tokens = [number for number in (budget, self.budget) if number is not None]
        return LoopLimits(roundtrips, min(tokens, default=None))


def _positive_number(request: AgentRequest, name: str) -> int | None:
    value = request.extra.get(name)
    # By exact type: `true` is an int in Python.
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidRequest(f"'{name}' is a whole number above 0.", param=name, code="invalid_value")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """The settings of a loop, shared by all of its turns."""

    model: AgentBackend
    tools: Toolbox
    limits: LoopLimits
    modes: Modes
    approver: Approver | None
    grants: Grants | None
    own_grants: Grants
    sandbox: Sandbox | None


class LoopTurn:
    """Asks the model, runs its calls, and repeats."""

    def __init__(self, settings: LoopSettings, request: AgentRequest, context: RunContext) -> None:
        self._settings = settings
        self._request = request
        self._context = context
        self._limits = settings.limits
        self._conversation = LoopConversation(request)
        self._resume = request.resume
        self._resumed = False
        self._decisions: dict[str, Decision] = {}
        self._results: dict[str, str] = {}
        self._waiting: set[str] = set()
        self._reported: set[str] = set()
        self._used = LoopUsage()
        self._text_length = 0

    async def run(self) -> AsyncIterator[AgentEvent | str]:
        """Yield the turn's events, with the terminal event last."""
        settings, request = self._settings, self._request
        modes, self._limits = settings.modes.of(request), settings.limits.for_request(request)
        listing = await settings.tools.listing()
        for name, error in listing.unreachable.items():
            self._context.logger.warning(
                "%s: the tools of '%s' cannot be reached", self._context.request_id, name, exc_info=error
            )
            yield Notice(f"The tools of '{name}' cannot be reached.", "warning")
        self._check_names(listing.tools)
        authorizer = CallAuthorizer(
            tools=listing.tools,
            modes=modes,
            grants=self._grants,
            approver=settings.approver,
            sandbox=settings.sandbox,
            request=request,
            context=self._context,
            slots=anyio.Semaphore(MAX_CONCURRENT),
        )
        # A summary only describes the conversation: a tool run for it would do things that no one asked for.
        offers = (
            [] if "deny" in modes or request.purpose == "summary" else [tool.offer for tool in listing.tools.values()]
        )
        async with aclosing(self._run_steps(authorizer, offers)) as events:
            async for event in events:
                yield event

    @property
    def _grants(self) -> Grants:
        """The loop's grants; else the server's; outside a server, grants that last as long as the loop."""
        kept = self._context.grants
        return self._settings.grants or (self._settings.own_grants if kept is None else ContextGrants(kept))

    def _check_names(self, ours: Mapping[str, AgentTool]) -> None:
        """Raise InvalidRequest if a tool of the client has the name of an agent's tool, which it would shadow."""
        choice = self._request.tool_choice
        if any([name in ours for name in choice.names | choice.withheld]):
            text = "The agent has a tool of that name itself: give yours another name."
            raise InvalidRequest(text, param="tools", code="tool_name_taken")

    async def _run_steps(
        self, authorizer: CallAuthorizer, offers: Sequence[FunctionTool]
    ) -> AsyncGenerator[AgentEvent | str]:
        calls = self._resume_calls()
        while True:
            async with aclosing(self._run_calls(authorizer, calls)) as results:
                async for result in results:
                    yield result
            if any([call.call_id not in self._results for call in calls]):
                yield self._pause_event(calls)
                return
            self._add_results(calls)
            # Only after adding the results: a turn that ends between a call and its result could not be continued.
            if self._is_at_limit:
                yield Notice(self._limit_text, "warning")
            if self._is_at_limit or self._room_left == 0:
                yield Finished("length")
                return
            step = Step(
                self._request,
                self._conversation.call_ids,
                self._text_length,
                authorizer.surely_runs,
                whole=bool(offers),
            )
            for event in self._report_step(None):
                yield event
            async with aclosing(self._ask_model(step, offers)) as items:
                async for item in items:
                    yield item
            for event in self._report_step(step):
                yield event
            calls = self._add_answer(step)
            if not calls:
                yield Finished(step.reason)
                return

    # the model

    async def _ask_model(self, step: Step, offers: Sequence[FunctionTool]) -> AsyncGenerator[AgentEvent | str]:
        """Pass on the model's output, up to its end."""
        items = self._settings.model.run(self._model_request(offers), self._context)
        try:
            async for item in items:
                for event in step.read(item):
                    yield event
                if step.ended:
                    break
        finally:
            # In the task that opened it: otherwise task groups and context variables inside break.
            await close(items)
        for event in step.complete():
            yield event
        self._text_length = step.text_length
        self._used.tokens += step.tokens
        self._used.output_tokens += step.output_tokens

    def _model_request(self, offers: Sequence[FunctionTool]) -> AgentRequest:
        request, choice, conversation = self._request, self._request.tool_choice, self._conversation
        # "required" means a client's tool; if ours were offered, the model could call one of those instead.
        ours: Sequence[FunctionTool] = () if choice.required else offers
        return replace(
            request,
            messages=tuple(conversation.typed),
            raw_messages=conversation.raw,
            # The raw items lack what the loop has added since.
            raw_items=None if conversation.grown else request.raw_items,
            tools=(*ours, *request.tools),
            tool_choice=replace(choice, names=choice.names | {offer.name for offer in ours}),
            # The client's limit is for the whole turn, not for each answer of the model.
            sampling=replace(request.sampling, max_tokens=self._room_left),
            state=None,  # the state is the loop's, not the model's
            resume=self._resume,
        )

    def _report_step(self, step: Step | None) -> Iterator[Progress]:
        """Yield the start or the end of a step, if the client requested reports."""
        if self._request.extra.get(REPORT_FIELD) is not True:
            return
        number, limits = self._used.roundtrips + 1, self._limits
        data = {
            "step": number,
            "max_steps": limits.roundtrips + 1,
            "used_budget": self._used.tokens,
            "max_budget": limits.budget,
        }
        if step is not None:
            data["tool_calls"] = len(step.calls)
        yield Progress("step", f"step_{number}", f"Step {number}", done=step is not None, data=data)

    @property
    def _room_left(self) -> int | None:
        """Tokens left for the turn's output."""
        limit = self._request.sampling.max_tokens
        return None if limit is None else max(0, limit - self._used.output_tokens)

    @property
    def _is_at_limit(self) -> bool:
        used, limits = self._used, self._limits
        return used.roundtrips > limits.roundtrips or (limits.budget is not None and used.tokens >= limits.budget)

    @property
    def _limit_text(self) -> str:
        limits = self._limits
        if self._used.roundtrips > limits.roundtrips:
            return f"The agent was stopped: it has run tools {limits.roundtrips} times, as often as it may."
        return f"The agent was stopped: it has used {self._used.tokens} tokens, and may use {limits.budget}."

    # calls

    def _add_answer(self, step: Step) -> list[OpenCall]:
        """Add the step's answer to the conversation, and return its calls."""
        calls = [
            OpenCall(c.call_id, c.name, c.arguments, "result" if c.executor == "client" else None) for c in step.calls
        ]
        self._results, self._reported = {}, {call.call_id for call in step.calls if not call.held}
        if calls:
            self._conversation.add(step.message)
        if any([call.waits_for is None for call in calls]):
            self._used.roundtrips += 1
        return calls

    async def _run_calls(self, authorizer: CallAuthorizer, calls: Sequence[OpenCall]) -> AsyncGenerator[AgentEvent]:
        """Run our tools' calls that have no result yet, concurrently."""
        # Calls of client tools have results from the request, or wait for them.
        ours = [call for call in calls if call.waits_for != "result" and call.call_id not in self._results]
        self._waiting = set()
        if not ours:
            return
        jobs = [partial(self._run_call, authorizer, call) for call in ours]
        async with aclosing(merge_events(jobs)) as events:
            async for event in events:
                yield event
        for call in ours:
            if call.call_id not in self._results and call.call_id not in self._waiting:  # it has cancelled itself
                for event in self._report_result(call, CallResult(FAILED, is_error=True)):
                    yield event

    async def _run_call(self, authorizer: CallAuthorizer, call: OpenCall, emit: Callable[[AgentEvent], None]) -> None:
        def before_run(arguments: str) -> None:
            for event in self._report_call(call, arguments):
                emit(event)

        outcome: CallResult | None = NOT_RUN
        # Calls that a person has decided about run even at the limit: the decision must take effect.
        if self._resumed or not self._is_at_limit:
            decision = self._decisions.get(call.call_id)
            outcome = await authorizer.resolve(call.call_id, call.name, call.arguments, decision, before_run)
        if outcome is None:
            self._waiting.add(call.call_id)
            return
        for event in self._report_result(call, outcome):
            emit(event)

    def _report_call(self, call: OpenCall, arguments: str) -> Iterator[AgentEvent]:
        """Report the call, unless it was reported already."""
        if call.call_id not in self._reported:
            self._reported.add(call.call_id)
            yield ToolCallReady(call.call_id, call.name, arguments, "agent")

    def _report_result(self, call: OpenCall, outcome: CallResult) -> Iterator[AgentEvent]:
        self._results[call.call_id] = outcome.text
        yield from self._report_call(call, call.arguments)
        yield ToolResult(call.call_id, outcome.text, outcome.is_error, outcome.denied)

    def _add_results(self, calls: Sequence[OpenCall]) -> None:
        """Add the results of all calls for the model, in order."""
        if calls:
            resume = self._request.resume
            sent: Mapping[str, ToolMessage] = {} if resume is None else resume.results
            messages: list[ToolMessage] = []
            for call in calls:
                media = sent[call.call_id].media if call.call_id in sent else ()  # images that the client sent
                messages.append(ToolMessage(call.call_id, self._results[call.call_id], call.name, media))
                self._conversation.add(messages[-1])
            self._conversation.add_later_messages()
            self._resume = Resume({message.call_id: message for message in messages})
            self._resumed, self._decisions = False, {}

    # pauses

    def _pause_event(self, calls: Sequence[OpenCall]) -> Paused:
        conversation = self._conversation
        open_calls: list[OpenCall] = []
        for call in calls:
            waits_for: Literal["approval", "result"] = "approval" if call.call_id in self._waiting else "result"
            open_calls.append(replace(call, waits_for=None if call.call_id in self._results else waits_for))
        pause = Pause(conversation.users, conversation.messages_since_user(), open_calls, self._results, self._used)
        # A client knows its own calls and sends them again with their results, but it does not know ours.
        return Paused(pause.pending, pause.to_state() if self._waiting or self._used.roundtrips else None)

    def _resume_calls(self) -> Sequence[OpenCall]:
        """Return the calls of the paused turn, with the results and decisions that arrived; none if no turn is resumed."""
        resume, conversation = self._request.resume, self._conversation
        if resume is None or resume.state is None:
            return ()
        pause, typed = Pause.from_state(resume.state)
        superseded = conversation.users > pause.users
        conversation.splice(pause.messages, typed, pause.users)
        self._used, self._resumed = replace(pause.used), True
        self._decisions, self._results = dict(resume.decisions), dict(pause.results)
        for call in pause.pending:
            if call.waits_for == "approval" and superseded:
                self._decisions.setdefault(call.call_id, SUPERSEDED)
            elif call.call_id in resume.results:
                self._results[call.call_id] = resume.results[call.call_id].text
            # Models reject a history in which a call has no result.
            elif call.waits_for == "result" and (superseded or resume.results):
                self._results[call.call_id] = NO_RESULT
        return pause.calls
