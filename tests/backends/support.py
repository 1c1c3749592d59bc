"""Helpers of the backend tests: requests as made by the server, runs without a server, scripted commands."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import anyio

from openai_compat import AgentBackend, AgentRequest, RunContext
from openai_compat.wire.chat.parse import parse_chat


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def request_for(prompt: str | list[Any] = "Hello", **fields: Any) -> AgentRequest:
    """The agent request for a chat body, made by the server's parser."""
    messages = [user(prompt)] if isinstance(prompt, str) else prompt
    return parse_chat(json.dumps({"model": "agent", "messages": messages, **fields}).encode()).request


def new_context() -> RunContext:
    return RunContext("chatcmpl-1", "req_1", time.monotonic() + 60, logging.getLogger("openai_compat"))


async def read(backend: AgentBackend, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
    async with aclosing(cast("Any", backend.run(request, context))) as items:
        async for item in items:
            yield item


async def run(backend: AgentBackend, request: AgentRequest | None = None) -> list[Any]:
    """Run the backend and return its items, with adjacent plain texts joined."""
    said: list[Any] = []
    with anyio.fail_after(30):
        async with aclosing(read(backend, request or request_for(), new_context())) as items:
            async for item in items:
                if isinstance(item, str) and said and isinstance(said[-1], str):
                    said[-1] += item
                elif item != "":
                    said.append(item)
    return said


def command(folder: Path, code: str, *arguments: str) -> list[str]:
    """A command that runs Python code."""
    path = folder / "command.py"
    path.write_text("import os, signal, subprocess, sys, time\n" + dedent(code), "utf-8")
    return [sys.executable, "-S", str(path), *arguments]


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


def alive(pid: int) -> bool:
    """True if a process runs; False for a zombie, too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text("utf-8").split()] if path.exists() else []
