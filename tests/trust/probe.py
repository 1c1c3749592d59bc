"""Shared by the trust tests: the error envelope, agents that can be watched, and waiting for a condition."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import anyio
import httpx2

from openai_compat import AgentRequest, RunContext, Server
from tests.transports import reach

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def ask(**fields: Any) -> dict[str, Any]:
    """A valid chat request for the model "agent", with these fields added."""
    return {"model": "agent", "messages": [{"role": "user", "content": "hi"}], **fields}


def strict_json(data: bytes | str) -> Any:
    """Decode `data`; raises ValueError for NaN and infinities, which are not JSON."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(data, parse_constant=refuse)


def error_of(response: httpx2.Response) -> tuple[int, str, str | None, str | None]:
    """(status, type, code, param) of an error answer, after checking its envelope."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    assert len(response.content) < 4096
    body = strict_json(response.content)
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"]
    return response.status_code, body["error"]["type"], body["error"]["code"], body["error"]["param"]


def frames(body: bytes | str) -> list[Any]:
    """Data of a stream's events, decoded, except for "[DONE]". Comments are skipped."""
    text = body.decode() if isinstance(body, bytes) else body
    assert text.endswith("\n\n")
    data = [block.removeprefix("data: ") for block in text.split("\n\n")[:-1] if not block.startswith(":")]
    return [item if item == "[DONE]" else strict_json(item) for item in data]


def text_of(events: list[Any]) -> str:
    """The text of a chat stream."""
    chunks = [event for event in events if event != "[DONE]" and "choices" in event]
    return "".join([choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]])


def in_process(server: Server) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    """An in-process client of the server."""
    return reach(server, "in-process")


def eventually(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until the condition holds, at most `seconds`. For threads: it blocks."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not so after {seconds:g} s"
        threading.Event().wait(0.005)


async def soon(condition: Callable[[], Any], seconds: float = 10) -> None:
    """The same on an event loop."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


class Counting:
    """Answers "ok", and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, request: AgentRequest) -> str:
        self.runs += 1
        return "ok"


class Endless:
    """Says `pieces`, then waits forever. Reports when it begins to wait and when its clean-up has run."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.runs = 0
        self.waits = threading.Event()
        self.stopped = threading.Event()

    async def __call__(self, request: AgentRequest) -> AsyncIterator[str]:
        self.runs += 1
        try:
            for piece in self.pieces:
                yield piece
            self.waits.set()
            await anyio.sleep_forever()
        finally:
            self.stopped.set()


class EndlessThread(Endless):
    """The same as a plain generator, which runs in a thread."""

    def __call__(self, context: RunContext) -> Iterator[str]:
        self.runs += 1
        try:
            yield from self.pieces
            self.waits.set()
            while not context.wait_cancelled(30):
                yield ""
        finally:
            self.stopped.set()
