"""`POST /completions`, `/quick` and `/smart`: one turn, in a conversation if one is named."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ...messages import TextPart, UserMessage
from ...stores.records import Key
from ...wire.chat_rest.forms import Pieces, Turned, Whole
from ...wire.chat_rest.parse import said
from ...wire.chat_rest.types import Asked, CompletionsRequest, QuickAnswer, QuickRequest, RestCompletion
from ..exchange import Exchange
from ..services import Services
from .lookup import lock
from .prepare import prepare_turn
from .request import handle_turn_request, run_and_answer
from .run import PreparedTurn


async def create(services: Services, exchange: Exchange) -> None:
    """Answer messages, streamed or plain."""
    await handle_turn_request(
        services, exchange, CompletionsRequest, lambda asked: _complete(services, exchange, asked, smart=False)
    )


async def smart(services: Services, exchange: Exchange) -> None:
    """The same, telling what context it was answered in."""
    await handle_turn_request(
        services, exchange, CompletionsRequest, lambda asked: _complete(services, exchange, asked, smart=True)
    )


async def quick(services: Services, exchange: Exchange) -> None:
    """Answer one prompt, in no conversation."""
    await handle_turn_request(services, exchange, QuickRequest, lambda asked: _quick(services, exchange, asked))


async def _complete(services: Services, exchange: Exchange, asked: CompletionsRequest, *, smart: bool) -> None:
    messages = tuple([said(message) for message in asked.messages])
    async with AsyncExitStack() as stack:
        draft = None
        if asked.conversation_id is not None:
            key = Key(exchange.principal.id, asked.conversation_id)
            draft = await stack.enter_async_context(await lock(services, key))
        work = await prepare_turn(services, exchange, asked, messages, draft)
        more = partial(_more, asked, work, smart)
        form = Pieces(more) if asked.stream else Whole(partial(_answer, exchange, work, more))
        await run_and_answer(services, exchange, work, form, stream=asked.stream is True)


async def _quick(services: Services, exchange: Exchange, asked: QuickRequest) -> None:
    work = await prepare_turn(services, exchange, asked, (UserMessage((TextPart(asked.prompt),)),), None)
    await run_and_answer(services, exchange, work, Whole(_quick_answer), stream=False)


def _quick_answer(turned: Turned) -> QuickAnswer:
    return {
        "content": turned.assistant["content"],
        "model": turned.model,
        "provider": turned.provider,
        "usage": turned.usage,
    }


def _answer(exchange: Exchange, work: PreparedTurn, more: partial[dict[str, Any]], turned: Turned) -> dict[str, Any]:
    answer: RestCompletion = {
        "id": work.id,
        "provider": turned.provider,
        "model": turned.model,
        "message": {"role": "assistant", "content": turned.assistant["content"]},
        "finishReason": turned.record.finish_reason,
        "usage": turned.usage,
        "duration": exchange.milliseconds,
    }
    return {**answer, **more(turned)}


def _more(asked: Asked, work: PreparedTurn, smart: bool, turned: Turned) -> dict[str, Any]:
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
