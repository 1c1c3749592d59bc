"""Sends requests to Ollama's API and collects the answers."""

from __future__ import annotations

import json
from typing import Any

import anyio

from openai_compat import AgentRequest, Server
from openai_compat.api.ollama import Ollama
from tests.support.exchanges import Recorder, request

SAID: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Asked(list[AgentRequest]):
    """An agent that records its requests."""

    async def __call__(self, request: AgentRequest) -> str:
        self.append(request)
        return f"answer {len(self)}"


def serve(agent: Any, **settings: Any) -> Server:
    return Server(agent, apis=[Ollama()], **settings)


async def post(
    server: Server, path: str = "/api/chat", *headers: tuple[bytes, bytes], to: Recorder | None = None, **fields: Any
) -> Recorder:
    sent = to or Recorder()
    said = {"messages": SAID} if path == "/api/chat" else {}
    with anyio.fail_after(20):
        await server.handle(request(path, {"model": "agent", **said, **fields}, *headers), sent)
    return sent


def told_lines(sent: Recorder) -> list[dict[str, Any]]:
    assert sent.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in sent.data.splitlines()]


def refused(sent: Recorder) -> tuple[int, str, str]:
    """Status, code and text of an error in this API's format."""
    told = sent.json
    assert set(told) == {"error", "code"}
    return sent.status, told["code"], told["error"]
