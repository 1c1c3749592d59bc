"""Changes made to a server's settings at run time, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from .bounded_tables import MemoryBounds, MemoryPart


class MemorySettings(MemoryPart):
    """SettingStore in a dictionary. Only the server's own admins write to it."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._settings: dict[tuple[str, str], str] = {}

    async def put_setting(self, kind: str, name: str, body: str) -> None:
        self._settings[kind, name] = body

    async def settings(self, kind: str) -> Mapping[str, str]:
        return {name: body for (other, name), body in self._settings.items() if other == kind}
