"""Slots: all or none, never more than there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import RateLimited, Unavailable
from openai_compat.policies.admission import Slots


@given(st.integers(0, 5), st.lists(st.one_of(st.integers(1, 4), st.just(-1)), max_size=30))
def test_never_more_slots_are_used_than_there_are(limit: int, steps: list[int]) -> None:
    slots, used = Slots(limit), 0
    for step in steps:
        if step == -1:
            if used:
                slots.release()
                used -= 1
        elif used + step <= limit:
            slots.take(step)
            used += step
        else:
            with pytest.raises(RateLimited):
                slots.take(step)
        assert slots.used == used <= limit


def test_none_is_taken_while_the_server_shuts_down() -> None:
    slots = Slots(5)
    slots.take(1)
    slots.closed = True
    with pytest.raises(Unavailable) as caught:
        slots.take(1)
    assert (caught.value.code, slots.used) == ("shutting_down", 1)
