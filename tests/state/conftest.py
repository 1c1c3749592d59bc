from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from tests.state.hosts import Host, Hosts, Leash, leash
from tests.stores.postgres_cluster import Cluster


@pytest.fixture
def anyio_backend() -> str:
    """The servers are other processes; the tests drive them with the openai SDK, on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def store_url(postgres: Cluster) -> str:
    """The store of all hosts. Data that tests store there has unique names."""
    return postgres.url(postgres.create_database())


@pytest.fixture(scope="session")
def two(store_url: str) -> Iterator[Hosts]:
    hosts = Hosts(store_url, 2)
    yield hosts
    hosts.remove()


@pytest.fixture
def a(two: Hosts) -> Host:
    """One server."""
    return two.all()[0]


@pytest.fixture
def b(two: Hosts) -> Host:
    """Another server with the same store."""
    return two.all()[1]


@pytest.fixture
async def at_a(a: Host) -> AsyncIterator[AsyncOpenAI]:
    async with a.client() as client:
        yield client


@pytest.fixture
async def at_b(b: Host) -> AsyncIterator[AsyncOpenAI]:
    async with b.client() as client:
        yield client


@pytest.fixture
async def agents() -> AsyncIterator[Leash]:
    async with leash() as made:
        yield made


NAMES = itertools.count()


@pytest.fixture
def conversation() -> str:
    """The id of a conversation for this test only."""
    return f"conversation-{next(NAMES)}"
