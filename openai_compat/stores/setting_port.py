"""The part of the store port for a server's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SettingStore(Protocol):
    """What was changed of a server's settings while it ran. It is the server's, and no principal's."""

    async def put_setting(self, kind: str, name: str, body: str) -> None:
        """Insert or replace one, as JSON."""
        ...

    async def settings(self, kind: str) -> Mapping[str, str]:
        """All of a kind, by name."""
        ...
