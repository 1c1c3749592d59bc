"""`POST /conversations/{id}/messages`, `/with-tools` and `/agentic`: a turn in a conversation."""

from __future__ import annotations

import time
from typing import Any

from ...errors import OpenAICompatError
from ...messages import TextPart, UserMessage
from ...stores.records import Key
from ...wire.chat_rest.forms import DeltaForm, FinishedTurn, WholeForm
from ...wire.chat_rest.serialize_agentic import AgenticForm, AgenticSession, agentic_error
from ...wire.chat_rest.types import AgenticRequest, MessageAnswer, MessageRequest, ToolMessageRequest, ToolSupport
from ..exchange import Exchange
from ..services import Models, Services
from .lookup import toolbox_of, unknown_conversation
from .prepare import prepare_turn
from .request import handle_turn_request, run_and_answer, stream_errors_as
from .run import PreparedTurn


async def create(services: Services, exchange: Exchange, conversation: str) -> None:
    """Send a message to a conversation."""
    await handle_turn_request(
        services, exchange, MessageRequest, lambda asked: _run_message(services, exchange, conversation, asked)
    )


async def with_tools(services: Services, exchange: Exchange, conversation: str) -> None:
    """Send a message to an agent that may use its tools."""
    await handle_turn_request(
        services, exchange, ToolMessageRequest, lambda asked: _run_message(services, exchange, conversation, asked)
    )


async def agentic(services: Services, exchange: Exchange, conversation: str) -> None:
    """Let an agent work on its own, and report each step."""
    await handle_turn_request(
        services, exchange, AgenticRequest, lambda asked: _run_agentic(services, exchange, conversation, asked)
    )


async def _run_message(services: Services, exchange: Exchange, conversation: str, asked: MessageRequest) -> None:
    async with await services.state.locks.lock(Key(exchange.principal.id, conversation), unknown_conversation) as draft:
        work = await prepare_turn(services, exchange, asked, (UserMessage((TextPart(asked.content),)),), draft)
        form = (
            DeltaForm(lambda turned: {**_message_ids(turned), **_tool_fields(asked, work, turned)})
            if asked.stream
            else WholeForm(lambda turned: {**_message_answer(turned), **_tool_fields(asked, work, turned)})
        )
        await run_and_answer(services, exchange, work, form, stream=asked.stream is True)


def _message_answer(turned: FinishedTurn) -> MessageAnswer:
    return {
        "userMessage": turned.user,
        "assistantMessage": turned.assistant,
        "usage": turned.usage,
        "finishReason": turned.record.finish_reason,
        "compaction": turned.record.compaction,
    }


def _message_ids(turned: FinishedTurn) -> dict[str, Any]:
    """The fields of a stream's last piece: the client has the texts already."""
    return {
        "messageId": turned.assistant["id"],
        "userMessageId": None if turned.user is None else turned.user["id"],
        "compaction": turned.record.compaction,
    }


def _tool_fields(asked: MessageRequest, work: PreparedTurn, turned: FinishedTurn) -> dict[str, Any]:
    """The fields about the agent's tools; always present for requests to `/with-tools`."""
    found: dict[str, Any] = {}
    calls = list(turned.record.calls.values())
    if calls or isinstance(asked, ToolMessageRequest):
        found = {"toolCalls": calls, "pendingApprovals": turned.approvals}
    if isinstance(asked, ToolMessageRequest):
        wanted, supported = asked.enable_tools is not False, toolbox_of(work.backend) is not None or bool(calls)
        support: ToolSupport = {
            "requested": wanted,
            "supported": supported,
            "used": bool(calls),
            "recommendation": "This agent has no tools. Choose another one." if wanted and not supported else None,
        }
        found["toolSupport"] = support
    if turned.artifacts:
        found["artifacts"] = turned.artifacts
    return found


async def _run_agentic(services: Services, exchange: Exchange, conversation: str, asked: AgenticRequest) -> None:
    failed = agentic_failure
    key = Key(exchange.principal.id, conversation)
    async with stream_errors_as(exchange, failed), await services.state.locks.lock(key, unknown_conversation) as draft:
        work = await prepare_turn(services, exchange, asked, (UserMessage((TextPart(asked.content),)),), draft)
        form = AgenticForm(session_of(services.models, work, asked.content, asked))
        await run_and_answer(services, exchange, work, form, stream=True, failed=failed)


def session_of(models: Models, work: PreparedTurn, goal: str, asked: AgenticRequest | None) -> AgenticSession:
    """The session of an agentic turn, before the turn begins."""
    return AgenticSession(
        id=work.id,
        conversation=work.conversation or "",
        goal=goal,
        model=work.request.model,
        provider=work.provider,
        requested_model=None if asked is None else asked.model,
        requested_provider=None if asked is None else asked.provider,
        configured_providers=models.provider_names(),
        user=work.user,
        messages=len(work.request.messages),
        show_thinking=asked is None or asked.show_thinking is not False,
        clock=milliseconds,
    )


def agentic_failure(error: OpenAICompatError) -> bytes:
    """The frame that ends an agentic stream whose turn has failed."""
    return agentic_error(error, milliseconds)


def milliseconds() -> int:
    """Unix time in milliseconds, the unit of agentic events."""
    return int(time.time() * 1000)
