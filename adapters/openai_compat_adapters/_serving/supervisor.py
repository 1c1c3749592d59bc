"""Several processes on one port, or one that restarts when files change: `--workers` and `--reload`.

The parent owns the socket and serves nothing. Workers run the same command and inherit the socket; each imports the
agents itself. A worker whose parent has died ends as after SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

LISTENER = "_OPENAI_COMPAT_LISTENER"
"""The environment variable that makes a process a worker; its value is the socket's file descriptor."""
WORKER = "OPENAI_COMPAT_WORKER"
"""The environment variable with a worker's number, from 0. A replacement has the same number."""
CANNOT_START = (1, 2)
"""Exit codes of a command line error: another start would fail the same way."""

logger = logging.getLogger("openai_compat")


def inherited_listener() -> socket.socket | None:
    """The socket inherited from the parent; None in a process that is no worker."""
    number = os.environ.pop(LISTENER, None)
    if number is None:
        return None
    parent = os.dup(0)  # moved away from stdin, which subprocesses of agents inherit
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_exit_with_parent, args=[parent], name="openai-compat parent watch", daemon=True).start()
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    return listener


def _exit_with_parent(parent: int) -> None:
    """Terminate this process when the parent dies: its end of the pipe, which nobody writes to, is closed then."""
    os.read(parent, 1)
    os.kill(os.getpid(), signal.SIGTERM)


class Supervisor:
    """Keeps `number` workers, started in `folder`, serving on `listener`.

    SIGTERM and SIGINT are forwarded to the workers, which drain. A worker that crashes is logged and replaced. One that
    cannot start ends all of them, or, with `--reload`, is started again after the next change.
    """

    def __init__(self, listener: socket.socket, number: int, folder: Path) -> None:
        self._folder = folder
        self._listener = listener
        self._number = number
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._received: list[int] = []
        self._forwarded = 0
        self._exit_code = 0

    def run(self, changes: Iterator[set[str]], *, reloads: bool = False) -> int:
        """Supervise until all workers have ended. Each tick of `changes` gives the files that changed. Returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: self._received.append(received))
        self._start_workers(range(self._number))
        for files in changes:
            self._forward_signals()
            if files and not self._forwarded:
                self._restart_workers(files)
            ended = {number: worker for number, worker in self._workers.items() if worker.poll() is not None}
            self._workers = {number: worker for number, worker in self._workers.items() if number not in ended}
            if self._forwarded and not self._workers:  # all have drained
                break
            self._handle_exits(ended, reloads)
        return self._exit_code

    def _start_workers(self, numbers: Iterable[int]) -> None:
        descriptor = self._listener.fileno()
        for number in numbers:
            worker = subprocess.Popen(  # noqa: S603  (this very command)
                [sys.executable, *sys.orig_argv[1:]],  # with the interpreter's own options
                env={**os.environ, LISTENER: str(descriptor), WORKER: str(number)},
                cwd=self._folder,
                stdin=subprocess.PIPE,
                pass_fds=[descriptor],
                process_group=0,  # Ctrl-C reaches the parent alone
            )
            logger.info("worker %d started", worker.pid)
            self._workers[number] = worker

    def _forward_signals(self) -> None:
        """Forward signals to the workers: the first as SIGTERM, the second as SIGINT."""
        # Two of the same signal that are both pending would arrive as one.
        while self._forwarded < len(self._received):
            self._signal_workers(signal.SIGINT if self._forwarded else signal.SIGTERM)
            self._forwarded += 1
            self._listener.close()  # workers have their own; without them, new connections are refused

    def _signal_workers(self, number: int) -> None:
        for worker in self._workers.values():
            worker.send_signal(number)

    def _restart_workers(self, files: set[str]) -> None:
        """Restart the workers and stop running turns: whoever changes a file wants to see the result."""
        logger.info("%s changed, starting anew", ", ".join(sorted(files)))
        self._signal_workers(signal.SIGTERM)
        self._signal_workers(signal.SIGINT)  # the second signal stops running turns at once
        for worker in self._workers.values():
            worker.wait()
        self._workers.clear()
        self._start_workers(range(self._number))

    def _handle_exits(self, ended: Mapping[int, subprocess.Popen[Any]], reloads: bool) -> None:
        for number, worker in ended.items() if not self._forwarded else ():
            logger.error("worker %d ended with exit code %d", worker.pid, worker.returncode)
            if worker.returncode not in CANNOT_START:
                self._start_workers([number])
            elif not reloads:
                self._exit_code = 1
                self._received.append(signal.SIGTERM)
