"""Ticks for the supervisor, with the Python and TOML files that have changed since the last tick."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

TICK = 0.2
"""Seconds between two ticks."""


def no_changes() -> Iterator[set[str]]:
    """Endless ticks without changes, for a server without `--reload`."""
    while True:
        time.sleep(TICK)
        yield set()


def file_changes(folder: Path) -> Iterator[set[str]]:
    """Endless ticks with the changed Python and TOML files below `folder`. Raises click.UsageError without watchfiles."""
    try:
        watchfiles: Any = importlib.import_module("watchfiles")
    except ImportError as error:
        text = "--reload needs the package watchfiles: pip install 'openai-compat[reload]'"
        raise click.UsageError(text) from error
    watch = watchfiles.watch(
        folder,
        watch_filter=watchfiles.PythonFilter(extra_extensions=(".toml",)),
        rust_timeout=int(TICK * 1000),
        yield_on_timeout=True,  # a tick without changes
        raise_interrupt=False,  # the supervisor handles the signals
        ignore_permission_denied=True,
    )

    def relative_path(path: str) -> str:
        return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path

    return ({relative_path(path) for _, path in changes} for changes in watch)
