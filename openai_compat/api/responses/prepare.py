"""Resolves a Responses request: model, history, attachments, pending approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from ...agent_request import AgentRequest
from ...agents.structured_output import OutputFormat
from ...aio.off_loop import MANY, run_off_loop
from ...backend import AgentBackend, Capabilities
from ...errors import InvalidRequest, NotFound
from ...http import HttpRequest
from ...policies.hooks import TurnInfo
from ...state.agent_state import NO_STATE, InitialState, resume_state
from ...state.approvals import (
    Binding,
    Decisions,
    approval_not_found_error,
    check_editable,
    check_unchanged,
    load_pending_approvals,
)
from ...state.conversation_locks import Draft
from ...state.event_log import EventLogWriter
from ...state.ids import new_id
from ...stores.port import AgentState, Approval, Item, Key, StoredResponse
from ...turns.plan import Requester
from ...wire.json import from_stored_json, stored_json
from ...wire.responses.continuation import is_from_assistant
from ...wire.responses.parse.request import ParsedResponse, check_response_capabilities, with_context
from ...wire.responses.parse.tools import tool_place
from ...wire.responses.serialize.stream import ApprovedCall, ResponseForm, ResponseStream
from ..attachments import attach, item_places
from ..services import Services, check_tool_names, now
from ..text_approvals import decisions_from_messages

Items: TypeAlias = Sequence[dict[str, Any]]

DIGITS = 32
"""Digits in the id of a response; its items' ids contain them too, so that references need no index over all items."""


class ResponseIds:
    """The id of a response, and those of its items: calling it with a prefix returns the next item's id."""

    def __init__(self) -> None:
        self.response = new_id("resp_")
        self._count = 0

    def __call__(self, prefix: str) -> str:
        """The next item's id: `prefix`, the response's own digits, a number."""
        self._count += 1
        return f"{prefix}{self.response.removeprefix('resp_')}{self._count:04x}"


@dataclass(frozen=True, slots=True)
class History:
    """The history that a response continues, and the agent state that was stored with it."""

    items: Items
    state: AgentState | None = None


NO_HISTORY = History(())


@dataclass(slots=True, kw_only=True)
class PreparedResponse:
    """One response that is ready to be made.

    Attributes:
        key: its principal and its id.
        requests: the requests to its agent; none if only the input is to be stored.
        token: holds everything of this turn in the store.
        answers: decisions in the request.
        given: the agent state that it continues from.
        final_state: the state that it ends with, if the client's connection keeps that.
        history: the history before the request's own input.
        local: True if the client's connection remembers responses that the store does not.
        rootless: True if only the connection knows the history that it continues, so that the store has to keep that too.
        output_format: the format that the answer must have.
        log: the log of its frames for followers; once there is one, the store knows the response.
        last_stored: the Response object as it was last stored.
    """

    id: str
    key: Key
    requester: Requester
    parsed: ParsedResponse
    agent: str
    backend: AgentBackend
    request: AgentRequest
    requests: Sequence[AgentRequest]
    stream: ResponseStream
    token: str
    draft: Draft | None = None
    answers: Decisions | None = None
    given: InitialState = NO_STATE
    final_state: AgentState | None = None
    history: Items = ()
    local: bool = False
    rootless: bool = False
    output_format: OutputFormat | None = None
    log: EventLogWriter | None = None
    last_stored: dict[str, Any] | None = None

    @property
    def api(self) -> str:
        """The name of the API, for hooks."""
        return "responses"

    @property
    def response_id(self) -> str:
        """The id of the answer, as its client sees it."""
        return self.id

    @property
    def info(self) -> TurnInfo:
        """The turn's description for hooks, before it has a slot."""
        return TurnInfo(
            id=self.id,
            request_id=self.requester.request_id,
            api=self.api,
            agent=self.agent,
            request=self.request,
            principal=self.requester.principal,
            response_id=self.id,
            background=self.parsed.background,
        )

    def to_stored_response(self) -> StoredResponse:
        """The response in its current state, as it is stored."""
        parsed, stream = self.parsed, self.stream
        given = [*self.history, *parsed.conversation_items] if self.rootless else parsed.conversation_items
        response = self.last_stored = stream.response()
        return StoredResponse(
            id=self.id,
            created=response["created_at"],
            status=stream.status,
            body=stored_json(response),
            background=parsed.background,
            previous=None if self.rootless else parsed.previous,
            conversation=self.conversation,
            input=tuple([Item(item["id"], stored_json(item)) for item in given]),
            output=tuple([Item(item["id"], stored_json(item)) for item in response["output"]]),
        )

    @property
    def conversation(self) -> str | None:
        """The id of its conversation, if any."""
        return None if self.draft is None else self.draft.key.id

    @property
    def binding(self) -> Binding:
        """The binding of its approvals."""
        return Binding(self.requester.principal.id, self.agent, self.conversation)


async def prepare_response(
    services: Services,
    requester: Requester,
    parsed: ParsedResponse,
    *,
    ids: ResponseIds,
    http: HttpRequest,
    local_responses: Mapping[str, History] | None = None,
) -> PreparedResponse:
    """Resolve a request. Raises OpenAICompatError, and then holds nothing.

    `local_responses` has the responses that only this client's connection knows: the history up to each of them, by its id.
    """
    agent, backend = services.models.agent(parsed.request.model, requester.principal)
    check_response_capabilities(parsed, backend.capabilities)
    wanted = parsed.request.response_format
    output_format = None if wanted is None else OutputFormat(wanted, "text.format.schema")
    if parsed.store:
        # Before the agent starts: SDKs retry a 503, which is safe as long as nothing has run.
        await services.state.check_available()
    own_items = parsed.input
    conversation = parsed.conversation
    if conversation is None and services.settings.conversations is not None and parsed.previous is None:
        conversation = services.settings.conversations.identify(http, parsed.body)
    bound = Binding(requester.principal.id, agent, conversation)
    answers = await load_pending_approvals(services.state.store, bound, parsed.decisions) if parsed.decisions else None
    if answers is not None:
        check_editable(answers, backend.capabilities, "input")
    draft = await _lock_conversation(services, requester, parsed, conversation)
    try:
        parsed, history = await _add_history(services, requester, parsed, draft, local_responses or {})
        context, policy = history.items, services.settings.messages
        long = parsed.long or len(context) > MANY
        request = await run_off_loop(policy.apply, parsed.request) if long else policy.apply(parsed.request)
        if parsed.tools.names:
            await check_tool_names(backend, request, parsed.tools.names, lambda name: tool_place(parsed.body, name))
        request, answers = await _apply_decisions(services, agent, backend.capabilities, request, answers)
        if answers is not None:
            # Without a stored history, the questions are in the client's own history, which is checked instead.
            kept = draft is not None or parsed.previous is not None
            _check_questions(answers, context if kept else parsed.input)
        given = NO_STATE
        if history.state is not None or request.resume is not None:
            request, given = await resume_state(
                services.state.store, agent, backend.capabilities, request, history.state
            )
        if any([isinstance(raw["content"], list) for raw in request.raw_messages]):  # otherwise there is only text
            request = await attach(services, request, backend.capabilities, lambda: item_places(own_items))
    except BaseException:
        if draft is not None:
            await draft.close()
        raise
    return PreparedResponse(
        id=ids.response,
        key=Key(requester.principal.id, ids.response),
        requester=requester,
        parsed=parsed,
        agent=agent,
        backend=backend,
        request=request,
        requests=[request] if parsed.generate else [],
        stream=ResponseStream(response_form(services, agent, parsed, ids, draft=draft, answers=answers)),
        token=new_id("turn_") if draft is None else draft.token,
        draft=draft,
        answers=answers,
        given=given,
        history=context,
        local=local_responses is not None,
        rootless=parsed.previous is not None and parsed.previous in (local_responses or {}),
        output_format=output_format,
    )


async def _apply_decisions(
    services: Services, agent: str, can: Capabilities, request: AgentRequest, answers: Decisions | None
) -> tuple[AgentRequest, Decisions | None]:
    """The request with its decisions about earlier questions: `answers` from approval items, or decisions in text."""
    if answers is not None:
        return replace(request, resume=answers.to_resume(request.resume)), answers
    # Every question in text ends with its id in brackets; a call of the client's approval tool has a result.
    if any([raw["role"] == "tool" or "[" in (raw["content"] or "") for raw in request.raw_messages]):
        return await decisions_from_messages(services.state.store, agent, can, request)
    return request, None


def _check_questions(answers: Decisions, items: Items) -> None:
    """Raise NotFound unless these items ask about every decided call, and Conflict if they ask about something else."""
    for approval in answers.approvals.values():
        asking = [item for item in items if _is_question_about(item, approval.id)]
        if not asking:
            raise approval_not_found_error()
        for item in asking:
            if item["type"] == "mcp_approval_request":
                check_unchanged(approval, item.get("name"), item.get("arguments"))


def _is_question_about(item: Mapping[str, Any], approval: str) -> bool:
    """True if an item asks about this call: as an approval request, as a call of the client's approval tool, or in text."""
    if item.get("type", "message") == "message":
        return item.get("role") == "assistant" and f"[{approval}]" in stored_json(item.get("content"))
    return item["type"] != "mcp_approval_response" and approval in (item.get("id"), item.get("call_id"))


def response_form(
    services: Services,
    agent: str,
    parsed: ParsedResponse,
    ids: ResponseIds,
    *,
    draft: Draft | None = None,
    answers: Decisions | None = None,
) -> ResponseForm:
    """The fixed fields of a response."""
    approvals: Mapping[str, Approval] = answers.approvals if answers is not None else {}
    return ResponseForm(
        id=ids.response,
        created=now(),
        agent=agent,
        echo=parsed.echo if draft is None else {**parsed.echo, "conversation": {"id": draft.key.id}},
        custom_tools=parsed.tools.custom,
        namespaces=parsed.tools.namespaces,
        deferred_tools=parsed.tools.deferred,
        approval_labels=parsed.tools.labels,
        visibility=services.settings.response_visibility,
        background=parsed.background,
        new_id=ids,
        now=now,
        include_logprobs=parsed.request.logprobs,
        answers=parsed.generate,
        approved={a.call_id: ApprovedCall(a.id, a.tool, a.arguments) for a in approvals.values()},
    )


async def _lock_conversation(
    services: Services, requester: Requester, parsed: ParsedResponse, identifier: str | None
) -> Draft | None:
    """Lock the conversation for this turn. A conversation that the body names must exist."""
    if identifier is None:
        return None
    key = Key(requester.principal.id, identifier)
    # A conversation that a header names is created if needed, as in chat; one that the body names must exist.
    if parsed.conversation is None:
        return await services.state.locks.lock(key)
    text = f"Conversation with id '{identifier[:64]}' not found."
    return await services.state.locks.lock(
        key, lambda: NotFound(text, code="conversation_not_found", param="conversation")
    )


async def _add_history(
    services: Services,
    requester: Requester,
    parsed: ParsedResponse,
    draft: Draft | None,
    local_responses: Mapping[str, History],
) -> tuple[ParsedResponse, History]:
    """The request appended to its history, with references replaced by their items; and the history."""
    if draft is None:
        history = NO_HISTORY
        if parsed.previous is not None:
            history = local_responses.get(parsed.previous) or await _load_history(services, requester, parsed.previous)
    else:
        items = await run_off_loop(lambda: draft.items) if len(draft.conversation.items) > MANY else draft.items
        history = History(items, draft.conversation.latest_state)
    context = history.items
    if draft is not None and parsed.conversation is None and context:
        parsed = replace(parsed, input=_new_items(parsed.input))  # the client sends the whole history every time
    wanted = [item["id"] for item in parsed.input if item["type"] == "item_reference"]
    lookup = await _find_referenced_items(services, requester, wanted) if wanted else None
    # An open call is healed in a conversation only: a conversation has one end, which the call would block for ever. In a
    # chain it is refused, as at OpenAI: the client can name an earlier response.
    place = partial(with_context, parsed, context, lookup, heal=draft is not None)
    parsed = await run_off_loop(place) if parsed.long or len(context) > MANY else place()
    if draft is not None:
        parsed = replace(parsed, request=replace(parsed.request, conversation_id=draft.key.id, is_kept=True))
    return parsed, history


def _new_items(items: Items) -> tuple[dict[str, Any], ...]:
    """The items after the last answer. Raises InvalidRequest if there are none."""
    start = max([index + 1 for index, item in enumerate(items) if is_from_assistant(item)], default=0)
    if start == len(items):
        text = "Nothing new: a request in a known conversation needs something from the user."
        raise InvalidRequest(text, param="input")
    return tuple(items[start:])


async def _load_history(services: Services, requester: Requester, previous: str) -> History:
    """The history up to the response that this one continues, without that response's instructions."""
    chain = await services.state.store.chain(Key(requester.principal.id, previous))
    if chain is None:
        raise InvalidRequest(
            f"Previous response with id '{previous[:64]}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    items = chain.items
    if len(items) > MANY:
        return History(await run_off_loop(lambda: [from_stored_json(item.body) for item in items]), chain.state)
    return History([from_stored_json(item.body) for item in items], chain.state)


async def _find_referenced_items(
    services: Services, requester: Requester, wanted: Sequence[str]
) -> Mapping[str, dict[str, Any]]:
    """The stored items with these ids; unknown ids are skipped."""
    found: dict[str, dict[str, Any]] = {}
    # The response that an item with this id belongs to, if it is one of ours.
    for origin in {"resp_" + identifier.rpartition("_")[2][:DIGITS] for identifier in wanted}:
        response = await services.state.store.response(Key(requester.principal.id, origin))
        for item in (*response.input, *response.output) if response is not None else ():
            found[item.id] = from_stored_json(item.body)
    return found
