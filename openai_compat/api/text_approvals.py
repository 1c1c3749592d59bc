"""Approvals in chat, whose format has none: asked and answered as text, or as calls of a tool of the client's.

A client that offers a function called `request_approval` gets a call of it for each question, and answers with the
call's result: `{"decision": "allow-once" | "allow-always" | "deny", "reason": …, "arguments": …}`. All other clients are
asked in text, and answer with "yes", "no" or "always". A question has an id, under which the store knows what was asked:
the client's history is not trusted for that. Any other message of the user counts as a no, and is then handled as a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic_core import from_json

from ..agent_request import AgentRequest, Decision, Resume
from ..backend import Capabilities
from ..errors import InvalidRequest
from ..events import Paused, PendingCall, ToolCallDelta, ToolCallReady, ToolCallStarted
from ..messages import AssistantMessage, Message, SystemMessage, TextPart, ToolMessage, UserMessage
from ..state.approvals import (
    SUPERSEDED,
    Binding,
    Decisions,
    approval_changed_error,
    approval_records,
    check_editable,
    check_unchanged,
    load_pending_approvals,
)
from ..state.ids import new_id
from ..stores.port import Approval, Key, Store
from ..wire.json import dumps
from ..wire.presentation import QUESTION_PREFIX, approval_question
from ..wire.reducer import Item
from ..wire.serialize_messages import chat_message
from .services import now

APPROVAL_TOOL = "request_approval"
QUESTION_ID = re.compile(r"\[((?:appr|mcpr)_[0-9a-f]{32,40})\]")
# Whole answers, never words within one: "yes, but not in this folder" is another message, and so a no.
YES = frozenset({"yes", "y", "ok", "okay", "allow", "approve", "once", "allow once", "allow-once"})
ALWAYS = frozenset({"always", "allow always", "allow-always"})
NO = frozenset({"no", "n", "deny", "reject"})
INSTRUCTIONS = frozenset({"system", "developer"})


@dataclass(slots=True)
class ApprovalPrompts:
    """The approvals that one turn asks for: shown to the client, and stored with the turn.

    Attributes:
        by_tool: True if the client is asked with calls of its tool, instead of in text.
        asked: each call that was asked about, by its id, with the id of the question; None for most turns.
    """

    by_tool: bool
    questions: dict[str, tuple[str, PendingCall]] | None = None
    _state: Mapping[str, Any] | None = None

    def ask(self, paused: Paused) -> Sequence[Item]:
        """The items that ask about the calls which wait for approval; the same items every time."""
        self._state = paused.state
        asked = self.questions = self.questions or {}
        calls = [call for call in paused.pending if call.waits_for == "approval"]
        for call in calls:
            if call.call_id not in asked:
                asked[call.call_id] = (new_id("appr_"), call)
        if not self.by_tool:
            return ["\n".join([f"{approval_question(call)} [{asked[call.call_id][0]}]" for call in calls])]
        return [item for call in calls for item in _tool_call_items(asked[call.call_id][0], call)]

    def to_records(self, turn: str, bound: Binding, request: Mapping[str, Any] | None = None) -> tuple[Approval, ...]:
        """The approvals as they are stored; empty if nobody was asked."""
        if not self.questions:
            return ()
        return approval_records(dict(self.questions.values()), self._state, turn, bound, now(), request=request)


def _tool_call_items(identifier: str, call: PendingCall) -> Sequence[Item]:
    asked = dumps({"approval_id": identifier, "tool": call.name, "arguments": call.arguments}).decode()
    return (
        ToolCallStarted(identifier, APPROVAL_TOOL, "client"),
        ToolCallDelta(identifier, asked),
        ToolCallReady(identifier, APPROVAL_TOOL, asked, "client"),
    )


def has_approval_tool(request: AgentRequest) -> bool:
    """True if the client offers the tool through which it is asked."""
    return any([tool.name == APPROVAL_TOOL for tool in request.tools])


async def decisions_from_messages(
    store: Store, agent: str, can: Capabilities, request: AgentRequest
) -> tuple[AgentRequest, Decisions | None]:
    """The request with its decisions about the agent's earlier questions.

    Raises NotFound and Conflict for decisions that belong elsewhere or come too late, InvalidRequest for arguments that
    the agent does not accept.
    """
    asked, decision = _find_decisions(request.messages)
    if not asked:
        return request, None
    bound = Binding(request.principal.id, agent, request.conversation_id)
    if decision is None:
        passed_over = {i: found for i in asked if (found := await _find_pending(store, bound, i)) is not None}
        if not passed_over:
            return request, None
        answers = Decisions(dict.fromkeys(passed_over, SUPERSEDED), passed_over)
        return replace(without_questions(request, passed_over), resume=answers.to_resume(request.resume)), answers
    answers = await load_pending_approvals(store, bound, decision)
    check_editable(answers, can, "messages")
    for approval in answers.approvals.values():
        # The client sends the history, so anybody could have written the question that it shows.
        _check_shown(request.messages, approval)
    return _rewind_to_question(request, answers), answers


def without_questions(request: AgentRequest, asked: Mapping[str, Approval]) -> AgentRequest:
    """The request without these questions in its history: they are the server's words, not the agent's."""
    messages: list[Message] = []
    raw: list[dict[str, Any]] = []
    for message, sent in zip(request.messages, request.raw_messages, strict=True):
        kept = _message_without_questions(message, asked)
        if kept is not None:
            messages.append(kept)
            raw.append(sent if kept is message else chat_message(kept))
    return replace(request, messages=tuple(messages), raw_messages=raw)


def _message_without_questions(message: Message, asked: Mapping[str, Approval]) -> Message | None:
    if isinstance(message, ToolMessage):
        return None if message.call_id in asked else message
    if not isinstance(message, AssistantMessage):
        return message
    calls = tuple([call for call in message.tool_calls if call.call_id not in asked])
    parts = [
        TextPart(_cut_at_question(part.text, asked)) if isinstance(part, TextPart) else part for part in message.parts
    ]
    said = tuple([part for part in parts if not isinstance(part, TextPart) or part.text])
    if calls == message.tool_calls and said == message.parts:
        return message
    return replace(message, parts=said, tool_calls=calls) if said or calls else None  # models reject an empty message


def _cut_at_question(text: str, asked: Mapping[str, Approval]) -> str:
    """The text up to the first question; no text of the agent's own follows a question."""
    places = [text.find(f"[{identifier}]") for identifier in asked]
    marks = [place for place in places if place >= 0]
    if not marks:
        return text
    questions = [approval_question(PendingCall(a.call_id, a.tool, a.arguments)) for a in asked.values()]
    exact = [place for question in questions if (place := text.find(question)) >= 0]
    # A client may have wrapped its lines.
    start = min(exact) if exact else text.rfind(QUESTION_PREFIX, 0, min(marks))
    return text[: max(start, 0)].rstrip()


def may_decide(request: AgentRequest) -> bool:
    """False if the last message cannot answer a question: true of most requests, which need no further checks."""
    if not request.plain:
        return True
    # As in `_find_decisions`: programs put instructions between a question and its answer, and after the answer.
    said = (raw for raw in reversed(request.raw_messages) if raw["role"] not in INSTRUCTIONS)
    before = next(said, None) and next(said, None)
    if before is None:
        return False
    if before["role"] == "tool":  # perhaps a result of the client's approval tool
        return True
    asked: str = before["content"] or ""
    return "[" in asked and QUESTION_ID.search(asked) is not None


async def _find_pending(store: Store, bound: Binding, identifier: str) -> Approval | None:
    """A question that this agent has asked here, and that is still pending."""
    found = await store.approval(Key(bound.principal, identifier))
    if found is None or found.status != "pending":
        return None
    return found if Binding(bound.principal, found.agent, found.conversation) == bound else None


def _check_shown(messages: Sequence[Message], approval: Approval) -> None:
    """Raise Conflict if the conversation shows another question than the one that was asked."""
    shown = next(message for message in reversed(messages) if isinstance(message, AssistantMessage))
    call = next((call for call in shown.tool_calls if call.call_id == approval.id), None)
    if call is not None:
        fields = _parse_fields(call.arguments)
        check_unchanged(approval, fields.get("tool"), fields.get("arguments"))
        return
    question = approval_question(PendingCall(approval.call_id, approval.tool, approval.arguments, "approval"))
    if _without_spaces(f"{question} [{approval.id}]") not in _without_spaces(shown.text):
        raise approval_changed_error()


def _without_spaces(text: str) -> str:
    """The text without spaces and unprintable characters: clients wrap lines, and replace characters that no wire can carry."""
    return "".join([character for character in text if character.isprintable() and character not in " \ufffd"])


def _find_decisions(messages: Sequence[Message]) -> tuple[list[str], Mapping[str, Decision] | None]:
    """The questions that the conversation ends with, and the decision about each; None if another message follows."""
    # Claude Code inserts its own instructions anywhere: these are neither answers nor other messages.
    messages = [message for message in messages if not isinstance(message, SystemMessage)]
    last = messages[-1] if messages else None
    if isinstance(last, ToolMessage):
        results = {m.call_id: m.text for m in messages if isinstance(m, ToolMessage) and m.name == APPROVAL_TOOL}
        ended = {call_id: text for call_id, text in results.items() if call_id in _trailing_calls(messages)}
        return list(ended), {call_id: _parse_result(text) for call_id, text in ended.items()}
    if not isinstance(last, UserMessage) or len(messages) < 2:
        return [], None
    trailing = _trailing_calls(messages[:-1])
    passed_over = [
        m.call_id for m in messages if isinstance(m, ToolMessage) and m.name == APPROVAL_TOOL and m.call_id in trailing
    ]
    if passed_over:  # with results that say that nothing was run
        return passed_over, None
    if not isinstance(messages[-2], AssistantMessage):
        return [], None
    asked = QUESTION_ID.findall(messages[-2].text)
    decision = _parse_word(last.text)
    return asked, None if decision is None else dict.fromkeys(asked, decision)


def _trailing_calls(messages: Sequence[Message]) -> set[str]:
    """The calls whose results the conversation ends with."""
    trailing: set[str] = set()
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        trailing.add(message.call_id)
    return trailing


def _parse_word(text: str) -> Decision | None:
    word = text.strip().rstrip(".!").strip().lower()
    if word in YES | ALWAYS:
        return Decision(approved=True, always=word in ALWAYS)
    return Decision(approved=False) if word in NO else None


def _parse_result(text: str) -> Decision:
    """Parse a decision in a tool's result: JSON, or the words that people use. Raises InvalidRequest."""
    # Also the bare word, which people type into a form that some clients show for a call.
    fields = _parse_fields(text) or {"decision": text.strip().strip('"')}
    decision = _parse_word(str(fields.get("decision")))
    if decision is None:
        wanted = "A decision is 'allow-once', 'allow-always' or 'deny'."
        raise InvalidRequest(wanted, param="messages", code="invalid_value")
    return replace(decision, reason=_field_text(fields, "reason"), arguments=_field_text(fields, "arguments"))


def _parse_fields(text: str) -> dict[str, Any]:
    """The fields of a JSON object; none for anything else."""
    try:
        read = from_json(text)
    except (ValueError, TypeError):  # TypeError for a lone surrogate
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}


def _field_text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if value is None or isinstance(value, str) else dumps(value).decode()


def _rewind_to_question(request: AgentRequest, answers: Decisions) -> AgentRequest:
    """The request as it was when the turn paused: the agent's state has everything since."""
    messages = list(request.messages)
    while messages and not isinstance(messages[-1], AssistantMessage):
        messages.pop()
    results: Mapping[str, ToolMessage] = request.resume.results if request.resume is not None else {}
    theirs = Resume({call_id: result for call_id, result in results.items() if call_id not in answers.decisions})
    return replace(
        request,
        messages=tuple(messages[:-1]),
        raw_messages=[chat_message(message) for message in messages[:-1]],
        resume=answers.to_resume(theirs),
    )
