"""`openai-compat serve` in a separate process, and raw sockets to it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h11

COMMAND = str(Path(sys.executable).with_name("openai-compat"))
HERE = Path(__file__).parent
PATIENCE = 15.0
"""Seconds after which a test gives up waiting for something that should come soon."""


class Served:
    """A running server. Its stderr is collected, so that it never waits for a reader."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, cwd: Path = HERE) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        arguments = ("--listen", "127.0.0.1:0", *arguments)
        self.process = subprocess.Popen(
            [COMMAND, "serve", *arguments], stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_for(r"http://\S+?:(\d+)/")[1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for the next line of stderr that matches `pattern`."""
        for line in self._follow():
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no {pattern!r} in:\n{self.log}")

    def _follow(self) -> Iterator[str]:
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self._seen.append(line)
            yield line

    @property
    def log(self) -> str:
        """All of stderr so far; complete once the process has ended."""
        while not self._lines.empty():
            if (line := self._lines.get()) is not None:
                self._seen.append(line)
        return "".join(self._seen)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Wait at most `seconds` for the end of the process, and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(PATIENCE)
        return code

    def memory(self) -> int:
        """Resident bytes of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.port)

    def exchange(self, data: bytes, *methods: str) -> list[Answer]:
        """Send `data` over a new connection, which the server must close, and return the responses."""
        with self.connect() as connection:
            connection.send(data)
            return answers(connection.rest(), *methods)

    def ask(self, model: str, prompt: str = "hi", **options: object) -> Answer:
        """The answer of an agent."""
        (answer,) = self.exchange(chat(model, prompt, close=True, **options))
        return answer


def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        check=False,
        capture_output=True,
        input=stdin,
        text=True,
        cwd=HERE,
        env={**os.environ, **(env or {})},
        timeout=PATIENCE,
    )


@contextmanager
def serve(*arguments: str, env: dict[str, str] | None = None, cwd: Path = HERE) -> Iterator[Served]:
    """Run a server, and kill it at the end if it still runs."""
    served = Served(*arguments, env=env, cwd=cwd)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait(PATIENCE)
        served._reader.join(PATIENCE)
        served.process.stderr.close()


class Connection:
    """A TCP connection to the server; every wait is bounded."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; an already closed server is no failure, since only its response counts."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        while end not in self._unread:
            piece = self.socket.recv(65536)
            assert piece, f"closed before {end!r} came: {self._unread!r}"
            self._unread += piece
        before, _, self._unread = self._unread.partition(end)
        return before + end

    def rest(self, seconds: float = PATIENCE) -> bytes:
        """Read everything until the server closes the connection, which must happen within `seconds`."""
        data, self._unread = self._unread, b""
        deadline = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return data
            data += piece

    def drip(self, data: bytes, pause: float) -> bytes:
        """Send byte after byte with pauses, until the end or until the server closes. Returns what the server has sent."""
        received = b""
        self.socket.settimeout(pause)
        for index in range(len(data)):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.socket.sendall(data[index : index + 1])
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return received
            if not piece:
                return received
            received += piece
        raise AssertionError("the server did not close")


@dataclass
class Answer:
    """An answer as a strict HTTP parser reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    informational: list[int]

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def error(self) -> dict:
        """The error, from a complete envelope."""
        assert self.headers["content-type"] == "application/json"
        assert len(self.body) < 4096
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def text(self) -> str:
        return self.json["choices"][0]["message"]["content"]

    @property
    def chunks(self) -> list[dict]:
        """The chunks of a complete stream."""
        *events, last = self.events
        assert last == "[DONE]"
        return [json.loads(event) for event in events]

    @property
    def events(self) -> list[str]:
        """The data of each server-sent event; comments are left out."""
        blocks = self.body.decode().split("\n\n")
        assert blocks.pop() == ""
        return [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]

    @property
    def streamed_text(self) -> str:
        return "".join(c["delta"].get("content", "") for chunk in self.chunks for c in chunk["choices"])


def answers(data: bytes, *methods: str) -> list[Answer]:
    """Split `data` into complete responses; nothing may be left over. `methods` are those of the requests."""
    found = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        answer, data = _answer(data, method)
        found.append(answer)
    return found


def _answer(data: bytes, method: str) -> tuple[Answer, bytes]:
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(data)
    parser.receive_data(b"")
    head, body, informational = None, b"", []
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.InformationalResponse):
            informational.append(event.status_code)
        elif isinstance(event, h11.Response):
            head = event
        else:
            assert isinstance(event, h11.Data)
            body += event.data
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return Answer(head.status_code, headers, body, informational), parser.trailing_data[0]


def chat(model: str, prompt: str = "hi", *, close: bool = False, key: str = "", **options: object) -> bytes:
    """The bytes of a chat request."""
    content = {"model": model, "messages": [{"role": "user", "content": prompt}], **options}
    return post(json.dumps(content).encode(), close=close, key=key)


def post(body: bytes, *headers: str, close: bool = False, key: str = "") -> bytes:
    """The bytes of a request to the chat endpoint with this body."""
    lines = [f"Content-Length: {len(body)}", *headers]
    lines += ["Connection: close"] if close else []
    lines += [f"Authorization: Bearer {key}"] if key else []
    return head("POST", "/v1/chat/completions", "Content-Type: application/json", *lines) + body


def head(method: str, target: str, *headers: str) -> bytes:
    """The bytes of a request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1")


class Leash:
    """The test's end of a `leashed` agent's connection: holds the agent until the test sends a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._agent: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        if self._agent is not None:
            self._agent.close()

    @property
    def prompt(self) -> str:
        """The prompt that tells the agent where to connect."""
        return str(self._listener.getsockname()[1])

    def wait_for_agent(self) -> None:
        """Wait until the agent runs."""
        self._agent, _ = self._listener.accept()
        self._agent.settimeout(PATIENCE)

    def say(self, word: str) -> None:
        """Have the agent say `word`; an empty one ends its answer."""
        self._agent.sendall(f"{word}\n".encode())

    @property
    def last_words(self) -> str:
        """The text that the agent sent as it ended."""
        words = b""
        while piece := self._agent.recv(100):
            words += piece
        return words.decode()


@contextmanager
def held_worker(served: Served, key: str = "") -> Iterator[int]:
    """Block the event loop of one worker by an agent, so that it accepts no connections. Yields its process id.

    The kernel decides which worker accepts a connection, and may choose the same one a hundred times.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, served.connect() as connection:
        listener.settimeout(PATIENCE)
        connection.send(chat("blocks", str(listener.getsockname()[1]), close=True, key=key))
        agent, _ = listener.accept()
        with agent:
            agent.settimeout(PATIENCE)
            pid = int(agent.recv(100))
            yield pid
        (answer,) = answers(connection.rest())
        assert answer.text == str(pid)


@contextmanager
def without_worker(served: Served, pid: int) -> Iterator[None]:
    """Block the worker `pid` of two, so that the other one accepts all connections."""
    with ExitStack() as first:
        if first.enter_context(held_worker(served)) == pid:
            yield
            return
        with held_worker(served) as second:
            assert second == pid
            first.close()
            yield
