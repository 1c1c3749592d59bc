"""Forbids files and sockets: Python's audit events report each one that code opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OUTSIDE = frozenset(
    ["open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"]
)


class _Watch:
    """An audit hook cannot be removed, only switched off."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        self._hooked = False

    def hook(self) -> None:
        if not self._hooked:
            sys.addaudithook(self._look)
            self._hooked = True

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is not None and event in OUTSIDE:
            self.seen.append(f"{event} {arguments[:1]}")
            raise PermissionError(f"{event} is forbidden here")


_watch = _Watch()


@contextmanager
def nothing_outside() -> Iterator[None]:
    """Fail whatever opens a file or a socket, and the test too, even if the error is swallowed."""
    _watch.hook()
    _watch.seen = seen = []
    try:
        yield
    finally:
        _watch.seen = None
    assert seen == []
