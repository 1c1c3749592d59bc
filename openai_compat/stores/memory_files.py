"""Uploaded files in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from .memory_part import MemoryPart
from .port import (
    Key,
    StoredFile,
)

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Bytes of all files together."""


class MemoryFiles(MemoryPart):
    """FileStore in a dictionary."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._files: OrderedDict[Key, tuple[StoredFile, bytes]] = OrderedDict()
        self._file_bytes = 0

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Keep a file, dropping the oldest ones where there is no room."""
        await self.delete_file(Key(principal, file.id))
        self._files[Key(principal, file.id)] = (file, content)
        self._file_bytes += len(content)
        while len(self._files) > self._max or (self._file_bytes > MAX_FILE_BYTES and len(self._files) > 1):
            await self.delete_file(next(iter(self._files)))

    async def get_file(self, key: Key) -> StoredFile | None:
        """What is known of a file."""
        found = self._files.get(key)
        return None if found is None or self._over(found[0].expires) else found[0]

    async def file_content(self, key: Key) -> bytes | None:
        """Its bytes."""
        return self._files[key][1] if await self.get_file(key) is not None else None

    async def list_files(self, principal: str) -> Sequence[StoredFile]:
        """All of a principal's files, oldest first."""
        mine = [file for key, (file, _) in self._files.items() if key.principal == principal]
        return [file for file in mine if not self._over(file.expires)]

    async def delete_file(self, key: Key) -> bool:
        """Forget a file."""
        found = self._files.pop(key, None)
        if found is None:
            return False
        self._file_bytes -= len(found[1])
        return not self._over(found[0].expires)

    async def _drop_expired_files(self) -> None:
        for key in [key for key, (file, _) in self._files.items() if self._over(file.expires)]:
            await self.delete_file(key)
