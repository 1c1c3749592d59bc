"""Records the SQL statements that SQLite executes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from openai_compat.stores import sqlite


def traced_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements over all connections opened from now on, in order; the list grows as they are executed."""
    statements: list[str] = []
    opened = sqlite.open_database

    def traced(path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite, "open_database", traced)
    return statements
