"""The agents of a framework (named by `OPENAI_COMPAT_FRAMEWORK`) behind a server, and clients of that server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import openai

from openai_compat import Conversations, Server
from openai_compat.testing import Conformance
from tests.frameworks.model import Model
from tests.frameworks.report import FRAMEWORK
from tests.transports import uvicorn_socket

LOOK_UP = {
    "type": "object",
    "properties": {"key": {"type": "string"}},
    "required": ["key"],
    "additionalProperties": False,
}
CHAT_TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": LOOK_UP}}
RESPONSE_TOOL = {"type": "function", "name": "look_up", "description": "Looks up.", "parameters": LOOK_UP}

model = Model()
agents = FRAMEWORK.agents(model)


class Kit(Conformance):
    """The conformance suite for the agents of the framework, as run by `--openai-compat`."""

    agent: ClassVar = {"careful": agents["careful"]}
    prompt = "talk about nothing"
    long_prompt = "hang"
    failing_prompt = "fail"
    tool_prompt = "kit"
    own_tool_prompt = None if "tools" in FRAMEWORK.IMPOSSIBLE else "time"
    approval_prompt = None if "approvals" in FRAMEWORK.IMPOSSIBLE else "weather"
    edited_arguments: ClassVar = {"city": "Rome"}
    edited_result = "sunny in Rome"
    patience: float = getattr(FRAMEWORK, "PATIENCE", Conformance.patience)


@dataclass
class Heard:
    """The content of a chat stream."""

    text: str = ""
    reasoning: str = ""
    pieces: int = 0
    statuses: list[str] = field(default_factory=list[str])
    finished: list[str] = field(default_factory=list[str])
    calls: list[Any] = field(default_factory=list[Any])
    usage: Any = None
    error: openai.APIError | None = None


@dataclass
class Served:
    """A server with the agents, and the client of one principal."""

    url: str
    client: openai.OpenAI

    def caller(self, key: str) -> Served:
        """The same server with the client of another principal."""
        return Served(self.url, client_of(self.url, key))

    def chat(self, agent: str, *said: Any, conversation: str | None = None, **more: Any) -> Any:
        """A chat completion, not streamed."""
        headers = {"X-Conversation-Id": conversation} if conversation else {}
        return self.client.chat.completions.create(model=agent, messages=messages(*said), extra_headers=headers, **more)

    def respond(self, agent: str, given: Any, **more: Any) -> Any:
        """A response of the Responses API, not streamed, which may request approval."""
        approving = {"type": "mcp", "server_label": agent, "server_url": "https://example.org"}
        tools = [approving, *more.pop("tools", [])]
        return self.client.responses.create(model=agent, input=given, tools=tools, **more)

    def hear(self, agent: str, *said: Any, **more: Any) -> Heard:
        """A chat stream, read to its end."""
        heard = Heard()
        options = {"include_usage": True}
        try:
            with self.client.chat.completions.create(
                model=agent, messages=messages(*said), stream=True, stream_options=options, **more
            ) as stream:
                for chunk in stream:
                    hear(heard, chunk)
        except openai.APIError as error:
            heard.error = error
        return heard


def hear(heard: Heard, chunk: Any) -> None:
    heard.usage = chunk.usage or heard.usage
    event = (chunk.model_extra or {}).get("event")
    if event:
        heard.statuses.append(event["data"]["description"])
    for choice in chunk.choices:
        heard.pieces += bool(choice.delta.content)
        heard.text += choice.delta.content or ""
        heard.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        heard.calls += choice.delta.tool_calls or []
        heard.finished += [choice.finish_reason] if choice.finish_reason else []


def messages(*said: Any) -> list[Any]:
    """Convert texts to alternating user and assistant messages, the last from the user; dicts stay unchanged."""
    texts = len(said)
    return [
        one if isinstance(one, dict) else {"role": "user" if (texts - place) % 2 else "assistant", "content": one}
        for place, one in enumerate(said)
    ]


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


@contextmanager
def serve(store: str) -> Iterator[Served]:
    """Serve the agents over a socket, for two principals, ann and bob."""
    keys: Any = {"ann": "ann", "bob": "bob"}
    server = Server(agents, keys=keys, store=store or None, conversations=Conversations(busy="queue"))
    with uvicorn_socket(server) as url:
        yield Served(url, client_of(url, "ann"))


def tool_result(call: Any, result: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}


def command_environment() -> dict[str, str]:
    """The environment of a separate process that serves the same agents."""
    return {**os.environ, "PYTHONPATH": str(Path.cwd())}
