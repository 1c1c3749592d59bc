"""One agent per framework with approvals, in one process: `openai-compat serve tests.frameworks.team:agents`."""

from __future__ import annotations

import importlib
from typing import Any

from tests.frameworks.model import Model
from tests.frameworks.table import asking


def careful(name: str) -> Any:
    """The framework's agent whose tool needs approval."""
    doubles: Any = importlib.import_module(f"tests.frameworks.{name}")
    return doubles.agents(Model())["careful"]


agents = {name: careful(name) for name in asking()}
