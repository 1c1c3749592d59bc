"""A server with every route, and transports that send a request's target without normalizing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from typing import Any, TypeAlias
from urllib.parse import unquote, unquote_to_bytes

from anyio.from_thread import start_blocking_portal

from openai_compat import ChatRest, ChatWebSocket, Conversations, Server
from openai_compat_adapters.starlette import create_app
from openai_compat_adapters.wsgi import create_wsgi_app
from tests.adapters.served import serve

KEY = "secret"


def everything() -> Server:
    return Server(
        lambda prompt: prompt,
        keys=KEY,
        embeddings={"small": lambda texts: [[1.0] for _ in texts]},
        conversations=Conversations(),
        chat_rest=ChatRest(),
        chat_websocket=ChatWebSocket(),
        public=["models"],
        bare_paths=True,
    )


server = everything()
"""Target of `openai-compat serve`."""


@dataclass(frozen=True)
class Answer:
    status: int
    allow: frozenset[str] | None
    body: bytes

    @property
    def code(self) -> str | None:
        code: str | None = json.loads(self.body)["error"]["code"] if self.status >= 400 and self.body else None
        return code


Ask: TypeAlias = Callable[..., Answer]
"""`ask(method, target, key="…")`: the target is percent-encoded and sent unchanged."""


def _answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    allow = headers.get("allow")
    return Answer(status, None if allow is None else frozenset(allow.split(", ")), body)


def _headers(key: str | None) -> dict[str, str]:
    return {"host": "localhost", "content-type": "application/json"} | (
        {} if key is None else {"authorization": f"Bearer {key}"}
    )


@contextmanager
def asgi() -> Iterator[Ask]:
    """Call the application as uvicorn does."""
    app = create_app(everything())

    async def ask(method: str, target: str, key: str | None = KEY) -> Answer:
        messages: list[Any] = [{"type": "http.request", "body": b"{}"}]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in _headers(key).items()]
        scope = {"type": "http", "method": method, "path": unquote(target), "raw_path": target.encode()}
        await app({**scope, "query_string": b"", "root_path": "", "headers": headers}, receive, send)
        start, *rest = sent
        fields = {name.decode(): value.decode() for name, value in start["headers"]}
        return _answer(start["status"], fields, b"".join([message["body"] for message in rest]))

    with start_blocking_portal() as portal:
        yield lambda *arguments, **named: portal.call(lambda: ask(*arguments, **named))


@contextmanager
def wsgi() -> Iterator[Ask]:
    """Call the application as gunicorn does."""
    app = create_wsgi_app(everything())

    def ask(method: str, target: str, key: str | None = KEY) -> Answer:
        named = {f"HTTP_{name.upper()}": value for name, value in _headers(key).items() if name != "content-type"}
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(target).decode("latin-1"),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": "2",
            "wsgi.input": BytesIO(b"{}"),
            **named,
        }
        started: list[Any] = []
        body = b"".join(app(environ, lambda *start: started.extend(start)))
        fields = {name.lower(): value for name, value in started[1]}
        return _answer(int(started[0].split()[0]), fields, body)

    yield ask


@contextmanager
def real_socket() -> Iterator[Ask]:
    """`openai-compat serve`, over a connection that is kept alive where the server allows it."""
    with (
        serve("tests.support.routed:server") as served,
        closing(HTTPConnection("127.0.0.1", served.port, timeout=20)) as connection,
    ):

        def ask(method: str, target: str, key: str | None = KEY) -> Answer:
            connection.putrequest(method, target or "/", skip_host=True, skip_accept_encoding=True)
            for name, value in _headers(key).items():
                connection.putheader(name, value)
            connection.putheader("content-length", "2")
            connection.endheaders(b"{}")
            answer = connection.getresponse()
            return _answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

        yield ask
        assert "Traceback" not in served.log
