"""A pytest plugin for the acceptance cases: each case belongs to a scenario; scenarios that are `IMPOSSIBLE` are skipped.

The environment variable `OPENAI_COMPAT_FRAMEWORK` names the framework.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from tests.frameworks.scenarios import SCENARIOS

FRAMEWORK: Any = importlib.import_module(f"tests.frameworks.{os.environ['OPENAI_COMPAT_FRAMEWORK']}")


def scenario_of(item: pytest.Item) -> str:
    [mark] = item.iter_markers("scenario")
    name: str = mark.args[0]
    return name


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario(name): which one of tests/frameworks/scenarios.py it is about")


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = FRAMEWORK.IMPOSSIBLE.get(scenario_of(item))
    if reason is not None:
        pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects any
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    assert {scenario_of(item) for item in items} == SCENARIOS.keys()
    assert FRAMEWORK.IMPOSSIBLE.keys() <= SCENARIOS.keys()
