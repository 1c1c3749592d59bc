"""Agents that record their requests, or wait until a test releases them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread

from openai_compat import AgentRequest


class Recorder:
    """Answers with the last message's text, and records every conversation it gets."""

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    async def run(self, request: AgentRequest) -> AsyncIterator[str]:
        self.seen.append([message["content"] for message in request.raw_messages])
        if request.prompt == "fail":
            raise ValueError("the text of this exception is for the log")
        yield "re: "
        yield request.prompt


class Gate:
    """Says "begun", then waits for `open`; works from the event loop of any thread."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()
        self.ended: list[str] = []
        self.runs = 0

    async def run(self, prompt: str) -> AsyncIterator[str]:
        self.runs += 1
        outcome = "cancelled"
        try:
            yield "begun "
            self.begun.release()
            while not self.opened.is_set():
                await anyio.sleep(0.005)
            yield prompt
            outcome = "finished"
        finally:
            self.ended.append(outcome)

    async def wait_begun(self) -> None:
        assert await anyio.to_thread.run_sync(self.begun.acquire, True, 10)
