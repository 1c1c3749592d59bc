"""Routes: a path, what answers it by method, and how it is described. `Routes` finds the one that a path belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..errors import MethodNotAllowed, NotFound, UpgradeRequired
from .services import Services
from .websocket import WebSocketConnection

Endpoint: TypeAlias = Callable[..., Awaitable[None]]
"""Called with the services, the exchange, and the values of the path's parameters."""

Socket: TypeAlias = Callable[[Services, WebSocketConnection], Awaitable[None]]
Public: TypeAlias = Literal["models"]

MAX_SHOWN = 120
"""Characters of an unknown path that its error repeats."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route.

    Attributes:
        endpoint: what answers it.
        id: its `operationId`, from which generated clients make the name of a function.
        summary: what it does.
        answer: the schemas of what it answers, by media type.
        body: the schemas of what it takes, by media type.
        status: the status of that answer.
        more: further answers that are no errors, by status: a description, and schemas by media type.
        query: the schemas of the parameters of its query string.
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
    """A path and what answers it, by method.

    Attributes:
        path: a template: `{name}` stands for a part of the path without a slash, `{name:path}` for one that may have
            slashes in it, though not as its last character.
        operations: by method. GET answers HEAD too.
        socket: what serves a WebSocket there.
        aliases: templates of other paths that are answered alike, and not described.
        open: whether it needs no key.
        group: by which name the server's `public` can open it.
        cookie: whether a cookie may bring the key.
        query_key: whether the query of a WebSocket may bring it.
        described: whether `/openapi.json` has it.
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

    def operation(self, method: str) -> Operation:
        """What answers a method. Raises MethodNotAllowed, and UpgradeRequired where only a WebSocket is served."""
        found = self.operations.get("GET" if method == "HEAD" else method)
        if found is not None:
            return found
        if not self.operations and method == "GET":
            raise UpgradeRequired("This path speaks WebSocket only.")
        allowed = ", ".join(self.methods)
        raise MethodNotAllowed(f"This path takes {allowed}.", headers={"Allow": allowed})

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it takes."""
        return (*self.operations, *(["HEAD"] if "GET" in self.operations else [])) or ("GET",)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters."""
        return tuple([piece.partition("}")[0] for piece in self.shown_path.split("{")[1:]])

    @property
    def shown_path(self) -> str:
        """The template as OpenAPI writes it."""
        return self.path.replace(":path}", "}")


class Routes:
    """All routes of a server. Raises ValueError for two that have the same path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, Route] = {}
        templates: dict[str, _Template] = {}
        for route in routes:
            for path in (route.path, *route.aliases):
                if path in self._fixed or path in templates:
                    raise ValueError(f"two routes of the server have the path {path}")
                if "{" in path:
                    templates[path] = _Template(path, route)
                else:
                    self._fixed[path] = route
        self._templates = sorted(templates.values(), key=lambda template: -template.fixed)

    def find(self, path: str) -> tuple[Route | None, tuple[str, ...]]:
        """The route of a path, with or without slashes at its end, and the values of its parameters."""
        route = self._fixed.get(path)
        if route is None and path.endswith("/"):
            path = path.rstrip("/")
            route = self._fixed.get(path)
        if route is not None:
            return route, ()
        for template in self._templates:
            values = template.match(path)
            if values is not None:
                return template.route, values
        return None, ()

    def unknown(self, path: str, root: str) -> NotFound:
        """The error for a path that is not served, which guesses at what the client's base URL lacks."""
        below_v1, _ = self.find(f"/v1{path}")
        doubled = path.startswith("/v1/v1/") and self.find(path.removeprefix("/v1"))[0] is not None
        hint = f"What is served is listed at {root}/openapi.json."
        if doubled:
            hint = "The base URL ends with /v1 once, not twice."
        elif below_v1 is not None:
            hint = f"The API is below {root}/v1: end the base URL with it."
        shown = path if len(path) <= MAX_SHOWN else path[:MAX_SHOWN] + "…"
        return NotFound(f"{shown or '/'} is not served here. {hint}", code="unknown_url")


class _Template:
    """A path with parameters. The more of it is fixed, the earlier it is asked."""

    def __init__(self, path: str, route: Route) -> None:
        first, *rest = path.split("{")
        pieces = [piece.partition("}") for piece in rest]
        self.route = route
        self._slashes = [name.endswith(":path") for name, _, _ in pieces]
        self._first = first
        self._between = [text for _, _, text in pieces[:-1]]
        self._last = pieces[-1][2]
        self.fixed = len(first) + sum(map(len, self._between)) + len(self._last)

    def match(self, path: str) -> tuple[str, ...] | None:
        """The values of its parameters, if the path is one of these."""
        if not path.startswith(self._first) or not path.endswith(self._last):
            return None
        rest = path[len(self._first) : len(path) - len(self._last)]
        values: list[str] = []
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
