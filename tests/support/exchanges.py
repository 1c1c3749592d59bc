"""Requests passed directly to `Server.handle`, and a recorder of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import anyio.lowlevel

from openai_compat import Server
from openai_compat.api.exchange import Exchange
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart

CHAT = "/v1/chat/completions"
LOCALHOST = (b"host", b"localhost")


def request(
    path: str = CHAT, body: object = None, *headers: tuple[bytes, bytes], method: str = "POST", query: str = ""
) -> HttpRequest:
    """A request for localhost; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpRequest(method, path, query, [LOCALHOST, (b"content-type", b"application/json"), *headers], one(data))


def bearing(key: str) -> HttpRequest:
    """A GET of the model list with an API key."""
    return request("/v1/models", None, (b"authorization", f"Bearer {key}".encode()), method="GET")


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def exchange_of(asked: HttpRequest) -> Exchange:
    """An exchange as endpoints get it; its answer is discarded."""
    return Exchange(asked, Recorder(), "req_1", write_deadline=60)


def chat(**fields: Any) -> HttpRequest:
    """A chat request for the model "agent" with one user message."""
    return request(CHAT, ask(**fields))


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "agent", "messages": [{"role": "user", "content": "hi"}], **fields}


class Recorder:
    """A `send` that records its messages and suspends before and after each, as transports may."""

    def __init__(self) -> None:
        self.messages: list[ResponseStart | ResponseBody] = []

    async def __call__(self, message: ResponseStart | ResponseBody) -> None:
        await anyio.lowlevel.checkpoint()
        self.messages.append(message)
        await anyio.lowlevel.checkpoint()

    @property
    def begun(self) -> bool:
        return bool(self.messages)

    @property
    def start(self) -> ResponseStart:
        first, *rest = self.messages
        assert isinstance(first, ResponseStart)
        assert not any(isinstance(message, ResponseStart) for message in rest), "a second head"
        return first

    @property
    def status(self) -> int:
        return self.start.status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.start.headers}

    @property
    def bodies(self) -> list[ResponseBody]:
        return [message for message in self.messages if isinstance(message, ResponseBody)]

    @property
    def data(self) -> bytes:
        return b"".join(body.data for body in self.bodies)

    @property
    def complete(self) -> bool:
        """True if the answer ended: exactly one last piece, and nothing after it."""
        ends = [not body.more for body in self.bodies]
        assert not any(ends[:-1]), "something was sent after the end"
        return bool(ends) and ends[-1]

    @property
    def json(self) -> Any:
        assert self.complete
        assert int(self.headers["content-length"]) == len(self.data)
        return strict_json(self.data)

    @property
    def error(self) -> dict[str, Any]:
        """The error envelope, after checking that it is complete."""
        assert self.status >= 400
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json.values()
        assert set(error) == {"message", "type", "param", "code"}
        assert len(self.data) < 10_000
        return dict(error)

    @property
    def events(self) -> list[Any]:
        """Events of the stream; the end marker is the string "[DONE]"."""
        assert self.headers["content-type"].startswith("text/event-stream")
        return sse_events(self.data)

    @property
    def text(self) -> str:
        """The answer's text, streamed or plain."""
        if self.headers["content-type"] == "application/json":
            return str(self.json["choices"][0]["message"]["content"])
        chunks = [event for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def answer(server: Server, asked: HttpRequest) -> Recorder:
    """The server's answer to a request, within 20 seconds."""
    sent = Recorder()
    with anyio.fail_after(20):
        await server.handle(asked, sent)
    return sent


def strict_json(data: bytes | str) -> Any:
    """Parse JSON strictly by RFC 8259: UTF-8, without NaN and infinities."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    text = data if isinstance(data, str) else data.decode("utf-8")
    return json.loads(text, parse_constant=refuse)


def sse_events(data: bytes) -> list[Any]:
    """Parse server-sent events by the WHATWG's rules: each complete, with `data` fields only, all strict JSON."""
    events: list[Any] = []
    collected: list[str] = []
    text = data.decode("utf-8")
    assert not text or text.endswith("\n\n"), "the last event is not ended by an empty line"
    for line in re.split("\r\n|\n|\r", text):
        if line.startswith("data: "):
            collected.append(line.removeprefix("data: "))
        elif line:
            assert line.startswith(":"), f"neither data nor a comment: {line[:80]!r}"
        elif collected:
            joined, collected = "\n".join(collected), []
            events.append(joined if joined == "[DONE]" else strict_json(joined))
    return events
