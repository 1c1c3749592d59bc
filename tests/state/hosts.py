"""Server processes that share a store, and agents in them that the test controls over a socket (a leash)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
from openai import AsyncOpenAI

ROOT = Path(__file__).parents[2]

LEASE = 1.5
"""Lease in seconds, after which everything that a dead process held is free."""

SOON = LEASE + 3
"""Seconds after which other processes must be able to use it."""

PATIENCE = 20.0
"""Timeout of waits in tests, in seconds."""


class Host:
    """A server in a separate process, from the code in the folder `root`."""

    def __init__(self, store: str, *, root: Path = ROOT, module: str = "tests.state.host", **settings: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (`remove` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, "STORE": store, "LEASE": str(LEASE), "PYTHONPATH": f"{root}:{root / 'adapters'}", **settings},
            cwd=root, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self._url: str | None = None

    @property
    def url(self) -> str:
        """The URL it listens on."""
        if self._url is None:
            assert self._process.stdout is not None
            port = self._process.stdout.readline()
            assert port, self.log
            self._url = f"http://127.0.0.1:{int(port)}/v1"
        return self._url

    @property
    def listened(self) -> bool:
        """True if its URL is known."""
        return self._url is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Its log so far."""
        self._log.seek(0)
        return self._log.read().decode()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def client(self, **options: Any) -> AsyncOpenAI:
        """An openai SDK client for it, without retries unless `options` set them."""
        http = httpx2.AsyncClient(timeout=PATIENCE)
        return AsyncOpenAI(base_url=self.url, api_key="none", http_client=http, **{"max_retries": 0, **options})

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """Send SIGTERM, which lets running turns end."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for its exit code."""
        return self._process.wait(PATIENCE)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Send SIGSTOP, and SIGCONT at the end."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


class Hosts:
    """Servers on one store; `settings` are those of `host`. A dead server is restarted on its next use."""

    def __init__(self, store: str, number: int, *, module: str = "tests.state.host", **settings: str) -> None:
        self._store = store
        self._module = module
        self._settings = settings
        self._hosts = [self.start() for _ in range(number)]

    def start(self) -> Host:
        """Start one more server, which is not restarted."""
        return Host(self._store, module=self._module, **self._settings)

    def all(self) -> list[Host]:
        for number, host in enumerate(self._hosts):
            if not host.running:
                host.remove()
                self._hosts[number] = self.start()
        assert all([host.url for host in self._hosts])
        return list(self._hosts)

    def known(self) -> list[Host]:
        """The servers that have been listening, dead or alive."""
        return [host for host in self._hosts if host.listened]

    def remove(self) -> None:
        for host in self._hosts:
            host.remove()


class Run:
    """An agent that runs in one of the processes."""

    def __init__(self, told: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid: int = told["pid"]
        self.prompt: str = told["prompt"]
        self.seen: list[str] = told["seen"]
        self._reader = reader
        self._writer = writer

    def say(self, text: str) -> None:
        """Have the agent output a text."""
        self._writer.write(f"{text}\n".encode())

    async def end(self, *texts: str) -> str:
        """Have the agent output these texts and end."""
        for text in (*texts, "."):
            self.say(text)
        return await self.over()

    async def over(self) -> str:
        """Wait for its end: "ended", "cancelled", or "" if its process has died."""
        with anyio.fail_after(PATIENCE):
            try:
                how = await self._reader.read()
            except ConnectionError:
                how = b""
        return how.decode()

    async def let_go(self) -> None:
        """Close the connection."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class Leash:
    """The socket that leashed agents connect to."""

    def __init__(self) -> None:
        self.port = 0
        self.number = 0
        self._arrived: asyncio.Queue[Run] = asyncio.Queue()
        self._runs: list[Run] = []

    def prompt(self, text: str) -> str:
        """A prompt that makes a leashed agent connect here."""
        return f"{self.port} {text}"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number += 1
        run = Run(json.loads(await reader.readline()), reader, writer)
        self._runs.append(run)
        self._arrived.put_nowait(run)

    async def let_go(self) -> None:
        """Close the connections of all agents."""
        for run in self._runs:
            await run.let_go()

    async def run(self) -> Run:
        """The next agent that has started."""
        with anyio.fail_after(PATIENCE):
            return await self._arrived.get()


@asynccontextmanager
async def leash() -> AsyncIterator[Leash]:
    """A leash; at the end all agents are released."""
    made = Leash()
    server = await asyncio.start_server(made.connected, "127.0.0.1")
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.let_go()


async def eventually(condition: Any, seconds: float = PATIENCE) -> Any:
    """The result of `await condition()` once it is true."""
    with anyio.fail_after(seconds):
        while not (found := await condition()):
            await anyio.sleep(0.05)
        return found
