from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.trust.loop import watched_loop

settings.register_profile("core", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("core"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))


@pytest.fixture(autouse=True)
def no_step_of_the_loop_is_long() -> Iterator[None]:
    """Whatever a test sends, no step of an asyncio event loop in this process holds up all others."""
    with watched_loop():
        yield
