"""Routes: a path, its operations by method, and their description. `Routes` finds the route of a path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..errors import MethodNotAllowed, NotFound, UpgradeRequired
from ..http import HttpRequest
from .answer_form import OPENAI_ERRORS, SSE, ErrorForm, Framing
from .services import Services
from .websocket import WebSocketConnection

Endpoint: TypeAlias = Callable[..., Awaitable[None]]
"""Called with the services, the exchange, and the values of the path's parameters."""

Socket: TypeAlias = Callable[[Services, WebSocketConnection], Awaitable[None]]
Public: TypeAlias = Literal["models", "metrics"]

MAX_SHOWN = 120
"""Longest part of an unknown path that its error repeats, in characters."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route.

    Attributes:
        endpoint: the function that answers.
        id: its `operationId`, from which generated clients make the name of a function.
        summary: a short description.
        answer: the schemas of the answer, by media type.
        body: the schemas of the request body, by media type.
        status: the status of the answer.
        more: further answers that are not errors, by status: a description, and schemas by media type.
        query: the schemas of the query parameters.
    """

    endpoint: Endpoint
    id: str = ""
    summary: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200
    more: Mapping[int, tuple[str, Mapping[str, Any]]] = field(default_factory=dict[int, tuple[str, Mapping[str, Any]]])
    query: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A path and its operations, by method.

    Attributes:
        path: a template: `{name}` stands for a part of the path without a slash, `{name:path}` for a part that may contain
            slashes, but does not end with one.
        operations: the operations by method. GET answers HEAD too.
        socket: serves WebSockets at this path.
        aliases: templates of other paths that are answered the same way, and not described.
        open: True if it needs no key.
        group: the name by which the server's `public` can open it.
        cookie: True if a cookie may carry the key.
        query_key: True if the query of a WebSocket may carry the key.
        described: True if `/openapi.json` includes it.
        when: selects the requests to its path that it answers; None for all, or for those of its API.
        api: the API that it is a part of; None for the server's own.
    """

    path: str
    operations: Mapping[str, Operation]
    socket: Socket | None = None
    aliases: tuple[str, ...] = ()
    open: bool = False
    group: Public | None = None
    cookie: bool = False
    query_key: bool = False
    described: bool = True
    when: Callable[[HttpRequest], bool] | None = None
    api: Api | None = None

    def operation(self, method: str) -> Operation:
        """The operation of a method. Raises MethodNotAllowed, and UpgradeRequired where only a WebSocket is served."""
        found = self.operations.get("GET" if method == "HEAD" else method)
        if found is not None:
            return found
        if not self.operations and method == "GET":
            raise UpgradeRequired("This path speaks WebSocket only.")
        allowed = ", ".join(self.methods)
        # A 405 has to say what is allowed (RFC 9110, 15.5.6).
        raise MethodNotAllowed(f"This path takes {allowed}.", headers={"Allow": allowed})

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it accepts, with HEAD where it accepts GET, as its `Allow` header lists them."""
        return (*self.operations, *(["HEAD"] if "GET" in self.operations else [])) or ("GET",)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters."""
        return tuple([piece.partition("}")[0] for piece in self.shown_path.split("{")[1:]])

    @property
    def shown_path(self) -> str:
        """The template as OpenAPI writes it."""
        return openapi_path(self.path)


def openapi_path(path: str) -> str:
    """A route's template as OpenAPI writes it."""
    return path.replace(":path}", "}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Api:
    """An API that a server serves: its routes, and the format of errors, streams and keys on them.

    OpenAI's own API is one of these, the chat REST API is another; `Server(apis=[…])` accepts more, from anywhere.

    Attributes:
        name: a name for people.
        routes: the routes, with full paths. A path that another API has too needs `when`.
        errors: the format of errors on its routes: also for a wrong key, a wrong method, a full server, a repeated answer.
        framing: the framing of its streams.
        prefix: unknown paths below it get this API's errors too; None claims no others.
        key_headers: further headers that may carry the key, in lower case. Two headers with different keys are refused.
        when: selects the requests to a shared path that are for this API; a route may have its own `when`.
        id_header: a further header for the request id, besides `x-request-id`.
        schemas: makes the schemas that its described routes refer to, by name.
        error_schema: the name of the schema of its errors.
    """

    name: str
    routes: Sequence[Route]
    errors: ErrorForm = OPENAI_ERRORS
    framing: Framing = SSE
    prefix: str | None = None
    key_headers: tuple[str, ...] = ()
    when: Callable[[HttpRequest], bool] | None = None
    id_header: str | None = None
    schemas: Callable[[], Mapping[str, Any]] | None = None
    error_schema: str = "ErrorEnvelope"


class Routes:
    """All routes of a server.

    Raises ValueError for two routes with the same path, unless all but one of them select their requests with `when`.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, list[Route]] = {}
        templates: dict[str, _Template] = {}
        for route in routes:
            for path in (route.path, *route.aliases):
                shared = (
                    templates.setdefault(path, _Template(path)).routes
                    if "{" in path
                    else self._fixed.setdefault(path, [])
                )
                shared.append(route)
                if len([one for one in shared if one.when is None]) > 1:
                    raise ValueError(f"two routes of the server have the path {path}")
        for shared in (*self._fixed.values(), *[template.routes for template in templates.values()]):
            shared.sort(key=lambda route: route.when is None)  # routes that select their requests come first
        # Most paths have one route, for all requests.
        self._only = {p: shared[0] for p, shared in self._fixed.items() if len(shared) == 1 and shared[0].when is None}
        # `/conversations/{id}/items` before `/conversations/{id}`, which would take the end of the path for a part of the id.
        self._templates = sorted(templates.values(), key=lambda template: -template.fixed)
        apis = {route.api.prefix: route.api for found in self.all() if (route := found).api is not None}
        claimed = [(prefix, api) for prefix, api in apis.items() if prefix is not None]
        self._prefixes = sorted(claimed, key=lambda claim: -len(claim[0]))  # the longest prefix wins

    def all(self) -> Iterator[Route]:
        """Each route, once for each of its paths."""
        for shared in (*self._fixed.values(), *[template.routes for template in self._templates]):
            yield from shared

    def find(self, path: str, request: HttpRequest | None = None) -> tuple[Route | None, tuple[str, ...]]:
        """The route of a path, with or without slashes at its end, and the values of its parameters.

        `request` decides between several APIs that have the path; without it, the API that accepts all requests is chosen.
        """
        only = self._only.get(path)
        if only is not None:
            return only, ()
        shared = self._fixed.get(path)
        if shared is None and path.endswith("/"):
            # Answered, not redirected: Open WebUI follows no redirects.
            path = path.rstrip("/")
            shared = self._fixed.get(path)
        if shared is not None:
            return _select_route(shared, request), ()
        for template in self._templates:
            values = template.match(path)
            if values is not None:
                return _select_route(template.routes, request), values
        return None, ()

    def find_api(self, path: str) -> Api | None:
        """The API that claims a path which no route serves."""
        return next((api for prefix, api in self._prefixes if path.startswith(f"{prefix}/")), None)

    def unknown_path(self, path: str, root: str) -> NotFound:
        """The error for a path that is not served, with a guess at what the client's base URL lacks."""
        below_v1, _ = self.find(f"/v1{path}")
        doubled = path.startswith("/v1/v1/") and self.find(path.removeprefix("/v1"))[0] is not None
        hint = f"What is served is listed at {root}/openapi.json."
        if doubled:
            hint = "The base URL ends with /v1 once, not twice."
        elif below_v1 is not None:
            hint = f"The API is below {root}/v1: end the base URL with it."
        shown = path if len(path) <= MAX_SHOWN else path[:MAX_SHOWN] + "…"
        return NotFound(f"{shown or '/'} is not served here. {hint}", code="unknown_url")


def _select_route(shared: Sequence[Route], request: HttpRequest | None) -> Route | None:
    for route in shared:
        if route.when is None or (request is not None and route.when(request)):
            return route
    return None


class _Template:
    """A path with parameters. The more of it is fixed, the earlier it is tried."""

    def __init__(self, path: str) -> None:
        first, *rest = path.split("{")
        pieces = [piece.partition("}") for piece in rest]
        self.routes: list[Route] = []
        self._slashes = [name.endswith(":path") for name, _, _ in pieces]
        self._first = first
        self._between = [text for _, _, text in pieces[:-1]]
        self._last = pieces[-1][2]
        self.fixed = len(first) + sum(map(len, self._between)) + len(self._last)

    def match(self, path: str) -> tuple[str, ...] | None:
        """The values of the parameters, if the path matches."""
        if not path.startswith(self._first) or not path.endswith(self._last):
            return None
        rest = path[len(self._first) : len(path) - len(self._last)]
        values: list[str] = []
        # From the end: an id may contain slashes, and even the text that stands between ids.
        for text in reversed(self._between):
            rest, found, value = rest.rpartition(text)
            if not found:
                return None
            values.append(value)
        values.append(rest)
        values.reverse()
        fits = [
            bool(value) and (slashes or "/" not in value) for value, slashes in zip(values, self._slashes, strict=True)
        ]
        return tuple(values) if all(fits) else None
