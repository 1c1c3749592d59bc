from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trust.loop import watched_loop


@pytest.fixture(autouse=True)
def no_step_of_the_loop_is_long() -> Iterator[None]:
    """Fail if one step of an asyncio event loop in this process blocks all others, whatever a test sends."""
    with watched_loop():
        yield
