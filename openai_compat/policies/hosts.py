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
        self._seen: set[str] = set()

    def check(self, request: HttpRequest) -> None:
        """Raise Forbidden unless the request is for one of the names. HTTP/1.0 may go without a Host."""
        hosts = request.header_values(b"host")
        if "*" in self._names or not hosts or (len(hosts) == 1 and hosts[0] in self._seen):
            return
        # DNS rebinding: a page may have its own name resolve to this machine, but cannot choose the Host.
        match = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or match is None or match[1].lower() not in self._names:
            text = "This Host is not allowed. Without an API key, this server answers only to the names in its 'hosts'."
            raise Forbidden(text, code="host_not_allowed")
        # Most requests have the same few: a look into a set costs less than the expression.
        if len(self._seen) < MOST_SEEN:
            self._seen.add(hosts[0])
