"""Creating and driving a server. Checked by mypy and pyright, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import assert_type

from openai_compat import Cors, Deadlines, Limits, MemoryStore, Rates, Server, Webhooks, key_from_env, key_from_file
from openai_compat.http import HttpRequest, RawHeaders, ResponseBody, ResponseStart, Send


def agent(prompt: str) -> str:
    return prompt


def embed(texts: list[str]) -> list[list[float]]:
    return [[1.0] for _ in texts]


async def embed_later(texts: list[str], dimensions: int = 1) -> list[list[float]]:
    return [[1.0] * dimensions for _ in texts]


async def post(url: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
    return 200


async def keys() -> list[str]:
    return ["key"]


Server(agent, keys="key")
Server(agent, keys=["one", "two"])
Server(agent, keys=key_from_env("KEY"))
Server(agent, keys=key_from_file(Path("keys")))
Server(agent, keys=keys)
Server(agent, keys=lambda: None)
Server(agent, keys=5)  # type: ignore[arg-type]
Server(agent, "key")  # type: ignore[call-arg]
Server(agent, key="key")  # type: ignore[call-arg]
Server(agent, store="sqlite:///state.db", retention=3600)
Server(agent, store=MemoryStore())
Server(agent, store=Path("state.db"))  # type: ignore[arg-type]
Server(agent, rates=Rates(60, burst=10))
Server(agent, rates=lambda principal: None if principal.id == "batch" else Rates(0.5))
Server(agent, rates=60)  # type: ignore[arg-type]
Server(agent, webhooks=Webhooks("https://app.example", secret="s", post=post, events=["response.failed"]))
Server(agent, webhooks=[Webhooks(["https://a.example", "https://b.example"], secret=["new", "old"], post=post)])
Webhooks("https://app.example", secret="s", post=post, events=["response.begun"])  # type: ignore[list-item]
Webhooks("https://app.example", secret="s", post=print)  # type: ignore[arg-type]
Server(
    agent,
    hosts=["box.local"],
    cors=Cors(["https://app.example"], regex=r".*\.example"),
    limits=Limits(body=1000, choices=2, answer=1000, slots=8),
    deadlines=Deadlines(request=60, heartbeat=5.5),
    visibility="reasoning",
    agent_headers=["x-user"],
    page=True,
    bare_paths=True,
    owned_by="me",
)
Server(agent, embeddings={"sync": embed, "async": embed_later})
Server(agent, embeddings={"none": 5})  # type: ignore[dict-item]
Server(agent, visibility="loud")  # type: ignore[arg-type]
Limits(500)
Limits().body = 5  # type: ignore[misc]
Cors(regex=re.compile("a"))  # type: ignore[arg-type]


async def drive(server: Server, body: AsyncIterator[bytes]) -> None:
    async def send(message: ResponseStart | ResponseBody) -> None:
        if isinstance(message, ResponseStart):
            assert_type(message.status, int)
            assert_type(message.headers, RawHeaders)
        else:
            assert_type(message.data, bytes)
            assert_type(message.more, bool)

    as_send: Send = send
    request = HttpRequest("GET", "/v1/models", "", [(b"host", b"localhost")], body)
    assert_type(request.header(b"host"), str | None)
    assert_type(request.header_values(b"host"), list[str])
    async with server.lifespan():
        answered: Awaitable[None] = server.handle(request, as_send)
        await answered
    await server.drain(5)


Server({"a": 42})  # type: ignore[dict-item]
Server("agent")  # type: ignore[arg-type]
Server({"a": agent, "b": str})
Server(agent, keys={"sk-1": "ann"})
