"""What principals have spent of their budgets of tokens, over all processes that share the store."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import datetime

import anyio

from ..agent_request import Principal
from ..errors import OpenAICompatError, RateLimited, Unavailable
from ..policies.budgets import Budget, BudgetsOf, utc_now
from ..reducer import Usage
from ..stores.port import Store
from ..stores.records import Spend, TurnCommit
from .degraded import PATIENCE, StoreFallback, with_timeout
from .ids import new_id

logger = logging.getLogger("openai_compat")


class Spending:
    """Checks budgets before turns, and says what is to be added to them with their outcomes.

    A turn is let in while anything is left, and may use more than that: what its agent needs is known when it has ended.
    """

    def __init__(self, store: Store, budgets: BudgetsOf, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._budgets = budgets
        self._now = now
        self._shared = StoreFallback("budgets of tokens are not looked at")

    def _of(self, principal: Principal) -> Sequence[Budget]:
        budgets = self._budgets(principal) if callable(self._budgets) else self._budgets
        if budgets is None:
            return ()
        return (budgets,) if isinstance(budgets, Budget) else budgets

    async def check(self, principal: Principal) -> list[tuple[str, str]]:
        """The headers of an answer to a principal, for the budget of which least is left.

        Raises RateLimited (429 `insufficient_quota`) if one is used up, Unavailable (503 `store_unavailable`) if that cannot be
        known, and is not to be let pass.
        """
        now = self._now()
        found: list[tuple[int, list[tuple[str, str]]]] = []
        for budget in self._of(principal):
            used = await self._used(principal, budget, now)
            if used is None:
                continue
            headers = budget.headers(used, now)
            if used >= budget.tokens:
                text = f"The budget of {budget.tokens} tokens a {budget.per} is used up. It begins anew at the end of the {budget.per} (UTC)."
                refusal = RateLimited(
                    text,
                    code="insufficient_quota",
                    retry_after=math.ceil(budget.left(now)),
                    should_retry=False,
                    headers=dict(headers),
                )
                refusal.type = "insufficient_quota"  # OpenAI's word for both
                raise refusal
            found.append((budget.tokens - used, headers))
        return min(found)[1] if found else []

    async def _used(self, principal: Principal, budget: Budget, now: datetime) -> int | None:
        used = await self._shared.call(lambda: self._store.spent(principal.id, budget.period(now), budget.of))
        if used is None and budget.without_store == "refuse":
            raise Unavailable("The store does not answer.", code="store_unavailable")
        return used

    def of(self, principal: Principal, usage: Usage) -> tuple[Spend, ...]:
        """What a turn adds to the budgets of its principal."""
        if not usage.reported:
            return ()
        now = self._now()
        spends = {(budget.period(now), budget.of): budget.count(usage) for budget in self._of(principal)}
        return tuple([Spend(period, unit, tokens) for (period, unit), tokens in spends.items() if tokens])

    async def add(self, principal: Principal, usage: Usage, request_id: str) -> None:
        """Add what a turn has used that leaves nothing else behind: it has failed, or its client has left. Raises nothing."""
        spends = self.of(principal, usage)
        if not spends:
            return
        outcome = TurnCommit(principal=principal.id, token=new_id("spend_"), spends=spends)
        try:
            with anyio.CancelScope(shield=True):
                await with_timeout(lambda: self._store.commit(outcome), PATIENCE)
        except OpenAICompatError as error:
            logger.warning("%s: the tokens of a turn that failed could not be counted: %s", request_id, error.code)
