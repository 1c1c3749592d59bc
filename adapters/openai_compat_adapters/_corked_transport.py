"""A transport that joins consecutive writes into one: each write costs a system call, and wakes the client."""

from __future__ import annotations

import asyncio
from typing import Any

BUFFER_BYTES = 64 * 1024
"""Number of buffered bytes that are written at once."""


class CorkedTransport:
    """Buffers writes until the event loop's next iteration, or until BUFFER_BYTES are buffered. Keeps the order."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._buffered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Buffer data until the event loop's next iteration."""
        if not self._buffered:  # otherwise a flush is scheduled already
            self._loop.call_soon(self.flush)
        self._buffered.append(data)
        self._size += len(data)
        if self._size >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all that is buffered, in one write."""
        kept, self._buffered, self._size = self._buffered, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def write_eof(self) -> None:
        """Write the buffer, then EOF."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Write the buffer, then close."""
        self.flush()
        self._transport.close()
