"""The LangGraph thread of a turn, and its pending calls."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import anyio
from pydantic_core import from_json

from ...agent_request import AgentRequest
from ...errors import AgentError
from ...events import AgentEvent, Finished, Paused, PendingCall, TextDelta, ToolCallReady
from .content import as_dict, as_list, json_text, lc, to_langchain_message
from .middleware import CLIENT_TOOL

Command: Any = importlib.import_module("langgraph.types").Command

PATIENCE = 5.0
"""Timeout for deleting a thread, in seconds."""

SUPERSEDED = "The user sent another message instead."


class GraphSession:
    """The LangGraph thread of a turn: where it begins, its pending calls, and where it ended."""

    def __init__(self, graph: Any, saver: Any) -> None:
        self._graph = graph
        self._saver = saver
        self.config: dict[str, Any] = {}
        self.new_messages: list[Any] = []
        self.questions: list[GraphQuestions] = []
        self._is_newest = False
        self._is_new = False

    async def open(self, request: AgentRequest) -> dict[str, Any] | None:
        """Find where to begin. Returns the answers to a paused run, or None if the turn begins with a message."""
        state = request.state if request.resume is None else request.resume.state
        if self._saver is not None and state is not None:
            checkpoint = {"thread_id": state["thread"], "checkpoint_ns": "", "checkpoint_id": state["checkpoint"]}
            self.config = {"configurable": checkpoint}
            snapshot = await self._read_snapshot()
            if snapshot.values:
                answers = await self._resume(request, state)
                if answers is not None:
                    newest = await self._graph.aget_state({"configurable": {"thread_id": state["thread"]}})
                    self._is_newest = newest.config["configurable"]["checkpoint_id"] == state["checkpoint"]
                return answers
            if request.resume is not None and request.resume.decisions:
                text = "The agent does not know any more what it has asked."
                raise AgentError(text, status=409, code="run_lost")
        self.questions, self._is_new = [], True
        self.config = {} if self._saver is None else {"configurable": {"thread_id": str(uuid4())}}
        self.new_messages = [to_langchain_message(message) for message in request.messages]
        return None

    @property
    def run_config(self) -> dict[str, Any]:
        """The config of the run."""
        if not self._is_newest:
            return self.config
        # From an explicit checkpoint, older versions of LangGraph would run completed calls again.
        return {"configurable": {"thread_id": self.config["configurable"]["thread_id"]}}

    async def _resume(self, request: AgentRequest, state: Mapping[str, Any]) -> dict[str, Any] | None:
        resume = request.resume
        if resume is not None and not resume.superseded:
            answers = {**state["given"], **{call_id: message.text for call_id, message in resume.results.items()}}
            for call_id, decision in resume.decisions.items():
                answer = {"approved": decision.approved, "reason": decision.reason, "arguments": decision.arguments}
                answers[call_id] = answer
            return answers
        if resume is None and self.questions:  # the message answers the graph's own question
            return {question.interrupt_id: request.prompt for question in self.questions}
        calls = [call for question in self.questions for call in question.calls]
        if calls:  # model APIs refuse calls without results
            closed = [lc.ToolMessage(SUPERSEDED, tool_call_id=call["id"]) for call in calls]
            self.config = await self._graph.aupdate_state(self.config, {"messages": closed}, as_node="tools")
        self.questions = []
        self.new_messages = [to_langchain_message(message) for message in request.new_messages]
        return None

    async def _read_snapshot(self) -> Any:
        snapshot = await self._graph.aget_state(self.config)
        messages = as_list(as_dict(snapshot.values).get("messages", ()))
        thread_calls = [call for message in reversed(messages) for call in getattr(message, "tool_calls", ())]
        self.questions = [
            GraphQuestions.from_interrupt(interrupted, thread_calls) for interrupted in snapshot.interrupts
        ]
        return snapshot

    def pending_calls(self, answers: Mapping[str, Any] | None) -> list[PendingCall]:
        """The calls that still have no answer: the run resumes once all calls of a pause have one."""
        known = answers or {}
        return [
            call
            for question in self.questions
            if answers is not None
            for call in question.pending
            if call.call_id not in known
        ]

    def pause_event(self, waiting: Sequence[PendingCall], answers: Mapping[str, Any]) -> Paused:
        """The event that pauses the turn."""
        return Paused(tuple(waiting), state={**self._checkpoint_ids(), "given": answers})

    def decided_calls(self, answers: Mapping[str, Any] | None) -> list[ToolCallReady]:
        """The agent's own calls that were decided, which the resumed run does not announce before their results."""
        calls = [call for question in self.questions if answers is not None for call in question.pending]
        return [
            ToolCallReady(
                call.call_id, call.name, (answers or {})[call.call_id]["arguments"] or call.arguments, "agent"
            )
            for call in calls
            if call.waits_for == "approval"
        ]

    def resume_command(self, answers: Mapping[str, Any]) -> Any:
        """The graph input that resumes the run."""
        return Command(resume={question.interrupt_id: question.answer(answers) for question in self.questions})

    async def read_final_state(self, values: Any) -> Any:
        """The final state of the graph; without a checkpointer, the collected updates of its nodes (`values`)."""
        if self._saver is None:
            return values
        self.config = {"configurable": {"thread_id": self.config["configurable"]["thread_id"]}}
        snapshot = await self._read_snapshot()
        self.config = snapshot.config
        return snapshot.values

    async def end(self, request: AgentRequest, reason: Any) -> AsyncIterator[AgentEvent]:
        """The final events of the turn: a pause or the end, with the state to resume from."""
        pending = [call for question in self.questions for call in question.pending]
        if pending:
            yield self.pause_event(pending, {})
            return
        for question in self.questions:
            yield TextDelta(question.text)
        if self._saver is None:
            yield Finished(reason)
        elif self._is_new and not request.is_kept:
            await self.discard()
            yield Finished(reason)
        else:  # later turns may branch off this thread, so the server decides when to delete it
            yield Finished(reason, state={**self._checkpoint_ids(), "given": {}})

    async def discard(self) -> None:
        """Delete the thread if this turn has created it, since nothing refers to the thread."""
        if self._saver is not None and self._is_new:
            with anyio.move_on_after(PATIENCE, shield=True):
                await self._saver.adelete_thread(self.config["configurable"]["thread_id"])

    def _checkpoint_ids(self) -> dict[str, str]:
        checkpoint = self.config["configurable"]
        return {"thread": checkpoint["thread_id"], "checkpoint": checkpoint["checkpoint_id"]}


class GraphQuestions:
    """An interrupt: approvals of calls, a client tool call, or the graph's own question (without calls)."""

    def __init__(self, interrupt_id: str, kind: str, calls: list[Any], value: Any) -> None:
        self.interrupt_id = interrupt_id
        self.calls = calls
        self._kind = kind
        self._value = value

    @classmethod
    def from_interrupt(cls, interrupted: Any, thread_calls: list[Any]) -> GraphQuestions:
        """Read an interrupt; `thread_calls` are the calls of the thread, the newest first."""
        value: Any = interrupted.value
        fields = as_dict(value)
        if fields.get("type") in (CLIENT_TOOL, "tool_approval"):
            meant = [call for call in thread_calls if call["id"] == fields["tool_call_id"]]
            return cls(interrupted.id, fields["type"], meant[:1], value)
        calls: list[Any] = []
        free = list(thread_calls)
        for action in fields.get("action_requests", ()):  # several at once, without call ids
            call = next((c for c in free if (c["name"], c["args"]) == (action["name"], action["args"])), None)
            if call is not None:
                free.remove(call)
                calls.append(call)
        return cls(interrupted.id, "approvals" if calls else "question", calls, value)

    @property
    def pending(self) -> list[PendingCall]:
        """The calls of the interrupt as pending calls."""
        waits_for: Any = "result" if self._kind == CLIENT_TOOL else "approval"
        return [PendingCall(call["id"], call["name"], json_text(call["args"]), waits_for) for call in self.calls]

    @property
    def text(self) -> str:
        """The graph's own question as text."""
        return self._value if isinstance(self._value, str) else json_text(self._value)

    def answer(self, answers: Mapping[str, Any]) -> Any:
        """The value that `interrupt` returns in the interrupted node."""
        if self._kind == "question":
            return answers[self.interrupt_id]
        call_answers = [answers[call["id"]] for call in self.calls]
        if self._kind == CLIENT_TOOL:
            return call_answers[0]
        decisions = [_to_decision(answer, call["name"]) for answer, call in zip(call_answers, self.calls, strict=True)]
        return {"decisions": decisions} if self._kind == "approvals" else decisions[0]


def _to_decision(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not answer["approved"]:
        return {"type": "reject", **({"message": answer["reason"]} if answer["reason"] else {})}
    if answer["arguments"]:
        return {"type": "edit", "edited_action": {"name": name, "args": from_json(answer["arguments"])}}
    return {"type": "approve"}
