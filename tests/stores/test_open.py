"""Stores by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_compat import MemoryStore
from openai_compat.stores.open import open_store
from tests.stores.samples import ALICE

pytestmark = pytest.mark.anyio


def test_memory_is_a_store_of_this_process_alone() -> None:
    store = open_store("memory:")
    assert isinstance(store, MemoryStore)
    assert not store.shared


async def test_a_relative_path_is_below_the_directory_the_process_was_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///state%20of.db")
    monkeypatch.chdir("/")
    await store.begin(ALICE, "t")
    await store.aclose()
    assert store.shared
    assert (tmp_path / "state of.db").exists()


async def test_an_absolute_path_has_four_slashes(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    await store.check()
    await store.aclose()
    assert (tmp_path / "a.db").exists()


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/a.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory://x", "redis://localhost", "sqlite:", "sqlite://", "sqlite:///", "sqlite://a.db",
     "sqlite:///a.db?mode=ro", "sqlite:///a.db#x", "/var/lib/a.db", "mysql://u:secret@h/d"],
)  # fmt: skip
def test_any_other_url_is_a_value_error_that_tells_the_forms_and_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///") as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


def test_postgresql_is_opened_by_its_own_engine() -> None:
    pytest.importorskip("asyncpg")
    store = open_store("postgresql://u:p@127.0.0.1:1/d")
    assert store.shared
