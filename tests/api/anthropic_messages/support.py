"""Sends requests to the Messages API and collects the answers."""

from __future__ import annotations

from typing import Any

import anyio

from openai_compat import AgentRequest, Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from tests.support.exchanges import Recorder, request

PATH = "/v1/messages"
SAID: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


class Seen(list[AgentRequest]):
    """An agent that records its requests."""

    async def __call__(self, request: AgentRequest) -> str:
        self.append(request)
        return f"answer {len(self)}"


def serve(agent: Any, **settings: Any) -> Server:
    return Server(agent, apis=[AnthropicMessages()], **settings)


async def send(
    server: Server,
    *headers: tuple[bytes, bytes],
    path: str = PATH,
    query: str = "",
    to: Recorder | None = None,
    **fields: Any,
) -> Recorder:
    sent, body = to or Recorder(), {"model": "agent", "max_tokens": 1000, "messages": SAID, **fields}
    with anyio.fail_after(20):
        await server.handle(request(path, body, *headers, query=query), sent)
    return sent


def refusal(sent: Recorder) -> tuple[int, str, str, str]:
    """Status, type, code and message of an error in this API's format."""
    told = sent.json
    assert set(told) == {"type", "error", "request_id"}
    assert told["type"] == "error"
    error = told["error"]
    assert told["request_id"] == sent.headers["request-id"]
    assert told["request_id"].startswith("req_")
    return sent.status, error["type"], error["details"]["error_code"], error["message"]
