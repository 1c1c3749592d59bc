"""`POST /v1/responses/compact` and `/v1/responses/input_tokens`: about a request, without answering it."""

from __future__ import annotations

import inspect
from functools import partial

from pydantic_core import to_json

from ...agents.compaction_request import asking_for_summary
from ...agents.error_mapping import public_error
from ...backend import CHARACTERS_PER_TOKEN, AgentRequest
from ...errors import AgentError
from ...policies.content import check_content_type
from ...reducer import FinalMessage, size_of
from ...turns.run_group import Job, Turns, Unchanged
from ...wire.items.serialize import compaction_item
from ...wire.json import dumps
from ...wire.responses.parse.request import parse_compact, parse_input_tokens
from ...wire.responses.serialize.response import usage_of
from ..admit import admit
from ..body import parse_body, read_body
from ..exchange import Exchange
from ..services import Runtime, now
from .ids import ResponseIds
from .prepare import Work, prepare


async def compact(runtime: Runtime, exchange: Exchange) -> None:
    """Let the agent sum up a conversation. The answer's output stands for all that was said."""
    check_content_type(exchange.request)
    body = await read_body(exchange.request, runtime.limits, runtime.deadlines)
    ids = ResponseIds()
    caller = runtime.caller(exchange.principal, exchange.request)
    parsed = await parse_body(body, partial(parse_compact, body, caller, ids))
    await admit(runtime, exchange)
    work = await prepare(runtime, exchange, parsed, ids=ids, http=exchange.request)
    try:
        said = await _said(runtime, exchange, work)
    finally:
        await _close(work)
    if not said.text.strip():
        raise AgentError("The agent gave no summary.", status=502, code="no_summary")
    answer = {
        "id": ids("cmp_"),
        "object": "response.compaction",
        "created_at": now(),
        "output": [compaction_item(said.text, ids)],
        "usage": usage_of(said.usage),
    }
    await exchange.answer(200, dumps(answer))


async def _close(work: Work) -> None:
    """Give the conversation free: nothing is added to it."""
    if work.draft is not None:
        await work.draft.close()


async def _said(runtime: Runtime, exchange: Exchange, work: Work) -> FinalMessage:
    """What the agent says when it is asked for a summary."""
    job = Job(work.id, work.agent, work.backend, [asking_for_summary(work.request)], Unchanged)
    size = 0
    async with (
        runtime.slots.seat(work.slots) as seat,
        Turns(runtime.deadlines, runtime.running, exchange, job, seat, fold=True) as turns,
    ):
        seat.close()  # the slot is free when the agent has ended
        while not turns.over:
            await turns.wait()
            size += sum([size_of(item) for _, items in turns.take() for item in items])
            if size > runtime.limits.answer:
                raise AgentError("The agent's summary is too long.", status=502, code="answer_too_large")
    return turns.messages[0]


async def input_tokens(runtime: Runtime, exchange: Exchange) -> None:
    """How many tokens a request has, as its agent counts them; an estimate where it cannot count."""
    check_content_type(exchange.request)
    body = await read_body(exchange.request, runtime.limits, runtime.deadlines)
    ids = ResponseIds()
    caller = runtime.caller(exchange.principal, exchange.request)
    parsed = await parse_body(body, partial(parse_input_tokens, body, caller, ids))
    work = await prepare(runtime, exchange, parsed, ids=ids, http=exchange.request)
    await _close(work)
    count = await _count(work)
    await exchange.answer(200, dumps({"object": "response.input_tokens", "input_tokens": count}))


async def _count(work: Work) -> int:
    """By the backend's own `count_tokens(request)`, if it has one."""
    count = getattr(work.backend, "count_tokens", None)
    if count is None:
        return _estimate(work.request)
    try:
        counted = count(work.request)
        return int(await counted if inspect.isawaitable(counted) else counted)
    except Exception as error:
        raise public_error(error) from error


def _estimate(request: AgentRequest) -> int:
    texts = [request.raw_messages, [tool.name for tool in request.tools]]
    return -(-len(to_json(texts, inf_nan_mode="null", fallback=str)) // CHARACTERS_PER_TOKEN)
