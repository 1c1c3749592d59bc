"""examples/chat_page.html in a browser, from a different origin than the server's, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from openai_compat import AgentRequest, ChatWebSocket, Cors, Server, ToolCallReady
from tests.clients.browser import Page, chromium
from tests.transports import asgi_socket, uvicorn_socket

EXAMPLES = Path(__file__).parents[2] / "examples"

OPENED = """new Promise((done) => {
  if (socket.readyState === 1) done(true); else socket.addEventListener('open', () => done(true));
})"""

SHOWN = """new Promise((done) => {
  const look = () => {
    const lines = [...log.children].map((line) => `${line.className}: ${line.textContent}`);
    if (lines.includes(WANTED)) done(lines);
  };
  new MutationObserver(look).observe(log, { childList: true, subtree: true, characterData: true });
  look();
})"""


async def agent(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is not None:
        yield f"The page is called {request.resume.results['call_1'].text}."
    elif request.prompt == "title":
        yield ToolCallReady("call_1", "page_title", "{}")
    else:
        yield "heard: "
        yield " / ".join([message.text for message in request.messages if hasattr(message, "parts")])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with asgi_socket(Starlette(routes=[Mount("/", StaticFiles(directory=EXAMPLES))])) as url:
        yield url


def served(origin: str) -> AbstractContextManager[str]:
    """The agent, served for pages of this origin."""
    return uvicorn_socket(Server(agent, keys="sk-right", chat_websocket=ChatWebSocket(), cors=Cors([origin])))


def address(origin: str, server: str, thread: str) -> str:
    chat = server.replace("http:", "ws:") + "/chat"
    return f"{origin}/chat_page.html?{urlencode({'server': chat, 'api_key': 'sk-right', 'thread': thread})}"


def shown(page: Page, line: str) -> list[str]:
    """The lines of the page once this line is among them."""
    return list(page.evaluate(SHOWN.replace("WANTED", json.dumps(line))))


def test_messages_typed_into_the_page_are_answered_in_it(page: Page, origin: str) -> None:
    with served(origin) as server:
        page.open(address(origin, server, "talk"))
        assert page.event("Network.webSocketWillSendHandshakeRequest")["request"]["headers"]["Origin"] == origin
        assert page.evaluate(OPENED)
        page.type("one")
        first = ["user: one", "assistant: heard: one"]
        assert shown(page, first[-1]) == first
        page.type("two")
        second = ["user: two", "assistant: heard: one / heard: one / two"]
        assert shown(page, second[-1]) == first + second
        page.open("about:blank")


def test_the_agent_calls_a_tool_of_the_page(page: Page, origin: str) -> None:
    with served(origin) as server:
        page.open(address(origin, server, "tool"))
        assert page.evaluate(OPENED)
        page.type("title")
        lines = shown(page, "assistant: The page is called Chat.")
        assert (lines[0], lines[-1]) == ("user: title", "assistant: The page is called Chat.")
        page.open("about:blank")


def test_a_page_whose_origin_is_not_allowed_gets_no_connection(page: Page, origin: str) -> None:
    with served("https://other.example") as server:
        page.open(address(origin, server, "refused"))
        assert "403" in page.event("Network.webSocketFrameError")["errorMessage"]
        page.open("about:blank")
