"""Without a principal, only the open paths answer: every route of every API, every method, every spelling."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import ApiKeys, ChatRest, ChatWebSocket, Conversations, Principal, Server, from_header, from_scope
from openai_compat.api import openapi
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.http import Frame, HttpRequest, RawHeaders
from openai_compat_adapters.prometheus import Prometheus
from tests.requirements import requirement
from tests.support.exchanges import LOCALHOST, answer, one
from tests.trust.loop import watched_loop
from tests.trust.probe import Counting


@pytest.fixture
def anyio_backend() -> str:
    """No test here waits for anything, so one event loop is enough."""
    return "asyncio"


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "")
OPEN = {"/healthz", "/health", "/readyz", "/openapi.json", "", "/api/version"}
AGENT = Counting()


def served(**settings: Any) -> Server:
    return Server(
        AGENT,
        chat_rest=ChatRest(),
        chat_websocket=ChatWebSocket(),
        conversations=Conversations(),
        bare_paths=True,
        embeddings={"embedder": lambda texts: [[0.0] for _ in texts]},
        apis=[AnthropicMessages(), Ollama(), Prometheus().api],
        **settings,
    )


def closed(request: HttpRequest) -> Principal | None:
    return None


SERVERS = {
    "function": served(authenticate=closed),
    "keys": served(keys="sk-1"),
    "both": served(keys="sk-1", authenticate=closed),
    "login": served(authenticate=from_scope(lambda user: user.id)),
    "proxy": served(authenticate=from_header("x-user", peers=["10.0.0.0/8"])),
    "program": served(authenticate=ApiKeys({"sk-1": "ann"})),
}
PATHS = sorted({path for route in SERVERS["keys"]._routes.all() for path in (route.path, *route.aliases)})
"""Templates of all paths that are served."""

NOTHING = st.sampled_from(
    [
        (),
        ((b"authorization", b""),),
        ((b"authorization", b"Bearer "),),
        ((b"authorization", b"Bearer sk-2"),),
        ((b"authorization", b"Bearer sk-1"), (b"authorization", b"Bearer sk-1")),
        ((b"api-key", b"sk-2"),),
        ((b"x-user", b"ann"),),
        ((b"cookie", b"user=ann; api_key=sk-1"),),
        ((b"origin", b"http://localhost"),),
        ((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
        ((b"x-http-method-override", b"OPTIONS"),),
        ((b"x-original-url", b"/healthz"),),
        ((b"expect", b"100-continue"),),
    ]
)


def filled(template: str, value: str, tail: str) -> str:
    pieces = template.split("{")
    return "".join([pieces[0], *[value + piece.partition("}")[2] for piece in pieces[1:]]]) + tail


paths = st.one_of(
    st.builds(filled, st.sampled_from(PATHS), st.sampled_from(["x", "resp_1", "a/b", "..", "healthz"]), st.just("")),
    st.builds(filled, st.sampled_from(PATHS), st.text(max_size=5), st.sampled_from(["", "/", "//", "/x", "?", "\0"])),
    st.text(max_size=30).map(lambda text: f"/{text}"),
)


@requirement("auth.every-path")
@given(
    which=st.sampled_from(sorted(SERVERS)),
    path=paths,
    method=st.sampled_from(METHODS),
    headers=NOTHING,
    query=st.sampled_from(["", "api_key=sk-1", "key=sk-1"]),
)
def test_nobody_is_told_so_whatever_they_ask(which: str, path: str, method: str, headers: Any, query: str) -> None:
    server = SERVERS[which]
    route, _ = server._routes.find(path)
    asked = HttpRequest(method, path, query, [LOCALHOST, *headers], one(b'{"model": "agent"}'))
    sent = anyio.run(answer, server, asked)
    if route is not None and route.open:
        assert path.rstrip("/") in OPEN
    else:
        assert sent.status == 401
    assert AGENT.runs == 0


@requirement("auth.every-path")
@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_nobody_is_told_so_on_every_route(method: str) -> None:
    server = SERVERS["both"]
    for route in server._routes.all():
        for path in (route.path, *route.aliases):
            asked = HttpRequest(method, filled(path, "x", ""), "", [LOCALHOST], one(b"{}"))
            status = (await answer(server, asked)).status
            assert (status != 401) is route.open, f"{method} {path}: {status}"


@requirement("openapi.document")
def test_whoever_asks_for_the_api_description_first_keeps_nobody_waiting() -> None:
    openapi._schemas.cache_clear()
    asked = HttpRequest("GET", "/openapi.json", "", [LOCALHOST], one(b""))
    with watched_loop(longest=0.02):
        assert anyio.run(answer, SERVERS["both"], asked).status == 200


class Refused:
    """A WebSocket channel that must be refused before anything else happens."""

    status = 0

    async def accept(self, headers: RawHeaders, subprotocol: str | None = None) -> None:
        raise AssertionError("nobody was let in")

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        self.status = status

    async def receive(self) -> Frame:
        raise AssertionError("nobody was listened to")

    async def send(self, frame: Frame) -> None:
        raise AssertionError("nobody was talked to")

    async def close(self, code: int, reason: str = "") -> None:
        raise AssertionError("nobody was let in")


@requirement("auth.every-path")
@pytest.mark.anyio
@pytest.mark.parametrize("which", sorted(SERVERS))
async def test_nobody_can_open_a_websocket(which: str) -> None:
    server = SERVERS[which]
    for path in [*PATHS, "/nowhere"]:
        for query in ("", "api_key=sk-2"):
            channel = Refused()
            await server.connect(HttpRequest("GET", filled(path, "x", ""), query, [LOCALHOST], one(b"")), channel)
            assert channel.status == 401, path
