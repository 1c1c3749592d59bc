"""The trusted certificates for HTTPS requests."""

from __future__ import annotations

import functools
import ssl

import httpx2


@functools.cache
def certificates() -> ssl.SSLContext:
    """Return httpx2's default SSL context. Cached, because reading the certificates is slow."""
    return httpx2.create_ssl_context()
