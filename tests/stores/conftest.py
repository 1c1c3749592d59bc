"""Stores of every kind, each with nothing in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openai_compat import MemoryStore
from openai_compat.stores.engine import Engine
from openai_compat.stores.open import open_store
from openai_compat.stores.port import Store
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.sqlite import SqliteEngine

SQL = ("sqlite", "postgresql")


def engine_of(kind: str, request: pytest.FixtureRequest, directory: Path) -> Engine:
    """An engine on a database of the test's own. PostgreSQL's driver knows asyncio only."""
    if kind == "sqlite":
        return SqliteEngine(directory / "store.db")
    if request.getfixturevalue("anyio_backend") == "trio":
        pytest.skip("asyncpg knows asyncio only")
    postgres = pytest.importorskip("openai_compat.stores.postgres")
    engine: Engine = postgres.PostgresEngine(request.getfixturevalue("postgres_url"))
    return engine


@pytest.fixture(params=SQL)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return engine_of(request.param, request, tmp_path)


@pytest.fixture
async def sql_store(engine: Engine) -> AsyncIterator[SqlStore]:
    store = SqlStore(engine)
    yield store
    await store.aclose()


@pytest.fixture(params=("memory", *SQL))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    in_memory = request.param == "memory"
    store: Store = MemoryStore() if in_memory else SqlStore(engine_of(request.param, request, tmp_path))
    yield store
    await store.aclose()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    await store.aclose()
