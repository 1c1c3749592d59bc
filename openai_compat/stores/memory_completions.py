"""Stored chat completions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .bounded_tables import MemoryBounds, MemoryPart, Table, size_of_text
from .records import Key, Order, StoredCompletion


class MemoryCompletions(MemoryPart):
    """CompletionStore in a table, in order of insertion."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._completions: Table[str, StoredCompletion] = Table(self._shares, self._max)

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        texts = (completion.body, completion.messages, *completion.metadata, *completion.metadata.values())
        self._completions.put(principal, completion.id, completion, size_of_text(completion.model, *texts))

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        return self._completions.get(key.principal, key.id)

    async def delete_completion(self, key: Key) -> bool:
        """Delete a completion; a page can still begin after it."""
        return self._delete_entry(self._completions, key.principal, key.id) is not None

    async def list_completions(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredCompletion] | None:
        completions = dict(self._completions.entries(principal))
        listed = self._names_after(principal, list(completions), after, order)
        return None if listed is None else [completions[name] for name in listed]
