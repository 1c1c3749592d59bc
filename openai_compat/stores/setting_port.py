"""The part of the store port for a server's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SettingStore(Protocol):
    """Changes made to a server's settings at run time. They belong to the server, not to a principal."""

    async def put_setting(self, kind: str, name: str, body: str) -> None:
        """Insert or replace one setting, as JSON."""
        ...

    async def settings(self, kind: str) -> Mapping[str, str]:
        """All settings of a kind, by name."""
        ...
