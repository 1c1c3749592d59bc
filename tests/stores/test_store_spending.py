"""Tokens used by principals, in every store: added with the outcome of a turn, or not at all."""

from __future__ import annotations

import anyio
import pytest

from openai_compat.stores.port import ConversationTurn, Spend, Store, TurnCommit
from tests.requirements import requirement

pytestmark = pytest.mark.anyio


def turn(token: str, *spends: Spend, principal: str = "ann", lost: bool = False) -> TurnCommit:
    """An outcome; with `lost`, it writes to a conversation that it does not hold."""
    conversation = ConversationTurn("gone", ()) if lost else None
    return TurnCommit(principal=principal, token=token, conversation=conversation, spends=spends)


@requirement("budget.exact")
async def test_what_turns_spend_is_added_up_by_period_unit_and_principal(store: Store) -> None:
    for number in range(3):
        spends = (Spend("2026-11-30", "total", 5), Spend("2026-11", "output", 2))
        assert await store.commit(turn(f"t{number}", *spends))
    assert await store.commit(turn("t3", Spend("2026-11-30", "total", 7), principal="bob"))
    assert await store.spent("ann", "2026-11-30", "total") == 15
    assert await store.spent("ann", "2026-11", "output") == 6
    assert await store.spent("bob", "2026-11-30", "total") == 7
    assert await store.spent("ann", "2026-12-01", "total") == 0


@requirement("budget.exact")
async def test_a_commit_that_is_repeated_or_lost_adds_nothing(store: Store) -> None:
    spend = Spend("2026-11", "total", 5)
    assert await store.commit(turn("t", spend))
    assert await store.commit(turn("t", spend))  # whose answer was lost
    assert not await store.commit(turn("other", spend, lost=True))
    assert await store.spent("ann", "2026-11", "total") == 5


@requirement("budget.exact")
async def test_turns_that_end_together_are_all_counted(store: Store) -> None:
    async def end(number: int) -> None:
        spends = [Spend("2026-11", "total", 1), Spend("2026-11-30", "total", 1)]
        assert await store.commit(turn(f"t{number}", *(spends if number % 2 else spends[::-1])))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(end, number)
    assert await store.spent("ann", "2026-11", "total") == 20
    assert await store.spent("ann", "2026-11-30", "total") == 20
