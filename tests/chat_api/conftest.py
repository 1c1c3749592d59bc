from __future__ import annotations

from tests.interaction.conftest import anyio_backend, http, transport

__all__ = ("anyio_backend", "http", "transport")
