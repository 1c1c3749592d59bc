"""Settings that were changed at run time, in every store."""

from __future__ import annotations

import pytest

from openai_compat.stores.port import Store

pytestmark = pytest.mark.anyio


async def test_settings_are_kept_by_kind_and_name_and_the_last_one_counts(store: Store) -> None:
    await store.put_setting("provider", "a\0", "1")
    await store.put_setting("provider", "a\0", "2")
    await store.put_setting("other", "b", "3")
    assert await store.settings("provider") == {"a\0": "2"}
    assert await store.settings("nothing") == {}
