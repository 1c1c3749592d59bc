"""`POST /completions`, `/quick` and `/smart`: one turn, in a conversation if the request names one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from ...messages import TextPart, UserMessage
from ...stores.records import Key
from ...wire.chat_rest.forms import DeltaForm, FinishedTurn, WholeForm
from ...wire.chat_rest.parse import to_message
from ...wire.chat_rest.types import CompletionsRequest, QuickAnswer, QuickRequest, RestCompletion, TurnRequest
from ..exchange import Exchange
from ..services import Services
from .lookup import unknown_conversation
from .prepare import prepare_turn
from .request import handle_turn_request, run_and_answer
from .run import PreparedTurn


async def create(services: Services, exchange: Exchange) -> None:
    """Answer messages, streamed or whole."""
    await handle_turn_request(
        services, exchange, CompletionsRequest, lambda asked: _complete(services, exchange, asked, smart=False)
    )


async def smart(services: Services, exchange: Exchange) -> None:
    """Answer messages; the answer includes the ids of its context."""
    await handle_turn_request(
        services, exchange, CompletionsRequest, lambda asked: _complete(services, exchange, asked, smart=True)
    )


async def quick(services: Services, exchange: Exchange) -> None:
    """Answer one prompt outside any conversation."""

    async def answer(asked: QuickRequest) -> None:
        work = await prepare_turn(services, exchange, asked, (UserMessage((TextPart(asked.prompt),)),), None)
        await run_and_answer(services, exchange, work, WholeForm(_quick_answer), stream=False)

    await handle_turn_request(services, exchange, QuickRequest, answer)


async def _complete(services: Services, exchange: Exchange, asked: CompletionsRequest, *, smart: bool) -> None:
    messages = tuple([to_message(message) for message in asked.messages])
    async with AsyncExitStack() as stack:
        draft = None
        if asked.conversation_id is not None:
            key = Key(exchange.principal.id, asked.conversation_id)
            draft = await stack.enter_async_context(await services.state.locks.lock(key, unknown_conversation))
        work = await prepare_turn(services, exchange, asked, messages, draft)

        def more(turned: FinishedTurn) -> dict[str, Any]:
            return _optional_fields(asked, work, turned, smart=smart)

        form = (
            DeltaForm(more)
            if asked.stream
            else WholeForm(lambda turned: {**_completion(exchange, work, turned), **more(turned)})
        )
        await run_and_answer(services, exchange, work, form, stream=asked.stream is True)


def _quick_answer(turned: FinishedTurn) -> QuickAnswer:
    return {
        "content": turned.assistant["content"],
        "model": turned.model,
        "provider": turned.provider,
        "usage": turned.usage,
    }


def _completion(exchange: Exchange, work: PreparedTurn, turned: FinishedTurn) -> RestCompletion:
    return {
        "id": work.id,
        "provider": turned.provider,
        "model": turned.model,
        "message": {"role": "assistant", "content": turned.assistant["content"]},
        "finishReason": turned.record.finish_reason,
        "usage": turned.usage,
        "duration": exchange.milliseconds,
    }


def _optional_fields(asked: TurnRequest, work: PreparedTurn, turned: FinishedTurn, *, smart: bool) -> dict[str, Any]:
    """The optional fields of an answer."""
    found: dict[str, Any] = {}
    if work.conversation is not None:
        found["conversationId"], found["messageId"] = work.conversation, turned.assistant["id"]
    if smart:
        ids = work.request.metadata
        found["context"] = {name: ids.get(name) for name in ("presetId", "taskId", "ticketId")}
    if turned.record.calls:
        found["toolCalls"] = list(turned.record.calls.values())
    if turned.approvals:
        found["pendingApprovals"] = turned.approvals
    if turned.artifacts:
        found["artifacts"] = turned.artifacts
    return found
