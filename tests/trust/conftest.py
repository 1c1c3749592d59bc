from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trust.loop import watched_loop


@pytest.fixture(autouse=True)
def no_step_of_the_loop_is_long() -> Iterator[None]:
    """Whatever a test sends, no step of an asyncio event loop in this process holds up all others."""
    with watched_loop():
        yield
