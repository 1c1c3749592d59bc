from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.connecting import connect as connect
from tests.connecting import http as http
from tests.connecting import transport as transport
from tests.stores.postgres_cluster import postgres as postgres
from tests.stores.postgres_cluster import postgres_database as postgres_database
from tests.stores.postgres_cluster import postgres_url as postgres_url

# No deadline: a busy machine makes any single example slow, and no test is about speed.
settings.register_profile("ours", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("ours"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ours"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both event loops; those that drive the openai SDK narrow this to asyncio."""
    return request.param


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what the command line, which configures logging for its whole process, changes in a test."""
    ours, root = logging.getLogger("openai_compat"), logging.getLogger()
    kept = (ours.level, ours.propagate, ours.disabled, list(ours.handlers), root.level, list(root.handlers))
    yield
    ours.setLevel(kept[0])
    ours.propagate, ours.disabled, ours.handlers[:] = kept[1:4]
    root.setLevel(kept[4])
    root.handlers[:] = kept[5]


@pytest.fixture(scope="module", autouse=True)
def no_task_outlives_its_loop() -> Iterator[None]:
    """Fail if a task is still pending after its event loop closed: it would be destroyed later, during another test."""
    yield
    # `type(thing) is`, not isinstance: isinstance would call proxies, which may do anything
    tasks = [thing for thing in gc.get_objects() if type(thing) is asyncio.Task]
    left = [task for task in tasks if not task.done() and task.get_loop().is_closed()]
    assert not left, f"pending, though their event loop is closed: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Freeze the tests and their modules, which live to the end, so that no garbage collection walks through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Escape lone surrogates in captured output: pytest-xdist cannot send them between its processes."""
    report = yield
    return None if report is None else _printable(report)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return type(value)([_printable(item) for item in value]) if type(value) in (list, tuple) else value
