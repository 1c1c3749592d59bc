"""Event loops that a server may run on, as parameters of the `anyio_backend` fixture.

Tests of timers, logs, sockets or tasks run on each of them: `from tests.loops import anyio_backend`.
"""

from __future__ import annotations

from typing import Any

import pytest

UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
ASYNCIO_LOOPS = (pytest.param("asyncio", id="asyncio"), UVLOOP)
EVERY_LOOP = (*ASYNCIO_LOOPS, pytest.param("trio", id="trio"))


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param
