"""A pytest plugin of the acceptance cases: what cannot be had is skipped, and how each scenario went is written down.

The framework is the one in `OPENAI_COMPAT_FRAMEWORK`; what works goes into the file in `OPENAI_COMPAT_OUTCOMES`.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
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
    config.addinivalue_line("markers", "slow: left out where the oldest version is tried")


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = FRAMEWORK.IMPOSSIBLE.get(scenario_of(item))
    if reason is not None:
        pytest.skip(reason)


def pytest_collection_finish(session: pytest.Session) -> None:
    told = {scenario_of(item): FRAMEWORK.IMPOSSIBLE.get(scenario_of(item), "") for item in session.items}
    assert FRAMEWORK.IMPOSSIBLE.keys() <= SCENARIOS.keys()
    if path := os.environ.get("OPENAI_COMPAT_OUTCOMES"):  # it counts only if nothing fails
        Path(path).write_text(json.dumps(told), "utf-8")
