"""`POST /v1/messages/count_tokens`, and the estimate for agents that do not count."""

from __future__ import annotations

import inspect

from pydantic_core import to_json

from ...agent_request import AgentRequest, FunctionTool
from ...agents.compaction import conversation_tokens
from ...agents.error_mapping import to_public_error
from ...aio.off_loop import run_off_loop
from ...backend import CHARACTERS_PER_TOKEN, SupportsTokenCount
from ...wire.anthropic_messages.parse import parse_token_count
from ...wire.json import dumps, is_quick
from ..exchange import Exchange
from ..services import Services


async def count_tokens(services: Services, exchange: Exchange) -> None:
    """Answer with the request's number of tokens: the agent's count, or an estimate if the agent cannot count.

    Claude Code sends a dozen of these at once, so they use no slot and do not count towards a rate limit.
    """
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    caller = services.settings.caller(exchange.principal, exchange.request)
    request = (await run_off_loop(parse_token_count, body, caller, long=not is_quick(body))).request
    _, backend = services.models.agent(request.model, exchange.principal)
    if isinstance(backend, SupportsTokenCount):
        try:
            counted = backend.count_tokens(request)
            count = int(await counted if inspect.isawaitable(counted) else counted)
        except Exception as error:
            raise to_public_error(error) from error
    else:
        count = estimate_tokens(request)
    await exchange.answer(200, dumps({"input_tokens": count}))


def estimate_tokens(request: AgentRequest) -> int:
    """Estimate a request's number of tokens: the server has no tokenizer, and does not know the model."""
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools if isinstance(tool, FunctionTool)]
    described = len(to_json(tools, inf_nan_mode="null", fallback=str)) if tools else 0
    return conversation_tokens(request) + -(-described // CHARACTERS_PER_TOKEN)
