"""One run of a command, from its start until nothing is left of its process group.

A task of its own looks after it, so that clean-up runs to its end however often the reader is cancelled:

    write the prompt ─┐
    log stderr ───────┤ side by side, so that no full pipe can block another
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
"""Pieces of output (64 KiB at most) that may wait for the reader; then the command waits."""

LAST_WORDS = 0.3
"""Seconds that stderr is still read for, once the command has exited."""


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds to wait for a command at its end.

    Attributes:
        end: for its exit after the end of its output, and for the end of its output after its exit (a process that it
            has started may hold on to it).
        kill: for its exit after SIGTERM; then comes SIGKILL. Keep it below `Deadlines.grace`.
    """

    end: float = 5.0
    kill: float = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start. `stdin` None gives it an empty one."""

    argv: Sequence[str]
    stdin: bytes | None
    env: Mapping[str, str]
    cwd: str | os.PathLike[str] | None


class CommandRun:
    """A started command. Read it to its end, then look at `exit_code`; call `stop()` in any case.

    Attributes:
        exit_code: what it exited with, negative for a signal. None while it runs, and if it had to be ended.
    """

    def __init__(self, launch: Launch, grace: Grace, stderr: Callable[[bytes], None]) -> None:
        self._launch = launch
        self._grace = grace
        self._stderr = stderr
        self._send, self._receive = anyio.create_memory_object_stream[bytes](PIECES_AHEAD)
        self._failure = Failure()
        self._reading = _Patience()
        self.exit_code: int | None = None
        self._task: Task = spawn(self._look_after, "command", self._send.close)

    async def read(self) -> bytes:
        """The next piece of what it writes to stdout, empty at the end. Raises OSError if it cannot be started."""
        with suppress(anyio.EndOfStream):
            return await self._receive.receive()
        self._failure.raise_if_any()
        return b""

    def expect_end(self) -> None:
        """It has said all that matters: do not wait for it longer than the grace."""
        self._reading.limit(self._grace.end)

    async def stop(self) -> None:
        """End it if it still runs. Returns when nothing of its process group is left."""
        # The task owns the process: cancelling it kills the group in its `finally`.
        if not self._task.done:
            self._task.cancel()
        try:
            with anyio.CancelScope(shield=True):
                await self._task.wait()
        finally:
            self._receive.close()

    # in its own task

    async def _look_after(self) -> None:
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
            # A process group of its own, so that what the command has started can be killed with it.
            start_new_session=True,
        )
        try:
            await self._attend(process)
        finally:
            with anyio.CancelScope(shield=True):
                await end_group(process, self._grace.kill)
                await process.aclose()

    async def _attend(self, process: Process) -> None:
        logged = anyio.Event()

        async def write(stdin: ByteSendStream) -> None:
            # A command that does not read its prompt is none the worse for it.
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
            self.exit_code = await self._exit(process)
            # A child of the command may hold stderr open long after the command's end.
            with anyio.move_on_after(LAST_WORDS):
                await logged.wait()
            group.cancel_scope.cancel()

    async def _exit(self, process: Process) -> int | None:
        if process.returncode is None:
            with anyio.move_on_after(min(self._grace.end, self._reading.left)):
                await process.wait()
        return process.returncode


class _Patience:
    """Waits for output: without end at first, and once it is limited, for so many seconds in all.

    Only waiting counts: output that is there is read, however slow its reader is.
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
        """The result of `receive`. Raises TimeoutError when the time is over."""
        self._since = anyio.current_time()
        with anyio.CancelScope(deadline=self._since + self.left) as self._scope:
            data = await receive()
            self.left -= anyio.current_time() - self._since
            return data
        self.left = 0.0
        raise TimeoutError


class Led(Protocol):
    """A process that leads a group of its own, as anyio or asyncio has started it."""

    @property
    def pid(self) -> int:
        """Its id, and that of its group."""
        ...

    @property
    def returncode(self) -> int | None:
        """What it has exited with, None while it runs."""
        ...

    async def wait(self) -> int:
        """Return once it has exited."""
        ...


async def end_group(process: Led, grace: float) -> None:
    """End the command, and what it has started and left behind, `grace` seconds after asking it to end."""
    if process.returncode is None:
        # Asked first: a command may have a session to save.
        _signal_group(process, signal.SIGTERM)
        with anyio.move_on_after(grace):
            await process.wait()
    # The group may outlive its leader: what it left behind gets this one too.
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: Led, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM")
"""Variables that every command gets. The server's keys and database URLs are not among them."""


def allowed_environment(names: Iterable[str], values: Mapping[str, str]) -> dict[str, str]:
    """The server's variables whose names are in BASICS or `names` (`*` matches any characters), and `values`."""
    patterns = (*BASICS, *names)
    passed = {name: value for name, value in os.environ.items() if any([fnmatchcase(name, p) for p in patterns])}
    return passed | dict(values)
