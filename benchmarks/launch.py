"""Starts a server in a separate process, and reads its CPU time and memory from /proc (Linux)."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds that a server may take to start."""

PROGRAM = {"--http": "httptools", "--loop": "uvloop"}
"""uvicorn's HTTP parser and event loop."""
UVICORN = ("--workers", "1", "--no-access-log", "--log-level", "warning")

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_ALL_CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
_server_cores = _ALL_CORES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add options for uvicorn's HTTP parser and event loop."""
    parser.add_argument("--http", choices=["httptools", "h11"], default="httptools", help="uvicorn's HTTP parser")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop", help="uvicorn's event loop")


@dataclass(frozen=True)
class Running:
    """A server that accepts requests."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        """CPU seconds used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def cores_apart() -> Iterator[None]:
    """Pin servers to the first core, and this process, which makes the load, to the last, while the block lasts."""
    global _server_cores  # noqa: PLW0603  (one for the process)
    _server_cores = _ALL_CORES[:1]
    os.sched_setaffinity(0, _ALL_CORES[-1:])
    try:
        yield
    finally:
        _server_cores = _ALL_CORES
        os.sched_setaffinity(0, _ALL_CORES)


@contextmanager
def running(name: str, **environment: str) -> Iterator[Running]:
    """Run `servers/<name>.py` in uvicorn while the block lasts, with extra environment variables."""
    port = _free_port()
    program = [word for option in PROGRAM.items() for word in option]
    command = [sys.executable, "-m", "uvicorn", f"servers.{name}:app", "--app-dir", str(HERE), *UVICORN, *program]
    with _process(name, port, [*command, "--port", str(port)], environment) as server:
        yield server


@contextmanager
def served(name: str, **environment: str) -> Iterator[Running]:
    """Run `server` of `servers/<name>.py` in `openai-compat serve` while the block lasts."""
    port = _free_port()
    program = str(Path(sys.executable).with_name("openai-compat"))
    command = [program, "serve", f"servers.{name}:server", "--listen", f"127.0.0.1:{port}", "--log-level", "error"]
    with _process(
        f"{name} (serve)", port, command, environment, stderr=subprocess.DEVNULL
    ) as server:  # hides the banner
        yield server


Start: TypeAlias = Callable[[], AbstractContextManager[Running]]
SERVERS: dict[str, Start] = {name: partial(running, name) for name in ("floor", "handwritten", "peer", "ours")}


@contextmanager
def _process(
    name: str, port: int, command: list[str], environment: dict[str, str], stderr: int | None = None
) -> Iterator[Running]:
    # `python -m` searches the working directory first: it must not be another checkout of this code.
    with subprocess.Popen(command, cwd=HERE, env=os.environ | environment, stderr=stderr) as process:
        os.sched_setaffinity(process.pid, _server_cores)
        try:
            _await_port(process, port)
            yield Running(name, port, process.pid)
        finally:
            process.kill()  # no orderly shutdown, which open streams would delay


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the server did not start: {process.args!r}")
