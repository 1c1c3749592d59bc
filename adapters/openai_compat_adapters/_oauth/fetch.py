"""Fetches small JSON documents from authorization servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import anyio
import httpx2

from .._certificates import certificates

MAX_BYTES = 1024 * 1024
"""Maximum size of a document, in bytes; key sets and introspection responses have a few thousand."""

TIMEOUT = 4.0
"""Timeout of each step of a request and of the whole body, in seconds; shorter than `Deadlines.auth`."""


async def fetch_json(
    url: str, form: Mapping[str, str] | None = None, client: tuple[str, str] | None = None
) -> Mapping[str, Any]:
    """Fetch the JSON object at `url`, or post a `form` there, authenticated as `client` (its id and secret).

    Raises httpx2.HTTPError, also for a status other than 200, and ValueError if the body is no object, too large or too slow.
    """
    async with (
        # No redirects: they could lead into the internal network, and would carry the secret along.
        httpx2.AsyncClient(verify=certificates(), follow_redirects=False, timeout=TIMEOUT) as http,
        http.stream(
            "GET" if form is None else "POST", url, data=form, auth=client, headers={"accept": "application/json"}
        ) as answer,
    ):
        if answer.status_code != 200:
            raise httpx2.HTTPError(f"status {answer.status_code}")
        body = bytearray()
        with anyio.move_on_after(TIMEOUT) as reading:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    reading.cancel()  # not by `break`: trio warns about generators that are not exhausted
        if reading.cancel_called:
            raise ValueError("too large, or too slow")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return cast("Mapping[str, Any]", document)
