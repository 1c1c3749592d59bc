"""The use of token budgets and token rates by principals, across all processes that share the store."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import anyio

from ..agent_request import Principal
from ..errors import RateLimited, Unavailable
from ..policies.budgets import Budget, BudgetsOf, utc_now
from ..policies.rates import Rate, RatesOf, rate_limited
from ..stores.memory import MemoryStore
from ..stores.port import Store
from ..stores.records import Charge, Key, Spend, TurnCommit
from ..wire.reducer import Usage
from .degraded import StoreFallback
from .ids import new_id

TOKENS = "tokens"
"""The name of the rate that tokens are charged to."""

ROUNDING = 1e-6
"""Floating-point error, in tokens."""

logger = logging.getLogger("openai_compat")


class Spending:
    """Checks token budgets and rates before turns, and computes how much each outcome adds to them.

    A turn is admitted while anything is left, and may use more than that: its use is only known when it has ended. While the
    store is unavailable, each process counts against the rates on its own: refusing everybody would turn an outage of the
    store into an outage of all agents.
    """

    def __init__(
        self,
        store: Store,
        budgets: BudgetsOf | None,
        rates: RatesOf | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._budgets = budgets
        self._rates = rates
        self._now = now
        self._local = MemoryStore()
        self._shared = StoreFallback(
            "budgets of tokens are not looked at, and each process counts tokens a minute by itself"
        )

    def _budgets_of(self, principal: Principal) -> Sequence[Budget]:
        budgets = self._budgets(principal) if callable(self._budgets) else self._budgets
        if budgets is None:
            return ()
        return (budgets,) if isinstance(budgets, Budget) else budgets

    def _rate_of(self, principal: Principal) -> Rate | None:
        rates = self._rates(principal) if callable(self._rates) else self._rates
        return None if rates is None else rates.tokens

    async def check(self, principal: Principal) -> list[tuple[str, str]]:
        """The headers of an answer to a principal, for the rate or budget with the least left.

        Raises RateLimited (429) if a rate or budget is used up: `insufficient_quota` for a budget, `rate_limit_exceeded` for a
        rate; and Unavailable (503 `store_unavailable`) if a budget's use is unknown and the budget is set to refuse then.
        """
        now = self._now()
        found: list[tuple[int, list[tuple[str, str]]]] = []
        for budget in self._budgets_of(principal):
            used = await self._tokens_used(principal, budget, now)
            if used is None:
                continue
            headers = budget.headers(used, now)
            if used >= budget.tokens:
                raise _used_up_error(budget, now, headers)
            found.append((budget.tokens - used, headers))
        rate = self._rate_of(principal)
        if rate is not None:
            found.append(await self._tokens_left(principal, rate))
        return min(found)[1] if found else []

    async def _tokens_used(self, principal: Principal, budget: Budget, now: datetime) -> int | None:
        used = await self._shared.call(lambda: self._store.spent(principal.id, budget.period(now), budget.of))
        if used is None and budget.without_store == "refuse":
            raise _unknown_use_error()
        return used

    async def _tokens_left(self, principal: Principal, rate: Rate) -> tuple[int, list[tuple[str, str]]]:
        """The tokens left of a rate, and the headers that report them."""
        key = Key(principal.id, TOKENS)
        ahead = await self._shared.call(lambda: self._store.ahead(key))
        if ahead is None:
            ahead = await self._local.ahead(key)
        left = int(rate.at_once - ahead * rate.per_second + ROUNDING)
        headers = rate.headers(max(0, left), ahead)
        if left < 1:
            raise rate_limited("tokens", rate, ahead - (rate.at_once - 1) / rate.per_second, headers)
        return left, headers

    def amounts_of(self, principal: Principal, usage: Usage) -> tuple[tuple[Spend, ...], tuple[Charge, ...]]:
        """The amounts that a turn adds to its principal's budgets and rates."""
        if not usage.reported:
            return (), ()
        now = self._now()
        budgets, rate = self._budgets_of(principal), self._rate_of(principal)
        spends = {(budget.period(now), budget.of): budget.count(usage) for budget in budgets}
        tokens = usage.input_tokens + usage.output_tokens
        return (
            tuple([Spend(period, unit, used) for (period, unit), used in spends.items() if used]),
            (Charge(TOKENS, tokens / rate.per_second),) if rate is not None and tokens else (),
        )

    async def add(self, principal: Principal, usage: Usage, request_id: str, *, checked: bool = False) -> None:
        """Add the use of a turn that writes no other outcome: it stores nothing, has failed, or its client has disconnected.

        Raises nothing, unless `checked`: then Unavailable (503 `store_unavailable`) if the store is unavailable and a budget is
        set to refuse without it.
        """
        spends, charges = self.amounts_of(principal, usage)
        if not spends and not charges:
            return
        outcome = TurnCommit(principal=principal.id, token=new_id("spend_"), spends=spends, charges=charges)
        with anyio.CancelScope(shield=True):
            if await self._shared.call(lambda: self._store.commit(outcome)) is not None:
                return
            if charges:
                await self._local.commit(replace(outcome, spends=()))
        if spends:
            if checked and any([budget.without_store == "refuse" for budget in self._budgets_of(principal)]):
                raise _unknown_use_error()
            logger.warning("%s: the tokens of a turn could not be counted: the store does not answer", request_id)


def _used_up_error(budget: Budget, now: datetime, headers: list[tuple[str, str]]) -> RateLimited:
    text = f"The budget of {budget.tokens} tokens a {budget.per} is used up. It begins anew at the end of the {budget.per} (UTC)."
    refusal = RateLimited(
        text,
        code="insufficient_quota",
        retry_after=math.ceil(budget.left(now)),
        should_retry=False,
        headers=dict(headers),
    )
    refusal.type = "insufficient_quota"  # OpenAI uses it for both the code and the type
    return refusal


def _unknown_use_error() -> Unavailable:
    return Unavailable("The store does not answer.", code="store_unavailable")
