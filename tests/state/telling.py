"""A server that makes background responses and posts their outcomes, in a process of `test_webhook_kills`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from multiprocessing.connection import Connection

from openai_compat import Deadlines, Limits, Server, Webhooks
from openai_compat.state import outbox
from openai_compat_adapters.webhooks import http_post
from tests.support.exchanges import answer, request


def tell(store: str, hook: str, begun: Connection, *, quiet: bool) -> None:
    """Serve forever; `begun` gets a message once the server runs and, unless `quiet`, its first response is made."""
    asyncio.run(_tell(store, hook, begun, quiet=quiet))


async def _tell(store: str, hook: str, begun: Connection, *, quiet: bool) -> None:
    outbox.MARGIN = 0.5  # beyond the timeout: notices taken by a killed process are free that soon
    server = Server(
        lambda prompt: prompt,
        store=store,
        webhooks=Webhooks(hook, secret="a secret", post=http_post, timeout=2.0, wait=0.05),
        deadlines=Deadlines(lease=1.5),
        limits=Limits(slots=8),
    )
    async with server.lifespan():
        if quiet:
            begun.send(True)
            await asyncio.Event().wait()
        while True:
            with suppress(TimeoutError):  # the machine is busy
                await answer(server, request("/v1/responses", {"model": "agent", "input": "hi", "background": True}))
            if not begun.closed:
                begun.send(True)
                begun.close()
            await asyncio.sleep(0.02)
