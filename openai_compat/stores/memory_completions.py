"""Stored chat completions in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from .memory_part import MemoryPart
from .port import (
    Key,
    StoredCompletion,
)


class MemoryCompletions(MemoryPart):
    """CompletionStore in a dictionary."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._completions: OrderedDict[Key, StoredCompletion] = OrderedDict()

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Keep a completion."""
        self._completions[Key(principal, completion.id)] = completion
        if len(self._completions) > self._max:
            self._completions.popitem(last=False)

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion."""
        return self._completions.get(key)

    async def delete_completion(self, key: Key) -> bool:
        """Forget one completion."""
        return self._completions.pop(key, None) is not None

    async def list_completions(self, principal: str) -> Sequence[StoredCompletion]:
        """All of a principal's completions, oldest first."""
        return [completion for key, completion in self._completions.items() if key.principal == principal]
