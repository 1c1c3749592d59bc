from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import httpx2
import openai
import pytest

from openai_compat import Server
from tests.transports import TRANSPORTS, reach

Connect: TypeAlias = Callable[..., AbstractAsyncContextManager[openai.AsyncOpenAI]]
Http: TypeAlias = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


in_process = pytest.mark.parametrize("transport", ["in-process"], indirect=True)
"""For cases that no transport can change: run them over one."""


@pytest.fixture
def anyio_backend() -> str:
    """The openai SDK leaves generators to the garbage collector, which trio reports: asyncio only."""
    return "asyncio"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def http(transport: str) -> Http:
    """`async with http(agents, **server_options) as client`: a plain HTTP client, over each transport."""

    @asynccontextmanager
    async def open_client(agents: Any, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
        server = agents if isinstance(agents, Server) else Server(agents, **options)
        async with reach(server, transport) as client:
            yield client

    return open_client


@pytest.fixture
def connect(http: Http) -> Connect:
    """`async with connect(agents, **server_options) as client`: a real openai client, over each transport."""

    @asynccontextmanager
    async def open_client(
        agents: Any, *, api_key: str = "any", max_retries: int = 0, **options: Any
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        async with http(agents, **options) as client:
            base_url = f"{client.base_url}".rstrip("/") + "/v1"
            yield openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries, http_client=client)

    return open_client
