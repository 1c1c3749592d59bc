"""Questions about tool calls in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from .memory_part import MemoryPart
from .port import (
    Approval,
    Key,
)


class MemoryApprovals(MemoryPart):
    """ApprovalStore in a dictionary."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._approvals: OrderedDict[Key, Approval] = OrderedDict()

    async def ask(self, principal: str, approval: Approval) -> None:
        """Keep a question."""
        self._approvals[Key(principal, approval.id)] = approval
        if len(self._approvals) > self._max:
            self._approvals.popitem(last=False)

    async def approval(self, key: Key) -> Approval | None:
        """One question."""
        found = self._approvals.get(key)
        if found is not None and found.status == "pending" and self._over(found.expires):
            return replace(found, status="expired")
        return found

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        """The pending ones, oldest first."""
        return [
            approval
            for key, approval in self._approvals.items()
            if key.principal == principal
            and approval.status == "pending"
            and not self._over(approval.expires)
            and conversation in (None, approval.conversation)
        ]

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        """Decide a pending question."""
        found = await self.approval(key)
        if found is None or found.status != "pending":
            return False
        self._approvals[key] = replace(found, status=status, decision=decision)
        return True
