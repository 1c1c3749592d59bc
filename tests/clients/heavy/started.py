"""Programs installed by a nox session: started before the tests, and stopped after them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

PATIENCE = 60.0
"""Seconds that a program may take for work of its own on a busy machine."""

Find = Callable[[], Any]


def program(variable: str, session: str) -> str:
    """Path of the program, from an environment variable. Skips the tests if it is not installed."""
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} names no program: `nox -s {session}` installs it", allow_module_level=True)
    return found


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(find: Find, tell: Find = str, patience: float = PATIENCE) -> Any:
    """The first true value that `find` returns, within `patience` seconds; on failure `tell` describes the state."""
    end = time.monotonic() + patience
    while not (found := find()):
        assert time.monotonic() < end, tell()
        time.sleep(0.1)
    return found


@contextmanager
def running(command: list[str], env: dict[str, str], folder: Path, alive: str) -> Iterator[None]:
    """Run the program; ready once the URL `alive` answers 200. Its output goes to the file `said` in its folder."""
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(command, env=env, cwd=folder, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or _answers(alive), patience=180)
            assert process.poll() is None, (folder / "said").read_text()[-3000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
