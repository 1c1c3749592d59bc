"""Empty stores of every kind."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run PostgreSQL tests on asyncio only, since its driver does not support trio."""
    items[:] = [item for item in items if not {"trio", "postgresql"} <= _parameters(item)]


def _parameters(item: pytest.Item) -> set[object]:
    call = getattr(item, "callspec", None)
    return set() if call is None else {value for value in call.params.values() if isinstance(value, str)}


def engine_of(kind: str, request: pytest.FixtureRequest, directory: Path) -> Engine:
    """An engine on a database for this test only."""
    if kind == "sqlite":
        return SqliteEngine(directory / "store.db")
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
