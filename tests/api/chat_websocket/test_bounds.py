"""Memory limits of chat frames kept for replay: in bytes, and no principal takes another's share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import ChatWebSocket, Principal, Server, ToolCallReady, ToolCallStarted, ToolResult
from openai_compat.api.chat_websocket.threads import FRAME_SIZE, ThreadLog
from tests.api.chat_websocket.client import Client, chat
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

KEYS = {"key-ann": Principal("ann"), "key-bob": Principal("bob")}
SMALL: dict[str, Any] = {"ring_bytes": 100_000, "rings_bytes": 1_000_000, "rings_bytes_per_principal": 300_000}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("field", ["content", "result", "args", "data", "anything", "tool_calls"])
@pytest.mark.parametrize(
    "value",
    [
        "x" * 50_000,
        b"x" * 50_000,
        {"deep": [{"in": "x" * 50_000}]},
        ["x" * 500] * 100,
        [[[], []]] * 500,
        {"text": "é" * 30_000},
    ],
)
@requirement("chatws.bounded")
def test_whatever_a_frame_holds_counts_in_whatever_field(field: str, value: object) -> None:
    log = ThreadLog("t", 10_000, 200_000)
    for _ in range(100):
        log.append({"type": "tool_result", field: value})
    assert log.last - log.first + 1 <= 4
    assert log.size <= 200_000


@given(st.lists(JSON, max_size=20))
def test_what_is_counted_is_never_less_than_the_text_and_is_nothing_when_all_is_forgotten(values: list[Any]) -> None:
    log = ThreadLog("t", 100, 10**9)
    for value in values:
        log.append({"type": "tool_result", "result": value, "name": "tool"})
    assert log.size >= sum([FRAME_SIZE + len(str(value)) // 8 for value in values])
    log.clear()
    assert log.size == 0


async def working(prompt: str) -> AsyncIterator[Any]:
    """Calls a tool of its own whose result is large."""
    yield ToolCallStarted("c", "look")
    yield ToolCallReady("c", "look", "{}")
    yield ToolResult("c", "x" * 90_000)
    yield f"said: {prompt}"


async def replayed(client: Client, thread: str) -> tuple[list[str], bool]:
    """The frames that a returning client gets, and True if the replay is complete."""
    await client.send(type="resume_chat", thread_id=thread, last_seq=1)
    resumed = (await client.until("chat_resumed"))[-1]
    again = [await client.receive() for _ in range(resumed["replay_count"])]
    return [frame["type"] for frame in again], not resumed["replay_incomplete"]


@requirement("chatws.bounded")
async def test_one_callers_threads_do_not_push_out_anothers() -> None:
    server = Server(working, keys=KEYS, chat_websocket=ChatWebSocket(**SMALL))
    async with chat(server, authorization="Bearer key-bob") as bob:
        told = [frame["type"] for frame in await bob.ask("mine", thread_id="bobs")]
    async with chat(server, authorization="Bearer key-ann") as ann:
        for number in range(30):
            await ann.ask("more", thread_id=f"anns-{number}")
    async with chat(server, authorization="Bearer key-bob") as bob:
        assert await replayed(bob, "bobs") == (told[1:], True)
    async with chat(server, authorization="Bearer key-ann") as ann:
        assert (await replayed(ann, "anns-29"))[1]
        assert not (await replayed(ann, "anns-0"))[1]


async def test_numbers_go_on_where_frames_were_forgotten_while_somebody_follows() -> None:
    server = Server(working, chat_websocket=ChatWebSocket(**SMALL))
    async with chat(server) as client:
        last = (await client.ask("one", thread_id="first"))[-1]["chat_seq"]
        for number in range(10):
            await client.ask("more", thread_id=f"other-{number}")
        assert (await client.ask("two", thread_id="first"))[0]["chat_seq"] == last + 1
