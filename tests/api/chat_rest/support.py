"""Shared by the tests of the chat REST API: agents with tools, and parsers of streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2

from openai_compat import ReasoningDelta, Server, ToolCallReady, UsageReported
from openai_compat.policies.chat_rest import ChatRest
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AskLater, ToolLoop, tool

API = "/api/chat"


class Shop:
    """Tools that record their calls."""

    def __init__(self) -> None:
        self.did: list[str] = []

    @property
    def tools(self) -> list[Any]:
        @tool(danger="safe")
        def look(what: str) -> str:
            """Looks at something."""
            self.did.append(f"look {what}")
            return f"saw {what}"

        def buy(what: str, pieces: int = 1) -> str:
            """Buys something."""
            self.did.append(f"buy {pieces} {what}")
            return f"bought {pieces} {what}"

        return [look, buy]


def call(call_id: str, name: str, **arguments: Any) -> ToolCallReady:
    return ToolCallReady(call_id, name, json.dumps(arguments))


def shopper(shop: Shop, *scripts: list[Any], **settings: Any) -> ToolLoop:
    """A model with scripted answers and the shop's tools."""
    return ToolLoop(ScriptedBackend(*scripts), shop.tools, **{"approver": AskLater(), **settings})


BUYS: tuple[list[Any], ...] = (
    [ReasoningDelta("Bread it is."), "Let me buy it.", call("c1", "buy", what="bread"), UsageReported(5, 2)],
)
BOUGHT: tuple[list[Any], ...] = (["You have bread now.", UsageReported(7, 3)],)


def serving(agents: Any, *, chat_rest: ChatRest | None = None, **settings: Any) -> Server:
    return Server(agents, chat_rest=chat_rest or ChatRest(), **settings)


def frames(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(read_frames(answer.text))


def read_frames(text: str) -> Iterator[dict[str, Any]]:
    for frame in text.split("\n\n"):
        data = [line[6:] for line in frame.split("\n") if line.startswith("data: ")]
        if data:
            yield json.loads("\n".join(data))


def error_of(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    """Status, code and param of an error in OpenAI's envelope."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


async def conversation(client: httpx2.AsyncClient, **fields: Any) -> str:
    """Create a conversation; returns its id."""
    made = await client.post(f"{API}/conversations", json=fields)
    assert made.status_code == 201
    found: str = made.json()["conversation"]["id"]
    return found
