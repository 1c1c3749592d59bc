"""Uploaded files in memory, with their content."""

from __future__ import annotations

from collections.abc import Sequence

from .bounded_tables import MemoryBounds, MemoryPart, Table, size_of_text
from .records import Key, Order, StoredFile


class MemoryFiles(MemoryPart):
    """FileStore in a table, in order of insertion."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._files: Table[str, tuple[StoredFile, bytes]] = Table(self._shares, self._max)

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Insert a file. If it does not fit, the principal's least recently used data is dropped."""
        size = len(content) + size_of_text(file.filename, file.purpose, file.media_type)
        self._files.put(principal, file.id, (file, content), size)

    async def get_file(self, key: Key) -> StoredFile | None:
        found = self._files.get(key.principal, key.id)
        return None if found is None or self._is_expired(found[0].expires) else found[0]

    async def file_content(self, key: Key) -> bytes | None:
        found = self._files.get(key.principal, key.id)
        return None if found is None or self._is_expired(found[0].expires) else found[1]

    async def list_files(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredFile] | None:
        files = {name: file for name, (file, _) in self._files.entries(principal)}
        listed = self._names_after(principal, list(files), after, order)
        return None if listed is None else [files[name] for name in listed if not self._is_expired(files[name].expires)]

    async def delete_file(self, key: Key) -> bool:
        found = self._delete_entry(self._files, key.principal, key.id)
        return found is not None and not self._is_expired(found[0].expires)

    def _drop_expired_files(self) -> int:
        expired = [
            (whose, name) for whose, name, (file, _) in self._files.values_at_rest() if self._is_expired(file.expires)
        ]
        for whose, name in expired:
            self._delete_entry(self._files, whose, name)
        return len(expired)
