"""Default targets of the command line, from the current directory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

from .wrong_target import CannotLoad

TEAM_FILE, PROJECT_FILE, AGENT_FILE = "openai-compat.toml", "pyproject.toml", "agent.py"

NOTHING_HERE = (
    f"There is no {TEAM_FILE} here, no 'serve' in [tool.openai-compat] of {PROJECT_FILE}, and no {AGENT_FILE}."
)


def default_targets() -> list[str]:
    """Return the current directory's team file, else the targets of its pyproject.toml, else its agent.py.

    Raises CannotLoad.
    """
    if Path(TEAM_FILE).is_file():
        return [TEAM_FILE]
    return _project_targets() or ([AGENT_FILE] if Path(AGENT_FILE).is_file() else [])


def _project_targets() -> list[str]:
    file = Path(PROJECT_FILE)
    if not file.is_file():
        return []
    try:
        project: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except ValueError as error:  # from tomllib or from decoding UTF-8
        raise CannotLoad(f"'{PROJECT_FILE}' is not TOML: {error}.") from error
    tools: Any = project.get("tool")
    table: Any = cast("dict[str, Any]", tools).get("openai-compat", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise CannotLoad(f"'tool.openai-compat' in {PROJECT_FILE} is not a table.")
    settings = cast("dict[str, Any]", table)
    if unknown := sorted(set(settings) - {"serve"}):
        raise CannotLoad(f"[tool.openai-compat] in {PROJECT_FILE} has 'serve' only, not '{unknown[0]}'.")
    named: object = settings.get("serve", [])
    targets = cast("list[object]", named) if isinstance(named, list) else [named]
    texts = [target for target in targets if isinstance(target, str) and target]
    if len(texts) < len(targets):
        raise CannotLoad(
            f"'serve' in [tool.openai-compat] of {PROJECT_FILE} is not a target, such as agent.py, or a list."
        )
    return texts
