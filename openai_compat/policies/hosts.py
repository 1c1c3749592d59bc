"""Which names a server answers to where no key is sent, so that no web page can reach it by DNS rebinding."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import Forbidden
from ..http import HttpRequest

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

MOST_SEEN = 100
"""Values of `Host` that are remembered to be allowed; with all their ports, there are more than names."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?", re.IGNORECASE)


class Hosts:
    """Refuses requests for any other `Host` (403 `host_not_allowed`). Ports do not matter; "*" allows all."""

    def __init__(self, names: Iterable[str] = LOOPBACK) -> None:
        self._names = frozenset([name.lower() for name in names])
        self._seen: set[bytes | None] = set()

    def check(self, request: HttpRequest) -> None:
        """Raise Forbidden unless the request is for one of the names. HTTP/1.0 may go without a Host."""
        host = request.first.get(b"host")
        # Most requests have the same few, and no header twice: a look into a set costs less than the expression.
        if "*" in self._names or (host in self._seen and len(request.first) == len(request.headers)):
            return
        hosts = request.header_values(b"host")
        if not hosts:
            return
        # DNS rebinding: a page may have its own name resolve to this machine, but cannot choose the Host.
        match = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or match is None or match[1].lower() not in self._names:
            text = "This Host is not allowed. Without an API key, this server answers only to the names in its 'hosts'."
            raise Forbidden(text, code="host_not_allowed")
        if len(self._seen) < MOST_SEEN:
            self._seen.add(host)
