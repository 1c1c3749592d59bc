"""Approvals in memory, with their decisions, by principal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from .bounded_tables import MemoryBounds, MemoryPart, Table, size_of_text
from .records import Approval, Key


class MemoryApprovals(MemoryPart):
    """ApprovalStore in a table, bounded by the principal's share."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._approvals: Table[str, Approval] = Table(self._shares, self._max)

    async def ask(self, principal: str, approval: Approval) -> None:
        self._approvals.put(principal, approval.id, approval, _size_of_approval(approval))

    async def approval(self, key: Key) -> Approval | None:
        found = self._approvals.get(key.principal, key.id)
        if found is not None and found.status == "pending" and self._is_expired(found.expires):
            return replace(found, status="expired")
        return found

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        return [
            approval
            for _, approval in self._approvals.entries(principal)
            if approval.status == "pending"
            and not self._is_expired(approval.expires)
            and conversation in (None, approval.conversation)
        ]

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        found = await self.approval(key)
        if found is None or found.status != "pending":
            return False
        decided = replace(found, status=status, decision=decision)
        self._approvals.put(key.principal, key.id, decided, _size_of_approval(decided))
        return True


def _size_of_approval(approval: Approval) -> int:
    texts = (
        approval.conversation,
        approval.tool,
        approval.arguments,
        approval.state,
        approval.decision,
        approval.request,
    )
    return size_of_text(approval.call_id, *texts)
