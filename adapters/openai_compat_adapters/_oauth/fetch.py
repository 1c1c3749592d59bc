"""Small JSON documents of authorization servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import anyio
import httpx2

from .._certificates import certificates

LARGEST = 1024 * 1024
"""Bytes of a document; keys and answers about tokens have a few thousand."""

WITHIN = 4.0
"""Seconds for each step of a request, and for the whole body: less than a request waits to know who sends it (`Deadlines.auth`)."""


async def fetch_json(
    url: str, form: Mapping[str, str] | None = None, client: tuple[str, str] | None = None
) -> Mapping[str, Any]:
    """The JSON object at `url`; with a `form`, what is answered to that, sent as `client` (its id and secret).

    Raises httpx2.HTTPError, also for a status that is not 200, and ValueError for what is no object, or too large.
    """
    async with (
        # No redirects: they could lead into the network behind the server, and would take the secret along.
        httpx2.AsyncClient(verify=certificates(), follow_redirects=False, timeout=WITHIN) as http,
        http.stream(
            "GET" if form is None else "POST", url, data=form, auth=client, headers={"accept": "application/json"}
        ) as answer,
    ):
        if answer.status_code != 200:
            raise httpx2.HTTPError(f"status {answer.status_code}")
        body = bytearray()
        with anyio.move_on_after(WITHIN) as reading:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > LARGEST:
                    reading.cancel()  # not by leaving: generators that are not exhausted are a warning on trio
        if reading.cancel_called:
            raise ValueError("too large, or too slow")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return cast("Mapping[str, Any]", document)
