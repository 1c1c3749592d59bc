"""A transport that writes once where it is written to many times in a row: each write wakes the kernel, and the client."""

from __future__ import annotations

import asyncio
from typing import Any

FULL = 64 * 1024
"""Bytes that are kept together at the most."""


class CorkedTransport:
    """Keeps what is written until the event loop has nothing else to do, or there is enough of it; the order is kept."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, soon."""
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(data)
        self._size += len(data)
        if self._size >= FULL:
            self.flush()

    def flush(self) -> None:
        """Write now what is kept."""
        kept, self._kept, self._size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def write_eof(self) -> None:
        """Write, and say that it was the last."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Write, and close."""
        self.flush()
        self._transport.close()
