"""`POST /v1/completions`, the legacy API: prompts in, text out."""

from __future__ import annotations

from ...aio.off_loop import run_off_loop
from ...errors import InvalidRequest
from ...policies.housekeeping import task_of
from ...wire.chat.legacy_parse import parse_completion
from ...wire.chat.legacy_serialize import CompletionForm
from ...wire.json import is_quick
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, now
from .completions import ChoicesTurn, answer_with_text


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent for each prompt and answer with text completions, streamed or whole."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    caller = services.settings.caller(exchange.principal, exchange.request)
    parsed = await run_off_loop(parse_completion, body, caller, long=not is_quick(body))
    wire, times = parsed.wire, parsed.wire.n or 1
    if len(parsed.prompts) > services.settings.limits.choices:
        message = f"At most {services.settings.limits.choices} prompts can be answered at once."
        raise InvalidRequest(message, param="prompt", code="invalid_value")
    echo = tuple([prompt if wire.echo else "" for prompt in parsed.prompts for _ in range(times)])
    form = CompletionForm(
        exchange.request_id.replace("req_", "cmpl-", 1), now(), wire.model, parsed.include_usage, echo
    )
    if len(parsed.requests) == times == 1 and services.settings.housekeeping is not None:
        task = task_of(exchange.request, parsed.requests[0])
        if task is not None:
            exchange.note = "housekeeping"
            chore = await services.settings.housekeeping.answer(task, parsed.requests[0])
            await answer_with_text(exchange, form, chore, stream=parsed.requests[0].stream)
            return
    requests = [request for request in parsed.requests for _ in range(times)]
    served = services.models.agent(wire.model, exchange.principal)

    async def run() -> None:
        await services.check_rate(exchange)
        await services.live.runner.run(ChoicesTurn(services, exchange, form, served, requests))

    await run_once(services, exchange, body, run)
