"""Slots: admission, queue and release."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Admission, Limits, Principal
from openai_compat.errors import RateLimited, Unavailable
from openai_compat.turns.slots import SlotRequest, Slots
from tests.requirements import requirement

pytestmark = pytest.mark.anyio
ONE = SlotRequest(1, "agent", Principal("alice"))


async def test_those_who_queue_are_served_in_their_order() -> None:
    slots = Slots(Limits(slots=1), Admission(queue=10))
    served: list[str] = []

    async def wait(name: str) -> None:
        await slots.take(ONE)
        served.append(name)

    await slots.take(ONE)
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
        for _ in "abc":
            slots.release(ONE)
            await anyio.wait_all_tasks_blocked()
    assert served == ["a", "b", "c"]
    assert slots.used == 1


async def test_a_place_in_the_queue_is_given_up_by_those_who_leave_and_never_granted_to_them() -> None:
    slots = Slots(Limits(slots=1), Admission(queue=10))
    await slots.take(ONE)
    async with anyio.create_task_group() as group:
        group.start_soon(slots.take, ONE)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    slots.release(ONE)
    assert slots.used == 0
    await slots.take(ONE)


async def test_a_slot_granted_in_the_very_step_its_waiter_left_comes_back() -> None:
    slots = Slots(Limits(slots=1), Admission(queue=10))
    await slots.take(ONE)
    async with anyio.create_task_group() as group:
        group.start_soon(slots.take, ONE)
        await anyio.wait_all_tasks_blocked()
        slots.release(ONE)
        group.cancel_scope.cancel()
    assert slots.used in (0, 1)  # cancelled in time, or admitted before the cancellation
    for _ in range(slots.used):
        slots.release(ONE)
    await slots.take(ONE)


async def test_a_request_that_can_never_fit_does_not_queue() -> None:
    slots = Slots(Limits(slots=2), Admission(queue=10))
    with pytest.raises(RateLimited):
        await slots.take(SlotRequest(3, "agent", Principal("alice")))


async def test_several_slots_are_taken_all_or_none() -> None:
    slots = Slots(Limits(slots=3), Admission())
    await slots.take(SlotRequest(2, "agent", Principal("alice")))
    with pytest.raises(RateLimited):
        await slots.take(SlotRequest(2, "agent", Principal("alice")))
    assert slots.used == 2


async def test_closing_refuses_new_ones_and_those_who_queue() -> None:
    slots = Slots(Limits(slots=1), Admission(queue=10))
    refused: list[str] = []

    async def wait() -> None:
        with pytest.raises(Unavailable):
            await slots.take(ONE)
        refused.append("queued")

    await slots.take(ONE)
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        slots.close()
    with pytest.raises(Unavailable):
        await slots.take(ONE)
    assert refused == ["queued"]


async def test_waiting_for_all_to_end_returns_with_the_last_one() -> None:
    slots = Slots(Limits(), Admission())
    await slots.take(SlotRequest(2, "agent", Principal("alice")))
    ended = anyio.Event()

    async def wait() -> None:
        await slots.wait_unused()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        slots.release(SlotRequest(2, "agent", Principal("alice")))
        await anyio.wait_all_tasks_blocked()
        assert not ended.is_set()
        slots.release(SlotRequest(2, "agent", Principal("alice")))
    assert ended.is_set()


@given(st.integers(0, 5), st.lists(st.one_of(st.integers(1, 4), st.just(-1)), max_size=30))
async def test_never_more_slots_are_used_than_there_are(limit: int, steps: list[int]) -> None:
    slots, used = Slots(Limits(slots=limit), Admission()), 0
    for step in steps:
        if step == -1:
            if used:
                slots.release(ONE)
                used -= 1
        elif used + step <= limit:
            await slots.take(SlotRequest(step, "agent", Principal("alice")))
            used += step
        else:
            with pytest.raises(RateLimited):
                await slots.take(SlotRequest(step, "agent", Principal("alice")))
        assert slots.used == used <= limit


@requirement("auth.limits")
async def test_a_function_says_how_many_each_principal_may_have() -> None:
    def most(principal: Principal) -> int | None:
        return principal.claims.get("slots")

    slots = Slots(Limits(slots=10, slots_per_principal=most), Admission())
    small, large = Principal("small", claims={"slots": 1}), Principal("large", claims={"slots": 3})
    seats = [await slots.take(SlotRequest(1, "agent", who)) for who in (small, large, large, large, Principal("free"))]
    for who in (small, large):
        with pytest.raises(RateLimited, match=r"of yours are running: at most \d may at once"):
            await slots.take(SlotRequest(1, "agent", who))
    for _ in range(4):
        seats.append(await slots.take(SlotRequest(1, "agent", Principal("free"))))
    for seat in seats:
        seat.close()
    assert slots.used == 0
    seats = [await slots.take(SlotRequest(1, "agent", small))]


@pytest.mark.parametrize("number", [-1, True, "3", 1.5])
def test_a_bound_that_is_neither_a_number_nor_a_function_is_refused(number: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Limits\.slots_per_principal is"):
        Limits(slots_per_principal=number)
