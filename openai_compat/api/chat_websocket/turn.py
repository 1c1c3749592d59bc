"""One turn of the chat WebSocket: it runs in its own task, and its frames go to its thread."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from ...agent_request import AgentRequest, Principal
from ...aio.background import drop_tracebacks
from ...aio.off_loop import run_off_loop
from ...backend import AgentBackend
from ...errors import AgentError, Conflict, OpenAICompatError
from ...events import MessageBreak, Paused, PendingCall
from ...messages import Message, ToolMessage
from ...policies.hooks import RefusalReason
from ...state.agent_state import resume_state
from ...state.approvals import Binding, Decisions, load_superseded_approvals, record_decisions, settings_of
from ...state.conversation_locks import Draft, with_messages
from ...state.ids import new_id
from ...stores.records import Approval, TurnCommit
from ...turns.plan import Taken, TurnPlan
from ...turns.refusals import refusal_reason
from ...wire.chat_websocket import serialize as chat_frames
from ...wire.chat_websocket.parse import ToolResultFrame, tool_output
from ...wire.chat_websocket.serialize import StopReason, TurnFrames
from ...wire.json import dumps, from_stored_json
from ...wire.reducer import Reducer
from ...wire.serialize_messages import reply_message
from ..access_log import log_access
from ..attachments import Places, attach
from ..detach import run_with_start_deadline
from ..services import Services, logger
from ..text_approvals import APPROVAL_TOOL, ApprovalPrompts, decisions_from_messages, without_questions
from ..websocket import WebSocketRequester
from .approvals import approval_frame
from .threads import ChatThreads, Thread, ThreadDelivery

if TYPE_CHECKING:
    from .connection import ChatConnection

Fields: TypeAlias = dict[str, Any]

MOST_ROUNDS = 100
"""Most rounds of calls of the client's tools in one turn."""

STOP_REASONS: Mapping[str | None, StopReason] = {
    "stopped": "stop",
    "superseded": "superseded",
    "shutting_down": "shutdown",
    "abandoned": "abandoned",
}
"""Errors that are not failures, by code: the turn was ended on purpose."""


QUESTION_SIGNS = ("appr_", "mcpr_", APPROVAL_TOOL)
"""One of these is in the history if a question is open, whichever API asked it: the start of its id, or the tool's name."""

WORKFLOW = "workflow"
"""Key of the workflow's name in the settings of a turn that has asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurnRequest:
    """A request for one turn.

    Attributes:
        request: the new message; without messages for a decision.
        workflow: the workflow to run, None for a model.
        answers: decisions about the questions of an earlier turn.
        places: where the request names uploaded files.
        origin: gets errors that happen before the turn holds its thread, in `binary` frames or not.
        path: the path of the WebSocket, for the log.
        long: True if the message is too long to process on the event loop.
    """

    request: AgentRequest
    agent: str
    backend: AgentBackend
    workflow: str | None
    answers: Decisions | None = None
    places: Places = field(default_factory=dict[str, str])
    origin: ChatConnection
    binary: bool
    path: str
    long: bool = False


def asker_name(agent: str, workflow: str | None) -> str:
    """The name that owns questions: a workflow may have the name of an agent, and must not get its questions."""
    return agent if workflow is None else f"{WORKFLOW}:{workflow}"


class ChatTurn(TurnPlan[list[Fields]]):
    """A turn. It has begun once it holds its thread; from then on its frames go to the thread.

    Attributes:
        begun: True once it holds its thread; before, it waits for the thread.
        over: True once its last frame is out.
    """

    api = "chat_websocket"
    single = False
    draft: Draft | None

    def __init__(self, services: Services, threads: ChatThreads, asked: ChatTurnRequest) -> None:
        self.request_id = new_id("req_")
        requester = WebSocketRequester(asked.request.principal, self.request_id)
        thread = ThreadDelivery()
        super().__init__(thread, requester, id=new_id("turn_"), agent=asked.agent, backend=asked.backend, requests=())
        self.asker = asker_name(asked.agent, asked.workflow)
        self._delivery = thread
        self.begun = False
        self.over = False
        self.on_begun: Callable[[], object] | None = None
        self._services = services
        self._threads = threads
        self._turn_request = asked
        self._thread: Thread
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._committing = False
        self._job_ended = asked.workflow is None
        self._answers: Decisions | None = None
        self._prompts: ApprovalPrompts | None = None
        self._request = asked.request
        self._rounds = 0
        self._begin_round()
        self._calls: dict[str, PendingCall] = {}
        self._outputs: dict[str, str] = {}
        self._answered = anyio.Event()
        self._status, self._note = 200, ""
        self._refused: RefusalReason | None = None
        self._agent_started = False

    @property
    def principal(self) -> Principal:
        """The caller who requested the turn, and owns its thread and its questions."""
        return self._turn_request.request.principal

    def set_thread(self, thread: Thread) -> None:
        """Set the turn's thread. Must be called before `run`."""
        self._thread = thread
        self._delivery.log = thread.log

    async def run(self) -> None:
        """Wait for the thread, run the agent, store the outcome. Raises nothing; errors are sent as frames."""
        began = time.monotonic()
        try:
            with self._scope:
                state, patience = self._services.state, self._services.settings.deadlines.request
                if state.store.shared:
                    await run_with_start_deadline(self, state.late, patience, self._run)
                else:  # a store in this process answers at once
                    await self._run()
            if self._scope.cancelled_caught:
                self.interrupt(Conflict("Nobody follows this turn any more.", code="abandoned"))
        except OpenAICompatError as error:
            self.interrupt(error)
            drop_tracebacks(error)
        except Exception as error:
            logger.error("%s: unexpected error", self.request_id, exc_info=error)
            self.interrupt(OpenAICompatError("The server failed.", code="internal_error", should_retry=False))
        finally:
            if self._threads.shared is not None and self.draft is not None:
                await self._threads.shared.end(self._thread, self.draft.token)
            self._threads.remove_turn(self._thread, self)
            self._done.set()
            if self._refused is not None:
                hooks = self._services.live.runner.hooks
                hooks.refused(self.request_id, self.principal.id, self._refused, self._note)
            if logger.isEnabledFor(logging.INFO):
                log_access(
                    self.request_id,
                    "chat",
                    self._turn_request.path,
                    self._status,
                    began=began,
                    note=self._note,
                    principal=self.principal,
                    turn=self.requester.turn,
                    reason=self._refused,
                )

    async def wait(self) -> None:
        """Return once the turn is over."""
        await self._done.wait()

    # called from outside

    def stop(self) -> bool:
        """Stop the turn at the user's request. False if it is too late."""
        # Once the outcome is being committed, a stop would show the client another end than the history has.
        if self.over or self._committing:
            return False
        self.interrupt(Conflict("The user has stopped the turn.", code="stopped"))
        return True

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the turn with this error; does nothing if the turn has ended, or its outcome is being stored."""
        # If the agent has finished, only the outcome has to be stored: a shutdown leaves time for that.
        finished = self.runs is not None and self.runs.finished
        if self.over or self._committing or (error.code == "shutting_down" and finished):
            return
        self.over = True
        self.stopped = error
        self._status, self._note = error.status, error.code or error.type
        self._refused = None if self._agent_started else refusal_reason(error)
        reason = STOP_REASONS.get(error.code)
        if self.begun and not self._job_ended:
            self._send_job_status("failed" if reason is None else "cancelled")
        if reason is None:
            self._send(chat_frames.error_frame(error, self.request_id))
        else:
            self._send(chat_frames.generation_stopped(reason))
        self._scope.cancel()

    def start_grace_period(self) -> None:
        """Set the deadline of a turn that nobody follows any more."""
        # A page that is loaded again follows within seconds; without followers, an agent would run for nothing.
        self._scope.deadline = anyio.current_time() + self._threads.settings.grace

    def end_grace_period(self) -> None:
        """Remove the deadline that `start_grace_period` has set: somebody follows the turn again."""
        self._scope.deadline = math.inf

    def waits_for(self, call_id: str) -> bool:
        """True if the turn waits for the result of this call."""
        return call_id in self._calls and call_id not in self._outputs

    def accept_tool_result(self, frame: ToolResultFrame) -> None:
        """Accept the result of a call that the turn waits for."""
        self._record_result(self._calls[frame.tool_call_id], tool_output(frame), ok=frame.ok)
        self._answered.set()

    def describe(self) -> Fields:
        """The frame that describes the turn."""
        return chat_frames.turn_active(self.id, self._turn_request.request.model, list(self._calls))

    # the turn

    def _send(self, *frames: Fields) -> None:
        if self.begun:
            self._thread.log.append(*frames)
            return
        for frame in frames:
            frame["thread_id"] = self._thread.key.id
            self._turn_request.origin.post(frame, binary=self._turn_request.binary)

    def _send_job_status(self, status: str) -> None:
        self._send(self._job_frame(status))

    def _job_frame(self, status: str) -> Fields:
        return chat_frames.job_update(self.id, self._turn_request.workflow or "", status)

    async def _run(self) -> None:
        services = self._services
        async with await self._lock_conversation() as draft:
            self.draft = draft
            draft.on_interrupt(self.interrupt)
            while (before := self._thread.current) is not None:  # its commit has unlocked the conversation
                await before.wait()
            if self._threads.shared is not None:
                await self._threads.shared.begin(self._thread, draft.token)
            self.begun = True
            services.live.runner.running.add(self)
            try:
                self._send(self.describe())
                if self._turn_request.workflow is not None:
                    self._send_job_status("running")
                self._request, self._answers = await self._prepare_request(draft)
                self.requests = [self._request]
                await services.live.runner.run(self)
                self.over = True
            finally:
                services.live.runner.running.discard(self)

    @property
    def _binding(self) -> Binding:
        return Binding(self.principal.id, self.asker, self._thread.key.id)

    async def _lock_conversation(self) -> Draft:
        conversations, key, asked = self._threads.conversations, self._thread.key, self._turn_request
        # A decision adds no message: it continues the stored history, and creates no conversation.
        if asked.answers is None:
            draft = await conversations.open(key.principal, key.id, asked.request, long=asked.long)
            assert draft is not None, "there is an id"
        else:
            draft = await conversations.lock(key)
            draft.resume_request(replace(asked.request, resume=asked.answers.to_resume(None)))
        return draft

    async def _prepare_request(self, draft: Draft) -> tuple[AgentRequest, Decisions | None]:
        """The request for the agent, and its decisions about an earlier turn's approvals."""
        services, request, answers = self._services, draft.request, self._turn_request.answers
        store, can = services.state.store, self.backend.capabilities
        # Most conversations have no question, and need no lookup in the store for each message.
        if answers is None and any([sign in item.body for item in draft.conversation.items for sign in QUESTION_SIGNS]):
            request, answers = await decisions_from_messages(store, self.asker, can, request)
            # A new message instead of a decision denies the pending calls of this agent.
            if answers is None and (answers := await load_superseded_approvals(store, self._binding)) is not None:
                request = replace(
                    without_questions(request, answers.approvals), resume=answers.to_resume(request.resume)
                )
        if draft.conversation.state is not None or request.resume is not None:
            found = draft.conversation.latest_state
            request, self.given = await resume_state(store, self.asker, can, request, found)
        policy = services.settings.messages
        request = await run_off_loop(policy.apply, request) if draft.long else policy.apply(request)
        # Most conversations name no file in any message or result.
        if self._turn_request.places or any(["file_id" in item.body for item in draft.conversation.items]):
            request = await attach(services, request, can, lambda: self._turn_request.places)
        return request, answers

    # running and writing

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        self._agent_started = True
        if self._answers is not None:
            await record_decisions(self._services.state.store, self.principal.id, self._answers)
        if self.on_begun is not None:
            self.on_begun()

    def _begin_round(self) -> None:
        self._reply, self._frames = Reducer(), TurnFrames()

    def feed(self, taken: Taken) -> list[Fields]:
        """The frames for the agent's output."""
        frames: list[Fields] = []
        for _, items in taken:
            last = items[-1]
            if isinstance(last, Paused) and any([call.waits_for == "approval" for call in last.pending]):
                # Questions also go into the history, where the next message may answer them.
                self._prompts = self._prompts or ApprovalPrompts(by_tool=False)
                self._reply.feed([*items[:-1], MessageBreak(), *self._prompts.ask(last), last])
            else:
                self._reply.feed(items)
            frames += self._frames.feed(items)
        return frames

    def idle(self) -> list[Fields]:
        """Nothing: frames are sent as they are made, and none is held back."""
        return []

    async def next_requests(self) -> Sequence[AgentRequest]:
        """Run the client's tools, if the agent has called any, and call the agent again with their results."""
        self._job_ended = self._job_ended or self._frames.job_ended
        message, draft, runs = self._reply.message(), self.draft, self.runs
        if not message.client_calls or draft is None or runs is None:
            return ()
        # The agent must have stopped before the turn's next run begins; the turn keeps its slot.
        if runs.close():
            await runs.stop()
        self.runs = None
        # A server that shuts down waits for running rounds, and begins no new ones.
        self._services.live.slots.refuse_when_closed()
        self._rounds += 1
        if self._rounds == MOST_ROUNDS:
            text = "The agent has called the client's tools too often."
            raise AgentError(text, status=502, code="too_many_tool_calls")
        model, frames, calls = self._request.model, self._frames, message.client_calls
        self._calls, self._outputs = {call.call_id: call for call in calls}, {}
        whole = chat_frames.message(frames.text, model, calls=calls, usage=frames.usage)
        self._send(whole, *[chat_frames.tool_call(call) for call in calls])
        reply: Message = reply_message(message, frozenset())
        more = (reply, *await self._wait_for_results(calls))
        draft.add(*more)
        state = None if self.last_state is None else from_stored_json(self.last_state.body)
        self._request = replace(with_messages(self._request, more), state=state)
        if self._request.resume is not None:
            self._request = replace(self._request, resume=replace(self._request.resume, state=state))
        self._begin_round()
        return [self._request]

    async def _wait_for_results(self, calls: Sequence[PendingCall]) -> list[ToolMessage]:
        """The results of the client's tools, once all have arrived or the timeout is over."""
        seconds = self._threads.settings.tool_timeout
        with anyio.move_on_after(seconds):
            while len(self._outputs) < len(self._calls):
                self._answered = anyio.Event()  # an event is set once
                await self._answered.wait()
        for call in calls:
            # Models reject a history in which a call has no result, so a timeout is a result too.
            if call.call_id not in self._outputs:
                text = f"Frontend tool {call.name} timed out after {seconds:g} seconds"
                self._record_result(call, dumps({"error": text}).decode(), ok=False)
        self._calls = {}
        return [ToolMessage(call.call_id, self._outputs[call.call_id], call.name) for call in calls]

    def _record_result(self, call: PendingCall, output: str, *, ok: bool) -> None:
        self._outputs[call.call_id] = output
        self._send(chat_frames.tool_result(call, output, ok=ok))

    async def ending(self) -> tuple[TurnCommit | None, list[Fields]]:
        """The last frames, and the outcome to store. From here on the turn cannot be stopped."""
        draft = self.draft
        if draft is None:
            raise RuntimeError("a turn of the chat WebSocket has a conversation")
        approvals: tuple[Approval, ...] = ()
        if self._prompts is not None:
            # With everything needed to call the agent the same way again.
            settings = {**settings_of(self._turn_request.request, ()), WORKFLOW: self._turn_request.workflow}
            approvals = self._prompts.to_records(self.id, self._binding, settings)
        turn = draft.to_turn(self._reply.message())
        outcome = TurnCommit(
            principal=self.principal.id,
            token=draft.token,
            approvals=approvals,
            states=self.states(),
            conversation=turn,
        )
        last: list[Fields] = [approval_frame(approval) for approval in approvals]
        if not self._job_ended:
            last.append(self._job_frame("completed"))
        last.append(chat_frames.last_chunk())
        whole = chat_frames.message(self._frames.text, self._turn_request.request.model, usage=self._frames.usage)
        last.append({**whole, "id": turn.items[-1].id, "turn_id": self.id})
        self._committing = True
        return outcome, last

    def not_committed(self) -> None:
        """Note that nothing was stored: the turn can be stopped again, and fails."""
        self._committing = False
