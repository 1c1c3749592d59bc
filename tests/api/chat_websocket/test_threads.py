"""A thread's frames, without connections: whatever happens, each follower gets every frame once, in order."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import MessageBreak, TextDelta
from openai_compat.api.chat_websocket.threads import MAX_AHEAD, ThreadLog
from openai_compat.testing.strategies import event_lists
from openai_compat.wire.chat_websocket.serialize import TurnFrames


def nothing() -> None:
    pass


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["chat_seq"] for frame in frames]


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "join", "leave", "read"]), st.integers(0, 30), st.booleans()), max_size=60
)


@given(STEPS, st.integers(1, 20))
def test_every_follower_gets_every_frame_once_and_in_order(steps: list[Any], most: int) -> None:
    log = ThreadLog("t", most, 10**9)
    followers: list[tuple[Any, int, list[int]]] = []
    for what, number, large in steps:
        if what == "append":
            log.append(*[{"type": "chunk", "content": "x" * (5000 if large else 1)} for _ in range(number)])
        elif what == "join":
            at = max(log.last - number, log.first - 1)
            followers.append((log.follow(at, nothing, binary=large), at, []))
        elif followers:
            follower, _, seen = followers[number % len(followers)]
            if what == "leave":
                log.leave(follower)
                followers.remove(followers[number % len(followers)])
            elif new := numbers(follower.next_frames()):
                seen += new
                follower.mark_sent(new[-1])
        for follower, began, seen in followers:
            assert seen == list(range(began + 1, follower.position + 1))
            assert numbers(follower.next_frames()) == list(range(follower.position + 1, log.last + 1))[:MAX_AHEAD]
        if not followers:
            assert log.last - log.first + 1 <= most


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    log = ThreadLog("t", 1000, 10_000)
    for _ in range(100):
        log.append({"type": "chunk", "content": b"x" * 3000})
    assert numbers(log.frames_after(0, 1000)) == [98, 99, 100]
    log.append({"type": "chunk", "content": b"x" * 50_000})
    assert numbers(log.frames_after(0, 1000)) == [101]
    log.clear()
    log.append({"type": "message"})
    assert numbers(log.frames_after(0, 1000)) == [102]


def test_who_left_long_ago_changes_nothing_by_leaving_again() -> None:
    log = ThreadLog("t", 10, 10_000)
    old = log.follow(0, nothing, binary=False)
    log.leave(old)
    new = log.follow(0, nothing, binary=False)
    log.leave(old)
    assert log.followed
    log.append({"type": "message"})
    assert numbers(new.next_frames()) == [1]


@pytest.mark.anyio
async def test_a_turn_waits_for_the_slowest_follower_until_it_reads_or_leaves() -> None:
    log = ThreadLog("t", 10, 10_000_000)
    slow, fast = log.follow(0, nothing, binary=False), log.follow(0, nothing, binary=False)
    log.append(*[{"type": "chunk"} for _ in range(MAX_AHEAD + 1)])
    fast.mark_sent(log.last)
    done: list[str] = []

    async def wait() -> None:
        await log.wait_for_room()
        done.append("room")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not done
            slow.mark_sent(1)
        assert done == ["room"]
        async with anyio.create_task_group() as group:
            group.start_soon(log.wait_for_room, 0)
            await anyio.wait_all_tasks_blocked()
            log.leave(slow)


@given(event_lists())
def test_the_chunks_of_text_are_the_text_of_the_message(events: list[Any]) -> None:
    frames = TurnFrames()
    made = frames.feed(["a", *events, MessageBreak(), TextDelta("b")])
    text = [f["content"] for f in made if f["type"] == "chunk" and f["content_type"] == "text" and "thinking" not in f]
    assert "".join(text) == frames.text
    assert all([frame["type"] for frame in made])
    assert not any([frame.get("done") for frame in made if frame["type"] == "chunk"])
