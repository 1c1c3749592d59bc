"""A page of another origin that uses the chat REST API with a login cookie, in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from openai_compat import ChatRest, Cors, Server
from tests.clients.browser import Page, chromium
from tests.requirements import requirement
from tests.transports import asgi_socket, uvicorn_socket

ASK = """(async () => {
  document.cookie = "session=secret; path=/";
  try {
    const answer = await fetch(WHERE + "/api/chat/quick", {
      method: "POST",
      credentials: "include",
      headers: { "content-type": "application/json", "x-mine": "1" },
      body: JSON.stringify({ prompt: "Hi" }),
    });
    return (await answer.json()).content;
  } catch (error) {
    return `${error}`;
  }
})()"""


async def login(request: Request) -> HTMLResponse:
    return HTMLResponse("<title>page</title>")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@requirement("chat_rest.cookie.pages")
def test_a_page_whose_origin_is_named_asks_with_the_cookie_and_reads_the_answer(page: Page) -> None:
    with asgi_socket(Starlette(routes=[Route("/", login)])) as origin:
        for cors, expected in ((Cors([origin]), "heard Hi"), (None, "TypeError: Failed to fetch")):
            server = Server(
                lambda prompt: f"heard {prompt}", keys="secret", cors=cors, chat_rest=ChatRest(cookie="session")
            )
            with uvicorn_socket(server) as url:
                page.open(origin)
                assert page.evaluate(ASK.replace("WHERE", json.dumps(url))) == expected
