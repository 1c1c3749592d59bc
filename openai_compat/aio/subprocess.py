"""One run of a command, from its start until its whole process group is gone.

A separate task owns the process, so that clean-up completes even if the reader is cancelled repeatedly:

    write the prompt ─┐
    log stderr ───────┤ concurrently, so that no full pipe can block another
    read stdout ──────┘
    wait for the exit
    always: SIGTERM to the group, wait, SIGKILL to the group
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from subprocess import DEVNULL, PIPE
from typing import Protocol

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from .background import Failure, Task, spawn

PIECES_AHEAD = 4
"""Pieces of output (up to 64 KiB) that are buffered for the reader; beyond that, the command blocks."""

STDERR_GRACE = 0.3
"""Seconds that stderr is still read after the command has exited."""


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds to wait for a command to end.

    Attributes:
        end: for the exit after the end of output, and for the end of output after the exit (a child process may keep the
            pipe open).
        kill: for the exit after SIGTERM, before SIGKILL. Keep it below `Deadlines.grace`.
    """

    end: float = 5.0
    kill: float = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start. With `stdin=None`, its stdin is empty."""

    argv: Sequence[str]
    stdin: bytes | None
    env: Mapping[str, str]
    cwd: str | os.PathLike[str] | None


class CommandRun:
    """A started command. Read it to the end, then check `exit_code`; always call `stop()`.

    Attributes:
        exit_code: exit code, negative for a signal. None while the command runs, and if it had to be killed.
    """

    def __init__(self, launch: Launch, grace: Grace, stderr: Callable[[bytes], None]) -> None:
        self._launch = launch
        self._grace = grace
        self._stderr = stderr
        self._send, self._receive = anyio.create_memory_object_stream[bytes](PIECES_AHEAD)
        self._failure = Failure()
        self._reading = _ReadTimeout()
        self.exit_code: int | None = None
        self._task: Task = spawn(self._run_task, "command", self._send.close)

    async def read(self) -> bytes:
        """Return the next piece of stdout, empty at the end. Raises OSError if the command cannot be started."""
        with suppress(anyio.EndOfStream):
            return await self._receive.receive()
        self._failure.raise_if_any()
        return b""

    def expect_end(self) -> None:
        """The relevant output is complete: wait for the end no longer than the grace."""
        self._reading.limit(self._grace.end)

    async def stop(self) -> None:
        """End the command if it still runs. Returns when its whole process group is gone."""
        # The task owns the process: cancelling it kills the group in its `finally`.
        if not self._task.done:
            self._task.cancel()
        try:
            with anyio.CancelScope(shield=True):
                await self._task.wait()
        finally:
            self._receive.close()

    # in its own task

    async def _run_task(self) -> None:
        try:
            await self._run()
        except Exception as error:
            self._failure.keep(error)

    async def _run(self) -> None:
        launch = self._launch
        process = await anyio.open_process(
            launch.argv,
            stdin=DEVNULL if launch.stdin is None else PIPE,
            cwd=launch.cwd,
            env=launch.env,
            # A separate process group, so that child processes can be killed too.
            start_new_session=True,
        )
        try:
            await self._communicate(process)
        finally:
            with anyio.CancelScope(shield=True):
                await end_group(process, self._grace.kill)
                await process.aclose()

    async def _communicate(self, process: Process) -> None:
        logged = anyio.Event()

        async def write(stdin: ByteSendStream) -> None:
            # A command may exit without reading its prompt: not an error.
            async with stdin:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    await stdin.send(self._launch.stdin or b"")

        async def log(stderr: ByteReceiveStream) -> None:
            async for data in stderr:
                self._stderr(data)
            logged.set()

        async def limit_reading() -> None:
            await process.wait()
            self._reading.limit(self._grace.end)

        async with anyio.create_task_group() as group:
            if process.stdin is not None:
                group.start_soon(write, process.stdin)
            if process.stderr is not None:
                group.start_soon(log, process.stderr)
            group.start_soon(limit_reading)
            if process.stdout is not None:
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError, TimeoutError):
                    while True:
                        await self._send.send(await self._reading.wait(process.stdout.receive))
            self.exit_code = await self._wait_exit_code(process)
            # A child process may keep stderr open long after the command has exited.
            with anyio.move_on_after(STDERR_GRACE):
                await logged.wait()
            group.cancel_scope.cancel()

    async def _wait_exit_code(self, process: Process) -> int | None:
        if process.returncode is None:
            with anyio.move_on_after(min(self._grace.end, self._reading.left)):
                await process.wait()
        return process.returncode


class _ReadTimeout:
    """Waits for output: without a limit at first, then for a limited time in total.

    Only waiting counts: available output is read, however slow the reader is.
    """

    def __init__(self) -> None:
        self.left = math.inf
        self._since = 0.0
        self._scope = anyio.CancelScope()

    def limit(self, seconds: float) -> None:
        if self.left == math.inf:
            self.left = seconds
            self._since = anyio.current_time()
            self._scope.deadline = self._since + seconds

    async def wait(self, receive: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the result of `receive`. Raises TimeoutError when the time is up."""
        self._since = anyio.current_time()
        with anyio.CancelScope(deadline=self._since + self.left) as self._scope:
            data = await receive()
            self.left -= anyio.current_time() - self._since
            return data
        self.left = 0.0
        raise TimeoutError


class GroupLeader(Protocol):
    """A process that leads its own group, as started by anyio or asyncio."""

    @property
    def pid(self) -> int:
        """Process id, which is also the group id."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, None while the process runs."""
        ...

    async def wait(self) -> int:
        """Return once the process has exited."""
        ...


async def end_group(process: GroupLeader, grace: float) -> None:
    """End the process and its group: SIGTERM, then SIGKILL after the exit, or after `grace` seconds."""
    if process.returncode is None:
        # SIGTERM first: a command may have a session to save.
        _signal_group(process, signal.SIGTERM)
        with anyio.move_on_after(grace):
            await process.wait()
    # The group may outlive its leader, so its remaining processes are killed too.
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: GroupLeader, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM")
"""Environment variables that every command gets. The server's keys and database URLs are not among them."""


def allowed_environment(names: Iterable[str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the server's variables whose names match BASICS or `names` (`*` matches any characters), and `values`."""
    patterns = (*BASICS, *names)
    passed = {name: value for name, value in os.environ.items() if any([fnmatchcase(name, p) for p in patterns])}
    return passed | dict(values)
