"""The transport that joins small writes, on a connection that ends meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from openai_compat_adapters._corked_transport import CorkedTransport
from tests.loops import ASYNCIO_LOOPS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=ASYNCIO_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("then", ["flush", "write_eof", "close"])
async def test_nothing_is_written_to_a_connection_that_is_closing(
    end: str, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop, complaints = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    lost, made = loop.create_future(), loop.create_future()

    class Served(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.set_result(transport)

        def connection_lost(self, error: Exception | None) -> None:
            lost.set_result(None)

    server = await loop.create_server(Served, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        inner = await made
        corked = CorkedTransport(inner, loop)
        with caplog.at_level(logging.WARNING):
            corked.write(b"kept")
            getattr(inner, end)()
            for _ in range(7):  # event loops log writes to a lost connection from the fifth one on
                corked.write(b"too late")
                getattr(corked, then)()
            await asyncio.wait_for(lost, 20)
            corked.write(b"later still")
            corked.flush()
    finally:
        writer.close()
        server.close()
    assert not complaints
    assert not caplog.records
