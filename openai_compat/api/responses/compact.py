"""`POST /v1/responses/compact` and `/v1/responses/input_tokens`: compact a conversation, or count tokens."""

from __future__ import annotations

import inspect

from pydantic_core import to_json

from ...agents.compaction import summary_request
from ...agents.error_mapping import to_public_error
from ...aio.off_loop import run_off_loop
from ...backend import CHARACTERS_PER_TOKEN, SupportsTokenCount
from ...errors import AgentError
from ...stores.port import TurnCommit
from ...turns.plan import Taken, TurnPlan
from ...wire.json import dumps, is_quick
from ...wire.reducer import Reducer
from ...wire.responses.parse.request import parse_compact, parse_input_tokens
from ...wire.responses.serialize.response import usage_of
from ...wire.serialize_messages import compaction_item
from ..delivery import NoAnswer
from ..exchange import Exchange
from ..services import Services, now
from .prepare import PreparedResponse, ResponseIds, prepare_response


async def compact(services: Services, exchange: Exchange) -> None:
    """Let the agent summarize a conversation. The answer's output replaces the whole history."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    ids = ResponseIds()
    caller = services.settings.caller(exchange.principal, exchange.request)
    parsed = await run_off_loop(parse_compact, body, caller, ids, long=not is_quick(body))
    await services.check_rate(exchange)
    work = await prepare_response(services, exchange, parsed, ids=ids, http=exchange.request)
    turn = SummaryTurn(exchange, work, ids("cmp_"))
    try:
        await services.live.runner.run(turn)
    finally:
        await _unlock_conversation(work)
    reply = turn.reply.message()
    # The client is about to discard the whole history.
    if not reply.text.strip():
        raise AgentError("The agent gave no summary.", status=502, code="no_summary")
    answer = {
        "id": turn.response_id,
        "object": "response.compaction",
        "created_at": now(),
        # Nothing else: the SDK's type allows no user messages here.
        "output": [compaction_item(reply.text, ids)],
        "usage": usage_of(reply.usage),
    }
    await exchange.answer(200, dumps(answer))


async def _unlock_conversation(work: PreparedResponse) -> None:
    """Unlock the conversation without adding to it."""
    if work.draft is not None:
        await work.draft.close()


class SummaryTurn(TurnPlan[bytes]):
    """Asks an agent for a summary of the history, and collects its answer."""

    api = "responses"

    def __init__(self, exchange: Exchange, work: PreparedResponse, answer_id: str) -> None:
        super().__init__(
            NoAnswer(exchange),
            exchange,
            id=work.id,
            agent=work.agent,
            backend=work.backend,
            # The agent itself summarizes, since only the agent knows what matters to it.
            requests=[summary_request(work.request)],
        )
        self.reply = Reducer()
        self._answer_id = answer_id

    @property
    def response_id(self) -> str:
        """The id of the compaction."""
        return self._answer_id

    def feed(self, taken: Taken) -> bytes:
        """Collect the summary; nothing is written before the end."""
        for _, items in taken:
            self.reply.feed(items)
        return b""

    def idle(self) -> bytes:
        """Nothing: the answer is written once the summary is complete."""
        return b""

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """Nothing is stored: the summary is the client's."""
        return None, b""


async def count_input_tokens(services: Services, exchange: Exchange) -> None:
    """Answer with a request's number of tokens: the agent's count, or an estimate if the agent cannot count."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    ids = ResponseIds()
    caller = services.settings.caller(exchange.principal, exchange.request)
    parsed = await run_off_loop(parse_input_tokens, body, caller, ids, long=not is_quick(body))
    work = await prepare_response(services, exchange, parsed, ids=ids, http=exchange.request)
    await _unlock_conversation(work)
    count = await _count_tokens(work)
    await exchange.answer(200, dumps({"object": "response.input_tokens", "input_tokens": count}))


async def _count_tokens(work: PreparedResponse) -> int:
    """The count of the backend's `count_tokens(request)`, if it has one, or an estimate."""
    if not isinstance(work.backend, SupportsTokenCount):
        # The server has no tokenizer, and does not know the model.
        texts = [work.request.raw_messages, [tool.name for tool in work.request.tools]]
        return -(-len(to_json(texts, inf_nan_mode="null", fallback=str)) // CHARACTERS_PER_TOKEN)
    try:
        counted = work.backend.count_tokens(work.request)
        return int(await counted if inspect.isawaitable(counted) else counted)
    except Exception as error:
        raise to_public_error(error) from error
