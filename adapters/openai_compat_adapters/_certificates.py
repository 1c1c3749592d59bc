"""The certificates by which servers of HTTPS are known."""

from __future__ import annotations

import functools
import ssl

import httpx2


@functools.cache
def certificates() -> ssl.SSLContext:
    """Those that httpx2 takes by default. Cached: reading them takes long."""
    return httpx2.create_ssl_context()
