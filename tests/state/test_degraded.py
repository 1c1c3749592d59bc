"""Calls to a store that may be unavailable, for features that work without it."""

from __future__ import annotations

import logging

import anyio
import pytest

from openai_compat.errors import Unavailable
from openai_compat.state.degraded import StoreFallback
from tests.conftest import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


class Oracle:
    """Answers 42, or as configured."""

    def __init__(self) -> None:
        self.mood = "well"
        self.asked = 0

    async def __call__(self) -> int:
        self.asked += 1
        if self.mood == "away":
            raise Unavailable("away")
        if self.mood == "hangs":
            await anyio.sleep_forever()
        if self.mood == "mistaken":
            raise ZeroDivisionError
        return 42


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("mood", ["away", "hangs"])
async def test_a_store_that_does_not_answer_is_left_alone_for_a_while(
    mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    oracle, fallback = Oracle(), StoreFallback("we go on", patience=0.01, pause=100)
    oracle.mood = mood
    assert [await fallback.call(oracle) for _ in range(5)] == [None] * 5
    assert oracle.asked == 1
    assert told(caplog) == [("WARNING", "the store does not answer: we go on")]


async def test_when_it_answers_again_it_is_asked_each_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openai_compat")
    oracle, fallback = Oracle(), StoreFallback("we go on", patience=0.01, pause=0)
    oracle.mood = "away"
    assert [await fallback.call(oracle) for _ in range(3)] == [None] * 3
    oracle.mood = "well"
    assert [await fallback.call(oracle) for _ in range(3)] == [42] * 3
    assert oracle.asked == 6
    warning, again = told(caplog)
    assert (warning[0], again) == ("WARNING", ("INFO", "the store answers again"))


async def test_a_mistake_is_no_outage() -> None:
    oracle, fallback = Oracle(), StoreFallback("we go on")
    oracle.mood = "mistaken"
    with pytest.raises(ZeroDivisionError):
        await fallback.call(oracle)


async def test_who_leaves_while_it_hangs_leaves() -> None:
    oracle, fallback = Oracle(), StoreFallback("we go on", patience=100)
    oracle.mood = "hangs"
    with anyio.move_on_after(0.01) as scope:
        await fallback.call(oracle)
    assert scope.cancelled_caught
    oracle.mood = "well"
    assert await fallback.call(oracle) == 42
