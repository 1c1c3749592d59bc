"""Every method on every path, on some unknown paths, and with ids that nobody would choose."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from openai_compat import ChatRest, ChatWebSocket, Server
from openai_compat.api.routing import Operation, Route, Routes
from tests.connecting import Http
from tests.requirements import requirement
from tests.support import routed
from tests.support.agents import Says
from tests.support.routed import Answer, Ask

METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND")
OPEN = (
    "/healthz",
    "/health",
    "/readyz",
    "/openapi.json",
    "/v1/models",
    "/openai/models",
    "/openai/v1/models",
    "/models",
)
IDS = (
    "x",
    "%20",
    "%2F",
    "a%2Fb",
    "%00",
    "%0A",
    ".",
    "..",
    "...",
    "%E2%98%83",
    "%F0%9F%98%80",
    "%FF",
    "%ED%A0%80",
    "%7Bid%7D",
    "a%3Fb",
    "y" * 5000,
)
NOWHERE = (
    "",
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/chat",
    "/v1/v1/models",
    "/v1/v1/chat/completions",
    "/v1//models",
    "//v1/models",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/conversations//items",
    "/v1/conversations/x//items/y",
    "/v1/responses//cancel",
    "/v1/files//content",
    "/v1/audio/speech",
    "/v1/../v1/models",
    "/v1/chat/completions/x/y/z",
    "/openai/deployments//chat/completions",
    "/%2Fv1%2Fmodels",
    "/V1/MODELS",
    "/v1/models%00",
    "/api/chat",
    "/api/chat/providers/x",
    "/api/chat/conversations//messages",
)
SENDERS: dict[str, Callable[[], AbstractContextManager[Ask]]] = {
    "asgi": routed.asgi,
    "wsgi": routed.wsgi,
    "serve": routed.real_socket,
}


def templates() -> set[Route]:
    return set(routed.server._routes.all())


def targets(ids: tuple[str, ...]) -> Iterator[str]:
    """The path of each route, with each of the ids as its last parameter; and its aliases with an invalid id."""
    for route in templates():
        yield from [re.sub("{.*?}", "x", alias) for alias in route.aliases]
        start, parameter, end = route.shown_path.rpartition("{")
        before, after = re.sub("{.*?}", "x", start), end.partition("}")[2]
        yield from [before + identifier + after for identifier in ids] if parameter else [route.path]


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, bool]]:
    with SENDERS[request.param]() as ask:
        yield ask, request.param == "asgi"


def is_open(target: str) -> bool:
    return target.rstrip("/") in OPEN or target.startswith(tuple([f"{path}/" for path in OPEN if "models" in path]))


def check(ask: Ask, target: str, methods: tuple[str, ...]) -> dict[str, Answer]:
    """The answer to each method, after checking that the answers are consistent."""
    answers = {method: ask(method, target) for method in methods}
    taken = {method for method, answer in answers.items() if answer.status != 405}
    for method, answer in answers.items():
        where = (method, target[:200], answer)
        assert answer.status < 500, where
        assert answer.code != "internal_error", where
        assert method != "HEAD" or not answer.body, where
        if answer.status == 405:
            assert (answer.allow or frozenset()) & set(methods) == taken, where
        else:
            assert answer.allow is None, where
    unlike = {
        answers[method].code == "unknown_url"
        for method in methods
        if answers[method].status == 404 and method != "HEAD"
    }
    assert len(unlike) <= 1, target
    return answers


@requirement("paths.methods")
@pytest.mark.timeout(300)
def test_every_method_on_every_path_gets_an_answer_that_says_what_the_path_takes(
    sender: tuple[Ask, bool], caplog: pytest.LogCaptureFixture
) -> None:
    ask, all_of_it = sender
    ids = IDS if all_of_it else IDS[:4]
    methods = METHODS if all_of_it else METHODS[:4]
    with caplog.at_level(logging.ERROR):
        for target in [*targets(ids), *NOWHERE]:
            answers = check(ask, target, methods)
            slashed = check(ask, target + "/", methods)
            assert {method: (answer.status, answer.code) for method, answer in answers.items()} == {
                method: (answer.status, answer.code) for method, answer in slashed.items()
            }, target
            for method in ("GET", "POST") if all_of_it else ("GET",):
                stranger, known = ask(method, target, key=None), answers[method]
                if is_open(target):
                    assert stranger.status == known.status, (method, target)
                else:
                    assert (stranger.status, stranger.code) == (401, "invalid_api_key"), (method, target)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


ALLOWED = {
    "/v1/chat/completions": "POST, GET, HEAD",
    "/v1/chat/completions/x": "GET, POST, DELETE, HEAD",
    "/v1/chat/completions/x/messages": "GET, HEAD",
    "/v1/responses": "POST",
    "/v1/responses/x": "GET, DELETE, HEAD",
    "/v1/responses/x/cancel": "POST",
    "/v1/responses/x/input_items": "GET, HEAD",
    "/v1/files/x/content": "GET, HEAD",
    "/v1/conversations/x/items": "GET, POST, HEAD",
    "/v1/conversations/x/items/y": "GET, DELETE, HEAD",
    "/v1/models/a/b": "GET, HEAD",
    "/openai/deployments/agent/chat/completions": "POST",
    "/api/chat/conversations/x": "GET, DELETE, HEAD",
    "/api/chat/conversations/x/title": "POST",
    "/api/chat/conversations/x/messages/y": "DELETE",
    "/api/chat/conversations/x/messages/agentic": "POST",
    "/api/chat/providers/x/models": "GET, HEAD",
    "/api/chat/providers/default": "POST",
    "/healthz": "GET, HEAD",
    "/chat": "GET",
}


@requirement("paths.methods")
def test_a_method_that_a_path_does_not_take_is_told_those_it_takes(sender: tuple[Ask, bool]) -> None:
    ask, _ = sender
    for path, allowed in ALLOWED.items():
        for target in (path, path + "/"):
            for method in ("PATCH", "OPTIONS"):
                answer = ask(method, target)
                assert (answer.status, answer.allow) == (405, frozenset(allowed.split(", "))), target


@requirement("paths.unknown")
def test_an_unknown_path_is_named_and_what_the_base_url_may_lack_is_guessed() -> None:
    with routed.asgi() as ask:
        said = {
            path: ask("GET", path).body.decode()
            for path in ("/v1/audio/speech", "/responses/x/y", "/v1/v1/models", "/", "/" + "x" * 500)
        }
    assert "/v1/audio/speech is not served here. What is served is listed at /openapi.json." in said["/v1/audio/speech"]
    assert "once, not twice" in said["/v1/v1/models"]
    assert '"/ is not served here.' in said["/"]
    assert max(map(len, said.values())) < 400


@requirement("paths.unknown")
def test_a_base_url_without_v1_is_guessed_where_such_paths_are_not_served() -> None:
    error = Server(lambda prompt: prompt)._routes.unknown_path("/chat/completions", "/ai")
    assert error.message == "/chat/completions is not served here. The API is below /ai/v1: end the base URL with it."


@requirement("paths.health")
def test_health_is_what_some_load_generators_call_healthz() -> None:
    with routed.asgi() as ask:
        assert ask("GET", "/health", key=None) == ask("GET", "/healthz", key=None)


def route(path: str, *aliases: str) -> Route:
    return Route(path, {"GET": Operation(lambda: None)}, aliases=aliases)


def test_two_routes_of_one_path_are_a_mistake_that_is_told_at_once() -> None:
    for other in (route("/a"), route("/b", "/a")):
        with pytest.raises(ValueError, match="two routes of the server have the path /a"):
            Routes([route("/a"), other])
    with pytest.raises(ValueError, match="two routes"):
        Server(lambda prompt: prompt, chat_rest=ChatRest(prefix="/v1"))
    with pytest.raises(ValueError, match="two routes"):
        Server(lambda prompt: prompt, chat_websocket=ChatWebSocket(path="/v1/responses"))


@pytest.mark.parametrize("setting", [lambda path: ChatRest(prefix=path), lambda path: ChatWebSocket(path=path)])
@pytest.mark.parametrize("path", ["", "x", "/x/", "/{x}", "/x y", "/x?y"])
def test_a_path_that_no_client_could_send_is_refused(setting: Callable[[str], Any], path: str) -> None:
    with pytest.raises(ValueError, match="a p"):
        setting(path)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/c/x", ("x",)),
        ("/c/x/y", ("x/y",)),
        ("/c/x/items", ("x", "items of")),
        ("/c/x/y/items", ("x/y", "items of")),
        ("/c/x/items/y", ("x", "y", "item")),
        ("/c/x/items/y/items/z", ("x/items/y", "z", "item")),
        ("/c/items", ("items",)),
        ("/c//items", ("/items",)),
        ("/c/x/", ("x",)),
        ("/one/x", ("x", "one")),
        ("/one/x/y", None),
        ("/one/", None),
        ("/one", None),
        ("/c", None),
    ],
)
def test_parameters_are_found_from_the_end_and_the_most_fixed_template_first(path: str, values: Any) -> None:
    routes = Routes(
        [route("/c/{a:path}"), route("/c/{a:path}/items"), route("/c/{a:path}/items/{b:path}"), route("/one/{a}")]
    )
    found, said = routes.find(path)
    kind = {"/c/{a:path}/items": ("items of",), "/c/{a:path}/items/{b:path}": ("item",), "/one/{a}": ("one",)}
    assert values == (None if found is None else said + kind.get(found.path, ()))


@requirement("paths.methods")
@pytest.mark.anyio
async def test_the_head_of_a_stream_has_no_body(http: Http) -> None:
    async with http(Says("Hi")) as client:
        asked = {"model": "agent", "input": "Hi", "background": True, "stream": True}
        made = await client.post("/v1/responses", json=asked)
        if made.status_code == 400:  # WSGI
            return
        identifier = json.loads(made.text.partition("data: ")[2].splitlines()[0])["response"]["id"]
        answer = await client.head(f"/v1/responses/{identifier}?stream=true")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
