"""openai-compat with the store at the URL in $STORE.

`GET /busy` returns the seconds that the store's thread, which only SQLite has, has worked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from servers import agents

from openai_compat import Limits, Server
from openai_compat.stores.sqlite import SqliteFile
from openai_compat_adapters.starlette import create_app

_worked: list[float] = []
_write = SqliteFile.write


def _timed(self: SqliteFile, jobs: Any) -> Iterator[Any]:
    began = time.perf_counter()
    yield from _write(self, jobs)
    _worked.append(time.perf_counter() - began)


SqliteFile.write = _timed

_app = create_app(
    Server(
        {"burst": agents.burst, "paced": agents.paced, "plain": agents.plain},
        store=os.environ["STORE"],
        limits=Limits(slots=2000),
    )
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The server, plus the benchmark's own path."""
    if scope.get("path") != "/busy":
        await _app(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(sum(_worked)).encode()})
