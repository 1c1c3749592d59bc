"""Server programs in separate processes, started as a reader of the documentation would start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 30
"""Seconds allowed to start or to stop."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def environment(**more: str) -> dict[str, str]:
    """An environment with this interpreter's programs first in PATH, and no variable that would redirect an SDK."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | more


class Program:
    """A running program that listens on `port`."""

    def __init__(self, command: Sequence[str] | str, port: int, cwd: Path, env: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  (closed in `stop`)
        self._port = port
        self._process = subprocess.Popen(
            ["bash", "-c", command] if isinstance(command, str) else command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    @property
    def output(self) -> str:
        return os.pread(self._log.fileno(), 1_000_000, 0).decode()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE} s:\n{self.output}"
            try:
                code = self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"ended with {code}:\n{self.output}")

    def listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """For signals to this program alone: `stop` also signals its children."""
        return self._process.pid

    def ended(self) -> int:
        """Wait until the program ends on its own; returns the exit code."""
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        try:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(PATIENCE)
            self._wait_for_group()
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._log.close()

    def _wait_for_group(self) -> None:
        """Wait for workers, which may end after the program that started them."""
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                time.sleep(0.02)


@contextmanager
def served(*command: str, cwd: Path = EXAMPLES, **env: str) -> Iterator[str]:
    """Run `command`, with PORT replaced by a free port; yields `http://127.0.0.1:PORT` once it listens."""
    port = free_port()
    program = Program([part.replace("PORT", str(port)) for part in command], port, cwd, environment(**env))
    try:
        program.wait_until(program.listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        program.stop()
