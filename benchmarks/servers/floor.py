"""The ASGI server's own limit: the body is read and discarded, precomputed bytes go out, one send per event.

Not an API: the query string (`?burst&20000`) selects the answer, so that no JSON is parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from servers.agents import ANSWER, EVENTS_PER_SECOND, FOREVER, PIECE

ID = "chatcmpl-0123456789abcdef0123456789abcdef"
PART = '{"id":"%s","object":"%s","created":1760000000,"model":"%s","choices":[%s]%s}'


def _chunk(model: str, delta: str, reason: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'
    return b"data: " + (PART % (ID, "chat.completion.chunk", model, choice, "")).encode() + b"\n\n"


class Stream:
    """Precomputed parts of one model's stream."""

    def __init__(self, model: str) -> None:
        self.piece = _chunk(model, f'{{"content":"{PIECE}"}}')
        self.first = _chunk(model, '{"role":"assistant"}') + self.piece
        self._end = _chunk(model, "{}", '"stop"') + b"data: [DONE]\n\n"

    def end(self, number: int) -> bytes:
        return self._end


RESPONSE = "resp_0123456789abcdef0123456789abcdef"
MESSAGE_ID = "msg_0123456789abcdef0123456789abcdef_000"
DELTA = "response.output_text.delta"


def _event(kind: str, rest: str) -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}",{rest}}}\n\n'.encode()


class ResponsesStream:
    """The same for the Responses API, which repeats the text at the end of the part, of the item and of the response."""

    def __init__(self) -> None:
        place = f'"item_id":"{MESSAGE_ID}","output_index":0,"content_index":0'
        self.piece = _event(DELTA, f'{place},"logprobs":[],"delta":"{PIECE}","sequence_number":12345')
        self.first = _event("response.created", f'"response":{{"id":"{RESPONSE}"}},"sequence_number":0') + self.piece

    def end(self, number: int) -> bytes:
        return _event("response.output_text.done", f'"text":"{PIECE * number}"') * 4


STREAMS = {model: Stream(model) for model in ("burst", "paced", "idle")} | {"responses": ResponsesStream()}

MESSAGE = f'{{"role":"assistant","content":"{ANSWER}","refusal":null,"annotations":[]}}'
CHOICE = f'{{"index":0,"message":{MESSAGE},"logprobs":null,"finish_reason":"stop"}}'
USAGE = ',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
PLAIN = (PART % (ID, "chat.completion", "plain", CHOICE, USAGE)).encode()

JSON_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(PLAIN)).encode())]
STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """One ASGI call."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    model, _, number = scope["query_string"].decode().partition("&")
    if model not in STREAMS:
        await send({"type": "http.response.start", "status": 200, "headers": JSON_HEADERS})
        await send({"type": "http.response.body", "body": PLAIN})
        return
    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
    await _stream(STREAMS[model], model, int(number), send)


async def _stream(stream: Stream | ResponsesStream, model: str, number: int, send: Send) -> None:
    async def write(data: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    await write(stream.first)
    for _ in range(number - 1):
        if model == "paced":
            await asyncio.sleep(1 / EVENTS_PER_SECOND)
        await write(stream.piece)
    if model == "idle":
        await asyncio.sleep(FOREVER)
    await write(stream.end(number), more=False)
