"""CPU time of a Responses request in this process, without a socket: `python in_process.py plain|streamed CALLS`.

Prints microseconds per request: the best of several batches, since interference can only slow a batch down. It is a separate
program, so that nothing else is in its memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from servers.ours import app

LOTS = 7
PIECES = 20


def scope(size: int) -> dict[str, Any]:
    """The ASGI scope of a request with a body of `size` bytes."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/responses",
        "raw_path": b"/v1/responses",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(size).encode()),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8083),
    }


class Client:
    """Sends its body once, and stays connected until it is answered."""

    def __init__(self, body: bytes) -> None:
        self.answer = b""
        self._request: dict[str, Any] | None = {"type": "http.request", "body": body, "more_body": False}

    async def receive(self) -> dict[str, Any]:
        if self._request is not None:
            request, self._request = self._request, None
            return request
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200
        self.answer += message.get("body", b"")


async def microseconds(*, stream: bool, calls: int) -> float:
    body = json.dumps({"model": "burst", "input": str(PIECES), "stream": stream, "store": False}).encode()

    async def lot() -> float:
        began = time.process_time()
        for _ in range(calls // LOTS):
            client = Client(body)
            await cast("Any", app)(scope(len(body)), client.receive, client.send)
            assert b'"completed"' in client.answer
        return (time.process_time() - began) / (calls // LOTS) * 1e6

    lifespan = cast("AbstractAsyncContextManager[object]", app.router.lifespan_context(app))
    async with lifespan:
        await lot()
        return min([await lot() for _ in range(LOTS)])


if __name__ == "__main__":
    print(asyncio.run(microseconds(stream=sys.argv[1] == "streamed", calls=int(sys.argv[2]))))
