"""`POST /v1/decisions`: predicates, choices and scores, answered by the server's decide function."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..aio.off_loop import run_off_loop
from ..wire.decisions.parse import check_decision_input, parse_decision
from ..wire.decisions.serialize import Probabilities, encode_decision
from ..wire.json import is_quick
from .exchange import Exchange
from .function_run import run_function
from .services import Services


async def create(services: Services, exchange: Exchange) -> None:
    """Run a decide function and answer with its decisions."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    model, asked = await run_off_loop(parse_decision, body, long=not is_quick(body))
    await services.check_rate(exchange)
    name, decider = services.models.decider(model, exchange.principal)
    check_decision_input(asked, decider.takes)

    async def answer(decided: Sequence[Probabilities]) -> None:
        await exchange.answer(200, encode_decision(model, asked, decided))

    call = functools.partial(decider.decide, asked)
    await run_function(services, exchange, model=name, kind="decide function", call=call, answer=answer)
