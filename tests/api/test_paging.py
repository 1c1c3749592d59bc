"""Pagination of lists that change meanwhile, as the SDK reads them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from openai_compat import Conversations
from tests.connecting import Connect
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = pytest.mark.anyio
ORDERS: Any = pytest.mark.parametrize("order", ["asc", "desc"])


@requirement("lists.cursor")
@ORDERS
async def test_all_files_are_found_though_each_is_deleted_at_once(connect: Connect, order: Any) -> None:
    async with connect(Says("Hi")) as client:
        made = [(await client.files.create(file=(f"{n}", b"x"), purpose="user_data")).id for n in range(5)]
        seen: list[str] = []
        async for file in client.files.list(limit=2, order=order):
            seen.append(file.id)
            await client.files.delete(file.id)
        assert seen == (made if order == "asc" else made[::-1])
        with pytest.raises(openai.BadRequestError) as bad:
            await client.files.list(after="file-never")
        assert (bad.value.param, bad.value.code) == ("after", "invalid_value")


@requirement("lists.cursor")
async def test_a_cursor_may_be_a_file_that_the_filter_leaves_out(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        first, second, third = [
            (await client.files.create(file=("a", b"x"), purpose=purpose)).id
            for purpose in ("user_data", "vision", "user_data")
        ]
        found = await client.files.list(after=second, purpose="user_data", order="asc")
        assert [file.id for file in found.data] == [third]
        found = await client.files.list(after=second, purpose="user_data", order="desc")
        assert [file.id for file in found.data] == [first]


@requirement("lists.cursor")
@ORDERS
async def test_all_stored_completions_are_found_though_each_is_deleted_at_once(connect: Connect, order: Any) -> None:
    async with connect(Says("Hi")) as client:
        made = [(await client.chat.completions.create(model="agent", messages=HELLO, store=True)).id for _ in range(5)]
        seen: list[str] = []
        async for completion in client.chat.completions.list(limit=2, order=order):
            seen.append(completion.id)
            await client.chat.completions.delete(completion.id)
        assert seen == (made if order == "asc" else made[::-1])


@requirement("lists.cursor")
@ORDERS
async def test_all_items_are_found_though_each_is_deleted_at_once(connect: Connect, order: Any) -> None:
    async with connect(Says("Hi"), conversations=Conversations()) as client:
        items: Any = [{"role": "user", "content": f"{n}"} for n in range(5)]
        name = (await client.conversations.create(items=items)).id
        seen: list[str] = []
        async for item in client.conversations.items.list(name, limit=2, order=order):
            found: Any = item
            seen.append(found.content[0].text)
            await client.conversations.items.delete(found.id, conversation_id=name)
        assert seen == (list("01234") if order == "asc" else list("43210"))
        assert (await client.conversations.items.list(name)).data == []
