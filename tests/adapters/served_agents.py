"""Agents for the tests of the command line; the model "runs" returns how often "counted" ran."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator

from openai_compat import Progress, ReasoningDelta, Server, UsageReported

runs = 0


async def echo(prompt: str) -> str:
    return prompt


def counted(prompt: str) -> str:
    global runs
    runs += 1
    return prompt


def count(prompt: str) -> str:
    return str(runs)


async def leashed(prompt: str) -> AsyncIterator[str]:
    """Says the lines that it receives from port `prompt`, and reports its end there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(prompt))
    try:
        while word := (await reader.readline()).decode().rstrip("\n"):
            yield word
    finally:
        writer.write(b"finally")
        writer.close()


async def endless(prompt: str) -> AsyncIterator[str]:
    """Writes endlessly, and reports its end to port `prompt`."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(prompt))
    try:
        while True:
            yield "x" * 100_000
            await asyncio.sleep(0)
    finally:
        writer.write(b"finally")
        writer.close()


def big(prompt: str) -> str:
    """Answers with as many characters as the prompt says."""
    return "x" * int(prompt)


async def usage(prompt: str) -> AsyncIterator[str | UsageReported]:
    yield "counted"
    yield UsageReported(input_tokens=3, output_tokens=4)


async def pieces(prompt: str) -> AsyncIterator[str]:
    """Repeats the prompt, character by character."""
    for character in prompt:
        yield character


async def lone_surrogate(prompt: str) -> str:
    return "before \ud800 after"


async def fails(prompt: str) -> str:
    raise RuntimeError("the secret of the agent")


def stuck_thread(prompt: str) -> Iterator[str]:
    """Connects to port `prompt`, then blocks its thread for good."""
    with socket.create_connection(("127.0.0.1", int(prompt))):
        time.sleep(3600)
    yield "never"


async def stuck_executor(prompt: str) -> str:
    """Blocks a thread of asyncio's executor, for which the interpreter would wait."""
    return await asyncio.to_thread(lambda: next(stuck_thread(prompt)))


async def stuck_loop(prompt: str) -> str:
    """Connects to port `prompt`, then blocks the event loop."""
    with socket.create_connection(("127.0.0.1", int(prompt))):
        while True:
            time.sleep(0.01)


async def conversation(messages: list[dict[str, str]]) -> AsyncIterator[str | Progress]:
    """Repeats all messages; "wait PORT" holds it, "fail" makes it fail."""
    word, _, port = messages[-1]["content"].partition(" ")
    if word == "fail":
        raise RuntimeError("asked to")
    if word == "wait":
        yield "waiting"
        async for said in leashed(port):
            yield said
    else:
        yield ReasoningDelta("What was said? ")
        yield ReasoningDelta("Nothing else.")
        yield "I "
        yield Progress("tool", "1", "Listening …")
        yield "heard: " + " / ".join([message["content"] for message in messages])


agents = {
    "echo": echo,
    "counted": counted,
    "runs": count,
    "leashed": leashed,
    "endless": endless,
    "big": big,
    "usage": usage,
    "pieces": pieces,
    "lone_surrogate": lone_surrogate,
    "fails": fails,
    "stuck_thread": stuck_thread,
    "stuck_executor": stuck_executor,
    "stuck_loop": stuck_loop,
}
keyed_server = Server({"echo": echo}, keys="a-key-of-its-own")
open_server = Server({"echo": echo, "shout": lambda prompt: prompt.upper()})
nothing: dict[str, object] = {}
number = 42
