"""Cuts the connections of clients that read nothing, and frees the unread bytes at once."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys

RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Closes a socket with a reset: otherwise the kernel keeps the unread bytes, up to megabytes, for minutes."""

logger = logging.getLogger("openai_compat")


class ReadingWatch:
    """Watches a client with unread bytes: it must read some of them within every `seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Start when the client does not keep up. If it stops reading, its connection is cut."""
        self.stop()
        self._schedule_check(transport, transport.get_write_buffer_size())

    def stop(self) -> None:
        """Stop when the client has read everything, or has disconnected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_check(self, transport: asyncio.Transport, unread: int) -> None:
        self._timer = self._loop.call_later(self._seconds, self._check, transport, unread)

    def _check(self, transport: asyncio.Transport, unread: int) -> None:
        left = transport.get_write_buffer_size()
        if left < unread:  # slow is allowed
            self._schedule_check(transport, left)
        else:
            logger.warning("a client read nothing for %g s, its connection is cut", self._seconds)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.abort()
