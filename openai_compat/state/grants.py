"""What people have allowed for always, as tool loops keep it in a server's store: it holds in all of its processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..stores.port import Store
from ..stores.records import Grant


class StoredGrants:
    """Keeps the grants for one agent in the store: another one may have another tool of the same name."""

    def __init__(self, store: Store, agent: str) -> None:
        self._store = store
        self._agent = agent

    async def given(self, principal: str, tool: str) -> Sequence[str]:
        """The grants of a principal for a tool. Read each time: one that was taken back a moment ago counts no more."""
        return [grant.body for grant in await self._store.grants(principal, (self._agent, tool))]

    async def give(self, principal: str, tool: str, grant: str) -> None:
        """Keep another one; one that is there already is not there twice."""
        digest = hashlib.sha256(f"{self._agent}\0{tool}\0{grant}".encode("utf-8", "surrogatepass")).hexdigest()
        await self._store.put_grant(principal, Grant(f"grant_{digest[:32]}", self._agent, tool, grant))
