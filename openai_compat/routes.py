"""Which endpoint answers which path."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .connection import Connection
from .endpoints import (
    chat,
    compaction,
    completions,
    conversations,
    conversations_api,
    embeddings,
    files,
    health,
    models,
    openapi,
    responses,
    responses_socket,
    stored,
)
from .endpoints.chat_api.routes import ROUTES as CHAT_API
from .errors import MethodNotAllowed
from .policies.chat_api import ChatApi
from .runtime import Runtime

Endpoint: TypeAlias = Callable[..., Awaitable[None]]
Socket: TypeAlias = Callable[[Runtime, Connection], Awaitable[None]]
Public: TypeAlias = Literal["models"]


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what answers it, by method. `rest` routes take the remainder of the path as an argument.

    `open` routes need no key; those of a `group` can be opened by name; to `cookie` routes a cookie may bring it.
    """

    path: str
    endpoints: Mapping[str, Endpoint]
    open: bool = False
    rest: bool = False
    group: Public | None = None
    cookie: bool = False

    def endpoint(self, method: str) -> Endpoint:
        """What answers a method. Raises MethodNotAllowed."""
        endpoint = self.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join([*self.endpoints, *(["HEAD"] if "GET" in self.endpoints else [])])
            raise MethodNotAllowed(f"This path takes {allowed}.", headers={"Allow": allowed})
        return endpoint


V1 = (
    Route("/chat/completions", {"POST": chat.create, "GET": stored.list_completions}),
    Route(
        "/chat/completions/",
        {"GET": stored.get_completion, "POST": stored.update_completion, "DELETE": stored.delete_completion},
        rest=True,
    ),
    Route(
        "/chat/conversations/",
        {"GET": conversations.get_conversation, "DELETE": conversations.delete_conversation},
        rest=True,
    ),
    Route("/completions", {"POST": completions.create}),
    Route("/conversations", {"POST": conversations_api.create}),
    Route(
        "/conversations/",
        {"GET": conversations_api.retrieve, "POST": conversations_api.update, "DELETE": conversations_api.delete},
        rest=True,
    ),
    Route("/embeddings", {"POST": embeddings.create}),
    Route("/files", {"POST": files.create, "GET": files.list_files}),
    Route("/files/", {"GET": files.retrieve, "DELETE": files.delete}, rest=True),
    Route("/responses", {"POST": responses.create}),
    Route("/responses/compact", {"POST": compaction.compact}),
    Route("/responses/input_tokens", {"POST": compaction.input_tokens}),
    Route("/responses/", {"GET": responses.retrieve, "POST": responses.act, "DELETE": responses.delete}, rest=True),
    Route("/models", {"GET": models.list_models}, group="models"),
    Route("/models/", {"GET": models.get_model}, rest=True, group="models"),
)
SOCKETS: Mapping[str, Socket] = {"/responses": responses_socket.serve}
OPEN = (
    Route("/openapi.json", {"GET": openapi.document}, open=True),
    Route("/healthz", {"GET": health.healthz}, open=True),
    Route("/readyz", {"GET": health.readyz}, open=True),
)


@functools.cache
def table(bare_paths: bool) -> Mapping[str, Route]:
    """The routes of OpenAI's API, which may be answered without `/v1` too, and those of the server itself."""
    routes = {"/v1" + route.path: route for route in V1} | {route.path: route for route in OPEN}
    if bare_paths:
        routes |= {route.path: route for route in V1}
    return routes


def chat_api(settings: ChatApi | None) -> Mapping[str, Route]:
    """The routes of the chat REST API, if it is served."""
    if settings is None:
        return {}
    routes = [
        Route(settings.prefix + path, endpoints, rest=path.endswith("/"), cookie=True) for path, endpoints in CHAT_API
    ]
    return {route.path: route for route in routes}


@functools.cache
def sockets(bare_paths: bool) -> Mapping[str, Socket]:
    """The WebSockets of OpenAI's API."""
    return {
        prefix + path: serve for path, serve in SOCKETS.items() for prefix in ("/v1", *([""] if bare_paths else []))
    }


def find(routes: Mapping[str, Route], path: str) -> tuple[Route | None, tuple[str, ...]]:
    """The route of a path, and what of the path its endpoint is to be told."""
    route = routes.get(path)
    if route is not None:
        return route, ()
    for prefix, candidate in routes.items():
        if candidate.rest and path.startswith(prefix) and path != prefix:
            return candidate, (path[len(prefix) :],)
    return None, ()
