"""Reads the records of the agents in `agents.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Runs:
    """Records of the agents since the test began, from their folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for file in folder.iterdir():
            file.unlink()

    @property
    def all(self) -> list[dict[str, Any]]:
        path = self.folder / "runs.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    @property
    def begun(self) -> list[dict[str, Any]]:
        return [run for run in self.all if run["what"] == "begun"]

    def let(self, name: str) -> None:
        """Release the agents that wait for the file `name`."""
        (self.folder / name).touch()
