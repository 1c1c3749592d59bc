"""An answer as a client saw it, parsed leniently: one error in the answer must not hide the next."""

from __future__ import annotations

import json
from typing import Any, cast

from ..http import ResponseBody, ResponseStart

DONE = "[DONE]"
NOTHING: dict[str, Any] = {}


class Answer:
    """An answer, as far as it has arrived.

    Attributes:
        status: the HTTP status; 0 until one arrives.
        headers: header fields in order, names in lower case.
        pieces: the body in chunks, one for each write of the server.
        complete: True once the body has ended properly.
        crash: the exception that the target raised instead of answering; None if it raised none.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []
        self.complete = False
        self.crash: Exception | None = None

    def take(self, message: ResponseStart | ResponseBody) -> None:
        """Add a message from the server: the head, or a chunk of the body."""
        if isinstance(message, ResponseStart):
            self.status = message.status
            self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.headers]
        else:
            self.pieces.append(message.data)
            self.complete = not message.more

    @property
    def body(self) -> bytes:
        """The body, as far as it has arrived."""
        return b"".join(self.pieces)

    def header(self, name: str) -> str | None:
        """The first value of a header (name in lower case), or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def is_stream(self) -> bool:
        """True if the body reads as server-sent events, whatever the headers say."""
        return any([line.startswith(b"data:") for line in self.body.splitlines()])

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty if the body is not one."""
        return _object(self.body.decode("utf-8", "replace"))

    @property
    def data(self) -> list[str]:
        """The payload of each event of a stream, `[DONE]` included."""
        # Lines of a stream may end in LF or CRLF (WHATWG HTML, server-sent events).
        text = self.body.decode("utf-8", "replace").replace("\r\n", "\n")
        blocks = [block.split("\n") for block in text.split("\n\n")]
        payloads = ["\n".join([line[5:].strip() for line in lines if line.startswith("data:")]) for lines in blocks]
        return [payload for payload in payloads if payload]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream before its end mark."""
        data = self.data
        before = data[: data.index(DONE)] if DONE in data else data
        return [event for payload in before if (event := _object(payload))]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The events that are chat completion chunks."""
        return [event for event in self.events if isinstance(event.get("choices"), list)]

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body or in the stream; empty if there is none."""
        events = self.events if self.is_stream else [self.json]
        return next((_dict(event["error"]) for event in events if event.get("error")), NOTHING)

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The choices of a plain answer, or those of all chunks."""
        bodies = self.chunks if self.is_stream else [self.json]
        return [_dict(choice) for body in bodies for choice in body.get("choices") or ()]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        """The deltas of a stream's choices, or the messages of a plain answer's."""
        return [_dict(choice.get("delta") or choice.get("message")) for choice in self.choices]

    def said(self, key: str = "content") -> str:
        """All text under one key of the deltas or the message (`content`, `refusal`, `reasoning_content`)."""
        return "".join([delta[key] for delta in self.deltas if isinstance(delta.get(key), str)])

    @property
    def finish_reasons(self) -> list[str]:
        """Every finish_reason that is not null."""
        return [choice["finish_reason"] for choice in self.choices if choice.get("finish_reason") is not None]

    @property
    def usage(self) -> dict[str, Any]:
        """The last usage object; empty if there is none."""
        bodies = self.chunks if self.is_stream else [self.json]
        return next((_dict(body["usage"]) for body in reversed(bodies) if body.get("usage")), NOTHING)

    @property
    def tool_call_pieces(self) -> list[dict[str, Any]]:
        """Every entry under `tool_calls`, as it was sent."""
        return [_dict(piece) for delta in self.deltas for piece in delta.get("tool_calls") or ()]

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The complete calls: id, name and arguments (a custom tool's input)."""
        calls: dict[object, dict[str, Any]] = {}
        for position, piece in enumerate(self.tool_call_pieces):
            # without an index, a piece belongs to the most recent call
            begun = len(calls) if piece.get("id") else len(calls) - 1
            key: object = piece.get("index", begun) if self.is_stream else position
            call = calls.setdefault(key, {"id": "", "name": "", "arguments": ""})
            body = _dict(piece.get("function") or piece.get("custom"))
            call["id"] = call["id"] or piece.get("id") or ""
            call["name"] = call["name"] or body.get("name") or ""
            call["arguments"] += body.get("arguments") or body.get("input") or ""
        return list(calls.values())


def _object(text: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(text))
    except ValueError:
        return {}


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
