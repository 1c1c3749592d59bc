"""Always-allow grants, stored in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .bounded_tables import MemoryBounds, MemoryPart, Shares, Table, size_of_text
from .port import MOST_GRANTS
from .records import Grant, Key

GRANTED_BYTES, GRANTED_BYTES_EACH = 16 * 1024 * 1024, 2 * 1024 * 1024
"""Bytes of all grants, and of one principal's: limited separately, so that conversations do not displace grants."""


class MemoryGrantStore(MemoryPart):
    """GrantStore in a table, bounded in bytes and per principal."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._grants: Table[str, Grant] = Table(Shares(GRANTED_BYTES, GRANTED_BYTES_EACH), 1000 * MOST_GRANTS)

    async def put_grant(self, principal: str, grant: Grant) -> None:
        self._grants.pop(principal, grant.id)
        size = size_of_text(grant.id, grant.agent, grant.tool, grant.body)
        self._grants.put(principal, grant.id, replace(grant, created=self._clock()), size)
        for old in list(await self.grants(principal, (grant.agent, grant.tool)))[:-MOST_GRANTS]:
            self._grants.pop(principal, old.id)

    async def grants(self, principal: str, tool: tuple[str, str] | None = None) -> Sequence[Grant]:
        return [grant for _, grant in self._grants.entries(principal) if tool in (None, (grant.agent, grant.tool))]

    async def delete_grant(self, key: Key) -> bool:
        return self._grants.pop(key.principal, key.id) is not None
